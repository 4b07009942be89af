"""What an approximation missed: how many of the truly largest were never looked at exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from ranklock.statistics.intervals import CONFIDENCE

Array = npt.NDArray[np.float64]
FEWEST_CHECKED = 5  # below which nothing is said of what was not looked at
_DRAWS = 300
_FARTHEST = 30.0  # deviations at which the tail of Student's t is let be nothing


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
    top: int,
    exact: npt.ArrayLike,
    rest: Approximated,
    learned: Approximated,
    learned_exact: npt.ArrayLike,
    seed: int,
) -> Recall:
    """Share of the truly largest, by absolute value, that are among those measured exactly.

    Parameters
    ----------
    top
        How many largest; no more than are measured.
    exact
        All that was measured, shape (measured,).
    rest
        What was not.
    learned, learned_exact
        What errors are learned from: genes that were measured because their approximation was
        large, or at random, and for no other reason; shape (learned,).
    seed
        Of the bootstrap.

    Notes
    -----
    The exact value is taken to be b times the approximation plus an error in proportion to the
    scale, both fitted by least squares; a choice by the approximation alone leaves that unbiased.
    An error that was not seen is distributed as Student's t with n − 1 degrees of freedom and
    √(1 + 1/n) of the deviation. So each of the rest has a probability of reaching a threshold; the
    threshold that ``top`` genes are expected to reach is found, and the share of the measured
    among these. The interval is that of a bootstrap of what was learned from.
    """
    sizes = np.sort(np.abs(np.asarray(exact, np.float64)))[::-1]
    x = learned.estimate / learned.scale
    y = np.asarray(learned_exact, np.float64) / learned.scale
    if top <= len(sizes) and not len(rest.estimate):
        return Recall(top, 1.0, 1.0, 1.0)
    if len(x) < FEWEST_CHECKED or top > len(sizes):
        return Recall(top, np.nan, np.nan, np.nan)
    draw = np.random.default_rng(seed)
    value = _recall(top, sizes, rest, x, y)
    drawn = [value]
    for _ in range(_DRAWS):
        again = draw.integers(0, len(x), len(x))
        drawn.append(_recall(top, sizes, rest, x[again], y[again]))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Recall(top, value, float(low), float(high))


def _recall(top: int, sizes: Array, rest: Approximated, x: Array, y: Array) -> float:
    """With a threshold at the smallest measured size that ``top`` are expected to reach."""
    squares = float(x @ x)
    slope = float(x @ y) / squares if squares > 0 else 1.0
    errors = y - slope * x
    n = len(errors)
    deviation = float(np.sqrt((errors @ errors) / (n - 1) * (1 + 1 / n)))
    centre, spread = slope * rest.estimate, deviation * rest.scale

    def expected(threshold: float) -> float:
        near = np.abs(centre) + _FARTHEST * spread >= threshold
        at, wide = centre[near], spread[near]
        if deviation == 0:
            return float(len(at))
        above = special.stdtr(n - 1, (at - threshold) / wide)
        below = special.stdtr(n - 1, (-at - threshold) / wide)
        return float((above + below).sum())

    low, high = 0, top
    while high - low > 1:
        middle = (low + high) // 2
        if middle + expected(sizes[middle - 1]) >= top:
            high = middle
        else:
            low = middle
    return high / max(top, high + expected(sizes[high - 1]))
