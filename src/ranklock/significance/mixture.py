"""Two components of perturbations, one with impact and one without."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
FEWEST = 20  # genes that two normal components are fitted to
DECISIVE = 10.0  # difference of BIC from which on two components are said to be there


class Impact(NamedTuple):
    """Probability that genes and single values are of the component further from the middle.

    ``bic_gain`` is BIC of one component minus that of two. All are NaN where none was fitted.
    """

    impact: Array
    of_values: Array
    bic_gain: float


def two_components(genes: npt.ArrayLike, values: npt.ArrayLike, seed: int = 0) -> Impact:
    """Fit two normal components to genes' means, and assign values of single cells to them.

    Nothing is fitted to fewer than 20 genes, or where they do not differ.
    """
    from sklearn.mixture import GaussianMixture

    numbers = [np.asarray(part, np.float64) for part in (genes, values)]
    impact, of_values = (np.full(len(part), np.nan) for part in numbers)
    known = numbers[0][np.isfinite(numbers[0])][:, None]
    if len(known) < FEWEST or np.ptp(known) == 0:
        return Impact(impact, of_values, np.nan)
    single = GaussianMixture(1, random_state=seed).fit(known)
    double = GaussianMixture(2, n_init=5, random_state=seed).fit(known)
    middle = np.median(known)
    outer = np.argsort(np.abs(double.means_[:, 0] - middle), kind="stable")[1]
    for part, probabilities in zip(numbers, (impact, of_values), strict=True):
        finite = np.isfinite(part)
        if finite.any():
            probabilities[finite] = double.predict_proba(part[finite, None])[:, outer]
    return Impact(impact, of_values, float(single.bic(known) - double.bic(known)))
