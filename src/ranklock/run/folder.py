"""Folders of finished results: written whole or not at all, and checked when read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ranklock.errors import OutputError
from ranklock.run.files import HIDDEN, check_writable, system_reason

MANIFEST = "manifest.json"
_FORMAT = "ranklock-results"


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
    folder = folder.resolve()
    check_writable(folder)
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names and not overwrite:
        raise OutputError(
            f"{folder} exists already; name another folder with --out, or replace the run in it "
            "with --overwrite."
        )
    if names and not is_results(folder):
        raise OutputError(
            f"{folder} holds something other than a run of Ranklock, which --overwrite does not "
            "replace; name another folder with --out."
        )
    foreign = sorted(names - _own_files(folder)) if names else []
    if foreign:
        raise OutputError(
            f"{folder} also holds {foreign[0]}, which no run wrote; move it away, or name another "
            "folder with --out."
        )


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

    Notes
    -----
    Files are written into a hidden folder first: beside the run's folder, which it then becomes in
    one step; or inside it where that exists, be it a mount or the folder one stands in, from where
    they move up one by one, the manifest last. Without its manifest a folder is no run.
    """
    check_folder(folder, overwrite=overwrite)
    folder = folder.resolve()
    partial: Path | None = None
    try:
        within = folder if folder.exists() else folder.parent
        within.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=within, prefix=HIDDEN))
        for name, write in writers.items():
            write(partial / name)
        files = {name: file_digest(partial / name) for name in writers}
        _write_json(partial / MANIFEST, {"format": _FORMAT, **manifest, "files": files})
        if folder.exists():
            _move_up(partial, folder, [*files, MANIFEST])
        else:
            partial.chmod(0o777 & ~_umask())  # mkdtemp keeps others out
            partial.rename(folder)
    # h5py says RuntimeError of a disk that fills up while it closes a file.
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"The results could not be written to {folder} "
            f"({system_reason(error)}); nothing of them was kept and what was there before is "
            "untouched. Make room, or name another folder, and run again."
        ) from error
    finally:
        if partial is not None:
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
    if not is_results(folder):
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


def is_results(folder: Path) -> bool:
    """Whether a folder holds finished results, written whole."""
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


def _own_files(folder: Path) -> set[str]:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    # A name that leads elsewhere is none of ours, whoever wrote the manifest.
    return {MANIFEST, *(name for name in manifest["files"] if Path(name).name == name)}


def _move_up(partial: Path, folder: Path, names: Sequence[str]) -> None:
    """Put the files of the new run in the place of the old one's, or leave those as they were."""
    aside = partial / "replaced"
    aside.mkdir()
    present = {path.name for path in folder.iterdir()}
    old = _own_files(folder) & present if is_results(folder) else set()
    try:
        for name in sorted(old, key=lambda name: name != MANIFEST):
            (folder / name).rename(aside / name)
        for name in names:
            (partial / name).rename(folder / name)
    except BaseException:  # an interrupt too
        for name in names:
            if not (partial / name).exists():
                (folder / name).unlink(missing_ok=True)
        for name in old:
            if (aside / name).exists():
                (aside / name).rename(folder / name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
