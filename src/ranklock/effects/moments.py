"""Effects from inner products of the baseline and the displacements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ranklock.arms import DECOMPOSITION_ARMS
from ranklock.effects.distance import Numbers, distance_from
from ranklock.engine.moments import CROSSED, MASK_AND_HOLD, Moments, StateMoments


def distances(moments: Moments, arm: str) -> Numbers:
    """Cosine distance under one arm; see :func:`ranklock.effects.cosine_distance`.

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
    return distance_from(across, after, cosine)


def displacements(moments: Moments, arm: str) -> Numbers:
    """Length of the displacement under one arm."""
    return np.asarray(np.sqrt(moments.moved[arm]))


def approach(cell: Moments, states: StateMoments, arm: str) -> Numbers:
    """How far the cell embedding turns towards each state, shape (knock-outs, states).

    Notes
    -----
    cos(x + δ, g) − cos(x, g), which Geneformer calls the shift towards the goal state.
    """
    squared = cell.squared[:, None]
    after = np.maximum(squared + (2.0 * cell.along[arm] + cell.moved[arm])[:, None], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        turned = (states.before + states.along[arm]) / np.sqrt(after)
        return np.asarray((turned - states.before / np.sqrt(squared)) / np.sqrt(states.squared))


def mask_beyond_hold(moments: Moments) -> Numbers | None:
    """‖δ_mask − δ_hold‖²: what the token in the gap does; None unless both arms were run."""
    if MASK_AND_HOLD not in moments.crossed:
        return None
    squares = sum(moments.moved[arm] for arm in MASK_AND_HOLD)
    return np.asarray(np.maximum(squares - 2.0 * moments.crossed[MASK_AND_HOLD], 0.0))


@dataclass(frozen=True, eq=False)
class Split:
    """Lengths and shares of :class:`ranklock.effects.Decomposition`, each of shape (...).

    Attributes
    ----------
    shift_along_total, total_squared
        ⟨φ_shift, D⟩ and ‖D‖².
    phi_removal, phi_shift, interaction
        Lengths of φ_removal, φ_shift and of the interaction.
    """

    shift_along_total: Numbers
    total_squared: Numbers
    phi_removal: Numbers
    phi_shift: Numbers
    interaction: Numbers

    @property
    def artefact_share(self) -> Numbers:
        """⟨φ_shift, D⟩ / ‖D‖²; NaN where nothing moved."""
        with np.errstate(invalid="ignore", divide="ignore"):
            share = self.shift_along_total / self.total_squared
        return np.where(self.total_squared > 0, share, np.nan)


def split(moments: Moments) -> Split | None:
    """The decomposition of the displacements under ``delete``; None without its arms.

    Notes
    -----
    With D = δ_delete: 2 φ_shift = δ_shift + D − δ_hold, 2 φ_removal = δ_hold + D − δ_shift and
    interaction = D − δ_hold − δ_shift, expanded into inner products.
    """
    if not set(CROSSED) <= set(moments.crossed):
        return None
    hold, shift, total = (moments.moved[arm] for arm in DECOMPOSITION_ARMS)
    hold_shift, hold_total, shift_total = (moments.crossed[pair] for pair in CROSSED)

    def length(of_hold: int, of_shift: int, of_total: int) -> Numbers:
        squares = of_hold**2 * hold + of_shift**2 * shift + of_total**2 * total
        products = (
            of_hold * of_shift * hold_shift
            + of_hold * of_total * hold_total
            + of_shift * of_total * shift_total
        )
        return np.asarray(np.sqrt(np.maximum(squares + 2.0 * products, 0.0)))

    return Split(
        shift_along_total=0.5 * (shift_total + total - hold_total),
        total_squared=total,
        phi_removal=0.5 * length(1, -1, 1),
        phi_shift=0.5 * length(-1, 1, 1),
        interaction=length(-1, -1, 1),
    )
