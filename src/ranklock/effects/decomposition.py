"""What is done to a gene, apart from the shift of the ranks.

A 2 × 2 factorial, edit × shift: the embedding at baseline (neither), under ``hold`` (the edit: a
removal, or a move to another rank), under ``shift`` (shift), and under ``delete`` or ``move``
(both). DESIGN.md, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ranklock.effects.distance import Embeddings, Numbers


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Displacements under ``delete`` or ``move``, split between the edit and the rank shift.

    Attributes
    ----------
    total
        D = both − baseline, shape (..., width).
    edit, shift
        Shapley values φ of the two causes, shape (..., width); they sum to D.
    interaction
        both − hold − shift + baseline, shape (..., width): what the two causes do together
        beyond what each does alone. Half of it is in each φ.
    """

    total: Numbers
    edit: Numbers
    shift: Numbers
    interaction: Numbers

    @property
    def shift_along_total(self) -> Numbers:
        """⟨φ_shift, D⟩, shape (...)."""
        return np.asarray(np.sum(self.shift * self.total, axis=-1))

    @property
    def total_squared(self) -> Numbers:
        """‖D‖², shape (...)."""
        return np.asarray(np.sum(self.total * self.total, axis=-1))

    @property
    def artefact_share(self) -> Numbers:
        """⟨φ_shift, D⟩ / ‖D‖², shape (...); NaN where nothing moved.

        The part of an effect that the rank shift explains. It leaves 0 to 1 where the two causes
        work against each other.
        """
        return _share(self.shift_along_total, self.total_squared)


def decompose(
    baseline: Embeddings, hold: Embeddings, shift: Embeddings, both: Embeddings
) -> Decomposition:
    """Split displacements between the two causes.

    Parameters
    ----------
    baseline, hold, shift, both
        Embeddings of the same responders, shape (..., width); ``both`` is ``delete`` or ``move``.

    Returns
    -------
    Decomposition
        In float64.

    Notes
    -----
    φ_edit = ½[(h − b) + (d − s)] and φ_shift = ½[(s − b) + (d − h)]: the Shapley values of the
    two-player game whose value is the displacement.
    """
    b, h, s, d = (np.asarray(array, dtype=np.float64) for array in (baseline, hold, shift, both))
    return Decomposition(
        total=d - b,
        edit=0.5 * ((h - b) + (d - s)),
        shift=0.5 * ((s - b) + (d - h)),
        interaction=d - h - s + b,
    )


def pooled_artefact_share(shift_along_total: Numbers, total_squared: Numbers) -> float:
    """Artefact share over responders, cells or both: Σ⟨φ_shift, D⟩ / Σ‖D‖².

    Parameters
    ----------
    shift_along_total, total_squared
        Of each responder; see :class:`Decomposition`. NaN stands for a responder that is absent.

    Returns
    -------
    The share; NaN where nothing moved.
    """
    return float(_share(np.nansum(shift_along_total), np.nansum(total_squared)))


def _share(part: Numbers | np.float64, whole: Numbers | np.float64) -> Numbers:
    with np.errstate(invalid="ignore", divide="ignore"):
        share: Numbers = np.where(whole > 0, np.divide(part, whole), np.nan)
    return share
