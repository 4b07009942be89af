"""The command line: parses, calls, prints."""

from __future__ import annotations

from typing import Annotated

import typer

from ranklock import __version__
from ranklock.cli import audit as _audit
from ranklock.cli import demo as _demo
from ranklock.cli import estimate as _estimate
from ranklock.cli import evaluate as _evaluate
from ranklock.cli import perturb as _perturb
from ranklock.cli import show as _show
from ranklock.cli import test as _test
from ranklock.cli.options import EXIT_CODES

app = typer.Typer(
    name="ranklock",
    help="Perturb genes of cells in silico, with the rank-shift artefact taken out.\n\n"
    "Start with **ranklock demo**, then point **ranklock perturb** at your own cells: some genes "
    "or all, knocked out or overexpressed, read as effects on genes, cell shifts, or shifts "
    "towards a state. **ranklock show** looks at what came of it, **ranklock test** says which of "
    "it is significant, **ranklock audit** how much of it to believe. **ranklock estimate** ranks "
    "all genes by what they do to one number, for a hundredth of the cost; **ranklock evaluate** "
    "holds a run against a laboratory screen.\n\n" + EXIT_CODES,
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


app.command(epilog=_demo.DEMO_EPILOG)(_demo.demo)
app.command(epilog=_perturb.PERTURB_EPILOG)(_perturb.perturb)
app.command(epilog=_show.SHOW_EPILOG)(_show.show)
app.command(epilog=_audit.AUDIT_EPILOG)(_audit.audit)
app.command("test", epilog=_test.TEST_EPILOG)(_test.run_tests)
app.command(epilog=_estimate.ESTIMATE_EPILOG)(_estimate.estimate)
app.command(epilog=_evaluate.EVALUATE_EPILOG)(_evaluate.evaluate)


def main() -> None:
    """Entry point of the ``ranklock`` command."""
    app()
