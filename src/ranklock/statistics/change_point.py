"""Where effects along the ranks step up, with and without being told the rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
LEAST = 5  # responders on either side, for a step to be estimated at all
WINDOW = 0.08  # part of the responders on either side of a place that a jump is looked for in
_FEWEST_IN_WINDOW = 8
_SMALLEST_ERROR = 1e-3  # of a log10 effect: what varies less does not vary


@dataclass(frozen=True, eq=False)
class Contrast:
    """Responders after a rank against those before it, for each knock-out: shape (knock-outs,).

    Attributes
    ----------
    superiority
        Probability that a responder after the rank exceeds one before it, ties counting half (the
        Mann-Whitney statistic as a probability; Vargha and Delaney's A).
    jump
        How far effects jump at the rank: the straight line through the nearest 8 % of responders
        after it, less the line through those before it, half-way between the two sides.
    change_point
        Number of responders before the place where effects jump most, in standard errors, found
        without the rank; NaN also where all effects are the same.

    All are NaN with fewer than ``LEAST`` responders on a side.
    """

    superiority: Array
    jump: Array
    change_point: Array


def contrast(effects: npt.ArrayLike, before: npt.ArrayLike) -> Contrast:
    """Contrast the two sides of a rank, and look for the place where effects jump most.

    ``effects`` are log10, in order of rank, shape (knock-outs, responders), NaN for the knocked-out
    gene itself; ``before`` the number of responders before the perturbed rank, shape (knock-outs,).

    Notes
    -----
    A step is a discontinuity, and effects also rise smoothly towards the perturbed rank where a
    model attends to neighbours. So a jump is measured between two straight lines, as in a
    regression-discontinuity design with local linear fits (Hahn, Todd and van der Klaauw,
    *Econometrica* 69, 2001), and the change point is the largest |jump| / standard error.
    """
    values = np.asarray(effects, dtype=np.float64)
    told = np.asarray(before, dtype=np.int64)
    superiority, jump, change_point = np.full((3, len(values)), np.nan)
    for row, (numbers, k) in enumerate(zip(values, told, strict=True)):
        kept = numbers[np.isfinite(numbers)]
        if not LEAST <= k <= len(kept) - LEAST:
            continue
        superiority[row] = _superiority(kept, int(k))
        jumps, errors = _jumps(kept)
        jump[row] = jumps[k - LEAST]
        if np.ptp(kept) > 0:
            change_point[row] = LEAST + int((np.abs(jumps) / errors).argmax())
    return Contrast(superiority, jump, change_point)


def _superiority(values: Array, before: int) -> float:
    after = len(values) - before
    ranks = stats.rankdata(values)[before:].sum()
    return float((ranks - after * (after + 1) / 2) / (before * after))


def _jumps(values: Array) -> tuple[Array, Array]:
    """Jump between straight lines at every place with ``LEAST`` on either side, and its error."""
    n = len(values)
    places = np.arange(LEAST, n - LEAST + 1)
    window = max(_FEWEST_IN_WINDOW, round(WINDOW * n))
    x, y = np.arange(n) - (n - 1) / 2, values - values.mean()
    sums = [np.concatenate([[0.0], np.cumsum(s)]) for s in (x, x * x, y, x * y, y * y)]

    def line(first: npt.NDArray[np.int_], end: npt.NDArray[np.int_]) -> tuple[Array, Array, Array]:
        """Value at the place, residual sum of squares, and variance of the value over σ²."""
        m = (end - first).astype(np.float64)
        sx, sxx, sy, sxy, syy = (total[end] - total[first] for total in sums)
        spread, covariance = sxx - sx * sx / m, sxy - sx * sy / m
        off = places - 0.5 - (n - 1) / 2 - sx / m
        slope = covariance / spread
        return sy / m + slope * off, syy - sy * sy / m - slope * covariance, 1 / m + off**2 / spread

    low, high = np.maximum(places - window, 0), np.minimum(places + window, n)
    left, left_squares, left_lever = line(low, places)
    right, right_squares, right_lever = line(places, high)
    variance = np.maximum(left_squares + right_squares, 0.0) / (high - low - 4)
    errors = np.sqrt(np.maximum(variance, _SMALLEST_ERROR**2) * (left_lever + right_lever))
    return right - left, errors
