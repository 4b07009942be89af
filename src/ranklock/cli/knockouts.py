"""``ranklock knockouts``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranklock.cli import options as o
from ranklock.cli.inputs import genes_of
from ranklock.errors import InputError, OptionError

if TYPE_CHECKING:
    import pandas as pd

    from ranklock.run.old_sweep_result import Sweep

KNOCKOUTS_EPILOG = (
    "**What a specific shift is**: what a shift has beyond that of other genes knocked out at like "
    "ranks of the same cell. Under `delete` this takes out the bias of the rank shift, so old "
    "results can still be used.\n\n"
    "**Examples**\n\n"
    "Of a sweep that is there, donors as replicates:\n\n"
    "    ranklock knockouts genome-wide --donor donor_id --out knockouts\n\n"
    "Of a table that was made elsewhere (columns cell, gene, gene_rank, shift):\n\n"
    "    ranklock knockouts old_results.csv --out knockouts\n\n"
    "Against a list of genes that should do nothing:\n\n"
    "    ranklock knockouts genome-wide --null housekeeping.txt --out knockouts\n\n"
    "Genes knocked out together, against the sum of what each does alone:\n\n"
    "    ranklock knockouts pair --singles genome-wide --out pair-against-sum.csv\n\n"
    + o.ARMS_HELP
    + o.EXIT_CODES
)

Source = Annotated[
    Path,
    typer.Argument(
        help="Folder of a sweep, an audit or knock-outs; or a table (.csv, .tsv, .parquet)."
    ),
]
Arms = Annotated[
    str | None,
    typer.Option("--arms", help="Arms, with commas between them. Default: all that are there."),
]
Null = Annotated[
    Path | None,
    typer.Option("--null", help="File that names genes to test against as well, one a line."),
]
Singles = Annotated[
    Path | None,
    typer.Option(
        "--singles",
        help="Sweep or knock-outs of single genes, to whose sum those of SOURCE, knocked out "
        "--together, are compared. --out is then a table.",
    ),
]
Donor = Annotated[
    str | None,
    typer.Option(
        "--donor", help="Column that names donors or samples: they are the replicates then."
    ),
]
MinCells = Annotated[int, typer.Option("--min-cells", help="Genes in fewer cells are not tested.")]
Top = Annotated[int, typer.Option("--top", help="How many of the surest knock-outs to print.")]


def knockouts(
    source: Source,
    out: o.Out,
    arms: Arms = None,
    null: Null = None,
    singles: Singles = None,
    donor: Donor = None,
    min_cells: MinCells = 5,
    seed: Annotated[int, typer.Option(help="Seed of the swaps of the null.")] = 0,
    top: Top = 10,
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
) -> None:
    """Which knock-outs shift cells, or turn them to a goal, more than others at like ranks.

    Reads what is there, without a forward, and tests every knock-out over cells or donors. Writes
    knockouts.parquet, shifts.parquet, calibration.parquet and a figure.
    """
    with o.reported():
        from ranklock.run.folder import check_folder
        from ranklock.significance.shifts import knockouts as find
        from ranklock.significance.text import describe_knockouts

        names = None if arms is None else o.arm_names(arms, backfill=False)
        if singles is not None:
            if null or donor or as_json or names:
                raise OptionError("--singles goes with --min-cells, --out and --overwrite alone.")
            _combinations(source, singles, out, min_cells, overwrite=overwrite)
            return
        check_folder(out, overwrite=overwrite)
        found = find(
            _measured(source), names, null=genes_of(None, null) or (), donor=donor,
            min_cells=min_cells, seed=seed,
        )  # fmt: skip
        found.save(out, overwrite=overwrite)
        if as_json:
            o.print_json(found.manifest, out)
        else:
            typer.echo("\n".join(describe_knockouts(found, top)))
            typer.echo(f"Results: {out} (knockouts.parquet, shifts.parquet, shifts.png, ...)")


def _measured(source: Path) -> Sweep | Path:
    """A sweep, or the path of a table."""
    from ranklock.run.old_run import CELL_SHIFTS
    from ranklock.run.old_sweep_result import sweep_in

    sweep = sweep_in(source)
    if sweep is not None:
        return sweep
    if source.is_dir():
        if not (source / CELL_SHIFTS).is_file():
            raise InputError(f"{source} holds no {CELL_SHIFTS}; name a sweep, knock-outs or table.")
        return source / CELL_SHIFTS
    return source


def _combinations(
    source: Path, singles: Path, out: Path, min_cells: int, *, overwrite: bool
) -> None:
    from ranklock.errors import OutputError
    from ranklock.run.files import write_whole
    from ranklock.significance.combinations import combinations

    if out.suffix not in (".csv", ".parquet"):
        raise OptionError(f"With --singles, --out is a table: .csv or .parquet, not {out.name}.")
    if out.exists() and not overwrite:
        raise OutputError(f"{out} exists already; name another, or replace it with --overwrite.")
    if not out.parent.is_dir():
        raise OutputError(
            f"There is no folder {out.parent} for {out.name}; make it, or name another."
        )
    table = combinations(_cell_shifts(source), _cell_shifts(singles), min_cells)
    write_whole(
        out,
        lambda path: table.to_csv(path, index=False) if out.suffix == ".csv"
        else table.to_parquet(path, index=False),
    )  # fmt: skip
    typer.echo("Genes knocked out together, against the sum of what each does alone:")
    for row in table.itertuples(index=False):
        q = f"q {row.q:.1e}" if row.q == row.q else "not tested"
        typer.echo(
            f"  {row.arm:8} {row.gene:24} {row.shift:.2e} against {row.sum_of_singles:.2e} "
            f"({row.beyond_sum:+.1e}, {q}, {row.n_cells} cells)"
        )
    typer.echo(f"Results: {out}")


def _cell_shifts(source: Path) -> pd.DataFrame:
    import pandas as pd

    found = _measured(source)
    return pd.read_parquet(found) if isinstance(found, Path) else found.cell_shifts()
