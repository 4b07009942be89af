"""What an approximation missed: how many of the truly largest were never looked at exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ranklock.statistics.intervals import CONFIDENCE

Array = npt.NDArray[np.float64]
FEWEST_CHECKED = 5  # below which nothing is said of what was not looked at
_DRAWS = 300


@dataclass(frozen=True)
class Recall:
    """Share of the truly largest that were measured exactly.

    Attributes
    ----------
    top
        How many are meant by the largest.
    value
        The share; NaN where too few of the others were checked.
    low, high
        Bounds of its 95 % interval.
    """

    top: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Approximated:
    """What is known by its approximation alone, each of shape (genes,).

    Attributes
    ----------
    estimate
        The approximation.
    scale
        Positive; errors are taken to be in proportion to it.
    """

    estimate: Array
    scale: Array


def recall_of_largest(
    top: int, exact: npt.ArrayLike, rest: Approximated, errors: npt.ArrayLike, seed: int
) -> Recall:
    """Share of the truly largest, by absolute value, that are among those measured exactly.

    Parameters
    ----------
    top
        How many largest; no more than are measured.
    exact
        What was measured, because its approximation was large: shape (measured,).
    rest
        What was not.
    errors
        (exact − approximation) / scale of a random sample of the rest, which was measured to learn
        this, shape (checked,).
    seed
        Of the bootstrap.

    Notes
    -----
    An error that was not seen is distributed as Student's t about the errors that were (the
    predictive distribution of the normal, with n − 1 degrees of freedom and √(1 + 1/n) of their
    deviation), times the scale. So each of the rest has a probability of reaching a threshold; the
    threshold that ``top`` genes are expected to reach is found, and the share of the measured
    among these. The interval is that of a bootstrap of the checked.
    """
    sizes = np.sort(np.abs(np.asarray(exact, np.float64)))[::-1]
    seen = np.asarray(errors, np.float64)
    if top <= len(sizes) and not len(rest.estimate):
        return Recall(top, 1.0, 1.0, 1.0)
    if len(seen) < FEWEST_CHECKED or top > len(sizes):
        return Recall(top, np.nan, np.nan, np.nan)
    draw = np.random.default_rng(seed)
    drawn = [_recall(top, sizes, rest, draw.choice(seen, len(seen))) for _ in range(_DRAWS)]
    value = _recall(top, sizes, rest, seen)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile([*drawn, value], [tail, 1 - tail])
    return Recall(top, value, float(low), float(high))


def _recall(top: int, sizes: Array, rest: Approximated, errors: Array) -> float:
    """With a threshold at the smallest measured size that ``top`` are expected to reach."""
    low, high = 0, top
    while high - low > 1:
        middle = (low + high) // 2
        if middle + _expected(sizes[middle - 1], rest, errors) >= top:
            high = middle
        else:
            low = middle
    return high / max(top, high + _expected(sizes[high - 1], rest, errors))


def _expected(threshold: float, rest: Approximated, errors: Array) -> float:
    """How many of the rest are expected to reach a size."""
    n = len(errors)
    centre = rest.estimate + errors.mean() * rest.scale
    spread = errors.std(ddof=1) * np.sqrt(1 + 1 / n) * rest.scale
    if not spread.any():
        return float((np.abs(centre) >= threshold).sum())
    spread = np.maximum(spread, np.finfo(float).tiny)
    above = stats.t.sf((threshold - centre) / spread, n - 1)
    below = stats.t.cdf((-threshold - centre) / spread, n - 1)
    return float((above + below).sum())
