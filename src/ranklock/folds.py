"""Folds over impostors: an effect beside what other genes in the same place would do.

Arrays in, arrays out; DESIGN.md, section 6, says what a claim rests on. Removing an impostor leaves
the input that removing the gene leaves, so that the effect of its removal is read between the input
in which it stands and that one: all of it from inner products of displacements from the baseline.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranklock.engine.moments import Impostor, Moments, StateMoments

Numbers = npt.NDArray[np.float64]

# Cosine distances below this are nothing, and count as so much: a displacement of 1e-15 embeddings.
_NOTHING = 1e-30


def moments_of_impostor(moments: Moments, impostor: Impostor, arm: str) -> Moments:
    """Inner products of what an arm does to an impostor.

    Parameters
    ----------
    moments
        Of the gene's task, with the impostor's inputs among its arms.
    impostor, arm
        Which.

    Returns
    -------
    Moments with ``arm`` alone: its baseline is the cell in which the impostor stands.

    Notes
    -----
    With b the baseline, u and v the displacements of the impostor standing and perturbed, x = b + u
    and δ = v − u, so that ‖x‖² = ‖b‖² + 2⟨u, b⟩ + ‖u‖², ‖δ‖² = ‖v‖² − 2⟨u, v⟩ + ‖u‖² and ⟨δ, x⟩ =
    ⟨v, b⟩ − ⟨u, b⟩ + ⟨u, v⟩ − ‖u‖².
    """
    standing, perturbed = impostor.standing, impostor.perturbed[arm]
    u_b, v_b = moments.along[standing], moments.along[perturbed]
    u_u, v_v = moments.moved[standing], moments.moved[perturbed]
    u_v = moments.crossed[standing, perturbed]
    return Moments(
        squared=np.maximum(moments.squared + 2.0 * u_b + u_u, 0.0),
        along={arm: v_b - u_b + u_v - u_u},
        moved={arm: np.maximum(v_v - 2.0 * u_v + u_u, 0.0)},
        crossed={},
    )


def states_of_impostor(states: StateMoments, impostor: Impostor, arm: str) -> StateMoments:
    """The same of inner products with the embeddings of states."""
    standing, perturbed = impostor.standing, impostor.perturbed[arm]
    return StateMoments(
        states.squared,
        states.before + states.along[standing],
        {arm: states.along[perturbed] - states.along[standing]},
    )


def log_fold(distances: npt.ArrayLike, of_impostors: npt.ArrayLike) -> Numbers:
    """How many times as large a distance is as impostors' are: log10, shape (...).

    Parameters
    ----------
    distances
        Of the gene, shape (...).
    of_impostors
        Of the impostors in its place, shape (impostors, ...).

    Returns
    -------
    log10 of the distance less the mean of the impostors' logarithms; NaN where nothing moves under
    any of them, the gene's perturbation included, or a distance is not known.
    """
    distance = np.asarray(distances, np.float64)
    others = np.asarray(of_impostors, np.float64)
    fold = np.log10(np.maximum(distance, _NOTHING))
    fold = fold - np.log10(np.maximum(others, _NOTHING)).mean(axis=0)
    responds = (distance > 0) | (others > 0).any(axis=0)
    return np.where(responds, fold, np.nan)


def times_impostors(shifts: npt.ArrayLike, of_impostors: npt.ArrayLike) -> Numbers:
    """A shift that has a sign, in units of what impostors shift by, shape (...).

    Parameters
    ----------
    shifts
        Of the gene, shape (...).
    of_impostors
        Of the impostors in its place, shape (impostors, ...).

    Returns
    -------
    The shift over the root mean square of the impostors'; NaN where these do not shift at all. A
    gene that is one more impostor has a square of one in the mean, so that no direction which
    perturbing any gene brings takes it beyond one.
    """
    usual = np.sqrt(np.mean(np.square(np.asarray(of_impostors, np.float64)), axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(usual > 0, np.asarray(shifts, np.float64) / usual, np.nan)
