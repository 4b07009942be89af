"""From inner products to effects: distances, the decomposition, the step, the approach to states.

Arrays in, arrays out; DESIGN.md, section 4, has the mathematics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranklock.engine.moments import (
    Moments,
    StateMoments,
    decomposition_arms,
    masking_pair,
)

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
        return _distance_from(np.sum(across * across, axis=-1), y_squared, cosine)


def displacement(before: Embeddings, after: Embeddings) -> Numbers:
    """Length of the displacement, ‖after − before‖, in float64 and in units of hidden states.

    Parameters
    ----------
    before, after
        Embeddings, shape (..., width).
    """
    length: Numbers = np.linalg.norm(
        np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64), axis=-1
    )
    return length


def distances(moments: Moments, arm: str) -> Numbers:
    """Cosine distance under one arm; see :func:`cosine_distance`.

    Notes
    -----
    ‖δ⊥‖² = ‖δ‖² − ⟨δ, x⟩² / ‖x‖². In float64 the subtraction errs by 1e-16 ‖δ‖², less than the
    rounding of the float32 states themselves unless δ is longer than some ten x.
    """
    squared, along, moved = moments.squared, moments.along[arm], moments.moved[arm]
    with np.errstate(invalid="ignore", divide="ignore"):
        across = np.maximum(moved - along * along / squared, 0.0)
        after = np.maximum(squared + 2.0 * along + moved, 0.0)
        cosine = (squared + along) / np.sqrt(squared * after)
    return _distance_from(across, after, cosine)


def displacements(moments: Moments, arm: str) -> Numbers:
    """Length of the displacement under one arm."""
    return np.asarray(np.sqrt(moments.moved[arm]))


def approach(cell: Moments, states: StateMoments, arm: str) -> Numbers:
    """How far the cell embedding turns towards each state, shape (tasks, states).

    Notes
    -----
    cos(x + δ, g) − cos(x, g), which Geneformer calls the shift towards the goal state.
    """
    squared = cell.squared[:, None]
    after = np.maximum(squared + (2.0 * cell.along[arm] + cell.moved[arm])[:, None], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        turned = (states.before + states.along[arm]) / np.sqrt(after)
        return np.asarray((turned - states.before / np.sqrt(squared)) / np.sqrt(states.squared))


def beyond_edit(moments: Moments) -> Numbers | None:
    """‖δ_mask − δ_hold‖²: what the token in the gap does; None unless both arms were run."""
    pair = masking_pair(moments.moved)
    if pair is None:
        return None
    squares = sum(moments.moved[arm] for arm in pair)
    return np.asarray(np.maximum(squares - 2.0 * moments.crossed[pair], 0.0))


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Displacements D under the whole arm, split between the edit and the rank shift; (...) each.

    Attributes
    ----------
    shift_along_total, total_squared
        ⟨φ_shift, D⟩ and ‖D‖².
    phi_edit, phi_shift, interaction
        Lengths of the Shapley values φ of the two causes, which sum to D as vectors, and of what
        the causes do together beyond what each does alone, of which each φ has a half.
    """

    shift_along_total: Numbers
    total_squared: Numbers
    phi_edit: Numbers
    phi_shift: Numbers
    interaction: Numbers

    @property
    def artefact_share(self) -> Numbers:
        """⟨φ_shift, D⟩ / ‖D‖²; NaN where nothing moved.

        The part of an effect that the rank shift explains. It leaves 0 to 1 where the two causes
        work against each other.
        """
        return artefact_share(self.shift_along_total, self.total_squared)


def decompose(moments: Moments) -> Decomposition | None:
    """The decomposition of the displacements under the whole arm; None without its arms.

    Notes
    -----
    φ_edit = ½[(h − b) + (d − s)] and φ_shift = ½[(s − b) + (d − h)], the Shapley values of the
    two-player game whose value is the displacement. With D = δ_whole: 2 φ_shift = δ_shift + D −
    δ_edit, 2 φ_edit = δ_edit + D − δ_shift, interaction = D − δ_edit − δ_shift, expanded into
    inner products.
    """
    arms = decomposition_arms(moments.moved)
    if arms is None:
        return None
    edit, shift, whole = arms
    hh, ss, dd = (moments.moved[arm] for arm in arms)
    hs = moments.crossed[edit, shift]
    hd = moments.crossed[edit, whole]
    sd = moments.crossed[shift, whole]

    def length(squared: Numbers) -> Numbers:
        return np.asarray(np.sqrt(np.maximum(squared, 0.0)))

    return Decomposition(
        shift_along_total=0.5 * (sd + dd - hd),
        total_squared=dd,
        phi_edit=0.5 * length(hh + dd + ss + 2.0 * (hd - hs - sd)),
        phi_shift=0.5 * length(ss + dd + hh + 2.0 * (sd - hs - hd)),
        interaction=length(dd + hh + ss - 2.0 * (hd + sd - hs)),
    )


def artefact_share(shift_along_total: Numbers, total_squared: Numbers) -> Numbers:
    """⟨φ_shift, D⟩ / ‖D‖², of single effects or of sums over them; NaN where nothing moved."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.divide(shift_along_total, total_squared)
    return np.where(np.asarray(total_squared) > 0, share, np.nan)


def median(values: npt.NDArray[Any]) -> float:
    """Median of the numbers that are there; NaN where there is none."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _distance_from(across_squared: Numbers, after_squared: Numbers, cosine: Numbers) -> Numbers:
    """The stable formula, from ‖δ⊥‖², ‖y‖² and a cosine that need not be accurate."""
    with np.errstate(invalid="ignore", divide="ignore"):
        near = across_squared / after_squared / (1.0 + cosine)
    distance: Numbers = np.clip(np.where(cosine >= 0, near, 1.0 - cosine), 0.0, 2.0)
    return distance
