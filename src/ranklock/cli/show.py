"""``ranklock show``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ranklock.cli.knockout import print_summary
from ranklock.cli.options import EXIT_CODES, print_json, reported
from ranklock.errors import OptionError

SHOW_EPILOG = (
    "**Examples**\n\n"
    "    ranklock show genome-wide\n\n"
    "    ranklock show genome-wide --gene SPI1 --top 20\n\n"
    "    ranklock show genome-wide --export effects.h5ad --min-cells 10\n\n" + EXIT_CODES
)


def show(
    run: Annotated[
        Path,
        typer.Argument(help="Folder that a command wrote: a sweep, screen, audit, claims, ..."),
    ],
    gene: Annotated[
        str | None, typer.Option(help="Show what moves when this gene is knocked out.")
    ] = None,
    top: Annotated[int, typer.Option(help="How many responders or knock-outs to list.")] = 10,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Write the effects averaged over cells to this .h5ad: obs = knocked-out genes, "
            "var = responders, layers = arms."
        ),
    ] = None,
    min_cells: Annotated[
        int, typer.Option(help="With --export: only genes that so many cells have.")
    ] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest as JSON, and nothing else.")
    ] = False,
) -> None:
    """Show what a run found, finished or not; what is on disk is never changed."""
    from ranklock.audits.folder import is_audit, read_audit
    from ranklock.estimates.result import is_screen, read_screen
    from ranklock.perturbseq.evaluate import COMMAND as EVALUATE
    from ranklock.perturbseq.evaluate import read_evaluation
    from ranklock.run.folder import read_folder
    from ranklock.run.old_sweep_result import is_sweep, read_sweep
    from ranklock.run.text import describe_audit, describe_knockout_of, describe_sweep
    from ranklock.significance import knockouts, responders
    from ranklock.significance.text import describe_knockouts, describe_responders, describe_screen

    with reported():
        if is_audit(run):
            if gene or export:
                raise OptionError(f"{run} is an audit; its sweep is {run / 'sweep'}: show that.")
            found_audit = read_audit(run)
            if as_json:
                typer.echo(json.dumps(found_audit.content, indent=1))
            else:
                typer.echo("\n".join(describe_audit(found_audit, run)))
            return
        if is_screen(run):
            if gene or export:
                raise OptionError(f"{run} is a screen; its sweep is {run / 'sweep'}: show that.")
            found_screen = read_screen(run)
            if as_json:
                print_json(found_screen.manifest, run)
            else:
                typer.echo("\n".join(describe_screen(found_screen, top)))
            return
        if not is_sweep(run):
            if gene or export:
                raise OptionError("--gene and --export need the folder of a sweep.")
            manifest = read_folder(run)
            if as_json:
                print_json(manifest, run)
            elif manifest["asked"]["command"] == responders.COMMAND:
                tested = responders.read_responders(run)
                typer.echo("\n".join(describe_responders(tested, top)))
            elif manifest["asked"]["command"] == knockouts.COMMAND:
                typer.echo("\n".join(describe_knockouts(knockouts.read_knockouts(run), top)))
            elif manifest["asked"]["command"] == EVALUATE:
                typer.echo(read_evaluation(run).text())
            else:
                print_summary(manifest, run)
            return
        found = read_sweep(run)
        if export is not None:
            if export.suffix != ".h5ad":
                raise OptionError(f"--export writes an .h5ad, not {export.name}.")
            found.export(export, min_cells=min_cells)
        if as_json:
            print_json(found.manifest, run)
        elif gene is not None:
            typer.echo("\n".join(describe_knockout_of(found, gene, top)))
        else:
            typer.echo("\n".join(describe_sweep(found, top)))
