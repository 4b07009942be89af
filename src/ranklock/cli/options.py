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

from ranklock.arms import ARMS, DEFAULT_ARMS, DEFAULT_MOVE_ARMS, Arm
from ranklock.errors import OptionError, RanklockError, RanklockWarning

if TYPE_CHECKING:
    from ranklock.run.states import StateQuestion


def arms_help(arms: Mapping[str, Arm]) -> str:
    """Arms and what they isolate, for the end of a command's help."""
    return "**Arms**\n\n" + "".join(f"- `{arm.name}`: {arm.isolates}\n" for arm in arms.values())


ARMS_HELP = arms_help(ARMS)

USUAL_ARMS = ",".join(DEFAULT_ARMS)
USUAL_MOVE_ARMS = ",".join(DEFAULT_MOVE_ARMS)

EXIT_CODES = """
**Exit codes**: 0 done · 2 wrong options · 3 cells, vocabulary, checkpoint or genes cannot be used ·
4 results cannot be written or read · 130 interrupted · 1 anything else (a bug: please report it)
"""

# Headings of the groups of options in --help.
CELLS, H5AD = "Which cells", "Reading .h5ad"
EXPERIMENT, RESULTS, STATES = "The experiment", "Results", "Goal state"


def option(panel: str, help_text: str, *names: str) -> Any:
    """An option under a heading of --help."""
    return typer.Option(*names, help=help_text, rich_help_panel=panel)


CellsFile = Annotated[
    Path,
    typer.Argument(help="Cells: .h5ad (raw counts), .dataset folder, or .parquet (input_ids)."),
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
Seed = Annotated[int, option(CELLS, "Seed of the random sample.", "--seed")]
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
ArmNames = Annotated[
    str,
    option(EXPERIMENT, "Arms to run, with commas between them; they are listed below.", "--arms"),
]
Backfill = Annotated[
    bool,
    option(EXPERIMENT, "Also run delete-backfill, for cells that were cut.", "--backfill"),
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
        "Number format of the forwards: float32; tf32, bfloat16, float16 where the device has "
        "them. The measured noise floor says what it costs.",
        "--precision",
    ),
]
Threads = Annotated[
    int | None,
    option(EXPERIMENT, "CPU threads. Default: as torch finds them.", "--threads"),
]
Average = Annotated[bool, option(RESULTS, "Average effects.h5ad over cells.", "--average")]
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
    str | None, option(STATES, "State of the cells that are perturbed; no others are.", "--start")
]
Goal = Annotated[str | None, option(STATES, "State that they may move towards.", "--goal")]
Alternatives = Annotated[
    list[str] | None,
    option(STATES, "Another state that they may move towards; repeat it.", "--alternative"),
]


def states_of(
    key: str | None, start: str | None, goal: str | None, alternatives: Sequence[str] = ()
) -> StateQuestion | None:
    """The question that these options ask; None for none of them."""
    from ranklock.run.states import StateQuestion

    if key is None and start is None and goal is None and not alternatives:
        return None
    if key is None or start is None or goal is None:
        raise OptionError("--state-key, --start and --goal go together.")
    return StateQuestion(key, start, goal, tuple(alternatives))


def arm_names(arms: str, backfill: bool) -> list[str]:
    """Names of arms as they are written on the command line."""
    return [name.strip() for name in arms.split(",")] + ["delete-backfill"] * backfill


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
