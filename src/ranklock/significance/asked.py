"""What is tested of a run: its kinds of perturbation and their arms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ranklock.errors import OptionError
from ranklock.run.run import Run


def check_asked(min_cells: int, **lists: object) -> None:
    """Refuse fewer cells than one, and one text where a list of them is meant (OptionError)."""
    for name, values in lists.items():
        if isinstance(values, str):
            raise OptionError(f"{name} is a list; write {name}=[{values!r}].")
    if min_cells < 1:
        raise OptionError(f"min_cells is {min_cells}; what is tested is in one cell at least.")


def tests_of(run: Run, arms: Sequence[str] | None) -> list[tuple[str, str]]:
    """Every kind of a run with each of the arms that it has; OptionError where it lacks one."""
    tests = [(kind, arm) for kind in run.kinds for arm in run.arms_of(arms, kind)]
    if not tests:
        raise OptionError(f"No arm was asked for; {run.folder} has: {', '.join(run.arms)}.")
    return tests


def labelled(tests: Iterable[tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What each test is called → its kind and the rest: by the rest, where there is one kind."""
    tests = list(tests)
    several = len({kind for kind, *_ in tests}) > 1
    return {", ".join(test if several else test[1:]): test for test in tests}


def unfinished(run: Run) -> list[str]:
    """A sentence about a run that is not whole yet."""
    if run.complete:
        return []
    done, tasks = run.progress()
    return [f"The run is unfinished: {done:,} of {tasks:,} perturbations are there."]
