"""How far an embedding moved: cosine distance and displacement, computed stably."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Embeddings = npt.NDArray[np.floating[Any]]
Numbers = npt.NDArray[np.float64]


def cosine_distance(before: Embeddings, after: Embeddings) -> Numbers:
    r"""Cosine distance between embeddings, accurate however small it is.

    Parameters
    ----------
    before, after
        Embeddings, shape (..., width).

    Returns
    -------
    1 − cos, between 0 and 2, shape (...); NaN where an embedding is zero.

    Notes
    -----
    With x before, y after, δ = y − x and δ⊥ the part of δ orthogonal to x,

    .. math:: 1 - \cos(x, y) = \frac{\|δ_⊥\|^2 / \|y\|^2}{1 + \cos(x, y)},

    from sin² = 1 − cos² and ‖y‖ sin = ‖δ⊥‖, summed in float64 (DESIGN.md, section 4). Subtracting
    the cosine from one would lose every distance under the rounding of the cosine: 6e-8 in
    float32, 1e-16 in float64. Beyond a right angle, where 1 + cos vanishes and 1 − cos does not,
    the plain difference is the stable one and is taken instead.
    """
    x = np.asarray(before, dtype=np.float64)
    y = np.asarray(after, dtype=np.float64)
    delta = y - x
    with np.errstate(invalid="ignore", divide="ignore"):
        along = np.sum(delta * x, axis=-1) / np.sum(x * x, axis=-1)
        across = delta - along[..., np.newaxis] * x
        y_squared = np.sum(y * y, axis=-1)
        cosine = np.sum(x * y, axis=-1) / np.sqrt(np.sum(x * x, axis=-1) * y_squared)
        return distance_from(np.sum(across * across, axis=-1), y_squared, cosine)


def distance_from(across_squared: Numbers, after_squared: Numbers, cosine: Numbers) -> Numbers:
    """The stable formula of :func:`cosine_distance`, from what it is made of.

    Parameters
    ----------
    across_squared
        ‖δ⊥‖².
    after_squared
        ‖y‖².
    cosine
        cos(x, y), which need not be accurate.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        near = across_squared / after_squared / (1.0 + cosine)
    distance: Numbers = np.clip(np.where(cosine >= 0, near, 1.0 - cosine), 0.0, 2.0)
    return distance


def displacement(before: Embeddings, after: Embeddings) -> Numbers:
    """Length of the displacement, ‖after − before‖, summed in float64.

    Parameters
    ----------
    before, after
        Embeddings, shape (..., width).

    Returns
    -------
    In the units of the hidden states, shape (...).
    """
    length: Numbers = np.linalg.norm(
        np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64), axis=-1
    )
    return length
