"""Log effects of a run, one cell at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.run.run import EffectBlock, Run

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class CellEffects:
    """Effects of the perturbations of one cell under one arm.

    Attributes
    ----------
    replicate, genes
        What the cell is a replicate of, itself or its donor; how many genes it has.
    perturbations, gene_ranks
        Number of each perturbation, and the rank of its gene, highest rank first, shape
        (perturbations,).
    responders, responder_ranks
        Token and rank of each responder, shape (responders,).
    log_effects
        log10 of cosine distances, shape (perturbations, responders). Distances below the noise
        floor count as the floor. NaN for the perturbed genes themselves.
    under_floor
        Which displacements are under the noise floor, same shape.
    """

    replicate: str
    genes: int
    perturbations: Integers
    gene_ranks: Integers
    responders: Integers
    responder_ranks: Integers
    log_effects: Array
    under_floor: Marks

    @property
    def present(self) -> Marks:
        """Which entries hold an effect."""
        return np.isfinite(self.log_effects)


@dataclass(frozen=True, eq=False)
class LogEffects:
    """Effects of a run's perturbations of one kind under one arm; iterating reads cell after cell.

    ``replicates`` says of which replicate a cell is: those that it does not name are passed over,
    and cells of one replicate come one after another. Genes that were inserted into a cell have no
    rank there, and so no controls at like ranks: they are passed over.
    """

    run: Run
    kind: str
    arm: str
    replicates: pd.Series

    def __iter__(self) -> Iterator[CellEffects]:
        for blocks in self._cells(("cosine_distance", "displacement")):
            cell = self._of_cell(blocks)
            if len(cell.perturbations):
                yield cell

    def counts(self) -> tuple[pd.Series, pd.Series]:
        """Perturbation → cells it was made in, and responder's token → cells it was read in."""
        size = len(self.run.perturbations), int(self.run.genes.index.max()) + 1
        perturbations, responders = (np.zeros(length, np.int64) for length in size)
        for blocks in self._cells(()):
            for block in blocks:
                perturbations[block.perturbations[block.gene_ranks >= 0]] += 1
            responders[blocks[0].responders] += 1
        return tuple(pd.Series(n)[lambda cells: cells > 0] for n in (perturbations, responders))

    def _cells(self, fields: Sequence[str]) -> Iterator[list[EffectBlock]]:
        order = list(self.replicates.sort_values(kind="stable").index)
        blocks = self.run.blocks(fields, [self.arm], kind=self.kind, cells=order)
        for _, of_cell in groupby(blocks, key=attrgetter("row")):
            yield list(of_cell)

    def _of_cell(self, blocks: list[EffectBlock]) -> CellEffects:
        ranks = np.concatenate([block.gene_ranks for block in blocks]).astype(np.int64)
        distances, displacements = (
            np.concatenate([block.values[field][self.arm] for block in blocks])
            for field in ("cosine_distance", "displacement")
        )
        rows = np.argsort(ranks, kind="stable")
        rows = rows[(ranks[rows] >= 0) & np.isfinite(distances[rows]).any(axis=1)]
        floor = self.run.floor
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log10(np.maximum(distances[rows].astype(np.float64), floor.cosine_distance))
        return CellEffects(
            replicate=str(self.replicates[blocks[0].cell]),
            genes=blocks[0].genes_in_cell,
            perturbations=np.concatenate([block.perturbations for block in blocks])[rows].astype(
                np.int64
            ),
            gene_ranks=ranks[rows],
            responders=blocks[0].responders.astype(np.int64),
            responder_ranks=blocks[0].responder_ranks.astype(np.int64),
            log_effects=np.where(np.isfinite(logs), logs, np.nan),
            under_floor=displacements[rows] <= floor.displacement,
        )
