"""The folder of a sweep: what is in it, whose it is, and when it is whole."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ranklock.cells import Cells
from ranklock.errors import InputError, OutputError
from ranklock.run.files import write_whole
from ranklock.run.folder import MANIFEST, system_reason
from ranklock.run.noise import measure_noise
from ranklock.run.old_store import STORE_VERSION, Store, locked, store_format
from ranklock.run.old_sweep_plan import SweepPlan
from ranklock.run.old_sweep_result import (
    CELL_SHIFTS,
    CELLS,
    FORMAT,
    GENES,
    MEAN_EFFECTS,
    STORE,
    Sweep,
    describe_genes_and_cells,
    is_sweep,
    read_sweep,
)
from ranklock.run.provenance import provenance

LOCKS = ".locks"
PATIENCE = 600.0  # seconds to wait for another process that is setting the sweep up
_MOST_ENTRIES = 200_000_000  # of effects.h5ad, as for a knock-out


def identity_of(plan: SweepPlan, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What two calls must have in common to be the same sweep."""
    return {
        "checkpoint": plan.model.sha256,
        "vocabulary": plan.cells.vocabulary.sha256,
        "cells": plan.cells.sha256(),
        "layer": plan.depth,
        # In their order, which is that of the stored fields.
        "arms": [[arm.name, arm.edit.name, arm.positions.name, arm.backfill] for arm in plan.arms],
        "genes": _digest_of_knockouts(plan),
        "responders": _tokens(asked["responders"], plan.cells),
        "what is read": asked["read"],
        "states": asked.get("states", {}),
        "classifier": asked.get("classifier"),
        "precision": plan.precision,
        "version of Ranklock": version("ranklock"),
        "store format": store_format(),
    }


def _digest_of_knockouts(plan: SweepPlan) -> str:
    digest = hashlib.sha256()
    for layout in plan.layouts:
        digest.update(f"{layout.index}\n".encode())
        digest.update(np.ascontiguousarray(layout.knocked_out_ranks, dtype="<i4").tobytes())
    return digest.hexdigest()


def _tokens(asked: str | Sequence[str], cells: Cells) -> str | list[int]:
    if isinstance(asked, str):
        return asked
    return sorted({cells.vocabulary.token(gene) for gene in asked})


def check_folder(folder: Path, identity: Mapping[str, Any], *, overwrite: bool) -> None:
    """Refuse a folder with anything in it but this sweep; clear it where that is asked for.

    An unfinished sweep that is this one goes on, whether or not it may be replaced: it would come
    out the same.
    """
    if folder.is_file():
        raise OutputError(f"{folder} is a file; name another folder with --out.")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    # Locks and store are made first, so that a user's own tables are not taken for ours.
    begun = {LOCKS, STORE} <= names <= {LOCKS, STORE, GENES, CELLS} or names == {LOCKS}
    if not names or begun:
        return
    if not is_sweep(folder):
        raise OutputError(
            f"{folder} holds something other than a sweep; name another folder with --out."
        )
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    there = manifest.get("identity", {})
    other = [what for what, value in identity.items() if there.get(what) != value]
    if overwrite and (other or manifest.get("complete")):
        _remove(folder, names)
    elif other:
        raise OutputError(
            f"{folder} holds a sweep that was begun differently ({', '.join(other)}); name "
            "another folder with --out, or replace it with --overwrite."
        )


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Let others see that a process is at work on a sweep, as long as it is."""
    (folder / LOCKS).mkdir(parents=True, exist_ok=True)
    path = folder / LOCKS / f"process-{uuid.uuid4().hex}.lock"
    try:
        with locked(path):
            yield
    finally:
        path.unlink(missing_ok=True)


def forget_killed_processes(folder: Path) -> None:
    """Take away the locks of processes that are no more: the system has let go of them."""
    for path in (folder / LOCKS).glob("process-*.lock"):
        with locked(path) as free:
            if free:
                path.unlink(missing_ok=True)


def _remove(folder: Path, names: set[str]) -> None:
    """Take away what a sweep wrote; its manifest first, so that a kill leaves no whole sweep."""
    own = {STORE, LOCKS, GENES, CELLS, MEAN_EFFECTS, CELL_SHIFTS, MANIFEST}
    foreign = sorted(names - own)
    if foreign:
        raise OutputError(
            f"{folder} also holds {foreign[0]}, which no sweep wrote; move it away, or name "
            "another folder with --out."
        )
    locks = folder / LOCKS
    locks.mkdir(exist_ok=True)
    with locked(locks / "sweep.lock") as mine, ExitStack() as others:
        processes = [others.enter_context(locked(path)) for path in locks.glob("process-*.lock")]
        if not mine or not all(processes):
            raise OutputError(f"Another process is at work on {folder}; wait for it, or stop it.")
        (folder / MANIFEST).unlink(missing_ok=True)
        for name in sorted(own & names - {LOCKS, MANIFEST}):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def set_up(
    folder: Path,
    store: Store,
    plan: SweepPlan,
    asked: Mapping[str, Any],
    identity: Mapping[str, Any],
) -> None:
    """Write what a sweep is, once, before its first block."""
    folder.mkdir(parents=True, exist_ok=True)
    store.locks.mkdir(exist_ok=True)
    with locked(store.locks / "sweep.lock", wait=PATIENCE) as mine:
        if not mine:
            raise OutputError(f"Another process is at work on {folder}; wait for it, or stop it.")
        store.prepare()
        for path in store.locks.iterdir():  # what a killed process was writing
            if path.suffix != ".lock":
                path.unlink()
        begun = (folder / MANIFEST).is_file()
        if begun:
            check_folder(folder, identity, overwrite=False)
        write_names(folder, plan.cells, [layout.index for layout in plan.layouts])
        if begun:
            return
        used = sorted({layout.index for layout in plan.layouts})
        floor = measure_noise(used, plan.cells, plan.model, plan.depth, precision=plan.precision)
        manifest = {
            "format": FORMAT,
            "version": STORE_VERSION,
            "complete": False,
            "asked": asked,
            "identity": identity,
            "fields": {"effects": plan.effect_fields, "knockouts": plan.knockout_fields},
            "plan": {
                "cells": len(plan.layouts),
                "knockouts": plan.knockouts,
                "forwards": plan.forwards,
                "flop": plan.flop,
                "blocks": plan.blocks,
            },
            "skipped": plan.skipped,
            "noise_floor": asdict(floor),
            **provenance(plan.cells, plan.model, plan.depth, plan.precision),
        }
        write_manifest(folder, manifest)


def write_names(folder: Path, cells: Cells, rows: Sequence[int]) -> None:
    """Write the names of genes and cells, unless they are there and can be read.

    Parameters
    ----------
    folder
        Where to.
    cells
        The cells.
    rows
        Those whose genes are named.
    """
    found = Sweep(folder, {})
    try:
        if found.genes.size and len(found.cells) == len(cells):
            return
    except OutputError:
        pass
    there = np.zeros(cells.vocabulary.largest_token + 1, bool)
    for row in rows:
        there[cells.ranked[row]] = True
    tokens = np.flatnonzero(there)
    genes, names = describe_genes_and_cells(
        tokens.tolist(),
        [cells.vocabulary.gene(int(token)) for token in tokens],
        [cells.vocabulary.symbol(int(token)) for token in tokens],
        cells.obs,
    )
    write_within(folder / GENES, lambda path: genes.to_parquet(path, index=False))
    write_within(folder / CELLS, names.to_parquet)


def finish(folder: Path, *, progress: bool) -> None:
    """Write the tables that a finished sweep has, and say that it is finished."""
    found = read_sweep(folder)
    with locked(found.store.locks / "sweep.lock", wait=PATIENCE) as mine:
        if not mine:
            return
        forget_killed_processes(folder)
        found = read_sweep(folder)
        done, blocks = found.progress()
        read = found.manifest["asked"]["read"]
        lacks_shifts = read != "genes" and not (folder / CELL_SHIFTS).is_file()
        if done < blocks or (found.complete and not lacks_shifts):
            return
        manifest = {**found.manifest, "complete": True}
        complete = Sweep(folder, manifest)
        if read != "genes":
            shifts = complete.cell_shifts()
            write_within(folder / CELL_SHIFTS, lambda path: shifts.to_parquet(path, index=False))
        if read != "cell":
            _write_means(complete, progress=progress)
        write_manifest(folder, manifest)


def _write_means(found: Sweep, *, progress: bool) -> None:
    """Write the effects averaged over cells, unless they are huge: the sweep is whole without."""
    genes, responders = found.size()
    why = f"it would have {genes:,} knock-outs × {responders:,} responders"
    if not responders:
        return
    if genes * responders * len(found.arms) <= _MOST_ENTRIES:
        try:
            write_within(found.folder / MEAN_EFFECTS, found.export)
        except InputError as error:
            why = str(error)
        else:
            return
    if progress:
        print(
            f"note: {MEAN_EFFECTS} was not written ({why}); take a part of it with ranklock show "
            "--export FILE --min-cells N, or read_sweep(…).effects(…).",
            file=sys.stderr,
        )


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write what a run was, whole or not at all."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_within(folder / MANIFEST, lambda path: path.write_text(text, encoding="utf-8"))


def write_within(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file of a run, whole or not at all; what a kill leaves of it is among the locks."""
    write_whole(path, write, partial=path.parent / LOCKS / path.name)


def bytes_in(folder: Path) -> int:
    """Size of what is there; other processes may be at work in it."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


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
