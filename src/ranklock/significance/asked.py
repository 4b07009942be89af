"""What is tested of a run: its kinds of perturbation and their arms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ranklock.errors import OptionError
from ranklock.run.run import Run


def check_list(name: str, values: object) -> None:
    """Refuse one text where a list of them is meant.

    Raises
    ------
    OptionError
        With what was meant.
    """
    if isinstance(values, str):
        raise OptionError(f"{name} is a list; write {name}=[{values!r}].")


def check_min_cells(min_cells: int) -> None:
    """Refuse fewer cells than one.

    Raises
    ------
    OptionError
        When it is less than 1.
    """
    if min_cells < 1:
        raise OptionError(f"min_cells is {min_cells}; what is tested is in one cell at least.")


def tests_of(run: Run, arms: Sequence[str] | None) -> list[tuple[str, str]]:
    """Every kind of a run with each of the arms that it has.

    Parameters
    ----------
    run
        The run.
    arms
        Which arms; all of the run's by default.

    Raises
    ------
    OptionError
        When the run has no such arm.
    """
    check_list("arms", arms)
    tests = [(kind, arm) for kind in run.kinds for arm in run.arms_of(arms, kind)]
    if not tests:
        raise OptionError(f"No arm was asked for; {run.folder} has: {', '.join(run.arms)}.")
    return tests


def labelled(tests: Iterable[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """What each test is called → its kind and arm: by the arm alone, where there is one kind."""
    pairs = list(tests)
    several = len({kind for kind, _ in pairs}) > 1
    return {f"{kind}, {arm}" if several else arm: (kind, arm) for kind, arm in pairs}


def unfinished(run: Run) -> list[str]:
    """A sentence about a run that is not whole yet."""
    if run.complete:
        return []
    done, tasks = run.progress()
    return [f"The run is unfinished: {done:,} of {tasks:,} perturbations are there."]
