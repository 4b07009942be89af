"""Whether things are told apart: each is in front along its own label, not along every one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranklock.statistics.enrichment import permutation_p
from ranklock.statistics.ranking import places

Array = npt.NDArray[np.float64]
RELABELLINGS = 9999


def full_places(values: Array) -> Array:
    """Place of each value among the known ones of its row, from 0 (least) to 1 (most).

    Parameters
    ----------
    values
        Shape (rows, columns); NaN where not known.

    Returns
    -------
    The same shape; mean 0.5 in each row, NaN where the value is not known or no other is. From 0 to
    1 whatever the number: the foremost of three is as far in front as the foremost of thirty.
    """
    known = np.isfinite(values).sum(axis=1, keepdims=True)
    place: Array = (places(values) * known - 0.5) / np.maximum(known - 1, 1)
    return np.where(known > 1, place, np.nan)


def relabelling_p(place_of: Array, seed: int = 0, relabellings: int = RELABELLINGS) -> float:
    """How often labels that are given at random are as far in front as the own ones.

    Parameters
    ----------
    place_of
        Place of every one along each label, shape (n, n), from :func:`full_places`; the own ones
        on the diagonal.
    seed, relabellings
        Of the random permutations, and their number B.

    Returns
    -------
    (1 + number of permutations whose mean place is at least the own one) / (B + 1).

    Notes
    -----
    The permutation test of two matrices' common labels (Mantel, *Cancer Research* 27, 1967). What
    is in front along every label counts once in every permutation, so it does not count as
    specific.
    """
    size = len(place_of)
    rows = np.arange(size)
    own = mean_of_known(np.diagonal(place_of))
    draw = np.random.default_rng(seed)
    others = draw.permuted(np.tile(rows, (relabellings, 1)), axis=1)
    return permutation_p(float(own), mean_of_known(place_of[rows, others], axis=1))


def mean_of_known(values: Array, axis: int | None = None) -> Array:
    """Mean of the numbers that are known; NaN where none is."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(axis) / there.sum(axis))
