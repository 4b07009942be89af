"""The command line: parses, calls, prints."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ranklock import __version__
from ranklock.arms import ARMS, DEFAULT_ARMS, find_arms
from ranklock.errors import RanklockError, RanklockWarning

_ARMS = "**Arms**\n\n" + "".join(f"- `{arm.name}`: {arm.isolates}\n" for arm in ARMS.values())

_EXIT_CODES = """
**Exit codes**: 0 done · 2 wrong options · 3 cells, vocabulary, checkpoint or genes cannot be used ·
4 results cannot be written · 130 interrupted · 1 anything else (a bug: please report it)
"""

# Headings of the groups of options in --help.
_CELLS, _H5AD = "Which cells", "Reading .h5ad"
_EXPERIMENT, _RESULTS = "The experiment", "Results"


def _option(panel: str, help_text: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel=panel)


Out = Annotated[Path, _option(_RESULTS, "Folder to write the run to.")]
Overwrite = Annotated[
    bool, _option(_RESULTS, "Replace the run that is in the folder already.", "--overwrite")
]
Json = Annotated[
    bool,
    _option(_RESULTS, "Print the manifest as JSON on stdout, and nothing else there.", "--json"),
]

app = typer.Typer(
    name="ranklock",
    help="Knock genes out of cells in silico, with the rank-shift artefact taken out.\n\n"
    "Start with **ranklock demo**, then point **ranklock knockout** at your own cells.\n\n"
    + _EXIT_CODES,
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


@app.command(
    epilog="**Examples**\n\n"
    "One gene, one cell of a tokenised dataset:\n\n"
    "    ranklock knockout cells.dataset --model ctheodoris/Geneformer/Geneformer-V1-10M \\\n"
    "        --vocabulary dictionaries/ --gene FAM136A --cell 0 --out fam136a\n\n"
    "Two genes, each on its own, in 50 random NK cells of an AnnData:\n\n"
    "    ranklock knockout cells.h5ad --model ./checkpoint --vocabulary dictionaries/ \\\n"
    "        --gene NKG7 --gene GNLY --where cell_type=NK --sample 50 --seed 1 --out nk\n\n"
    + _ARMS
    + _EXIT_CODES
)
def knockout(
    cells: Annotated[
        Path,
        typer.Argument(help="Cells: .h5ad (raw counts), .dataset folder, or .parquet (input_ids)."),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Checkpoint: a folder, or owner/model[/subfolder][@revision] on the hub."
        ),
    ],
    gene: Annotated[
        list[str],
        typer.Option(help="Gene to knock out: symbol, Ensembl ID or token. Give it once a gene."),
    ],
    out: Out,
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            help="Folder with Geneformer's dictionary files, one of them, or Ranklock's JSON. "
            "Without it, tokens of tokenised cells serve as names."
        ),
    ] = None,
    cell: Annotated[int | None, _option(_CELLS, "One cell, by row number from 0.")] = None,
    cell_range: Annotated[
        str | None, _option(_CELLS, "A range of cells, as 0:50.", "--cells")
    ] = None,
    where: Annotated[
        list[str] | None,
        _option(
            _CELLS,
            "Only cells with this value in obs, as cell_type=NK. Repeated: for one column, "
            "any of the values; for several, all of them.",
        ),
    ] = None,
    sample: Annotated[
        int | None,
        _option(_CELLS, "This many cells at random, of those that the options above leave."),
    ] = None,
    seed: Annotated[int, _option(_CELLS, "Seed of the random sample.")] = 0,
    values: Annotated[
        str, _option(_H5AD, "What the .h5ad holds: counts, normalised or log1p.")
    ] = "counts",
    counts_layer: Annotated[
        str | None, _option(_H5AD, "Where they stand: X (default), raw, or a layer.")
    ] = None,
    gene_column: Annotated[
        str | None, _option(_H5AD, "Column of var with Ensembl IDs or symbols, if not found.")
    ] = None,
    arms: Annotated[
        str, _option(_EXPERIMENT, "Arms to run, with commas between them; they are listed below.")
    ] = ",".join(DEFAULT_ARMS),
    backfill: Annotated[
        bool,
        _option(_EXPERIMENT, "Also run delete-backfill, for cells that were cut.", "--backfill"),
    ] = False,
    layer: Annotated[
        int,
        _option(_EXPERIMENT, "Layer to read (Geneformer's emb_layer): 0 last, -1 second to last."),
    ] = -1,
    together: Annotated[
        bool, _option(_EXPERIMENT, "Knock all genes out of a cell at once, as a set.", "--together")
    ] = False,
    device: Annotated[
        str | None,
        _option(_EXPERIMENT, "Torch device. Default: cuda where there is one, else cpu."),
    ] = None,
    average: Annotated[
        bool, _option(_RESULTS, "Average effects.h5ad over cells.", "--average")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Knock genes out of cells, and measure what moves under each arm.

    Writes manifest.json, effects.h5ad, effects.parquet, cell_shifts.parquet, rank_shift.png and
    rank_shift.svg into the folder given by --out.
    """
    from ranklock.cells import Selection, read_cells
    from ranklock.cells.selection import parse_conditions, parse_range
    from ranklock.experiments import knockout as run_knockout
    from ranklock.models import load_model, output_of_layer
    from ranklock.models.checkpoint import check_vocabulary
    from ranklock.results import check_folder
    from ranklock.vocabulary import read_vocabulary

    with _reported():
        if cell is not None and cell_range is not None:
            raise typer.BadParameter("--cell and --cells exclude each other.")
        rows: slice | tuple[int, ...] | None = None if cell is None else (cell,)
        if cell_range is not None:
            rows = parse_range(cell_range)
        conditions = parse_conditions(where or [])
        check_folder(out, overwrite=overwrite)
        arm_names = [name.strip() for name in arms.split(",")] + ["delete-backfill"] * backfill
        _stage(f"Loading {model}")
        loaded = load_model(model, device=device)
        known = None if vocabulary is None else read_vocabulary(vocabulary)
        # What needs no cells is checked before they are read: there may be a million of them.
        find_arms(arm_names)
        output_of_layer(loaded, layer)
        if known is not None:
            check_vocabulary(known, loaded)
            for name in gene:
                known.token(name)
        _stage(f"Reading {cells}")
        chosen = read_cells(
            cells,
            known,
            select=Selection(rows, conditions, sample, seed),
            values=values,  # type: ignore[arg-type]
            counts_layer=counts_layer,
            gene_column=gene_column,
            progress=True,
        )
        _stage(f"Knocking out of {loaded!r}")
        run = run_knockout(
            chosen, loaded, gene, arm_names, layer=layer, together=together, average=average
        )
        _stage(f"Writing {out}")
        run.save(out, overwrite=overwrite)
    if as_json:
        _print_json(run.manifest, out)
    else:
        _print_summary(run.manifest, out)


@app.command(
    epilog="**Example**\n\n    ranklock demo --out my-first-run\n\n" + _EXIT_CODES,
)
def demo(
    out: Out = Path("ranklock-demo"),
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Knock PU.1 (SPI1) out of real monocytes, with a small model that comes with the package.

    700 blood cells × 765 genes of 10x Genomics and a BERT trained on them; nothing is fetched.
    """
    from ranklock import demo as embedded
    from ranklock.demo.story import DEMO_GENE, demo_cells, tell
    from ranklock.experiments import knockout as run_knockout
    from ranklock.models import load_model
    from ranklock.results import check_folder

    with _reported():
        check_folder(out, overwrite=overwrite)
        with warnings.catch_warnings():
            # Which of the demo's cells have the gene is part of its story, not a caution.
            warnings.simplefilter("ignore", RanklockWarning)
            run = run_knockout(demo_cells(), load_model(embedded.model_folder()), [DEMO_GENE])
        run.save(out, overwrite=overwrite)
    if as_json:
        _print_json(run.manifest, out)
    else:
        typer.echo("\n".join([*tell(run), *_written(out)]))


def _print_json(manifest: dict[str, Any], out: Path) -> None:
    typer.echo(json.dumps({"out": str(out), **manifest}, indent=2))


def _print_summary(manifest: dict[str, Any], out: Path) -> None:
    for entry in manifest["summary"]:
        ranks = entry["ranks"]
        where = f"rank {ranks[0]}" if ranks[0] == ranks[1] else f"ranks {ranks[0]} to {ranks[1]}"
        cells = "1 cell" if entry["cells"] == 1 else f"{entry['cells']} cells"
        typer.echo(f"\n{entry['gene']} knocked out of {cells}, at {where}")
        typer.echo(
            "  arm              median before   median after    cell shift   (cosine distance)"
        )
        for arm, row in entry["arms"].items():
            numbers = (row["median_before"], row["median_after"], row["median_cell_shift"])
            shown = "".join(f"{'–' if n is None else format(n, '.2e'):>15}" for n in numbers)
            typer.echo(f"  {arm:<16}{shown}")
        if entry["artefact_share"] is not None:
            typer.echo(
                f"  Artefact share of delete: {entry['artefact_share']:.3f} of the genes' squared "
                "displacement is rank shift."
            )
    floor = manifest["noise_floor"]["cosine_distance"]
    typer.echo(f"\nNoise floor: {floor:.1e}; smaller effects are marked under_noise_floor.")
    typer.echo("\n".join(_written(out)))


def _written(out: Path) -> list[str]:
    figure, effects = out / "rank_shift.png", out / "effects.h5ad"
    lines = [f"Figure:  {figure}"] if figure.exists() else ["Figure:  none, as no gene responds"]
    return [*lines, f"Results: {effects} (and effects.parquet beside it)"]


def _say(what: str) -> None:
    typer.echo(what, err=True)


def _stage(what: str) -> None:
    """Say what is being done, to a person who looks on; a log gets errors, notes and progress."""
    if sys.stderr.isatty():
        _say(what)


@contextmanager
def _reported() -> Iterator[None]:
    """Turn what went wrong into one line on stderr and an exit code; warnings into notes."""

    def note(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, RanklockWarning):
            _say(f"note: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", RanklockWarning)
        warnings.showwarning = note
        try:
            yield
        except RanklockError as error:
            _say(f"error: {' '.join(str(error).split())}")
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            _say("interrupted; nothing was written")
            raise typer.Exit(130) from None


def main() -> None:
    """Entry point of the ``ranklock`` command."""
    app()


if __name__ == "__main__":
    main()
