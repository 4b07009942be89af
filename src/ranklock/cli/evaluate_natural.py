"""``ranklock evaluate --natural``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ranklock.cli import options as o
from ranklock.cli.inputs import genes_of, read_model
from ranklock.cli.inputs import use_threads as set_threads
from ranklock.errors import OptionError

if TYPE_CHECKING:
    from ranklock.perturbseq.natural import NaturalKnockOuts

NATURAL = "Natural knock-outs (--natural)"


@dataclass(frozen=True)
class NaturalGroup:
    """How knock-outs are held against cells that truly lack the gene."""

    natural: Annotated[
        bool,
        o.option(
            NATURAL,
            "Judge the run by cells that truly lack each gene, beside a null model, in place of a "
            "screen.",
            "--natural",
        ),
    ] = False
    model: Annotated[
        str | None, o.option(NATURAL, "The run's checkpoint: a folder or a hub name.", "--model")
    ] = None
    vocabulary: Annotated[
        Path | None, o.option(NATURAL, "The run's vocabulary, as for perturb.", "--vocabulary")
    ] = None
    gene: Annotated[
        list[str] | None,
        o.option(NATURAL, "Gene of the run to judge; repeat it. Default: all.", "--gene"),
    ] = None
    genes: Annotated[
        Path | None, o.option(NATURAL, "File that names them, one a line or a table.", "--genes")
    ] = None
    match: Annotated[
        list[str] | None,
        o.option(
            NATURAL,
            "Column of obs within which cells are matched, as the cell type; repeat it for more.",
            "--match",
        ),
    ] = None
    donor: Annotated[
        str | None,
        o.option(
            NATURAL, "Column of obs that names donors: intervals are over them then.", "--donor"
        ),
    ] = None
    min_cells: Annotated[
        int,
        o.option(NATURAL, "Matched pairs, and held-out cells, that a gene needs.", "--min-cells"),
    ] = 10
    max_pairs: Annotated[
        int, o.option(NATURAL, "Matched pairs of a gene, at most.", "--max-pairs")
    ] = 100
    max_apart: Annotated[
        float,
        o.option(
            NATURAL,
            "Difference in the number of genes within a pair, at most, as a part of it.",
            "--max-apart",
        ),
    ] = 0.1
    held_out: Annotated[
        int,
        o.option(
            NATURAL,
            "Cells in which genes are knocked out, at most: none that a direction is from.",
            "--held-out",
        ),
    ] = 60
    max_genes: Annotated[
        int,
        o.option(NATURAL, "Genes, at most; drawn at random where there are more.", "--max-genes"),
    ] = 100
    device: Annotated[
        str | None, o.option(NATURAL, "Torch device. Default: cuda if there, else cpu.", "--device")
    ] = None
    threads: Annotated[
        int | None, o.option(NATURAL, "CPU threads. Default: as torch finds them.", "--threads")
    ] = None


def evaluate_natural(
    run: Path,
    group: NaturalGroup,
    cells: Path | None,
    *,
    arms: list[str] | None,
    values: str,
    counts_layer: str | None,
    seed: int,
) -> NaturalKnockOuts:
    """Read what the options name, and judge the run by it."""
    if cells is None or group.model is None:
        missing = "--cells" if cells is None else "--model"
        raise OptionError(f"--natural needs the cells and the run's checkpoint; name {missing}.")
    from ranklock.cells import read_cells
    from ranklock.perturbseq.natural import natural_knock_outs
    from ranklock.perturbseq.natural_design import NaturalOptions
    from ranklock.run.run import as_run

    set_threads(group.threads)
    numbers = {
        "match": tuple(group.match or ()), "donor": group.donor, "min_cells": group.min_cells,
        "max_pairs": group.max_pairs, "max_apart": group.max_apart, "held_out": group.held_out,
        "max_genes": group.max_genes, "seed": seed,
    }  # fmt: skip
    NaturalOptions(**numbers)  # type: ignore[arg-type]  # before anything is read
    opened = as_run(run)
    model, names = read_model(
        group.model, group.vocabulary, device=group.device, layer=opened.manifest.asked.layer
    )
    o.stage(f"Reading {cells}")
    read = read_cells(
        cells, names, values=values, counts_layer=counts_layer, progress=True,  # type: ignore[arg-type]
    )  # fmt: skip
    return natural_knock_outs(
        opened, read, model, genes=genes_of(group.gene, group.genes, None, names), arms=arms,
        progress=True, **numbers,  # type: ignore[arg-type]
    )  # fmt: skip
