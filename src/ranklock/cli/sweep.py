"""``ranklock sweep`` and ``ranklock plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ranklock.cli.inputs import CellOptions, genes_of, read_inputs
from ranklock.cli.options import (
    ARMS_HELP,
    EXIT_CODES,
    EXPERIMENT,
    RESULTS,
    USUAL_ARMS,
    ArmNames,
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

SWEEP_EPILOG = (
    "**Examples**\n\n"
    "Every gene of 20 random cells, all arms; the same command goes on after a stop:\n\n"
    "    ranklock sweep cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --sample 20 --seed 1 --out genome-wide\n\n"
    "A list of transcription factors in all NK cells, cell shifts only:\n\n"
    "    ranklock sweep cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --gene-list factors.txt --where cell_type=NK --read cell --out factors\n\n"
    "Then look: **ranklock show genome-wide**\n\n" + ARMS_HELP + EXIT_CODES
)
PLAN_EPILOG = (
    "**Example**\n\n"
    "    ranklock plan cells.h5ad --model ./checkpoint --vocabulary dictionaries/ --sample 20\n\n"
    + EXIT_CODES
)

Genes = Annotated[
    list[str] | None,
    typer.Option(
        "--gene",
        help="Gene to knock out: symbol, Ensembl ID or token. Give it once a gene. "
        "Default: every gene of each cell.",
    ),
]
GeneList = Annotated[
    Path | None, typer.Option("--gene-list", help="File that names genes to knock out, one a line.")
]
Responders = Annotated[
    list[str] | None,
    option(RESULTS, "Gene whose effects are stored; repeat it. Default: all.", "--responder"),
]
ResponderList = Annotated[
    Path | None,
    option(RESULTS, "File that names them, one a line.", "--responder-list"),
]
Read = Annotated[
    str,
    option(EXPERIMENT, "What to read: genes (effects), cell (cell shifts) or both.", "--read"),
]
Precision = Annotated[
    str,
    option(
        EXPERIMENT,
        "Number format of the forwards: float32; tf32, bfloat16, float16 where the device has "
        "them. The measured noise floor says what it costs.",
        "--precision",
    ),
]
Threads = Annotated[
    int | None,
    option(EXPERIMENT, "CPU threads. Default: as torch finds them.", "--threads", ),
]  # fmt: skip


def sweep(
    cells: CellsFile,
    model: ModelName,
    out: Out,
    gene: Genes = None,
    gene_list: GeneList = None,
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
    read: Read = "both",
    precision: Precision = "float32",
    device: Device = None,
    threads: Threads = None,
    responder: Responders = None,
    responder_list: ResponderList = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Knock out every gene of each cell, one by one, and store what moves.

    Results go to disk as they come. Killed or stopped, the same command goes on where it was; it
    also finds and mends what was damaged. Several processes may work on one folder.
    """
    with reported("what was done is kept; the same command goes on from there"):
        _use_threads(threads)
        names, genes = arm_names(arms, backfill), genes_of(gene, gene_list)
        responders = genes_of(responder, responder_list)
        chosen, loaded = read_inputs(
            CellOptions(
                cells, cell, cell_range, where, sample, seed, values, counts_layer, gene_column
            ),
            model,
            vocabulary,
            device=device,
            arms=names,
            layer=layer,
            genes=[*(genes or []), *(responders or [])],
        )
        from ranklock.experiments import sweep as run_sweep
        from ranklock.report.text import describe_sweep

        stage(f"Sweeping with {loaded!r}")
        found = run_sweep(
            chosen,
            loaded,
            out,
            genes,
            names,
            responders=responders,
            read=read,
            layer=layer,
            precision=precision,
            overwrite=overwrite,
        )
        if as_json:
            print_json(found.manifest, out)
        else:
            typer.echo("\n".join(describe_sweep(found)))


def plan(
    cells: CellsFile,
    model: ModelName,
    gene: Genes = None,
    gene_list: GeneList = None,
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
    read: Read = "both",
    precision: Precision = "float32",
    device: Device = None,
    threads: Threads = None,
    responder: Responders = None,
    responder_list: ResponderList = None,
    out: Annotated[Path, option(RESULTS, "Folder that the results would go to.", "--out")] = Path(),
) -> None:
    """Say what a sweep takes: forwards, operations, memory, disk and, measured, time.

    Takes the options of **ranklock sweep**; runs some knock-outs of one cell and writes nothing.
    """
    with reported():
        _use_threads(threads)
        names, genes = arm_names(arms, backfill), genes_of(gene, gene_list)
        responders = genes_of(responder, responder_list)
        chosen, loaded = read_inputs(
            CellOptions(
                cells, cell, cell_range, where, sample, seed, values, counts_layer, gene_column
            ),
            model,
            vocabulary,
            device=device,
            arms=names,
            layer=layer,
            genes=[*(genes or []), *(responders or [])],
        )
        from ranklock.experiments import plan_sweep

        planned = plan_sweep(
            chosen,
            loaded,
            genes,
            names,
            responders=responders,
            read=read,
            layer=layer,
            precision=precision,
        )
        typer.echo("\n".join(planned.describe(folder=out)))
        planned.check_fits(out)
        stage("Measuring some knock-outs")
        rate = planned.measure_rate()
        typer.echo(planned.describe(rate=rate, folder=out)[-1])


def _use_threads(threads: int | None) -> None:
    if threads is None:
        return
    if threads < 1:
        raise typer.BadParameter("--threads is at least 1.")
    import torch

    torch.set_num_threads(threads)
