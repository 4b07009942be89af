"""Read the effects of one knock-out in one cell from hidden states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranklock.arms import DECOMPOSITION_ARMS, NOT_RANKED, ModelInput
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
    """Effects of one knock-out in one cell.

    Attributes
    ----------
    responder_ranks
        Ranks of the responders in the unperturbed cell, ascending, shape (responders,).
    moved
        Arm's name → what moved under it.
    genes
        Decomposition of the responders' displacements under ``delete``; None unless ``hold``,
        ``shift`` and ``delete`` were all run.
    cell
        The same of the cell embedding.
    """

    responder_ranks: npt.NDArray[np.int_]
    moved: Mapping[str, Moved]
    genes: Decomposition | None
    cell: Decomposition | None


def embeddings(
    cell: ModelInput, states: Embeddings, knocked_out: Sequence[int], *, special_frame: bool
) -> tuple[Embeddings, Numbers]:
    """Embeddings of the responders and of the cell.

    Parameters
    ----------
    cell
        The input, perturbed or not.
    states
        Its hidden states, shape (length, width).
    knocked_out
        Perturbed ranks: left out of both sides.
    special_frame
        Whether the cell embedding is that of ``<cls>``; otherwise it is the mean over responders.

    Returns
    -------
    Responders in ascending order of rank, shape (responders, width), and the cell, shape (width,);
    NaN where it is a mean over nothing.
    """
    responds = (cell.ranks != NOT_RANKED) & ~np.isin(cell.ranks, knocked_out)
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
    knocked_out: Sequence[int],
    *,
    special_frame: bool,
) -> Readout:
    """Effects of one knock-out in one cell, under each arm.

    Parameters
    ----------
    cell, states
        Baseline input and its hidden states, shape (length, width).
    arms
        Arm's name → perturbed input and its hidden states.
    knocked_out
        Perturbed ranks.
    special_frame
        As in :func:`embeddings`.
    """
    frame = {"special_frame": special_frame}
    genes, whole = embeddings(cell, states, knocked_out, **frame)
    after = {
        name: embeddings(changed, changed_states, knocked_out, **frame)
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
    if set(DECOMPOSITION_ARMS) <= set(after):
        three = [after[name] for name in DECOMPOSITION_ARMS]
        split = [decompose(genes, *(g for g, _ in three)), decompose(whole, *(c for _, c in three))]
    ranks = cell.ranks[cell.ranks != NOT_RANKED]
    return Readout(ranks[~np.isin(ranks, knocked_out)].astype(np.int_), moved, split[0], split[1])
