"""Read the effects of one perturbation in one cell from hidden states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranklock.arms import NOT_RANKED, ModelInput, whole_of
from ranklock.effects.decomposition import Decomposition, decompose
from ranklock.effects.distance import Embeddings, Numbers, cosine_distance, displacement


@dataclass(frozen=True, eq=False)
class Moved:
    """How far responders and the cell embedding moved under one arm.

    Attributes
    ----------
    cosine_distance, displacement
        Of each responder, shape (responders,).
    cell_shift, cell_displacement
        Cosine distance and displacement of the cell embedding; NaN where no gene is left to make
        one.
    """

    cosine_distance: Numbers
    displacement: Numbers
    cell_shift: float
    cell_displacement: float


@dataclass(frozen=True, eq=False)
class Readout:
    """Effects of one perturbation in one cell.

    Attributes
    ----------
    responder_ranks
        Ranks of the responders in the unperturbed cell, ascending, shape (responders,).
    moved
        Arm's name → what moved under it.
    genes
        Decomposition of the responders' displacements under ``delete`` or ``move``; None unless
        ``hold`` and ``shift`` were run beside it.
    cell
        The same of the cell embedding.
    """

    responder_ranks: npt.NDArray[np.int_]
    moved: Mapping[str, Moved]
    genes: Decomposition | None
    cell: Decomposition | None


def embeddings(
    cell: ModelInput, states: Embeddings, left_out: Sequence[int], *, special_frame: bool
) -> tuple[Embeddings, Numbers]:
    """Embeddings of the responders and of the cell.

    Parameters
    ----------
    cell
        The input, perturbed or not.
    states
        Its hidden states, shape (length, width).
    left_out
        Ranks of the perturbed genes, and of those that fall out of the input: left out of both
        sides.
    special_frame
        Whether the cell embedding is that of ``<cls>``; otherwise it is the mean over responders.

    Returns
    -------
    Responders in ascending order of rank, shape (responders, width), and the cell, shape (width,);
    NaN where it is a mean over nothing.
    """
    responds = (cell.ranks != NOT_RANKED) & ~np.isin(cell.ranks, left_out)
    genes = states[responds]
    if special_frame:
        return genes, states[0].astype(np.float64)
    if not len(genes):
        return genes, np.full(states.shape[1], np.nan)
    return genes, genes.mean(axis=0, dtype=np.float64)


def read_effects(
    cell: ModelInput,
    states: Embeddings,
    arms: Mapping[str, tuple[ModelInput, Embeddings]],
    left_out: Sequence[int],
    *,
    special_frame: bool,
) -> Readout:
    """Effects of one perturbation in one cell, under each arm.

    Parameters
    ----------
    cell, states
        Baseline input and its hidden states, shape (length, width).
    arms
        Arm's name → perturbed input and its hidden states.
    left_out, special_frame
        As in :func:`embeddings`.
    """
    frame = {"special_frame": special_frame}
    genes, whole = embeddings(cell, states, left_out, **frame)
    after = {
        name: embeddings(changed, changed_states, left_out, **frame)
        for name, (changed, changed_states) in arms.items()
    }
    moved = {
        name: Moved(
            cosine_distance(genes, arm_genes),
            displacement(genes, arm_genes),
            float(cosine_distance(whole, arm_whole)),
            float(displacement(whole, arm_whole)),
        )
        for name, (arm_genes, arm_whole) in after.items()
    }
    split: list[Decomposition | None] = [None, None]
    both = whole_of(after)
    if both is not None:
        three = [after[name] for name in ("hold", "shift", both)]
        split = [decompose(genes, *(g for g, _ in three)), decompose(whole, *(c for _, c in three))]
    ranks = cell.ranks[cell.ranks != NOT_RANKED]
    return Readout(ranks[~np.isin(ranks, left_out)].astype(np.int_), moved, split[0], split[1])
