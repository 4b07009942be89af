"""``ranklock demo``."""

from __future__ import annotations

import warnings
from pathlib import Path

import typer

from ranklock.cli.options import EXIT_CODES, Json, Out, Overwrite, print_json, reported
from ranklock.errors import RanklockWarning

DEMO_EPILOG = "**Example**\n\n    ranklock demo --out my-first-run\n\n" + EXIT_CODES


def demo(
    out: Out = Path("ranklock-demo"),
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Knock PU.1 (SPI1) out of real monocytes, and audit them, with a small model of our own.

    700 blood cells × 765 genes of 10x Genomics and a BERT trained on them; nothing is fetched.
    """
    with reported("what was done is kept"):
        from ranklock.demo.story import run_demo

        with warnings.catch_warnings():
            # Which of the demo's cells have the gene is part of its story, not a caution.
            warnings.simplefilter("ignore", RanklockWarning)
            results = run_demo(out, overwrite=overwrite)
        if as_json:
            print_json(results.run.manifest.to_json(), out)
        else:
            typer.echo("\n".join(results.text()))
