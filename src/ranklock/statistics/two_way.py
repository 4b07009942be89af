"""Additive fits of a matrix, knock-outs × responders, and comparisons with neighbouring rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]

_ROUNDS = 200
_CONVERGED = 1e-12
_CLIP = 2.5  # robust standard deviations: beyond, a number counts no more towards what is expected
_FOR_A_LINE = 6
_SMALLEST = 1e-12
_PRIOR = 4.0  # degrees of freedom with which a spread leans on that of the whole cell


def comparable(present: Marks) -> Marks:
    """Entries that share both their row and their column with another one.

    A number that is alone in its column or row is fitted exactly by it, and says nothing.
    """
    marks = present.copy()
    while True:
        kept: Marks = marks & (marks.sum(axis=0) > 1)[None, :] & (marks.sum(axis=1) > 1)[:, None]
        if kept.sum() == marks.sum():
            return kept
        marks = kept


def two_way_residuals(values: Array, present: Marks) -> Array:
    """What is left after a constant for each row and each column; zero where not present.

    ``values`` are of shape (rows, columns), or (rows, columns, n) for n matrices at once.

    Notes
    -----
    Least squares, by alternating projections: in a matrix without gaps, one round; with the
    diagonal missing, each round is closer by a factor of some rows × columns.
    """
    stacked = values.ndim == 3
    marks = present[..., None] if stacked else present
    rows = np.maximum(marks.sum(axis=1, keepdims=True), 1)
    columns = np.maximum(marks.sum(axis=0, keepdims=True), 1)
    left = np.where(marks, values, 0.0)
    scale = float(np.abs(left).max(initial=0.0))
    for _ in range(_ROUNDS):
        by_row = left.sum(axis=1, keepdims=True) / rows
        left = np.where(marks, left - by_row, 0.0)
        by_column = left.sum(axis=0, keepdims=True) / columns
        left = np.where(marks, left - by_column, 0.0)
        if max(np.abs(by_row).max(initial=0.0), np.abs(by_column).max(initial=0.0)) <= (
            _CONVERGED * scale
        ):
            break
    return np.asarray(left)


def clipped(residuals: Array, present: Marks) -> Array:
    """Residuals cut at 2.5 robust standard deviations, so that no entry weighs much."""
    if not present.any():
        return residuals
    limit = _CLIP * 1.4826 * float(np.median(np.abs(residuals[present])))
    return np.clip(residuals, -limit, limit)


@dataclass(frozen=True, eq=False)
class Matched:
    """What neighbouring rows predict in the same column, each of shape (rows, columns).

    Attributes
    ----------
    predicted
        From the neighbours alone, without the entry's present number.
    unit
        Standard deviation of a number minus its prediction. The neighbours' spread in it leans on
        that of all entries, as if by four more neighbours.
    count
        How many neighbours there were.
    """

    predicted: Array
    unit: Array
    count: Array


def matched_rows(values: Array, places: Array, groups: list[Marks], reach: int) -> Matched:
    """Predict each entry by a line through the nearest rows in its column.

    Parameters
    ----------
    values, places
        Shape (rows, columns), rows in order of their places (ranks), shape (rows,).
    groups
        Sets of entries that are compared among themselves, each of shape (rows, columns); entries
        in none have no neighbours.
    reach
        How many rows on either side are looked at.

    Notes
    -----
    A line and not a mean: the first and the last rows have neighbours on one side only, and a mean
    of those is off wherever numbers rise or fall along the rows. Below six neighbours it is the
    mean.
    """
    shape = values.shape
    predicted, unit, count = np.zeros(shape), np.ones(shape), np.zeros(shape)
    x = (places - places.mean()) / max(float(np.ptp(places)), 1.0)
    for group in groups:
        present, at = np.where(group, values, 0.0), np.where(group, x[:, None], 0.0)
        n = _window(group.astype(np.float64), reach)
        safe = np.maximum(n, 1.0)
        x_mean, y_mean = _window(at, reach) / safe, _window(present, reach) / safe
        xx = np.maximum(_window(at * at, reach) - n * x_mean**2, 0.0)
        xy = _window(at * present, reach) - n * x_mean * y_mean
        yy = np.maximum(_window(present * present, reach) - n * y_mean**2, 0.0)
        sloped = (n >= _FOR_A_LINE) & (xx > _SMALLEST)
        slope = np.where(sloped, xy / np.where(sloped, xx, 1.0), 0.0)
        away = np.where(sloped, x[:, None] - x_mean, 0.0)
        left = np.maximum(yy - slope * xy, 0.0)
        degrees = np.maximum(n - 1 - sloped, 0)
        pooled = float((present**2).sum() / max(group.sum(), 1))
        variance = (left + _PRIOR * pooled) / (degrees + _PRIOR)
        uncertain = 1.0 / safe + away**2 / np.where(sloped, xx, 1.0)
        predicted = np.where(group, y_mean + slope * away, predicted)
        unit = np.where(group, np.sqrt(variance * (1.0 + uncertain)), unit)
        count = np.where(group, n, count)
    return Matched(predicted, unit, count)


def _window(values: Array, reach: int) -> Array:
    """Sum over the rows within reach, without the row itself."""
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    rows = np.arange(len(values))
    low, high = np.maximum(rows - reach, 0), np.minimum(rows + reach + 1, len(values))
    return np.asarray(total[high] - total[low] - values)
