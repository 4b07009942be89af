"""Two components of perturbations, one with impact and one without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
FEWEST = 20  # genes that two normal components are fitted to
DECISIVE = 10.0  # difference of BIC from which on two components are said to be there


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of two normal distributions.

    Attributes
    ----------
    impact
        Probability that each gene is of the component further from the middle, shape (genes,).
    of_values
        The same of single values, shape (values,).
    means, deviations, weights
        Of the components, that without impact first, each of shape (2,).
    bic_gain
        BIC of one component minus that of double. Below 10 the data do not ask for double.
    """

    impact: Array
    of_values: Array
    means: Array
    deviations: Array
    weights: Array
    bic_gain: float

    @property
    def separated(self) -> bool:
        """Whether the data ask for two components."""
        return self.bic_gain >= DECISIVE


def two_components(genes: npt.ArrayLike, values: npt.ArrayLike, seed: int = 0) -> Mixture | None:
    """Fit two components to genes' means; None where there are fewer than 20 of them.

    Parameters
    ----------
    genes
        Mean specific shift of each gene, shape (genes,).
    values
        Specific shifts in single cells, which are then assigned, shape (values,).
    seed
        Of the start of the fit.
    """
    from sklearn.mixture import GaussianMixture

    fitted = np.asarray(genes, np.float64)
    known = fitted[np.isfinite(fitted)][:, None]
    if len(known) < FEWEST or np.ptp(known) == 0:
        return None
    single = GaussianMixture(1, random_state=seed).fit(known)
    double = GaussianMixture(2, n_init=5, random_state=seed).fit(known)
    middle = np.median(known)
    order = np.argsort(np.abs(double.means_[:, 0] - middle), kind="stable")

    def probability(of: npt.ArrayLike) -> Array:
        numbers = np.asarray(of, np.float64)
        probabilities = np.full(len(numbers), np.nan)
        finite = np.isfinite(numbers)
        if finite.any():
            probabilities[finite] = double.predict_proba(numbers[finite, None])[:, order[1]]
        return probabilities

    return Mixture(
        impact=probability(fitted),
        of_values=probability(values),
        means=double.means_[order, 0],
        deviations=np.sqrt(double.covariances_[order, 0, 0]),
        weights=double.weights_[order],
        bic_gain=float(single.bic(known) - double.bic(known)),
    )
