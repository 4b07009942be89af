"""A run's folder, copied whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from ranklock.errors import OutputError
from ranklock.run.files import HIDDEN, system_reason
from ranklock.run.manifest import KIND
from ranklock.run.run import FIGURES, Run
from ranklock.run.store import LOCKS
from ranklock.run.work import read_work


def copy_run(run: Run, folder: Path, *, overwrite: bool) -> Path:
    """Copy a run's folder; see :meth:`ranklock.run.run.Run.save`."""
    place = folder.resolve()
    if place.is_file():
        raise OutputError(f"{place} is a file; name another folder.")
    holds = place.is_dir() and any(place.iterdir())
    if holds and (not overwrite or read_work(place, KIND) is None):
        what = "a run" if read_work(place, KIND) else "something other than a run"
        raise OutputError(
            f"{place} holds {what}; name another folder"
            + (", or replace it with overwrite." if what == "a run" else ".")
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=place.parent, prefix=HIDDEN))
    except OSError as error:
        raise OutputError(f"{place} cannot be written ({system_reason(error)}).") from error
    try:
        ignore = shutil.ignore_patterns(LOCKS)
        shutil.copytree(run.folder, partial / "run", ignore=ignore)
        copy = replace(run, folder=partial / "run")
        if run.complete and not any((copy.folder / name).exists() for name in FIGURES):
            copy.draw()  # a run without a folder of its own has none
        if place.is_dir():
            (place).rename(partial / "replaced")
        (partial / "run").rename(place)
    except OSError as error:
        if (partial / "replaced").is_dir() and not place.exists():
            (partial / "replaced").rename(place)
        raise OutputError(
            f"The run could not be written to {place} ({system_reason(error)}); nothing of it was "
            "kept and what was there before is untouched."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place
