"""Means and variances over cells, one cell at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class RunningMoments:
    """Mean and variance of each entry of a matrix whose rows and columns come in pieces.

    Notes
    -----
    Welford's update (*Technometrics* 4, 419, 1962): with the n-th number x, mean += (x − mean) / n
    and squares += (x − mean before) (x − mean after). Sums of squares would lose the variance of
    numbers that differ by less than the square root of the rounding; this does not.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.count = np.zeros(shape, dtype=np.int32)
        self.mean = np.zeros(shape)
        self._squares = np.zeros(shape)

    def update(
        self,
        rows: npt.NDArray[np.int_],
        columns: npt.NDArray[np.int_],
        numbers: npt.NDArray[Any],
    ) -> None:
        """Take in the numbers of one cell.

        Parameters
        ----------
        rows, columns
            Which entries they belong to, each at most once.
        numbers
            Shape (rows, columns); NaN where there is none.
        """
        where = np.ix_(rows, columns)
        there = ~np.isnan(numbers)
        count = self.count[where] + there
        mean = self.mean[where]
        before = np.where(there, numbers - mean, 0.0)
        mean += before / np.maximum(count, 1)
        after = np.where(there, numbers - mean, 0.0)
        self.count[where] = count
        self.mean[where] = mean
        self._squares[where] += before * after

    def means(self) -> npt.NDArray[np.float32]:
        """Mean of each entry; NaN where there was no number."""
        return np.where(self.count > 0, self.mean, np.nan).astype(np.float32)

    def variances(self) -> npt.NDArray[np.float32]:
        """Variance of each entry between cells (n − 1); NaN where there were fewer than two."""
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = self._squares / (self.count - 1)
        return np.where(self.count > 1, variance, np.nan).astype(np.float32)
