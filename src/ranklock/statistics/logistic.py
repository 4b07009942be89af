"""Logistic regression with a slight ridge: enough to say what a score adds to others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]
RIDGE = 1e-4  # of the mean log-likelihood; keeps coefficients finite where classes separate
_ROUNDS = 50


def fit_logistic(
    features: Array, targets: npt.NDArray[np.bool_], weights: npt.ArrayLike | None = None
) -> Array:
    """Coefficients of a logistic model, by Newton's method.

    Parameters
    ----------
    features
        Shape (rows, features), of about unit variance.
    targets
        Shape (rows,).
    weights
        Of each row; all alike by default. Only their ratios matter.

    Returns
    -------
    Intercept and coefficients, shape (1 + features,). They minimise the weighted mean of the
    negative log-likelihood plus ``RIDGE``/2 times the squared coefficients; the intercept is free.
    """
    design = np.column_stack([np.ones(len(features)), features])
    w = np.ones(len(design)) if weights is None else np.asarray(weights, dtype=np.float64)
    w = w / w.sum()
    y = targets.astype(np.float64)
    penalty = np.full(design.shape[1], RIDGE)
    penalty[0] = 0.0
    share = float(np.clip((w * y).sum(), 1e-6, 1 - 1e-6))
    beta = np.zeros(design.shape[1])
    beta[0] = np.log(share / (1 - share))

    def loss(at: Array) -> float:
        line = design @ at
        return float((w * (np.logaddexp(0, line) - y * line)).sum() + (penalty * at**2).sum() / 2)

    now = loss(beta)
    for _ in range(_ROUNDS):
        p = special.expit(design @ beta)
        gradient = design.T @ (w * (p - y)) + penalty * beta
        curvature = (design * (w * p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        size = 1.0
        while (then := loss(beta - size * step)) > now and size > 1e-6:
            size /= 2
        beta = beta - size * step
        if now - then < 1e-12:
            break
        now = then
    return beta


def predict(features: Array, beta: Array) -> Array:
    """Log-odds of each row, shape (rows,)."""
    return np.asarray(beta[0] + features @ beta[1:])
