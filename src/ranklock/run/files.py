"""Files that appear whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

from ranklock.run.old_store import force_to_disk


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
        force_to_disk(partial)
        partial.replace(path)
        force_to_disk(path)
    finally:
        partial.unlink(missing_ok=True)
