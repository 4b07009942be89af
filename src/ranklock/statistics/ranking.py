"""How well a score ranks what is true above what is not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def places(values: npt.NDArray[np.floating]) -> Array:
    """Place of each value among the finite ones of its row, from 0 (least) to 1; ties share one.

    Parameters
    ----------
    values
        Shape (rows, columns); NaN stay NaN.
    """
    finite = np.isfinite(values)
    ranks = stats.rankdata(np.where(finite, values, np.inf), axis=1) - 0.5
    counts = finite.sum(axis=1, keepdims=True)
    return np.where(finite, ranks / np.maximum(counts, 1), np.nan)


def normal_scores(values: npt.ArrayLike) -> Array:
    """Quantiles of the normal distribution at the places of values, shape (values,).

    Van der Waerden's scores: any increasing function of the values has the same.
    """
    place = places(np.atleast_2d(np.asarray(values, dtype=np.float64)))[0]
    return np.asarray(stats.norm.ppf(place))


def signed_rank_p(differences: npt.ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test; NaN below three finite differences."""
    finite = np.asarray(differences, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if len(finite) < 3:
        return float("nan")
    if not finite.any():
        return 1.0
    return float(stats.wilcoxon(finite).pvalue)
