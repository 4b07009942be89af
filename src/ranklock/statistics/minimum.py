"""Tests that a mean over replicates is larger than a size that matters.

A mean of exactly zero is false in every deterministic network, and more cells only find that
sooner. What is asked is whether a mean exceeds a minimum τ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ranklock.statistics.significance import shrunk_variances

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Means:
    """Means of many claims over replicates, each of shape (claims,).

    Attributes
    ----------
    mean, variance
        Over replicates; the variance with n − 1.
    replicates
        How many there are.
    """

    mean: Array
    variance: Array
    replicates: Counts

    def testable(self, fewest: int) -> npt.NDArray[np.bool_]:
        """Which have so many replicates, and a finite mean and variance."""
        known = np.isfinite(self.mean) & np.isfinite(self.variance)
        return np.asarray(known & (self.replicates >= fewest))


@dataclass(frozen=True, eq=False)
class Tested:
    """Tests of means against a minimum, each of shape (claims,); NaN where nothing was tested.

    Attributes
    ----------
    standard_error, degrees
        Moderated: the variance borrows from all claims.
    p, p_smaller
        That the mean is no larger than τ, and that it is no smaller than −τ. Of means with a
        direction, p is that its size is no larger than τ, and ``p_smaller`` is NaN.
    """

    standard_error: Array
    degrees: Array
    p: Array
    p_smaller: Array


def moderated_test(means: Means, minimum: float, fewest: int, *, signed: bool = False) -> Tested:
    """Moderated t tests against a minimum.

    Parameters
    ----------
    means
        The claims.
    minimum
        τ, on the scale of the means.
    fewest
        Replicates without which a claim is not tested.
    signed
        Whether the sign is a direction, either of which is of interest.

    Notes
    -----
    TREAT (McCarthy and Smyth, *Bioinformatics* 25, 765, 2009) with the variances of
    :func:`ranklock.statistics.significance.shrunk_variances`: p = P(T ≥ (m − τ) / s); of claims
    with a direction P(T ≥ (|m| − τ) / s) + P(T ≥ (|m| + τ) / s).
    """
    able = means.testable(fewest)
    out = np.full((4, len(means.mean)), np.nan)
    if able.any():
        counts = means.replicates[able]
        shrunk, degrees = shrunk_variances(means.variance[able], counts)
        error = np.sqrt(shrunk / counts)
        mean = means.mean[able]
        out[0, able], out[1, able] = error, degrees
        if signed:
            size = np.abs(mean)
            tail = _tail(size - minimum, error, degrees) + _tail(size + minimum, error, degrees)
            out[2, able] = np.minimum(tail, 1.0)
        else:
            out[2, able] = _tail(mean - minimum, error, degrees)
            out[3, able] = _tail(-mean - minimum, error, degrees)
    return Tested(*out)


def _tail(beyond: Array, error: Array, degrees: Array) -> Array:
    """P(T ≥ beyond / error); numbers that are all alike are certain."""
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(error > 0, beyond / error, np.where(beyond > 0, np.inf, -np.inf))
    return np.asarray(stats.t.sf(t, degrees))


def signed_rank_tests(values: Array, minimum: float, fewest: int, *, signed: bool = False) -> Array:
    """Exact signed-rank tests that means are larger than a minimum: p, shape (claims,).

    Parameters
    ----------
    values
        Shape (replicates, claims); NaN where a replicate has none.
    minimum, fewest, signed
        As of :func:`moderated_test`.

    Notes
    -----
    Wilcoxon's signed-rank statistic of x − τ against its exact distribution under symmetry, in
    which each of the 2ⁿ signs is as likely: no variance is estimated, and no p is below 2⁻ⁿ. Of
    claims with a direction the smaller tail of x − τ and −x − τ, twice.
    """
    larger = _signed_rank(values - minimum)
    if signed:
        larger = np.minimum(2.0 * np.fmin(larger, _signed_rank(-values - minimum)), 1.0)
    return np.where(np.isfinite(values).sum(axis=0) >= fewest, larger, np.nan)


def _signed_rank(values: Array) -> Array:
    """P(W⁺ ≥ w⁺) of each column; NaN where there is nothing."""
    known = np.isfinite(values)
    counts = known.sum(axis=0)
    sizes = np.where(known, np.abs(values), np.inf)
    ranks = np.asarray(stats.rankdata(sizes, axis=0))  # of equal ones their mean rank
    positive = np.where(known & (values > 0), ranks, 0.0).sum(axis=0)
    p = np.full(values.shape[1], np.nan)
    for n in np.unique(counts[counts > 0]):
        of_size = counts == n
        # Rounded down where equal sizes halve a rank: the larger p.
        p[of_size] = _tail_of_signed_rank(int(n))[np.floor(positive[of_size]).astype(int)]
    return p


def _tail_of_signed_rank(n: int) -> Array:
    """P(W⁺ ≥ w), w from 0 to n (n + 1) / 2."""
    ways = np.ones(1)
    for rank in range(1, n + 1):
        ways = np.concatenate([ways, np.zeros(rank)]) + np.concatenate([np.zeros(rank), ways])
    return np.cumsum(ways[::-1])[::-1] / 2.0**n


def holm(p: npt.ArrayLike) -> Array:
    """p-values of Holm's step-down procedure (*Scandinavian Journal of Statistics* 6, 1979).

    NaN stay NaN, and count for nothing. What is below 5 % is found with a probability of 5 % of
    any false one.
    """
    values = np.asarray(p, np.float64)
    out = np.full_like(values, np.nan)
    finite = np.flatnonzero(np.isfinite(values))
    order = finite[np.argsort(values[finite], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return out


def rate_in_null(p: npt.ArrayLike, p_of_null: npt.ArrayLike, *, beyond: int = 0) -> Array:
    """What part of the claims up to each one a model without knowledge makes too, shape (claims,).

    Parameters
    ----------
    p
        Of the claims; NaN where nothing was tested.
    p_of_null
        Of the same claims in the null model, shape (claims of the null,).
    beyond
        Null claims that are counted at every p beside those that are there.

    Returns
    -------
    The estimated false-discovery rate: the share of null claims with a p as small over the share
    of claims, no larger than that of any larger p.
    """
    values, null = np.asarray(p, np.float64), np.asarray(p_of_null, np.float64)
    null = np.sort(null[np.isfinite(null)])
    out = np.full_like(values, np.nan)
    finite = np.flatnonzero(np.isfinite(values))
    if not len(finite) or not len(null):
        return out
    order = finite[np.argsort(values[finite], kind="stable")]
    ordered = values[order]
    found = np.searchsorted(ordered, ordered, side="right") / len(ordered)
    of_null = (np.searchsorted(null, ordered, side="right") + beyond) / len(null)
    rates = np.minimum.accumulate((of_null / found)[::-1])[::-1]
    out[order] = np.minimum(rates, 1.0)
    return out
