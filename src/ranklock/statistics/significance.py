"""Tests over cells, and control of false discoveries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Array = npt.NDArray[np.float64]
FALSE_DISCOVERIES = 0.05  # rate up to which a finding is called one


def moderated_t(
    means: Array, variances: Array, counts: npt.NDArray[np.int_]
) -> tuple[Array, Array]:
    """Student's t, and two-sided p, of means of a few numbers each, whose variances borrow.

    ``means``, ``variances`` (with n − 1) and ``counts`` (n ≥ 2) are of shape (groups,).

    Notes
    -----
    Empirical Bayes (Smyth, *Statistical Applications in Genetics and Molecular Biology* 3, 2004):
    variances are shrunk towards a common one s₀² with d₀ degrees of freedom, both fitted to the
    logarithms of all variances.
    """
    shrunk, degrees = shrunk_variances(variances, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.where(shrunk > 0, means / np.sqrt(shrunk / counts), np.nan)
    return t, np.asarray(2 * stats.t.sf(np.abs(t), degrees))


def shrunk_variances(variances: Array, counts: npt.NDArray[np.int_]) -> tuple[Array, Array]:
    """Variances that borrow from one another, and their degrees of freedom, shape (groups,) each.

    See :func:`moderated_t`.
    """
    own: Array = counts.astype(np.float64) - 1.0
    prior_degrees, prior = _variance_prior(variances, own)
    if np.isinf(prior_degrees):
        shrunk, total = np.full_like(variances, prior), np.full_like(variances, np.inf)
    else:
        total = own + prior_degrees
        shrunk = (own * variances + prior_degrees * prior) / total
    # No group knows more than all of them together.
    return shrunk, np.minimum(total, own.sum())


def _variance_prior(variances: Array, degrees: Array) -> tuple[float, float]:
    """Degrees of freedom d₀ and variance s₀² of the prior."""
    positive = variances > 0
    if not positive.any():
        return np.inf, 0.0
    s2, d = variances[positive], degrees[positive]
    logs = np.log(s2) - special.digamma(d / 2) + np.log(d / 2)
    mean = float(logs.mean())
    if len(s2) < 3:
        return np.inf, float(np.average(s2, weights=d))
    excess = float(((logs - mean) ** 2).sum() / (len(s2) - 1) - special.polygamma(1, d / 2).mean())
    if excess <= 0:
        return np.inf, float(np.average(s2, weights=d))
    half = _inverse_trigamma(excess)
    return 2 * half, float(np.exp(mean + special.digamma(half) - np.log(half)))


def _inverse_trigamma(value: float) -> float:
    """X with trigamma(x) = value, by Newton's method on its reciprocal."""
    if value > 1e7:
        return float(1 / np.sqrt(value))
    x = 0.5 + 1 / value
    for _ in range(50):
        slope = float(special.polygamma(2, x))
        trigamma = float(special.polygamma(1, x))
        change = trigamma * (1 - trigamma / value) / slope
        x += change
        if -change / x < 1e-8:
            break
    return x


def false_discovery_rates(p: npt.ArrayLike) -> Array:
    """q-values of Benjamini and Hochberg; NaN stay NaN, and count for nothing."""
    values = np.asarray(p, dtype=np.float64)
    out = np.full_like(values, np.nan)
    finite = np.isfinite(values)
    if finite.any():
        out[finite] = stats.false_discovery_control(values[finite])
    return out
