"""Tests of means over replicates: cells, or the donors that cells come from.

A thousand cells of one donor are not a thousand replicates. Where donors are known, a claim's
numbers are averaged within each donor first, and the donors' means are what is tested.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranklock.statistics.significance import false_discovery_rates, moderated_t

Array = npt.NDArray[np.float64]
FEWEST_REPLICATES = 3  # below which nothing is tested: two numbers have no spread to speak of


@dataclass(frozen=True, eq=False)
class Tested:
    """Tests of many means, each of shape (claims,); NaN where there was too little to test.

    ``standard_error`` is from the claim's own spread over replicates, ``t`` moderated: its variance
    borrows from all claims. ``p`` is two-sided, and ``q`` Benjamini and Hochberg's rate over all
    tests.
    """

    standard_error: Array
    t: Array
    p: Array
    q: Array


def means_tested(
    means: npt.ArrayLike,
    variances: npt.ArrayLike,
    replicates: npt.ArrayLike,
    testable: npt.ArrayLike | None = None,
) -> Tested:
    """Test that means over replicates are zero.

    Parameters
    ----------
    means, variances, replicates
        Of each claim over its replicates (variance with n − 1), and their number; shape (claims,).
    testable
        Which claims may be tested at all, shape (claims,); all by default. Those with fewer than
        ``FEWEST_REPLICATES``, or without a finite mean and variance, are not tested in any case.

    Notes
    -----
    See :func:`ranklock.statistics.significance.moderated_t`. Numbers that are all alike (a
    variance of zero in every claim) are not tested: they are no measurement.
    """
    mean, variance = np.asarray(means, np.float64), np.asarray(variances, np.float64)
    n = np.asarray(replicates)
    able = (n >= FEWEST_REPLICATES) & np.isfinite(mean) & np.isfinite(variance)
    if testable is not None:
        able &= np.asarray(testable, dtype=bool)
    t, p = np.full(mean.shape, np.nan), np.full(mean.shape, np.nan)
    if able.any() and (variance[able] > 0).any():
        t[able], p[able] = moderated_t(mean[able], variance[able], n[able].astype(np.int_))
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(n >= 2, np.sqrt(variance / n), np.nan)
    return Tested(error, t, p, false_discovery_rates(p))
