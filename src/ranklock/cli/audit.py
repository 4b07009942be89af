"""``ranklock audit``."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ranklock.audits.budget import DEFAULT_BUDGET, parse_budget
from ranklock.cli import options as o
from ranklock.cli.inputs import CellOptions, read_inputs, use_threads
from ranklock.errors import OptionError

AUDIT_EPILOG = (
    "**The five questions**: is there a step, and at which ranks? with all genes, or particular "
    "genes? does it bias cell shifts and rankings? does `<mask>` or the attention mask cure it? "
    "are the genes that then change most linked to the one knocked out?\n\n"
    "**Examples**\n\n"
    "50 random cells, ten minutes:\n\n"
    "    ranklock audit cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --sample 50 --budget 10m --out audit\n\n"
    "With known links and a goal state:\n\n"
    "    ranklock audit cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --network links.csv --state-key cell_type --start Naive --goal Memory --out audit\n\n"
    "A sweep that is there, without another forward:\n\n"
    "    ranklock audit genome-wide --out genome-wide-audit\n\n" + o.ARMS_HELP + o.EXIT_CODES
)

REPORT = "The report"
_OF_A_SWEEP = {
    "cells", "out", "network", "seed", "figures", "open_report", "overwrite", "as_json"
}  # fmt: skip

Cells = Annotated[
    Path,
    typer.Argument(
        help="Cells: .h5ad (raw counts), .dataset folder, or .parquet (input_ids). Or the folder "
        "of a sweep, which needs no model."
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", help="Checkpoint: a folder, or owner/model[/subfolder][@revision] on the hub."
    ),
]
BudgetText = Annotated[
    str,
    o.option(
        o.EXPERIMENT,
        "What to spend: forwards, as 4000, or time, as 90s, 10m, 2h. Fewer cells are taken where "
        "each would get fewer than 24 knock-outs.",
        "--budget",
    ),
]
NetworkFile = Annotated[
    str | None,
    o.option(
        o.EXPERIMENT,
        "Known links: a .csv, .tsv or .parquet with columns source and target (Ensembl IDs or "
        "symbols), or collectri, which decoupler fetches. Half of the knock-outs are then of its "
        "regulators.",
        "--network",
    ),
]
FigureFiles = Annotated[
    str | None,
    o.option(
        REPORT,
        "Also write the figures as files: png, svg, or png,svg (pip install 'ranklock[figures]' "
        "and Chrome or Chromium).",
        "--figures",
    ),
]
Open = Annotated[bool, o.option(REPORT, "Open the report in a browser.", "--open")]


def audit(
    context: typer.Context,
    cells: Cells,
    out: o.Out,
    model: ModelName = None,
    vocabulary: o.VocabularyFile = None,
    budget: BudgetText = DEFAULT_BUDGET,
    network: NetworkFile = None,
    cell: o.Cell = None,
    cell_range: o.CellRange = None,
    where: o.Where = None,
    sample: o.Sample = None,
    seed: o.Seed = 0,
    values: o.Values = "counts",
    counts_layer: o.CountsLayer = None,
    gene_column: o.GeneColumn = None,
    state_key: o.StateKey = None,
    start: o.Start = None,
    goal: o.Goal = None,
    arms: o.ArmNames = o.USUAL_ARMS,
    layer: o.LayerNumber = -1,
    precision: o.Precision = "float32",
    device: o.Device = None,
    threads: o.Threads = None,
    figures: FigureFiles = None,
    open_report: Open = False,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
) -> None:
    """Answer the five questions about the rank shift on your cells, in a report.

    Knocks genes out at ranks spread over each cell, under every arm, and writes report.html,
    audit.json, tables/ and sweep/ into the folder given by --out. Stopped, the same command goes
    on where it was.
    """
    with o.reported("what was done is kept; the same command goes on from there"):
        use_threads(threads)
        from ranklock import audit as run_audit
        from ranklock import audit_sweep
        from ranklock.genes.network import read_network
        from ranklock.page.files import check_formats
        from ranklock.run.old_sweep_result import sweep_in
        from ranklock.run.text import describe_audit

        formats = check_formats([part.strip() for part in figures.split(",")] if figures else [])
        parse_budget(budget)
        states = o.states_of(state_key, start, goal)
        links = None if network is None else read_network(network)
        there = sweep_in(cells)
        if there is not None:
            _refuse_options_of_forwards(context, cells)
            found = audit_sweep(
                there, out, network=links, seed=seed, figures=formats,
                overwrite=overwrite,
            )  # fmt: skip
        else:
            if model is None:
                raise OptionError("Name a checkpoint with --model; only a sweep needs none.")
            names = o.listed(arms)
            chosen, loaded = read_inputs(
                CellOptions(
                    cells, cell, cell_range, where, sample, seed, values, counts_layer, gene_column
                ),
                model,
                vocabulary,
                device=device,
                layer=layer,
            )
            o.stage(f"Auditing {loaded!r}")
            found = run_audit(
                chosen,
                loaded,
                out,
                budget=budget,
                seed=seed,
                arms=names,
                layer=layer,
                states=states,
                network=links,
                precision=precision,
                figures=formats,
                overwrite=overwrite,
            )
        if as_json:
            typer.echo(json.dumps(found.content, indent=1))
        else:
            typer.echo("\n".join(describe_audit(found, out)))
        if open_report:
            webbrowser.open(found.report.resolve().as_uri())


def _refuse_options_of_forwards(context: typer.Context, sweep: Path) -> None:
    """Refuse what a sweep, which has made its forwards, can no longer be asked."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name not in _OF_A_SWEEP and source is not None and source.name != "DEFAULT":
            raise OptionError(
                f"{sweep} is a sweep, whose cells, model and options are what they were; leave out "
                f"{parameter.opts[0]}."
            )
