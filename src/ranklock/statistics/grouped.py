"""Means and variances by group, over tables that come one after another."""

from __future__ import annotations

import numpy as np
import pandas as pd


class GroupedMoments:
    """Count, mean and variance of each column in each group, in memory that grows with the groups.

    Notes
    -----
    Tables are merged by their means and sums of squares about these (Chan, Golub and LeVeque,
    *The American Statistician* 37, 1983), so that a mean far above the deviation costs no digits.
    """

    def __init__(self) -> None:
        self._count = self._mean = self._squares = pd.DataFrame()

    def add(self, groups: pd.Series, values: pd.DataFrame) -> None:
        """Take in a table of numbers, NaN counting for nothing, with the group of each row."""
        by = values.astype(np.float64).groupby(groups.to_numpy(), observed=True)
        n_new = by.count().astype(np.float64)
        mean_new = by.mean().fillna(0.0)
        squares_new = by.var(ddof=0).fillna(0.0) * n_new
        if self._count.empty:
            self._count, self._mean, self._squares = n_new, mean_new, squares_new
            return
        every = self._count.index.union(n_new.index)
        n_old, mean_old, squares_old, n_new, mean_new, squares_new = (
            part.reindex(every, fill_value=0.0)
            for part in (self._count, self._mean, self._squares, n_new, mean_new, squares_new)
        )
        total = n_old + n_new
        share = n_new / total.where(total > 0, 1.0)
        apart = mean_new - mean_old
        self._count = total
        self._mean = mean_old + apart * share
        self._squares = squares_old + squares_new + apart**2 * n_old * share

    def counts(self) -> pd.DataFrame:
        """Numbers that each group has of each column, shape (groups, columns), groups ascending."""
        return self._count.astype(int)

    def means(self) -> pd.DataFrame:
        """Their means; NaN where there are none."""
        return self._mean.where(self._count > 0)

    def variances(self) -> pd.DataFrame:
        """Their variances, with n − 1; NaN below two numbers."""
        return (self._squares / (self._count - 1).where(self._count > 1)).where(self._count > 1)
