"""One perturbation in one cell, reduced to the numbers that are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranklock.arms import EDIT_OF_WHOLE, whole_of
from ranklock.effects import pooled_artefact_share, step
from ranklock.effects.readout import Readout
from ranklock.effects.step import median

Stored = npt.NDArray[np.float32]

DECOMPOSED = (
    "artefact_share",
    "phi_removal",
    "phi_shift",
    "interaction",
)


@dataclass(frozen=True, eq=False)
class MoveInCell:
    """Where a move put its genes in one cell, and whom they passed.

    Attributes
    ----------
    perturbation
        Name of the move.
    to_ranks
        Rank that each gene went to, in the order of the move's genes.
    inserted
        Whether it was put into the input, which lacked it.
    passed
        Of each gene of the cell, in order of rank: whether it changes its rank to make way.
    """

    perturbation: str
    to_ranks: tuple[int, ...]
    inserted: bool
    passed: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Record:
    """Numbers of one perturbation in one cell.

    Attributes
    ----------
    knockout
        Index of the perturbation in the run's list.
    cell
        Index of the cell in the run's cells.
    ranks
        Perturbed ranks, ascending; of a move, in the order of its genes, with ``NOT_RANKED`` for
        one that the cell lacks.
    genes_in_cell
        Number of genes that the model was shown at baseline.
    tokens, responder_ranks
        Of each responder, in order of rank, shape (responders,).
    cosine_distance, displacement
        Arm → one number a responder.
    decomposed
        Name in :data:`DECOMPOSED` → one number a responder: its artefact share, and the lengths of
        φ_removal, φ_shift and the interaction. Of a move, φ_move in the place of φ_removal. Empty
        without a decomposition.
    shift_along_total, total_squared
        Terms of the artefact share pooled over the responders; NaN without a decomposition.
    cell_shift, cell_displacement
        Arm → how far the cell embedding moved.
    cell_artefact_share
        Artefact share of the cell embedding's displacement; NaN without a decomposition.
    """

    knockout: int
    cell: int
    ranks: tuple[int, ...]
    genes_in_cell: int
    tokens: npt.NDArray[np.int32]
    responder_ranks: npt.NDArray[np.int32]
    cosine_distance: Mapping[str, Stored]
    displacement: Mapping[str, Stored]
    decomposed: Mapping[str, Stored]
    shift_along_total: float
    total_squared: float
    cell_shift: Mapping[str, float]
    cell_displacement: Mapping[str, float]
    cell_artefact_share: float
    move: MoveInCell | None = None

    def sides(self, arm: str) -> dict[str, float]:
        """Medians of the effects on two sides, under one arm; NaN where no gene stands.

        Of a knock-out ``before`` and ``after`` the perturbed rank, of a move the genes ``passed``
        and the ``others``.
        """
        distances = self.cosine_distance[arm]
        if self.move is None:
            two = step(distances, self.responder_ranks, self.ranks)
            return {"before": two.before, "after": two.after}
        passed = self.passed
        return {"passed": median(distances[passed]), "others": median(distances[~passed])}

    @property
    def passed(self) -> npt.NDArray[np.bool_]:
        """Whether each responder is passed by the move, shape (responders,)."""
        if self.move is None:
            raise TypeError("A knock-out passes nobody.")
        return self.move.passed[self.responder_ranks]


def record_of(
    readout: Readout,
    *,
    knockout: int,
    cell: int,
    ranks: tuple[int, ...],
    genes: npt.NDArray[np.int32],
    move: MoveInCell | None = None,
) -> Record:
    """Reduce a readout to the numbers that are kept, in float32 (the forwards' own precision).

    Parameters
    ----------
    readout
        Effects of one perturbation in one cell.
    knockout, cell, ranks, move
        What was perturbed, and where.
    genes
        Tokens of the genes that the model was shown at baseline, in order of rank.
    """
    decomposed: dict[str, Stored] = {}
    both = whole_of(readout.moved)
    if readout.genes is not None and both is not None:
        lengths = {
            f"phi_{EDIT_OF_WHOLE[both]}": readout.genes.edit,
            "phi_shift": readout.genes.shift,
            "interaction": readout.genes.interaction,
        }
        decomposed = {
            "artefact_share": readout.genes.artefact_share.astype(np.float32),
            **{k: np.linalg.norm(v, axis=-1).astype(np.float32) for k, v in lengths.items()},
        }
    return Record(
        knockout=knockout,
        cell=cell,
        ranks=ranks,
        genes_in_cell=len(genes),
        tokens=genes[readout.responder_ranks],
        responder_ranks=readout.responder_ranks.astype(np.int32),
        cosine_distance={
            arm: moved.cosine_distance.astype(np.float32) for arm, moved in readout.moved.items()
        },
        displacement={
            arm: moved.displacement.astype(np.float32) for arm, moved in readout.moved.items()
        },
        decomposed=decomposed,
        shift_along_total=_sum(readout.genes.shift_along_total if readout.genes else None),
        total_squared=_sum(readout.genes.total_squared if readout.genes else None),
        cell_shift={arm: moved.cell_shift for arm, moved in readout.moved.items()},
        cell_displacement={arm: moved.cell_displacement for arm, moved in readout.moved.items()},
        cell_artefact_share=float(readout.cell.artefact_share) if readout.cell else np.nan,
        move=move,
    )


def pooled_share(records: Sequence[Record]) -> float:
    """Artefact share of ``delete`` or ``move``, pooled over responders and perturbed cells.

    Returns
    -------
    The share; NaN without a decomposition, or where nothing moved.
    """
    return pooled_artefact_share(
        np.array([record.shift_along_total for record in records]),
        np.array([record.total_squared for record in records]),
    )


def _sum(terms: npt.NDArray[np.float64] | None) -> float:
    return float(terms.sum()) if terms is not None else float("nan")
