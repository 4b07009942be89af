"""``ranklock sweep`` and ``ranklock plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ranklock.cli import options as o
from ranklock.cli.inputs import CellOptions, genes_of, read_inputs, use_threads

SWEEP_EPILOG = (
    "**Examples**\n\n"
    "Every gene of 20 random cells, all arms; the same command goes on after a stop:\n\n"
    "    ranklock sweep cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --sample 20 --seed 1 --out genome-wide\n\n"
    "A list of transcription factors in all NK cells, cell shifts only:\n\n"
    "    ranklock sweep cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --gene-list factors.txt --where cell_type=NK --read cell --out factors\n\n"
    "Which knock-outs turn naive T cells towards memory?\n\n"
    "    ranklock sweep cells.h5ad --model ./checkpoint --vocabulary dictionaries/ --read cell \\\n"
    "        --state-key cell_type --start Naive --goal Memory --out towards-memory\n\n"
    "    ranklock knockouts towards-memory --out memory\n\n"
    "Then look: **ranklock show genome-wide**\n\n" + o.ARMS_HELP + o.EXIT_CODES
)
PLAN_EPILOG = (
    "**Example**\n\n"
    "    ranklock plan cells.h5ad --model ./checkpoint --vocabulary dictionaries/ --sample 20\n\n"
    + o.EXIT_CODES
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
    o.option(o.RESULTS, "Gene whose effects are stored; repeat it. Default: all.", "--responder"),
]
ResponderList = Annotated[
    Path | None,
    o.option(o.RESULTS, "File that names them, one a line.", "--responder-list"),
]
WouldGoTo = Annotated[Path, o.option(o.RESULTS, "Folder that the results would go to.", "--out")]
Read = Annotated[
    str,
    o.option(o.EXPERIMENT, "What to read: genes (effects), cell (cell shifts) or both.", "--read"),
]

Controls = Annotated[
    int,
    o.option(
        o.EXPERIMENT,
        "Beside each --gene, also knock out so many genes at the nearest ranks of the cell, for "
        "ranklock responders to compare it with.",
        "--controls",
    ),
]


def sweep(
    cells: o.CellsFile,
    model: o.ModelName,
    out: o.Out,
    gene: Genes = None,
    gene_list: GeneList = None,
    vocabulary: o.VocabularyFile = None,
    cell: o.Cell = None,
    cell_range: o.CellRange = None,
    where: o.Where = None,
    sample: o.Sample = None,
    seed: o.Seed = 0,
    values: o.Values = "counts",
    counts_layer: o.CountsLayer = None,
    gene_column: o.GeneColumn = None,
    arms: o.ArmNames = o.USUAL_ARMS,
    backfill: o.Backfill = False,
    layer: o.LayerNumber = -1,
    read: Read = "both",
    controls: Controls = 0,
    state_key: o.StateKey = None,
    start: o.Start = None,
    goal: o.Goal = None,
    alternative: o.Alternatives = None,
    precision: o.Precision = "float32",
    device: o.Device = None,
    threads: o.Threads = None,
    responder: Responders = None,
    responder_list: ResponderList = None,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
) -> None:
    """Knock out every gene of each cell, one by one, and store what moves.

    Results go to disk as they come. Killed or stopped, the same command goes on where it was; it
    also finds and mends what was damaged. Several processes may work on one folder.
    """
    with o.reported("what was done is kept; the same command goes on from there"):
        use_threads(threads)
        names, genes = o.arm_names(arms, backfill), genes_of(gene, gene_list)
        responders = genes_of(responder, responder_list)
        states = o.states_of(state_key, start, goal, alternative or ())
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
        from ranklock import sweep as run_sweep
        from ranklock.run.text import describe_sweep

        o.stage(f"Sweeping with {loaded!r}")
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
            controls=controls,
            states=states,
            seed=seed,
            overwrite=overwrite,
        )
        if as_json:
            o.print_json(found.manifest, out)
        else:
            typer.echo("\n".join(describe_sweep(found)))


def plan(
    cells: o.CellsFile,
    model: o.ModelName,
    gene: Genes = None,
    gene_list: GeneList = None,
    vocabulary: o.VocabularyFile = None,
    cell: o.Cell = None,
    cell_range: o.CellRange = None,
    where: o.Where = None,
    sample: o.Sample = None,
    seed: o.Seed = 0,
    values: o.Values = "counts",
    counts_layer: o.CountsLayer = None,
    gene_column: o.GeneColumn = None,
    arms: o.ArmNames = o.USUAL_ARMS,
    backfill: o.Backfill = False,
    layer: o.LayerNumber = -1,
    read: Read = "both",
    controls: Controls = 0,
    precision: o.Precision = "float32",
    device: o.Device = None,
    threads: o.Threads = None,
    responder: Responders = None,
    responder_list: ResponderList = None,
    out: Annotated[
        Path, o.option(o.RESULTS, "Folder that the results would go to.", "--out")
    ] = Path(),
) -> None:
    """Say what a sweep takes: forwards, operations, memory, disk and, measured, time.

    Takes the options of **ranklock sweep**; runs some knock-outs of one cell and writes nothing.
    """
    with o.reported():
        use_threads(threads)
        names, genes = o.arm_names(arms, backfill), genes_of(gene, gene_list)
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
        from ranklock import plan_sweep

        planned = plan_sweep(
            chosen,
            loaded,
            genes,
            names,
            responders=responders,
            read=read,
            layer=layer,
            precision=precision,
            controls=controls,
        )
        typer.echo("\n".join(planned.describe(folder=out)))
        planned.check_fits(out)
        o.stage("Measuring some knock-outs")
        rate = planned.measure_rate()
        typer.echo(planned.describe(rate=rate, folder=out)[-1])
