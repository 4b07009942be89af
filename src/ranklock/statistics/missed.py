"""What an approximation missed: how many of the truly largest were never looked at exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranklock.statistics.intervals import CONFIDENCE

Array = npt.NDArray[np.float64]
FEWEST_CHECKED = 5  # below which nothing is said of what was not looked at
_DRAWS = 300


@dataclass(frozen=True)
class Recall:
    """Share of the ``top`` truly largest that were measured exactly, with its 95 % interval.

    NaN where too few of the others were checked.
    """

    top: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Approximated:
    """What is known by its approximation alone, each of shape (genes,).

    Errors are taken to be in proportion to ``scale``, which is positive.
    """

    estimate: Array
    scale: Array


def recall_of_largest(
    top: int,
    exact: npt.ArrayLike,
    exact_errors: npt.ArrayLike,
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
    exact, exact_errors
        All that was measured, and its standard errors, shape (measured,).
    rest
        What was not.
    learned, learned_exact
        What errors are learned from: genes that were measured because their approximation was
        large, or at random, and for no other reason; shape (learned,).

    Notes
    -----
    The true value is taken to be b times the approximation plus an error in proportion to the
    scale, both fitted by least squares; a choice by the approximation alone leaves that unbiased.
    Each of many draws takes a bootstrap of what was learned from, fits it, gives every one of the
    rest a value (errors are Student's t with n − 1 degrees of freedom and √(1 + 1/n) of the
    deviation) and what was measured its error, and counts. The value is the mean of the draws, the
    interval theirs: it holds the chance of which genes are missed, and that of what was learned.
    """
    values, errors = np.asarray(exact, np.float64), np.asarray(exact_errors, np.float64)
    if top <= len(values) and not len(rest.estimate):
        return Recall(top, 1.0, 1.0, 1.0)
    n = len(learned.estimate)
    if n < FEWEST_CHECKED or top > len(values):
        return Recall(top, np.nan, np.nan, np.nan)
    x = learned.estimate / learned.scale
    y = np.asarray(learned_exact, np.float64) / learned.scale
    draw = np.random.default_rng(seed)
    shares = []
    for _ in range(_DRAWS):
        slope, deviation = _fit(x, y, draw.integers(0, n, n))
        spread = deviation * np.sqrt(1 + 1 / n) * rest.scale
        missed = slope * rest.estimate + spread * draw.standard_t(n - 1, len(spread))
        measured = values + errors * draw.standard_normal(len(values))
        least = np.sort(np.abs(measured))[-top]
        above = np.sort(np.abs(np.concatenate([measured, missed[np.abs(missed) > least]])))[-top:]
        shares.append((np.abs(measured) >= above[0]).sum() / top)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(shares, [tail, 1 - tail])
    return Recall(top, float(np.mean(shares)), float(low), float(high))


def _fit(x: Array, y: Array, rows: npt.NDArray[np.int_]) -> tuple[float, float]:
    """Slope through the origin, and deviation from it, of some rows."""
    x, y = x[rows], y[rows]
    squares = float(x @ x)
    slope = float(x @ y) / squares if squares > 0 else 1.0
    errors = y - slope * x
    return slope, float(np.sqrt(errors @ errors / (len(x) - 1)))
