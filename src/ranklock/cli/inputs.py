"""From options to cells, genes, states and a model; what can be checked early is checked early.

The dataclasses are groups of options (:func:`ranklock.cli.groups.grouped`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ranklock.cli import options as o
from ranklock.errors import OptionError

if TYPE_CHECKING:
    from ranklock.cells import Cells, Selection
    from ranklock.genes.vocabulary import Vocabulary
    from ranklock.models import Model
    from ranklock.run.states import States

ALL = "all"


@dataclass(frozen=True)
class CellOptions:
    """Which cells, and how to read them."""

    file: o.CellsFile
    cell: o.Cell = None
    cell_range: o.CellRange = None
    where: o.Where = None
    sample: o.Sample = None
    seed: o.Seed = 0
    values: o.Values = "counts"
    counts_layer: o.CountsLayer = None
    gene_column: o.GeneColumn = None

    def selection(self) -> Selection:
        """The cells that are chosen."""
        from ranklock.cells import Selection
        from ranklock.cells.selection import parse_conditions, parse_range

        if self.cell is not None and self.cell_range is not None:
            raise OptionError("--cell and --cells exclude each other.")
        rows: slice | tuple[int, ...] | None = None if self.cell is None else (self.cell,)
        if self.cell_range is not None:
            rows = parse_range(self.cell_range)
        return Selection(rows, parse_conditions(self.where or []), self.sample, self.seed)

    def read(self, vocabulary: Vocabulary | None) -> Cells:
        """Read the chosen cells."""
        return self.read_from(self.file, self.selection(), vocabulary)

    def read_from(self, file: Path, select: Selection, vocabulary: Vocabulary | None) -> Cells:
        """Read cells of a file that is like this one."""
        from ranklock.cells import read_cells

        o.stage(f"Reading {file}")
        return read_cells(
            file,
            vocabulary,
            select=select,
            values=self.values,  # type: ignore[arg-type]
            counts_layer=self.counts_layer,
            gene_column=self.gene_column,
            progress=True,
        )


@dataclass(frozen=True)
class GeneOptions:
    """Which genes are perturbed."""

    gene: o.Gene = None
    genes: o.Genes = None
    genes_column: o.GenesColumn = None

    def names(self, vocabulary: Vocabulary | None) -> list[str] | None:
        """Names of the genes; None for all genes of each cell."""
        return genes_of(self.gene, self.genes, self.genes_column, vocabulary)


@dataclass(frozen=True)
class StateOptions:
    """From which state to which."""

    state_key: o.StateKey = None
    start: o.Start = None
    goal: o.Goal = None
    alternative: o.Alternatives = None
    within: o.Within = None
    state_average: o.StateAverage = "mean"
    goal_cells: o.GoalCells = 1000
    state_embeddings: o.StateVectors = None
    state_cells: o.StateCellsFile = None

    def states(self, cells: Cells | None = None, seed: int = 0) -> States | None:
        """The states, with the cells that they are of; None where none are named."""
        return o.states_of(
            self.state_key, self.start, self.goal, self.alternative, within=self.within,
            average=self.state_average, goal_cells=self.goal_cells,
            embeddings=self.state_embeddings, cells=cells, seed=seed,
        )  # fmt: skip

    def read(
        self, cells: CellOptions, vocabulary: Vocabulary | None
    ) -> tuple[Cells, States | None]:
        """Read the cells that are perturbed, and all cells of the states they may move towards.

        A sample is drawn of the cells in a start state. What is drawn or chosen with ``--where``
        leaves no cell out of the other states.
        """
        from ranklock.cells import Selection

        states = self.states(seed=cells.seed)
        if self.state_cells is not None and (states is None or states.embeddings is not None):
            raise OptionError(
                "--state-cells goes with --state-key, and not with --state-embeddings."
            )
        chosen = cells.selection()
        if states is None:
            return cells.read(vocabulary), None
        everything = chosen == Selection(seed=cells.seed)
        if not everything:
            start = tuple(s for s in states.start if s in chosen.where.get(states.key, (s,)))
            if not start:
                raise OptionError(
                    f"--where leaves no cell in the start: {', '.join(states.start)}."
                )
            chosen = replace(chosen, where={**chosen.where, states.key: start})
        perturbed = cells.read_from(cells.file, chosen, vocabulary)
        if states.embeddings is not None or (everything and self.state_cells is None):
            return perturbed, states
        ends = Selection(where={states.key: (states.goal, *states.alternatives)})
        source = cells.read_from(self.state_cells or cells.file, ends, vocabulary)
        return perturbed, self.states(source, cells.seed)


def read_model(
    model: str, vocabulary: Path | None, *, device: str | None, layer: int = 0
) -> tuple[Model, Vocabulary | None]:
    """Load a model and its vocabulary, and see that they and the layer fit each other."""
    from ranklock.genes.vocabulary import read_vocabulary
    from ranklock.models import load_model
    from ranklock.models.checkpoint import check_vocabulary
    from ranklock.models.encoder import output_of_layer

    o.stage(f"Loading {model}")
    loaded = load_model(model, device=device)
    names = None if vocabulary is None else read_vocabulary(vocabulary)
    output_of_layer(loaded, layer)
    if names is not None:
        check_vocabulary(names, loaded)
    return loaded, names


def read_inputs(
    cells: CellOptions,
    model: str,
    vocabulary: Path | None,
    *,
    device: str | None,
    layer: int = 0,
    genes: Sequence[str] = (),
) -> tuple[Cells, Model]:
    """Read cells and model. Genes that must be in the vocabulary are looked up before the cells."""
    from ranklock.genes.names import require

    cells.selection()
    loaded, names = read_model(model, vocabulary, device=device, layer=layer)
    if names is not None:
        require(genes, names)
    return cells.read(names), loaded


def genes_of(
    named: Sequence[str] | None,
    listed: str | Path | None,
    column: str | None = None,
    vocabulary: Vocabulary | None = None,
) -> list[str] | None:
    """Genes named one by one and in a file; None when there are neither, or all are meant.

    Parameters are those of :func:`ranklock.genes.names.read_gene_list`.
    """
    from ranklock.genes.names import read_gene_list

    if listed == ALL:
        if named:
            raise OptionError("--gene and --genes all exclude each other.")
        return None
    genes = list(named or [])
    if listed is not None:
        genes += read_gene_list(listed, column, vocabulary)
    elif column is not None:
        raise OptionError("--genes-column is a column of the table that --genes names.")
    return genes or None


def use_threads(threads: int | None) -> None:
    """Set the number of CPU threads; as torch finds them without."""
    if threads is None:
        return
    if threads < 1:
        raise typer.BadParameter("--threads is at least 1.")
    import torch

    torch.set_num_threads(threads)
