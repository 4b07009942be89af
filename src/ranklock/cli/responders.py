"""``ranklock responders``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranklock.cli import options as o
from ranklock.cli.inputs import CellOptions, genes_of, read_inputs, use_threads
from ranklock.errors import OptionError

if TYPE_CHECKING:
    from ranklock.run.old_sweep_result import Sweep

CLAIM_ARMS = "hold,shift"
RESPONDERS_EPILOG = (
    "**What a specific effect is**: what an effect has beyond the ranks of both genes, the potency "
    "of the knock-out and the responsiveness of the responder to other knock-outs at like ranks. "
    "Claims rest on `hold`; `shift`, the placebo beside it, should find nothing.\n\n"
    "**Examples**\n\n"
    "Of a sweep that is there, without a forward:\n\n"
    "    ranklock responders genome-wide --out claims\n\n"
    "With donors as replicates:\n\n"
    "    ranklock responders genome-wide --donor donor_id --out claims\n\n"
    "A handful of genes, with rank-matched controls that are run beside them:\n\n"
    "    ranklock responders cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --gene SPI1 --gene CEBPB --controls 50 --sample 100 --out spi1\n\n"
    + o.ARMS_HELP
    + o.EXIT_CODES
)
_OF_CELLS = {
    "model", "vocabulary", "controls", "cell", "cell_range", "where", "sample", "values",
    "counts_layer", "gene_column", "layer", "precision", "device", "threads",
}  # fmt: skip

Source = Annotated[
    Path,
    typer.Argument(
        help="Folder of a sweep or an audit; or cells (.h5ad, .dataset, .parquet) with --model."
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", help="Checkpoint, for cells: a folder, or owner/model[/subfolder][@revision]."
    ),
]
Genes = Annotated[
    list[str] | None,
    typer.Option("--gene", help="Knocked-out gene to report: symbol or Ensembl ID. Repeat it."),
]
GeneList = Annotated[
    Path | None, typer.Option("--gene-list", help="File that names such genes, one a line.")
]
Arms = Annotated[
    str | None,
    o.option(o.EXPERIMENT, f"Arms. Default: all of a sweep's; for cells {CLAIM_ARMS}.", "--arms"),
]
Controls = Annotated[
    int,
    o.option(
        o.EXPERIMENT,
        "For cells: other genes knocked out at the nearest ranks, for each --gene and cell.",
        "--controls",
    ),
]
Donor = Annotated[
    str | None,
    typer.Option(
        "--donor", help="Column of obs that names donors or samples: they are replicates then."
    ),
]
MinCells = Annotated[
    int, typer.Option("--min-cells", help="Leave out pairs of genes that fewer cells have.")
]
Top = Annotated[int, typer.Option("--top", help="How many of the surest pairs to print.")]


def responders(
    context: typer.Context,
    source: Source,
    out: o.Out,
    gene: Genes = None,
    gene_list: GeneList = None,
    donor: Donor = None,
    min_cells: MinCells = 5,
    top: Top = 10,
    model: ModelName = None,
    vocabulary: o.VocabularyFile = None,
    controls: Controls = 50,
    cell: o.Cell = None,
    cell_range: o.CellRange = None,
    where: o.Where = None,
    sample: o.Sample = None,
    seed: o.Seed = 0,
    values: o.Values = "counts",
    counts_layer: o.CountsLayer = None,
    gene_column: o.GeneColumn = None,
    arms: Arms = None,
    layer: o.LayerNumber = -1,
    precision: o.Precision = "float32",
    device: o.Device = None,
    threads: o.Threads = None,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
) -> None:
    """Which responders a knock-out moves beyond what ranks, potency and responsiveness explain.

    Reads a sweep, or runs one of a few genes and their controls, and tests every pair of genes
    over cells or donors. Writes responders.parquet, responders.h5ad and figures.
    """
    with o.reported("the sweep is kept; the same command goes on from there"):
        use_threads(threads)
        from ranklock.run.folder import check_folder
        from ranklock.run.old_sweep_result import sweep_in
        from ranklock.significance.responders import SWEEP
        from ranklock.significance.responders import responders as find
        from ranklock.significance.text import describe_responders

        check_folder(out, overwrite=overwrite, beside={SWEEP})
        genes = genes_of(gene, gene_list)
        names = None if arms is None else o.arm_names(arms, backfill=False)
        sweep = sweep_in(source)
        if sweep is not None:
            refuse_options(context, source)
        else:
            cells = CellOptions(
                source, cell, cell_range, where, sample, seed, values, counts_layer, gene_column
            )
            sweep = _run(
                cells, model, vocabulary, genes, names or CLAIM_ARMS.split(","), out / SWEEP,
                controls=controls, layer=layer, precision=precision, device=device,
                overwrite=overwrite,
            )  # fmt: skip
        found = find(sweep, names, genes=genes, donor=donor, min_cells=min_cells, seed=seed)
        found.save(out, overwrite=overwrite)
        if as_json:
            o.print_json(found.manifest, out)
        else:
            typer.echo("\n".join(describe_responders(found, top)))
            typer.echo(f"Results: {out} (responders.parquet, responders.h5ad, volcano.png, ...)")


def refuse_options(context: typer.Context, source: Path) -> None:
    """Refuse what a sweep, which has made its forwards, can no longer be asked."""
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name))
        if parameter.name in _OF_CELLS and given is not None and given.name != "DEFAULT":
            raise OptionError(
                f"{source} is a sweep, whose cells, model and options are what they were; leave "
                f"out {parameter.opts[0]}."
            )


def _run(
    cells: CellOptions,
    model: str | None,
    vocabulary: Path | None,
    genes: list[str] | None,
    arms: list[str],
    out: Path,
    *,
    controls: int,
    layer: int,
    precision: str,
    device: str | None,
    overwrite: bool,
) -> Sweep:
    """Knock out the genes and their controls."""
    if model is None:
        raise OptionError(
            f"{cells.file} is no sweep; run one first (ranklock sweep), or name a checkpoint with "
            "--model and genes with --gene."
        )
    if genes is None:
        raise OptionError(
            "Name genes with --gene; for all genes, run ranklock sweep first and ask about that."
        )
    chosen, loaded = read_inputs(
        cells, model, vocabulary, device=device, arms=arms, layer=layer, genes=genes
    )
    from ranklock import sweep

    o.stage(f"Knocking out {', '.join(genes)} and {controls} controls with {loaded!r}")
    return sweep(
        chosen, loaded, out, genes, arms,
        controls=controls, layer=layer, precision=precision, overwrite=overwrite,
    )  # fmt: skip
