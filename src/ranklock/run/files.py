"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from ranklock.errors import OutputError

HIDDEN = ".ranklock-"  # begins names of folders on their way


def write_whole(path: Path, write: Callable[[Path], object], partial: Path | None = None) -> None:
    """Write a file that appears whole or not at all, whatever ends the process or the power.

    Parameters
    ----------
    path
        The file.
    write
        Writes it to the path that it is given.
    partial
        Where it is written first, on the same disk; a hidden file beside it by default.
    """
    partial = partial or path.with_name(f".{uuid.uuid4().hex}-{path.name}")
    try:
        write(partial)
        handle = os.open(partial, os.O_RDONLY)
        try:
            os.fsync(handle)  # the name may be lost with the power, but never half a file seen
        finally:
            os.close(handle)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Refuse a folder that nothing can be written into, or be made in, before any work is done.

    Raises
    ------
    OutputError
        When it is so.
    """
    place = folder.resolve()
    existing = next(path for path in (place, *place.parents) if path.exists())
    if not existing.is_dir():
        raise OutputError(f"{existing} is a file; name another folder with --out.")
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=HIDDEN):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror}; name another folder with --out."
        ) from error


def system_reason(error: OSError | RuntimeError) -> str:
    """What the system said; h5py wraps it into a page of its own state."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    wrapped = re.search(r"error message = '([^']+)'", str(error))
    return wrapped.group(1) if wrapped else str(error).splitlines()[0]
