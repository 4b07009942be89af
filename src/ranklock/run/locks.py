"""Locks that the system takes back when a process ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from ranklock.errors import OutputError


@contextmanager
def locked(path: Path, *, wait: float = 0.0) -> Iterator[bool]:
    """Hold a lock.

    Parameters
    ----------
    path
        The lock's file.
    wait
        How long to wait for it, in seconds.

    Yields
    ------
    Whether it is held.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=wait)
    except filelock.Timeout:
        yield False
        return
    except NotImplementedError as error:
        raise OutputError(
            f"The file system of {path.parent.parent} has no locks, without which two processes "
            "could write one run; name a folder on another with --out."
        ) from error
    try:
        yield True
    finally:
        lock.release()
