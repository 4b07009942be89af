"""A run: its tables, its AnnData, its figure, and its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ranklock.arms import NOT_RANKED
from ranklock.errors import InputError, OutputError
from ranklock.moves import SAID
from ranklock.run.folder import read_folder, write_folder
from ranklock.run.old_moves import read_ranks
from ranklock.run.old_records import MoveInCell, Record, pooled_share

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

EFFECTS, TABLE, CELL_SHIFTS = "effects.h5ad", "effects.parquet", "cell_shifts.parquet"
FIGURE_PNG, FIGURE_SVG = "rank_shift.png", "rank_shift.svg"


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """What knock-outs, or moves to other ranks, found.

    Attributes
    ----------
    effects
        Knock-outs (or moves) × responders, one layer per arm, as AnnData.
    table
        The same as a tidy table: one row a cell, perturbed gene, arm and responder.
    cell_shifts
        How far each cell's embedding moved: one row a cell, perturbed gene and arm.
    manifest
        What was asked, of what, with what; the noise floor; a summary.
    """

    effects: AnnData
    table: pd.DataFrame
    cell_shifts: pd.DataFrame
    manifest: dict[str, Any]

    def __repr__(self) -> str:
        found = self.manifest["summary"]
        genes = ", ".join(entry["gene"] for entry in found[:5]) + ", …" * (len(found) > 5)
        said = done_to(self.manifest["asked"])
        return (
            f"Run: {genes} {said}, {self.effects.n_obs} observations × "
            f"{self.effects.n_vars} responders, arms {', '.join(self.manifest['asked']['arms'])}"
        )

    def figure(self, gene: str | None = None, cell: str | None = None) -> Figure:
        """Cosine similarity against rank, one panel per arm, whole and zoomed.

        Parameters
        ----------
        gene, cell
            Which knock-out in which cell; see :meth:`example` for the default.

        Returns
        -------
        matplotlib Figure
        """
        from ranklock.page.rank_shift import rank_shift_figure

        gene, cell = self.example(gene, cell)
        rows = self.table[(self.table["gene"] == gene) & (self.table["cell"] == cell)]
        shifts = self.cell_shifts
        written = shifts.loc[(shifts["gene"] == gene) & (shifts["cell"] == cell), "gene_ranks"]
        return rank_shift_figure(rows, read_ranks(written.iloc[0]))

    def example(self, gene: str | None = None, cell: str | None = None) -> tuple[str, str]:
        """Knock-out and cell that the figure shows.

        By default the first knock-out, in the cell where the gene stands nearest to the middle of
        the ranking: a step shows best with many genes on either side.
        """
        rows = self.cell_shifts
        if gene is None:  # the first that has responders to show
            gene = str((rows if self.table.empty else self.table)["gene"].iloc[0])
        rows = rows[rows["gene"] == gene]
        if cell is not None:
            rows = rows[rows["cell"] == cell]
        if rows.empty:
            what = "knock-out" if self.manifest["asked"]["command"] == "knockout" else "move"
            raise InputError(f"This run has no {what} of {gene}" + f" in {cell}." * bool(cell))
        if cell is None:
            mine = self.table[self.table["gene"] == gene]
            length = mine.groupby("cell", observed=True)["responder_rank"].max() + 1
            ranks = rows.drop_duplicates("cell").set_index("cell")["gene_rank"]
            middle = (ranks / length.reindex(ranks.index) - 0.5).abs()
            cell = str(middle.idxmin()) if middle.notna().any() else str(ranks.index[0])
        return gene, cell

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the run's folder, whole or not at all.

        Parameters
        ----------
        folder
            Where to.
        overwrite
            Replace a run that is there already.

        Returns
        -------
        The folder.

        Raises
        ------
        OutputError
            When it exists and may not be replaced, or cannot be written.
        """
        from ranklock.page.style import draw

        folder = Path(folder)
        writers: dict[str, Any] = {
            EFFECTS: lambda path: self.effects.write_h5ad(
                path, compression="gzip", compression_opts=1
            ),
            TABLE: lambda path: self.table.to_parquet(path, index=False, compression="zstd"),
            CELL_SHIFTS: lambda path: self.cell_shifts.to_parquet(path, index=False),
        }
        if not self.table.empty:
            figure = self.figure()
            writers |= {name: partial(draw, figure) for name in (FIGURE_PNG, FIGURE_SVG)}
        write_folder(folder, self.manifest, writers, overwrite=overwrite)
        return folder


def read_run(folder: str | Path) -> Run:
    """Read a run back from its folder.

    Raises
    ------
    OutputError
        When the folder holds no run, or a file in it was damaged or changed.
    """
    from anndata import read_h5ad

    folder = Path(folder)
    manifest = read_folder(folder)
    try:
        return Run(
            effects=read_h5ad(folder / EFFECTS),
            table=pd.read_parquet(folder / TABLE),
            cell_shifts=pd.read_parquet(folder / CELL_SHIFTS),
            manifest={k: v for k, v in manifest.items() if k not in ("files", "format")},
        )
    except OSError as error:
        raise OutputError(f"{folder} cannot be read back ({error}).") from error


def summarise(
    records: Sequence[Record], names: Sequence[str], arms: Sequence[str]
) -> list[dict[str, Any]]:
    """What was found for each knock-out, over its cells.

    Parameters
    ----------
    records
        Every knock-out in every cell.
    names
        Name of each knock-out.
    arms
        Names of the arms.

    Returns
    -------
    For each knock-out: number of cells, its ranks, the artefact share of ``delete`` pooled over
    responders and cells, and per arm the median over cells of the medians on either side of the
    rank and of the cell shift. Missing numbers are None. Of a move also its name, the ranks moved
    to, and in how many cells the gene was inserted; its share is that of ``move``, and its medians
    are of the genes that it passes and of the others.
    """
    summary = []
    for index in sorted({record.knockout for record in records}):
        mine = [record for record in records if record.knockout == index]
        arm_rows = {}
        for arm in arms:
            sides = [record.sides(arm) for record in mine]
            arm_rows[arm] = {
                **{f"median_{s}": _median([side[s] for side in sides]) for s in sides[0]},
                "median_cell_shift": _median([record.cell_shift[arm] for record in mine]),
            }
        share = pooled_share(mine)
        moves = [record.move for record in mine if record.move is not None]
        summary.append(
            {
                "gene": names[index],
                "cells": len(mine),
                "ranks": _range([rank for record in mine for rank in record.ranks]),
                **(_of_moves(moves) if moves else {}),
                "genes_in_cell": [
                    min(record.genes_in_cell for record in mine),
                    max(record.genes_in_cell for record in mine),
                ],
                "artefact_share": None if math.isnan(share) else share,
                "arms": arm_rows,
            }
        )
    return summary


def done_to(asked: Mapping[str, Any]) -> str:
    """What a run did to its genes, in words, from what was asked of it."""
    return "knocked out" if asked["command"] == "knockout" else SAID[asked["perturbation"]]


def _of_moves(moves: Sequence[MoveInCell]) -> dict[str, Any]:
    return {
        "perturbation": moves[0].perturbation,
        "to_ranks": _range([rank for move in moves for rank in move.to_ranks]),
        "inserted": sum(move.inserted for move in moves),
    }


def _range(ranks: Sequence[int]) -> list[int] | None:
    known = [rank for rank in ranks if rank != NOT_RANKED]
    return [min(known), max(known)] if known else None


def _median(values: Sequence[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else None
