"""``ranklock knockout`` and ``ranklock demo``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from ranklock.cli.inputs import CellOptions, read_inputs
from ranklock.cli.options import (
    ARMS_HELP,
    EXIT_CODES,
    EXPERIMENT,
    USUAL_ARMS,
    ArmNames,
    Average,
    Backfill,
    Cell,
    CellRange,
    CellsFile,
    CountsLayer,
    Device,
    GeneColumn,
    Json,
    LayerNumber,
    ModelName,
    Out,
    Overwrite,
    Sample,
    Seed,
    Values,
    VocabularyFile,
    Where,
    arm_names,
    option,
    print_json,
    reported,
    stage,
)
from ranklock.errors import OutputError, RanklockWarning

KNOCKOUT_EPILOG = (
    "**Examples**\n\n"
    "One gene, one cell of a tokenised dataset:\n\n"
    "    ranklock knockout cells.dataset --model ctheodoris/Geneformer/Geneformer-V1-10M \\\n"
    "        --vocabulary dictionaries/ --gene FAM136A --cell 0 --out fam136a\n\n"
    "Two genes, each on its own, in 50 random NK cells of an AnnData:\n\n"
    "    ranklock knockout cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --gene NKG7 --gene GNLY --where cell_type=NK --sample 50 --seed 1 --out nk\n\n"
    + ARMS_HELP
    + EXIT_CODES
)
DEMO_EPILOG = "**Example**\n\n    ranklock demo --out my-first-run\n\n" + EXIT_CODES


def knockout(
    cells: CellsFile,
    model: ModelName,
    gene: Annotated[
        list[str],
        typer.Option(help="Gene to knock out: symbol, Ensembl ID or token. Give it once a gene."),
    ],
    out: Out,
    vocabulary: VocabularyFile = None,
    cell: Cell = None,
    cell_range: CellRange = None,
    where: Where = None,
    sample: Sample = None,
    seed: Seed = 0,
    values: Values = "counts",
    counts_layer: CountsLayer = None,
    gene_column: GeneColumn = None,
    arms: ArmNames = USUAL_ARMS,
    backfill: Backfill = False,
    layer: LayerNumber = -1,
    together: Annotated[
        bool, option(EXPERIMENT, "Knock all genes out of a cell at once, as a set.", "--together")
    ] = False,
    device: Device = None,
    average: Average = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Knock genes out of cells, and measure what moves under each arm.

    Writes manifest.json, effects.h5ad, effects.parquet, cell_shifts.parquet, rank_shift.png and
    rank_shift.svg into the folder given by --out.
    """
    from ranklock.run.folder import check_folder

    with reported():
        check_folder(out, overwrite=overwrite)
        names = arm_names(arms, backfill)
        chosen, loaded = read_inputs(
            CellOptions(
                cells, cell, cell_range, where, sample, seed, values, counts_layer, gene_column
            ),
            model,
            vocabulary,
            device=device,
            arms=names,
            layer=layer,
            genes=gene,
        )
        from ranklock import knockout as run_knockout

        stage(f"Knocking out of {loaded!r}")
        run = run_knockout(
            chosen, loaded, gene, names, layer=layer, together=together, average=average
        )
        stage(f"Writing {out}")
        run.save(out, overwrite=overwrite)
    if as_json:
        print_json(run.manifest, out)
    else:
        print_summary(run.manifest, out)


def demo(
    out: Out = Path("ranklock-demo"),
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Knock PU.1 (SPI1) out of real monocytes, and audit them, with a small model of our own.

    700 blood cells × 765 genes of 10x Genomics and a BERT trained on them; nothing is fetched.
    """
    from ranklock import demo as embedded
    from ranklock import knockout as run_knockout
    from ranklock.audits.folder import is_audit
    from ranklock.demo.story import DEMO_GENE, demo_audit, demo_cells, tell
    from ranklock.models import load_model
    from ranklock.run.folder import check_folder

    folder, audited = out / "knockout", out / "audit"
    with reported("what was done is kept"):
        check_folder(folder, overwrite=overwrite)
        if is_audit(audited) and not overwrite:
            raise OutputError(f"{audited} is there already; replace it with --overwrite.")
        with warnings.catch_warnings():
            # Which of the demo's cells have the gene is part of its story, not a caution.
            warnings.simplefilter("ignore", RanklockWarning)
            run = run_knockout(demo_cells(), load_model(embedded.model_folder()), [DEMO_GENE])
        run.save(folder, overwrite=overwrite)
        found = demo_audit(audited, overwrite=overwrite)
    if as_json:
        print_json(run.manifest, out)
    else:
        page = audited / found.report.name
        report = f"Report:  {page} (the five questions, answered on these cells)"
        typer.echo("\n".join([*tell(run), *_written(folder), report]))


def print_summary(manifest: dict[str, Any], out: Path) -> None:
    """Print what knock-outs or moves found, and where it is."""
    from ranklock.run.text import describe_summary

    typer.echo("\n".join([*describe_summary(manifest), *_written(out)]))


def _written(out: Path) -> list[str]:
    figure, effects = out / "rank_shift.png", out / "effects.h5ad"
    lines = [f"Figure:  {figure}"] if figure.exists() else ["Figure:  none, as no gene responds"]
    return [*lines, f"Results: {effects} (and effects.parquet beside it)"]
