"""Progress on work that takes more than a few seconds; on stderr, so that results can be piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_EVERY = 10.0  # seconds between lines where the output is not a terminal


@contextmanager
def progress(total: int, unit: str, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show how much of some work is done.

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
    if not shown:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bar(total, unit) as advance:
            yield advance
    else:
        yield _lines(total, unit)


@contextmanager
def _bar(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda more: bar.advance(task, more)


def _lines(total: int, unit: str) -> Callable[[int], None]:
    started = last = time.monotonic()
    done = 0

    def advance(more: int) -> None:
        nonlocal done, last
        done += more
        now = time.monotonic()
        if now - last >= _EVERY:
            last = now
            left = (now - started) / done * (total - done)
            print(f"{done} of {total} {unit}, about {left:.0f} s left", file=sys.stderr, flush=True)

    return advance
