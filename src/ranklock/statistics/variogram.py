"""How unlike the rows of a table are, by how far apart they stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Variogram:
    """Semivariances of the rows of a table, in squared units of its numbers.

    Attributes
    ----------
    semivariance
        Lag → half the mean squared difference of two rows that stand so far apart, a column.
    variance
        Of a row about the mean row, a column.
    nugget
        The semivariance of two rows at one place, extrapolated: of noise that each row has of its
        own. It is between 0 and the semivariance at lag 1.
    """

    semivariance: dict[int, float]
    variance: float
    nugget: float

    @property
    def noise_of_neighbours(self) -> float:
        """Part of what differs between two neighbouring rows that is noise of their own."""
        return self.nugget / self.semivariance[1] if self.semivariance[1] > 0 else np.nan

    @property
    def noise_of_table(self) -> float:
        """Part of the table's variance that is noise of its rows' own."""
        return self.nugget / self.variance if self.variance > 0 else np.nan


def variogram(table: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Variogram:
    """Empirical variogram of the rows of a table, at lags 1, 2, 4, ... up to half its length.

    Parameters
    ----------
    table
        Shape (rows, columns), at least 4 rows.
    weights
        How much each row counts, shape (rows,), not negative; a pair counts as its row of less
        weight does. All the same by default.

    Raises
    ------
    ValueError
        When there are fewer than 4 rows, or no pair of rows at lag 2 has weight.

    Notes
    -----
    γ(h) = ½ mean_p ‖x_{p+h} − x_p‖² / columns (Matheron, *Economic Geology* 58, 1963). A table
    that is a smooth curve and white noise of variance ν in every row has γ(h) → ν for h → 0. The
    nugget is the straight line through lags 1 and 2 there, 2γ(1) − γ(2), cut at 0 and γ(1): exact
    where the rows are white noise about a random walk, and too small where the curve is smoother.
    """
    rows = np.asarray(table, dtype=np.float64)
    if len(rows) < 4:
        raise ValueError(f"A variogram needs at least 4 rows, not {len(rows)}.")
    counts = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
    semivariance = {}
    lag = 1
    while lag <= len(rows) // 2:
        pairs = np.minimum(counts[lag:], counts[:-lag])
        if pairs.sum() > 0:
            squared = ((rows[lag:] - rows[:-lag]) ** 2).mean(axis=1)
            semivariance[lag] = float(squared @ pairs / pairs.sum() / 2)
        lag *= 2
    if not {1, 2} <= set(semivariance):
        raise ValueError("No two rows that stand two apart have weight.")
    centred = rows - counts @ rows / counts.sum()
    variance = float((centred**2).mean(axis=1) @ counts / counts.sum())
    nugget = float(np.clip(2 * semivariance[1] - semivariance[2], 0.0, semivariance[1]))
    return Variogram(semivariance, variance, nugget)
