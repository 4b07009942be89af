"""Options that commands share, and how commands speak to people."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranklock.arms import DEFAULT_ARMS, KNOCK_OUT_ARMS, MOVE_ARMS
from ranklock.errors import OptionError, RanklockError, RanklockWarning
from ranklock.kinds import GRAMMAR

if TYPE_CHECKING:
    from ranklock.cells import Cells
    from ranklock.run.states import States

ARMS_HELP = "".join(
    "\n".join(
        [f"**Arms of {done}**\n", *(f"- `{a.name}`: {a.isolates}" for a in arms.values()), "\n"]
    )
    for done, arms in {"knock-outs": KNOCK_OUT_ARMS, "moves": MOVE_ARMS}.items()
)

USUAL_ARMS, USUAL_MOVE_ARMS = (",".join(DEFAULT_ARMS[moves]) for moves in (False, True))

EXIT_CODES = """
**Exit codes**: 0 done · 2 wrong options · 3 cells, vocabulary, checkpoint or genes cannot be used ·
4 results cannot be written or read · 130 interrupted · 1 anything else (a bug: please report it)
"""

# Headings of the groups of options in --help.
GENES, CELLS, H5AD = "Which genes", "Which cells", "Reading .h5ad"
EXPERIMENT, RESULTS, STATES = "The experiment", "Results", "Towards a state"


def option(panel: str, help_text: str, *names: str) -> Any:
    """An option under a heading of --help."""
    return typer.Option(*names, help=help_text, rich_help_panel=panel)


CellsFile = Annotated[
    Path,
    typer.Argument(
        metavar="CELLS", help="Cells: .h5ad (raw counts), .dataset folder, or .parquet (input_ids)."
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model", help="Checkpoint: a folder, or owner/model[/subfolder][@revision] on the hub."
    ),
]
VocabularyFile = Annotated[
    Path | None,
    typer.Option(
        "--vocabulary",
        help="Folder with Geneformer's dictionary files, one of them, or Ranklock's JSON. "
        "Without it, tokens of tokenised cells serve as names.",
    ),
]
Cell = Annotated[int | None, option(CELLS, "One cell, by row number from 0.", "--cell")]
CellRange = Annotated[str | None, option(CELLS, "A range of cells, as 0:50.", "--cells")]
Where = Annotated[
    list[str] | None,
    option(
        CELLS,
        "Only cells with this value in obs, as cell_type=NK. Repeated: for one column, "
        "any of the values; for several, all of them.",
        "--where",
    ),
]
Sample = Annotated[
    int | None,
    option(CELLS, "This many cells at random, of those that the options above leave.", "--sample"),
]
Seed = Annotated[int, option(CELLS, "Seed of the random sample, and of thinning.", "--seed")]
Values = Annotated[
    str, option(H5AD, "What the .h5ad holds: counts, normalised or log1p.", "--values")
]
CountsLayer = Annotated[
    str | None, option(H5AD, "Where they stand: X (default), raw, or a layer.", "--counts-layer")
]
GeneColumn = Annotated[
    str | None,
    option(H5AD, "Column of var with Ensembl IDs or symbols, if not found.", "--gene-column"),
]
Gene = Annotated[
    list[str] | None,
    option(GENES, "Gene: symbol, Ensembl ID or token. Give it once a gene.", "--gene"),
]
Genes = Annotated[
    str | None,
    option(
        GENES,
        "File that names genes: one a line, or a table (.csv, .tsv) with a column of them. Or all: "
        "every gene of each cell (default).",
        "--genes",
    ),
]
GenesColumn = Annotated[
    str | None, option(GENES, "Column of that table, if not found.", "--genes-column")
]
Together = Annotated[
    bool, option(GENES, "Perturb all genes at once, in the order named.", "--together")
]
Impostors = Annotated[
    int,
    option(
        EXPERIMENT,
        "In each perturbed gene's place, perturb so many genes that the cell lacks and other cells "
        "show at that rank: what `ranklock test` compares with. 12 are usual; none by default. "
        "Each costs one input a task where genes are knocked out, two where they are moved.",
        "--impostors",
    ),
]
NullModel = Annotated[
    bool,
    option(
        EXPERIMENT,
        "Do all of it to the checkpoint with permuted weights as well, which has learned nothing: "
        "`ranklock test` says how much is found there. Doubles the work.",
        "--null-model",
    ),
]
MinCells = Annotated[int, option(GENES, "Genes in fewer cells are left out.", "--min-cells")]
Strict = Annotated[
    bool,
    option(
        GENES, "Refuse genes that cannot be perturbed; without, they are left out and said.",
        "--strict",
    ),
]  # fmt: skip
Responder = Annotated[
    list[str] | None,
    option(GENES, "Gene whose effects are stored; repeat it. Default: all.", "--responder"),
]
Responders = Annotated[
    str | None, option(GENES, "File that names them, as for --genes.", "--responders")
]
Do = Annotated[
    str,
    option(
        EXPERIMENT,
        f"What is done to genes, one or several with commas: {', '.join(GRAMMAR.values())}.",
        "--do",
    ),
]
Insert = Annotated[
    bool,
    option(
        EXPERIMENT,
        "Moves: put genes into cells that lack them too. Without, such cells are left out and "
        "said.",
        "--insert",
    ),
]
Read = Annotated[
    str,
    option(
        EXPERIMENT,
        "What to read, with commas: genes (effects on each), cell (cell shifts), logits (of a "
        "classifier).",
        "--read",
    ),
]
ArmNames = Annotated[
    str,
    option(EXPERIMENT, "Arms to run, with commas between them; they are listed below.", "--arms"),
]
LayerNumber = Annotated[
    int,
    option(
        EXPERIMENT,
        "Layer to read (Geneformer's emb_layer): 0 last, -1 second to last.",
        "--layer",
    ),
]
Device = Annotated[
    str | None,
    option(EXPERIMENT, "Torch device. Default: cuda where there is one, else cpu.", "--device"),
]
Precision = Annotated[
    str,
    option(
        EXPERIMENT,
        "Number format: float32, float64; tf32, bfloat16, float16 where the device has them. auto: "
        "the fastest here whose measured error is small enough.",
        "--precision",
    ),
]
Accuracy = Annotated[
    float,
    option(
        EXPERIMENT,
        "Error that is allowed, as a part of an effect: median; five times that at the 95th "
        "percentile.",
        "--accuracy",
    ),
]
CountNoise = Annotated[
    bool,
    option(
        EXPERIMENT,
        "Also thin each cell's counts by 1 %, five times, as sequencing a little less deeply "
        "would, and say beside every effect how far that moves the same gene and the cell: an "
        "effect far below is exact and may still be of no consequence. 6 plain forwards a cell. "
        "Tokenised cells have no counts: there one gene in a hundred is dropped, and it is said.",
        "--count-noise",
    ),
]
Threads = Annotated[
    int | None,
    option(EXPERIMENT, "CPU threads. Default: as torch finds them.", "--threads"),
]
Donor = Annotated[
    str | None,
    option(
        RESULTS, "Column of obs that names donors or samples: the replicates of tests.", "--donor"
    ),
]
DryRun = Annotated[
    bool,
    option(
        RESULTS,
        "Say what it would take (forwards, memory, disk and, measured, time) and stop.",
        "--dry-run",
    ),
]
Out = Annotated[Path, option(RESULTS, "Folder to write the run to.", "--out")]
Overwrite = Annotated[
    bool, option(RESULTS, "Replace the run that is in the folder already.", "--overwrite")
]
Json = Annotated[
    bool,
    option(RESULTS, "Print the manifest as JSON on stdout, and nothing else there.", "--json"),
]


StateKey = Annotated[
    str | None, option(STATES, "Column of obs that holds the cells' state.", "--state-key")
]
Start = Annotated[
    list[str] | None,
    option(STATES, "State of the cells that are perturbed, no others are; repeat it.", "--start"),
]
Goal = Annotated[str | None, option(STATES, "State that they may move towards.", "--goal")]
Alternatives = Annotated[
    list[str] | None,
    option(STATES, "Another state that they may move towards; repeat it.", "--alternative"),
]
Within = Annotated[
    str | None,
    option(
        STATES,
        "Column of obs that names donors: the goal and the alternatives of a cell are then those "
        "of its own donor.",
        "--within",
    ),
]
StateAverage = Annotated[
    str, option(STATES, "A state is the mean or the median of its cells.", "--state-average")
]
GoalCells = Annotated[
    int,
    option(
        STATES,
        "Most cells that a state (of a donor) is averaged over, at random; of all cells in it, "
        "whatever the options above leave.",
        "--goal-cells",
    ),
]
StateVectors = Annotated[
    Path | None,
    option(
        STATES,
        "Embeddings of the states instead: a table (.csv, .tsv, .parquet; a row or a column a "
        "state) or a .pt file (a dictionary of tensors).",
        "--state-embeddings",
    ),
]
StateCellsFile = Annotated[
    Path | None,
    option(STATES, "The states' cells, where they are in another file.", "--state-cells"),
]


def states_of(
    key: str | None,
    start: Sequence[str] | None,
    goal: str | None,
    alternatives: Sequence[str] | None = None,
    *,
    within: str | None = None,
    average: str = "mean",
    goal_cells: int = 1000,
    embeddings: Path | None = None,
    cells: Cells | None = None,
    seed: int = 0,
) -> States | None:
    """The states that these options name; None where they name none."""
    from ranklock.run.states import States

    if not (key or start or goal or alternatives or within or embeddings):
        return None
    if not key or not start or not goal:
        raise OptionError("--state-key, --start and --goal go together.")
    return States(
        key, start, goal, alternatives or (), within, average,  # type: ignore[arg-type]
        goal_cells, embeddings, cells, seed,
    )  # fmt: skip


def listed(text: str) -> tuple[str, ...]:
    """Names that were written with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def print_json(manifest: Mapping[str, Any], out: Path) -> None:
    """Print a manifest on stdout."""
    typer.echo(json.dumps({"out": str(out), **manifest}, indent=2))


def say(what: str) -> None:
    """Say something to people, on stderr."""
    typer.echo(what, err=True)


def stage(what: str) -> None:
    """Say what is being done, to a person who looks on; a log gets errors, notes and progress."""
    if sys.stderr.isatty():
        say(what)


@contextmanager
def reported(interrupted: str = "nothing was written") -> Iterator[None]:
    """Turn what went wrong into one line on stderr and an exit code; warnings into notes.

    Parameters
    ----------
    interrupted
        What to say of the results when a person interrupts.
    """

    def note(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, RanklockWarning):
            say(f"note: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", RanklockWarning)
        warnings.showwarning = note
        try:
            yield
        except RanklockError as error:
            say(f"error: {' '.join(str(error).split())}")
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            say(f"interrupted; {interrupted}")
            raise typer.Exit(130) from None
