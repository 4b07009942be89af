"""Progress on work that takes more than a few seconds; on stderr, so that results can be piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ranklock.quantities import duration

_EVERY = 10.0  # seconds between lines where the output is not a terminal


class Advance(Protocol):
    """Says that more is done."""

    def __call__(self, more: int, *, done_before: bool = False) -> None:
        """So much more is done, or was done before: that says nothing of the time left."""


@contextmanager
def progress(total: int, unit: str, *, shown: bool) -> Iterator[Advance]:
    """Show how much of some work is done, and how long the rest takes at the pace of this process.

    Parameters
    ----------
    total
        How much there is.
    unit
        What it is counted in.
    shown
        Whether to show anything.

    Yields
    ------
    A function that takes how much more is done.
    """
    pace = _Pace(total)
    if not shown:
        yield pace.advance
    elif sys.stderr.isatty():
        with _bar(pace, unit) as advance:
            yield advance
    else:
        yield _lines(pace, unit)


class _Pace:
    """How much is done, and how long the rest takes."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self._here, self._started = 0, time.monotonic()

    def advance(self, more: int, *, done_before: bool = False) -> None:
        self.done += more
        if not done_before:
            self._here += more

    @property
    def left(self) -> str:
        """The time left in words; empty before anything is done here."""
        if not self._here:
            return ""
        took = time.monotonic() - self._started
        return f"about {duration(took / self._here * (self.total - self.done))} left"


@contextmanager
def _bar(pace: _Pace, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    time_left = TextColumn("{task.fields[left]}")
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), time_left)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=pace.total, left="")

        def advance(more: int, *, done_before: bool = False) -> None:
            pace.advance(more, done_before=done_before)
            bar.update(task, completed=pace.done, left=pace.left)

        yield advance


def _lines(pace: _Pace, unit: str) -> Advance:
    last = time.monotonic()

    def advance(more: int, *, done_before: bool = False) -> None:
        nonlocal last
        pace.advance(more, done_before=done_before)
        now = time.monotonic()
        if now - last >= _EVERY and not done_before:
            last = now
            line = f"{pace.done} of {pace.total} {unit}, {pace.left}"
            print(line, file=sys.stderr, flush=True)

    return advance
