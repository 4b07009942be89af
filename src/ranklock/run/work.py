"""Folders of work that goes on after any kill: whose they are, and who is at them.

One protocol for runs, audits and estimates: a folder holds one piece of work, known by its
identity; the same call goes on with it, any other is refused.
"""

from __future__ import annotations

import errno
import json
import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranklock.errors import OutputError
from ranklock.run.files import HIDDEN, system_reason, write_whole
from ranklock.run.folder import MANIFEST
from ranklock.run.locks import locked

LOCKS = ".locks"
_SETUP = "setup.lock"
_PATIENCE = 600.0  # seconds to wait for another process that is setting the work up


@dataclass(frozen=True)
class WorkFolder:
    """A folder that a process is at work on.

    Attributes
    ----------
    folder
        Where it is.
    kind
        What kind of work.
    identity
        What makes the work this one.
    """

    folder: Path
    kind: str
    identity: Mapping[str, Any]

    @property
    def locks(self) -> Path:
        """Folder of locks, and of files on their way."""
        return self.folder / LOCKS

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The manifest as it was last written; None before the first."""
        return read_work(self.folder, self.kind)

    def write_manifest(self, content: Mapping[str, Any]) -> None:
        """Write the manifest, whole or not at all."""
        written = {"format": _format(self.kind), "identity": dict(self.identity), **content}
        self.write_json(self.folder / MANIFEST, written)

    def write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write JSON into the folder, whole or not at all."""
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        partial = self.locks / path.name
        write_whole(path, lambda to: to.write_text(text, encoding="utf-8"), partial)

    @contextmanager
    def setup_lock(self, *, wait: float = _PATIENCE) -> Iterator[bool]:
        """Keep other processes from setting the work up, or finishing it, at the same time.

        Raises
        ------
        OutputError
            When another process holds it all the while that this one may wait.
        """
        with locked(self.locks / _SETUP, wait=wait) as held:
            if not held and wait:
                raise OutputError(f"Another process is at work on {self.folder}; wait for it.")
            yield held

    def forget_killed_processes(self) -> None:
        """Take away the locks of processes that are no more: the system has let go of them."""
        for path in self.locks.glob("process-*.lock"):
            with locked(path) as free:
                if free:
                    path.unlink(missing_ok=True)


@contextmanager
def work_folder(
    folder: str | Path,
    kind: str,
    identity: Mapping[str, Any],
    own: Collection[str],
    *,
    overwrite: bool = False,
) -> Iterator[WorkFolder]:
    """Work on a folder, alone or with other processes that do the same work.

    Parameters
    ----------
    folder
        Where the results go.
    kind
        What kind of work; the manifest's format names it.
    identity
        What two calls must have in common to be the same work; of plain JSON.
    own
        Names that the folder may hold.
    overwrite
        Replace other work of this kind, or finished work, that is there.

    Raises
    ------
    OutputError
        When the folder holds something else, another process is at work on what is to be replaced,
        or it cannot be written; what was done is kept.
    """
    place = Path(folder).resolve()
    with writing(place):
        plain = json.loads(json.dumps(identity))
        _check(place, kind, plain, {MANIFEST, LOCKS, *own}, overwrite=overwrite)
        (place / LOCKS).mkdir(parents=True, exist_ok=True)
        path = place / LOCKS / f"process-{uuid.uuid4().hex}.lock"
        try:
            with locked(path):
                yield WorkFolder(place, kind, plain)
        finally:
            path.unlink(missing_ok=True)


def read_work(folder: Path, kind: str) -> dict[str, Any] | None:
    """Manifest of a folder of a kind of work; None where it holds none."""
    try:
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return content if content["format"] == _format(kind) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say in one line that results could not be written, and that what was done is kept."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise OutputError(
            f"The results could not be written to {folder} ({system_reason(error)}); what was done "
            f"is kept. {'Make room, and run' if full else 'Run'} the same command again: it goes "
            "on from there."
        ) from error


def work_through(
    parts: Iterable[int],
    lock: Callable[[int], AbstractContextManager[bool]],
    do: Callable[[int], None],
) -> int:
    """Do every part of some work that no other process is at; the number of parts left to others.

    Parts that others are at are passed over, and looked at again when all else is done: the
    process that ends last finds everything there.

    Parameters
    ----------
    parts
        Numbers of the parts.
    lock
        Keeps other processes off a part; False when another one is at it.
    do
        Does what is left of a part that is held.
    """
    remaining = list(parts)
    while True:
        passed_over = []
        for part in remaining:
            with lock(part) as held:
                if held:
                    do(part)
                else:
                    passed_over.append(part)
        if not passed_over or len(passed_over) == len(remaining):
            return len(passed_over)
        remaining = passed_over


def bytes_in(folder: Path) -> int:
    """Size of what a folder holds; other processes may be at work in it."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _format(kind: str) -> str:
    return f"ranklock-{kind}"


def _check(
    folder: Path, kind: str, identity: Mapping[str, Any], own: Collection[str], *, overwrite: bool
) -> None:
    if folder.is_file():
        raise OutputError(f"{folder} is a file; name another folder with --out.")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    # Where another process just tries whether it can write here.
    names = {name for name in names if not name.startswith(HIDDEN)}
    manifest = read_work(folder, kind)
    # Locks come first, so that what a user has there is not taken for ours.
    begun = LOCKS in names and names <= set(own) and MANIFEST not in names
    if not names or begun:
        return
    if manifest is None:
        raise OutputError(
            f"{folder} holds something other than the {kind} of this command; name another folder "
            "with --out."
        )
    written = manifest.get("identity", {})
    known = {**identity, **written}
    differing = [what for what in known if written.get(what) != identity.get(what)]
    if not differing and not (overwrite and manifest.get("complete")):
        return
    if not overwrite:
        raise OutputError(
            f"{folder} holds another {kind}, begun with other values of {', '.join(differing)}; "
            "name another folder with --out, or replace it with --overwrite."
        )
    foreign = sorted(names - set(own))
    if foreign:
        raise OutputError(
            f"{folder} also holds {foreign[0]}, which no {kind} wrote; move it away, or name "
            "another folder with --out."
        )
    _clear(folder, names)


def _clear(folder: Path, names: Collection[str]) -> None:
    """Take away what is there; the manifest first, so that a kill leaves no finished work."""
    locks = folder / LOCKS
    locks.mkdir(exist_ok=True)
    for path in (locks / _SETUP, *locks.glob("*.lock")):
        with locked(path) as free:
            if not free:
                raise OutputError(
                    f"Another process is at work on {folder}; wait for it, or stop it."
                )
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in sorted(set(names) - {LOCKS, MANIFEST}):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
