"""From options to cells and a model, with all that can be checked early checked early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ranklock.arms import ARMS, Arm, find_arms
from ranklock.cli.options import stage

if TYPE_CHECKING:
    from ranklock.cells import Cells
    from ranklock.genes.vocabulary import Vocabulary
    from ranklock.models import Model


@dataclass(frozen=True)
class CellOptions:
    """Which cells, and how to read them."""

    file: Path
    cell: int | None
    cell_range: str | None
    where: Sequence[str] | None
    sample: int | None
    seed: int
    values: str
    counts_layer: str | None
    gene_column: str | None


def read_inputs(
    cells: CellOptions,
    model: str,
    vocabulary: Path | None,
    *,
    device: str | None,
    arms: Sequence[str],
    layer: int,
    genes: Sequence[str],
    among: Mapping[str, Arm] = ARMS,
) -> tuple[Cells, Model]:
    """Read cells and model; what needs no cells is checked before: there may be a million."""
    from ranklock.cells import Selection, read_cells
    from ranklock.cells.selection import parse_conditions, parse_range
    from ranklock.genes.names import require
    from ranklock.genes.vocabulary import read_vocabulary
    from ranklock.models import load_model
    from ranklock.models.checkpoint import check_vocabulary
    from ranklock.models.encoder import output_of_layer

    if cells.cell is not None and cells.cell_range is not None:
        raise typer.BadParameter("--cell and --cells exclude each other.")
    rows: slice | tuple[int, ...] | None = None if cells.cell is None else (cells.cell,)
    if cells.cell_range is not None:
        rows = parse_range(cells.cell_range)
    conditions = parse_conditions(cells.where or [])
    find_arms(arms, among)
    stage(f"Loading {model}")
    loaded = load_model(model, device=device)
    known = None if vocabulary is None else read_vocabulary(vocabulary)
    output_of_layer(loaded, layer)
    if known is not None:
        check_vocabulary(known, loaded)
        require(genes, known)
    stage(f"Reading {cells.file}")
    chosen = read_cells(
        cells.file,
        known,
        select=Selection(rows, conditions, cells.sample, cells.seed),
        values=cells.values,  # type: ignore[arg-type]
        counts_layer=cells.counts_layer,
        gene_column=cells.gene_column,
        progress=True,
    )
    return chosen, loaded


def genes_of(
    named: Sequence[str] | None,
    listed: Path | None,
    column: str | None = None,
    vocabulary: Vocabulary | None = None,
) -> list[str] | None:
    """Genes named one by one and in a file; None when there are neither.

    Parameters are those of :func:`ranklock.genes.names.read_gene_list`.
    """
    from ranklock.genes.names import read_gene_list

    genes = list(named or [])
    if listed is not None:
        genes += read_gene_list(listed, column, vocabulary)
    return genes or None


def use_threads(threads: int | None) -> None:
    """Set the number of CPU threads; as torch finds them without."""
    if threads is None:
        return
    if threads < 1:
        raise typer.BadParameter("--threads is at least 1.")
    import torch

    torch.set_num_threads(threads)
