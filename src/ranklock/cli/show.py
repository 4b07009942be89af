"""``ranklock show``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ranklock.cli.options import EXIT_CODES, print_json, reported
from ranklock.errors import OptionError

SHOW_EPILOG = (
    "**Examples**\n\n"
    "    ranklock show genome-wide\n\n"
    "    ranklock show genome-wide --gene SPI1 --top 20\n\n"
    "    ranklock show genome-wide --csv shifts.csv\n\n"
    "    ranklock show genome-wide --h5ad effects.h5ad --average --min-cells 10\n\n"
    "    ranklock show genome-wide --gene SPI1 --figure spi1.png\n\n" + EXIT_CODES
)


def show(
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Folder that a command wrote: a run, audit, test, ..."),
    ],
    gene: Annotated[
        str | None, typer.Option(help="Show what moves when this gene is perturbed.")
    ] = None,
    top: Annotated[int, typer.Option(help="How many responders or perturbations to list.")] = 10,
    csv: Annotated[
        Path | None,
        typer.Option(
            help="Write a table to this .csv (or .csv.gz, .parquet): shifts, a row a cell, "
            "perturbation and arm; with --gene that gene's effects, a row a responder."
        ),
    ] = None,
    h5ad: Annotated[
        Path | None,
        typer.Option(
            help="Write effects to this .h5ad: obs = perturbed genes in cells, var = responders, "
            "layers = arms."
        ),
    ] = None,
    average: Annotated[
        bool, typer.Option("--average", help="With --h5ad: averaged over cells.")
    ] = False,
    min_cells: Annotated[
        int, typer.Option(help="With --h5ad: only genes that so many cells have.")
    ] = 1,
    figure: Annotated[
        Path | None,
        typer.Option(help="Draw cosine similarity against rank to this .png, .svg or .pdf."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest as JSON, and nothing else.")
    ] = False,
) -> None:
    """Show what a folder holds, finished or not; what is in it is never changed."""
    with reported():
        text = _describe_other(folder, top, as_json=as_json)
        if text is not None:
            if gene or csv or h5ad or figure:
                raise OptionError(
                    f"{folder} is no run; --gene, --csv, --h5ad and --figure are of runs."
                )
            typer.echo(text)
            return
        from ranklock.run.files import write_whole
        from ranklock.run.metadata import spreadsheet_safe
        from ranklock.run.run import read_run
        from ranklock.run.text import describe_gene, describe_run

        run = read_run(folder)
        if csv is not None:
            table = run.shifts if gene is None else run.effects_table(gene)
            parquet = csv.suffix == ".parquet"
            write = table.to_parquet if parquet else spreadsheet_safe(table).to_csv
            write_whole(csv, partial(write, index=False))
        if h5ad is not None:
            genes = None if gene is None else [gene]
            effects = run.effects(genes=genes, average=average, min_cells=min_cells)
            write_whole(h5ad, partial(effects.write_h5ad, compression="gzip", compression_opts=1))
        if figure is not None:
            from ranklock.page.style import draw

            write_whole(figure, partial(draw, run.figure(gene)))
        if as_json:
            print_json(run.manifest.to_json(), folder)
        elif gene is not None:
            typer.echo("\n".join(describe_gene(run, gene, top)))
        else:
            typer.echo("\n".join([*describe_run(run, top), f"Results: {folder}"]))


def _describe_other(folder: Path, top: int, *, as_json: bool) -> str | None:
    """What a folder holds that is no run: an audit, estimates, or finished results; else None."""
    from ranklock.audits.folder import describe_audit, is_audit, read_audit
    from ranklock.estimates.result import is_estimates, read_estimates
    from ranklock.estimates.text import describe_estimates
    from ranklock.run.folder import is_results, read_folder

    if is_audit(folder):
        audit = read_audit(folder)
        return json.dumps(audit.content, indent=1) if as_json else "\n".join(
            describe_audit(audit, folder)
        )  # fmt: skip
    if is_estimates(folder):
        estimates = read_estimates(folder)
        return json.dumps(estimates.manifest.to_json(), indent=1) if as_json else "\n".join(
            describe_estimates(estimates, top)
        )  # fmt: skip
    if not is_results(folder):
        return None
    manifest = read_folder(folder)
    if as_json:
        return json.dumps(manifest, indent=1)
    from ranklock.perturbseq.evaluate import COMMAND as EVALUATE
    from ranklock.perturbseq.evaluate import read_evaluation
    from ranklock.perturbseq.natural import COMMAND as NATURAL
    from ranklock.perturbseq.natural import read_natural_knock_outs
    from ranklock.significance.text import describe_tests

    if manifest["asked"]["command"] == EVALUATE:
        return read_evaluation(folder).text()
    if manifest["asked"]["command"] == NATURAL:
        return read_natural_knock_outs(folder).text()
    return "\n".join(describe_tests(folder, top))
