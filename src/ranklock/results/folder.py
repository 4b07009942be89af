"""A run's folder on disk: written whole or not at all, and checked when read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ranklock.errors import OutputError

MANIFEST = "manifest.json"
_FORMAT = "ranklock-run"


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that results cannot be written to, before any work is done.

    Parameters
    ----------
    folder
        Where the results are to go.
    overwrite
        Whether a run that is there already may be replaced.

    Raises
    ------
    OutputError
        When something else is there, or nothing can be written.
    """
    if folder.exists():
        if not folder.is_dir():
            raise OutputError(f"{folder} is a file; name another folder with --out.")
        if any(folder.iterdir()):
            if not overwrite:
                raise OutputError(
                    f"{folder} exists already; name another folder with --out, or replace the run "
                    "in it with --overwrite."
                )
            if not _is_run(folder):
                raise OutputError(
                    f"{folder} holds something other than a run of Ranklock, which --overwrite "
                    "does not replace; name another folder with --out."
                )
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".ranklock-"):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror}; name another folder with --out."
        ) from error


def write_folder(
    folder: Path,
    manifest: Mapping[str, Any],
    writers: Mapping[str, Callable[[Path], object]],
    *,
    overwrite: bool,
) -> None:
    """Write a run's folder, whole or not at all.

    Parameters
    ----------
    folder
        Where the results are to go.
    manifest
        What the run was; the digests of the files are added here.
    writers
        File name → function that writes that file.
    overwrite
        Whether a run that is there already is replaced; it stays whole until the new one is.

    Raises
    ------
    OutputError
        When the disk is full or a file cannot be written; nothing is left of the new run then.
    """
    check_folder(folder, overwrite=overwrite)
    folder = folder.absolute()
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.partial-"))
    try:
        for name, write in writers.items():
            write(partial / name)
        files = {name: file_digest(partial / name) for name in writers}
        _write_json(partial / MANIFEST, {"format": _FORMAT, **manifest, "files": files})
        partial.chmod(0o777 & ~_umask())  # mkdtemp keeps others out
        _put_in_place(partial, folder)
    except OSError as error:
        raise OutputError(
            f"The results could not be written to {folder} ({error.strerror or error}); nothing "
            "of them was kept and what was there before is untouched. Make room and run again."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_folder(folder: Path) -> dict[str, Any]:
    """Read and check the manifest of a run.

    Returns
    -------
    The manifest.

    Raises
    ------
    OutputError
        When the folder holds no run, or a file is missing or not what was written.
    """
    if not _is_run(folder):
        raise OutputError(f"{folder} holds no run of Ranklock ({MANIFEST} is missing or damaged).")
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    for name, digest in manifest["files"].items():
        if not (folder / name).is_file():
            raise OutputError(f"{folder} lacks {name}; run the command again.")
        if file_digest(folder / name) != digest:
            raise OutputError(
                f"{folder / name} is not what the run wrote: it was changed or damaged since. "
                "Run the command again."
            )
    return manifest


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_run(folder: Path) -> bool:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest["format"] == _FORMAT) and isinstance(manifest["files"], dict)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _put_in_place(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    # A folder cannot be swapped for another in one step everywhere: the old one steps aside, and
    # back again if the new one cannot take its place.
    aside = folder.with_name(f"{partial.name}.old")
    folder.rename(aside)
    try:
        partial.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
