"""Rank correlation of two numbers beyond what others explain of both."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from ranklock.statistics.intervals import CONFIDENCE, Estimate, without_interval

Array = npt.NDArray[np.float64]


def partial_spearman(x: npt.ArrayLike, y: npt.ArrayLike, *given: npt.ArrayLike) -> Estimate:
    """Spearman's correlation of x and y, what the ranks of others explain taken out of both.

    Parameters
    ----------
    x, y
        Shape (n,).
    given
        What is taken out, each of shape (n,). Without any, Spearman's correlation as it is.

    Returns
    -------
    Estimate
        With a 95 % interval where there are enough; NaN where x or y does not vary beyond the
        others. Places without all of the numbers are left out.

    Notes
    -----
    Residuals of least squares of the ranks; the interval is Fisher's z with the standard error
    √((1 + ρ²/2) / (n − k − 3)) for k numbers taken out (Bonett and Wright, *Psychometrika* 65,
    2000).
    """
    columns = np.array([np.asarray(values, dtype=np.float64) for values in (x, y, *given)])
    columns = columns[:, np.isfinite(columns).all(axis=0)]
    n, taken = columns.shape[1], len(given)
    if n < taken + 3:
        return without_interval(np.nan, n)
    ranks = stats.rankdata(columns, axis=1)
    ranks = (ranks - ranks.mean(axis=1, keepdims=True)) / n
    sides, others = ranks[:2].T, ranks[2:].T
    if taken:
        sides = sides - others @ np.linalg.lstsq(others, sides, rcond=None)[0]
    lengths = np.linalg.norm(sides, axis=0)
    if (lengths < 1e-9).any():
        return without_interval(np.nan, n)
    rho = float(np.clip(sides[:, 0] @ sides[:, 1] / lengths.prod(), -1.0, 1.0))
    if n < taken + 4:
        return without_interval(rho, n)
    z = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    error = np.sqrt((1 + rho**2 / 2) / (n - taken - 3))
    half = stats.norm.ppf(0.5 + CONFIDENCE / 2) * error
    return Estimate(rho, float(np.tanh(z - half)), float(np.tanh(z + half)), n, "places")
