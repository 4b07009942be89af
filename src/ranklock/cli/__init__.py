"""The command line: parses, calls, prints."""

from __future__ import annotations

from typing import Annotated

import typer

from ranklock import __version__
from ranklock.cli import audit as _audit
from ranklock.cli import evaluate as _evaluate
from ranklock.cli import knockout as _knockout
from ranklock.cli import knockouts as _knockouts
from ranklock.cli import move as _move
from ranklock.cli import responders as _responders
from ranklock.cli import screen as _screen
from ranklock.cli import show as _show
from ranklock.cli import sweep as _sweep
from ranklock.cli.options import EXIT_CODES

app = typer.Typer(
    name="ranklock",
    help="Knock genes out of cells in silico, with the rank-shift artefact taken out.\n\n"
    "Start with **ranklock demo**, then point **ranklock knockout** at your own cells, and "
    "**ranklock sweep** at all their genes. **ranklock screen** ranks all genes by what they do to "
    "one number, for a hundredth of a sweep's cost. **ranklock move** overexpresses them. "
    "**ranklock responders** and **ranklock knockouts** say which of it is significant, "
    "**ranklock audit** how much of it to believe.\n\n" + EXIT_CODES,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ranklock {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


app.command(epilog=_audit.AUDIT_EPILOG)(_audit.audit)
app.command(epilog=_knockout.KNOCKOUT_EPILOG)(_knockout.knockout)
app.command(epilog=_move.MOVE_EPILOG)(_move.move)
app.command(epilog=_sweep.SWEEP_EPILOG)(_sweep.sweep)
app.command(epilog=_sweep.PLAN_EPILOG)(_sweep.plan)
app.command(epilog=_screen.SCREEN_EPILOG)(_screen.screen)
app.command(epilog=_screen.REGULATORS_EPILOG)(_screen.regulators)
app.command(epilog=_responders.RESPONDERS_EPILOG)(_responders.responders)
app.command(epilog=_knockouts.KNOCKOUTS_EPILOG)(_knockouts.knockouts)
app.command(epilog=_show.SHOW_EPILOG)(_show.show)
app.command(epilog=_evaluate.EVALUATE_EPILOG)(_evaluate.evaluate)
app.command(epilog=_knockout.DEMO_EPILOG)(_knockout.demo)


def main() -> None:
    """Entry point of the ``ranklock`` command."""
    app()
