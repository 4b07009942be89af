"""Knock out every gene of many cells under several arms, into a store that survives anything."""

from __future__ import annotations

import json
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ranklock.arms import DEFAULT_ARMS
from ranklock.cells import Cells
from ranklock.effects import step
from ranklock.effects.moments import displacements, distances, split
from ranklock.engine.blocks import Baseline, measure_baseline, measure_block
from ranklock.engine.moments import Numbers
from ranklock.engine.readout import Measured
from ranklock.errors import InputError, OutputError
from ranklock.experiments.noise import measure_noise
from ranklock.experiments.plan import baseline_of, warn_of_backfill
from ranklock.experiments.provenance import provenance
from ranklock.experiments.sweep_plan import SweepPlan, duration, plan_sweep
from ranklock.models import Model
from ranklock.progress import progress as show_progress
from ranklock.results.folder import MANIFEST, system_reason
from ranklock.results.records import DECOMPOSED
from ranklock.results.store import BLOCK, STORE_VERSION, CellLayout, Store, locked
from ranklock.results.sweep import (
    CELL_SHIFTS,
    CELLS,
    FORMAT,
    GENES,
    MEAN_EFFECTS,
    STORE,
    Sweep,
    describe_genes_and_cells,
    read_sweep,
)

_WORTH_SAYING = 20.0  # seconds that a sweep takes, from which on its time is said
_PATIENCE = 600.0  # seconds to wait for another process that is setting the sweep up
_MOST_ENTRIES = 200_000_000  # of effects.h5ad, as for a knock-out

Fields = dict[str, Numbers]


def sweep(
    cells: Cells,
    model: Model,
    out: str | Path,
    genes: Sequence[str | int] | None = None,
    arms: Sequence[str] = DEFAULT_ARMS,
    *,
    responders: Sequence[str | int] | None = None,
    read: str = "both",
    layer: int = -1,
    precision: str = "float32",
    batch_size: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Sweep:
    """Knock genes out of cells one by one, all by default, and store what moves.

    Results go to disk as they come. A sweep that was stopped, however it was, goes on where it
    stopped when it is called again with the same arguments; chunks that were damaged since are
    found and computed again.

    Parameters
    ----------
    cells
        Cells, from :func:`ranklock.read_cells`.
    model
        Checkpoint, from :func:`ranklock.load_model`.
    out
        Folder for the results. Several processes may work on one; each takes its own cells.
    genes
        Genes to knock out, by symbol, Ensembl ID or token; every gene of each cell by default.
    arms
        Names of arms. The default is all that the decomposition needs, plus ``mask``.
    responders
        Genes whose effects are stored; all by default.
    read
        ``genes``: effects on responders; ``cell``: cell shifts; ``both``.
    layer
        Layer to read, as Geneformer's ``emb_layer``: 0 is the last, -1 the second to last.
    precision
        Number format of the forwards: ``float32``, and ``tf32``, ``bfloat16`` or ``float16`` where
        the device has them. The noise floor in the manifest says what it costs.
    batch_size
        Knock-outs in one forward; found if not given. It changes nothing
        beyond the noise floor.
    overwrite
        Replace a sweep that is in the folder already.
    progress
        Whether to show the plan and progress on stderr.

    Returns
    -------
    Sweep
        ``effects()``, ``cell()`` (AnnData), ``cell_shifts()``, ``knockouts()`` (DataFrame).

    Raises
    ------
    InputError
        Before the first forward, when something does not fit.
    OutputError
        When the folder holds something else, the disk is full, or the sweep in it was begun with
        another checkpoint, vocabulary, layer or arms. What was done is kept.

    Examples
    --------
    >>> import tempfile, ranklock
    >>> cells = ranklock.read_cells(ranklock.demo.cells_file(), ranklock.demo.vocabulary_file())
    >>> model = ranklock.load_model(ranklock.demo.model_folder())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = ranklock.sweep(
    ...         cells[:2], model, folder + "/run", genes=["FTL", "SPI1"], progress=False
    ...     )
    ...     found.effects().obs["n_cells"].tolist()
    [2, 2]
    """
    plan = plan_sweep(
        cells, model, genes, arms,
        responders=responders, read=read, layer=layer, precision=precision,
    )  # fmt: skip
    warn_of_backfill(plan.arms, cells, model, [layout.index for layout in plan.layouts])
    folder = Path(out).resolve()
    asked = {
        "command": "sweep",
        "genes": "all" if genes is None else [str(gene) for gene in genes],
        "responders": "all" if responders is None else [str(gene) for gene in responders],
        "arms": [arm.name for arm in plan.arms],
        "read": read,
        "layer": layer,
        "precision": precision,
        "backfill": any(arm.backfill for arm in plan.arms),
    }
    identity = _identity(plan, asked)
    store = Store(folder / STORE, plan.effect_fields, plan.knockout_fields)
    with _writing(folder):
        _check_folder(folder, identity, overwrite=overwrite)
        plan.check_fits(folder, already=_bytes_in(store.folder))
        if progress:
            for line in plan.describe(folder=folder):
                print(line, file=sys.stderr)
        _set_up(folder, store, plan, asked, identity)
        waiting = _run(plan, store, batch_size, progress=progress)
        if waiting:
            print(
                f"note: another process is at work on {waiting} of the cells; it finishes the "
                "sweep, or the same command does once that has ended.",
                file=sys.stderr,
            )
        else:
            _finish(folder, progress=progress)
    return read_sweep(folder)


def effects_of_block(
    plan: SweepPlan, layout: CellLayout, block: int, measured: Measured
) -> tuple[Fields, Fields]:
    """Effects from the inner products of a block.

    Returns
    -------
    Field → numbers of shape (knock-outs, responders), and field → numbers of shape (knock-outs,);
    the fields are those of the plan.
    """
    rows = layout.rows(block)
    ranks = layout.knocked_out_ranks[rows]
    names = {arm.name: arm.runs_as or arm.name for arm in plan.arms}
    effects: Fields = {}
    numbers: Fields = {}
    if plan.read != "cell":
        read = plan.reading(layout).responders
        columns = np.searchsorted(read, layout.responder_ranks)
        itself = layout.responder_ranks == ranks[:, None]

        def of_responders(values: Numbers) -> Numbers:
            return np.where(itself, np.nan, values[:, columns])

        for name, run in names.items():
            effects[name] = of_responders(distances(measured.genes, run))
            effects[f"{name}_displacement"] = of_responders(displacements(measured.genes, run))
            sides = [
                step(row[~np.isnan(row)], layout.responder_ranks[~np.isnan(row)], (rank,))
                for row, rank in zip(effects[name], ranks, strict=True)
            ]
            numbers[f"{name}_before"] = np.array([side.before for side in sides])
            numbers[f"{name}_after"] = np.array([side.after for side in sides])
        parts = split(measured.genes) if plan.decomposes else None
        if parts is not None:
            effects |= {name: of_responders(getattr(parts, name)) for name in DECOMPOSED}
            for term in ("shift_along_total", "total_squared"):
                numbers[term] = np.nansum(of_responders(getattr(parts, term)), axis=1)
    if measured.cell is not None:
        for name, run in names.items():
            numbers[f"{name}_cell_shift"] = distances(measured.cell, run)
            numbers[f"{name}_cell_displacement"] = displacements(measured.cell, run)
        whole = split(measured.cell) if plan.decomposes else None
        if whole is not None:
            numbers["cell_shift_artefact_share"] = whole.artefact_share
    return effects, numbers


def _run(plan: SweepPlan, store: Store, batch_size: int | None, *, progress: bool) -> int:
    """Compute and store every block that is not there; the number of cells left to others."""
    waiting = 0
    with show_progress(plan.knockouts, "knock-outs", shown=progress) as advance:
        clock = _Clock(plan.flop, shown=progress)
        for layout in plan.layouts:
            with store.cell_locked(layout.index) as mine:
                if not mine:
                    waiting += 1
                    advance(len(layout.knocked_out))
                    clock.pass_over(plan.flop_of(layout))
                    continue
                store.clear_up(layout)
                done = set(store.done(layout, verify=True))
                missing = [block for block in layout.blocks if block not in done]
                share = plan.flop_of(layout) // len(layout.blocks)
                advance(sum(_size(layout, block) for block in done))
                clock.pass_over(share * len(done))
                for block, effects, numbers in _computed(plan, layout, missing, batch_size):
                    store.write(layout, block, effects, numbers)
                    advance(_size(layout, block))
                    clock.did(share)
    return waiting


def _computed(
    plan: SweepPlan, layout: CellLayout, blocks: Sequence[int], batch_size: int | None
) -> Iterator[tuple[int, Fields, Fields]]:
    unperturbed = baseline_of(plan.cells, layout.index, plan.model)
    reading = plan.reading(layout)
    before: Baseline | None = None
    for block in blocks:
        try:
            before = before or measure_baseline(
                plan.model, unperturbed, reading, plan.depth, precision=plan.precision
            )
            measured = measure_block(
                plan.model,
                plan.block(layout, layout.rows(block), unperturbed),
                reading,
                before,
                plan.depth,
                precision=plan.precision,
                batch_size=batch_size,
            )
        except MemoryError as error:
            raise InputError(
                f"One knock-out in cell {layout.name} ({layout.genes_in_cell} genes, "
                f"{len(plan.computed)} arms) does not fit into the memory of {plan.model.device}; "
                "take fewer arms, or another device. What was done is kept."
            ) from error
        _check_finite(measured, plan, layout)
        yield block, *effects_of_block(plan, layout, block, measured)


def _size(layout: CellLayout, block: int) -> int:
    rows = layout.rows(block)
    return int(rows.stop - rows.start)


class _Clock:
    """Says once, after the first block, how long the rest takes."""

    def __init__(self, flop: int, *, shown: bool) -> None:
        self._left, self._shown, self._started = flop, shown, time.monotonic()

    def pass_over(self, flop: int) -> None:
        self._left -= flop
        self._started = time.monotonic()

    def did(self, flop: int) -> None:
        took = time.monotonic() - self._started
        self._left -= flop
        seconds = self._left / max(flop, 1) * took
        if self._shown and seconds > _WORTH_SAYING:
            print(
                f"Time: about {duration(seconds)} left, at {flop / took / 1e9:.0f} GFLOP/s",
                file=sys.stderr,
            )
        self._shown = False


def _check_finite(measured: Measured, plan: SweepPlan, layout: CellLayout) -> None:
    parts = [measured.genes] + ([measured.cell] if measured.cell is not None else [])
    numbers = [part.squared for part in parts]
    numbers += [array for part in parts for array in part.moved.values()]
    if not all(np.isfinite(array).all() for array in numbers):
        raise InputError(
            f"The model gives NaN or infinity for cell {layout.name} of {plan.cells.source}; its "
            f"weights are damaged, or too large for {plan.precision}. What was done is kept."
        )


def _identity(plan: SweepPlan, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What two calls must have in common to be the same sweep."""
    return {
        "checkpoint": plan.model.sha256,
        "vocabulary": plan.cells.vocabulary.sha256,
        "cells": plan.cells.sha256(),
        "layer": plan.depth,
        "arms": {arm.name: [arm.edit.name, arm.positions.name, arm.backfill] for arm in plan.arms},
        "genes": _tokens(asked["genes"], plan.cells),
        "responders": _tokens(asked["responders"], plan.cells),
        "what is read": asked["read"],
        "precision": plan.precision,
        "version of Ranklock": version("ranklock"),
        "store format": [STORE_VERSION, BLOCK],
    }


def _tokens(asked: str | Sequence[str], cells: Cells) -> str | list[int]:
    if isinstance(asked, str):
        return asked
    return sorted({cells.vocabulary.token(gene) for gene in asked})


def _check_folder(folder: Path, identity: Mapping[str, Any], *, overwrite: bool) -> None:
    """Refuse a folder with anything in it but this sweep."""
    if folder.is_file():
        raise OutputError(f"{folder} is a file; name another folder with --out.")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    begun_without_manifest = names <= {STORE, ".locks", GENES, CELLS}
    if not names or begun_without_manifest:
        return
    try:
        there = read_sweep(folder).manifest["identity"]
    except (OutputError, KeyError) as error:
        raise OutputError(
            f"{folder} holds something other than a sweep; name another folder with --out."
        ) from error
    if overwrite:
        _remove(folder, names)
        return
    other = [what for what, value in identity.items() if there.get(what) != value]
    if other:
        raise OutputError(
            f"{folder} holds a sweep that was begun differently ({', '.join(other)}); name "
            "another folder with --out, or replace it with --overwrite."
        )


def _remove(folder: Path, names: set[str]) -> None:
    """Take away what a sweep wrote; its manifest last, so that a kill leaves a sweep."""
    own = {STORE, ".locks", GENES, CELLS, MEAN_EFFECTS, CELL_SHIFTS}
    foreign = sorted(names - own - {MANIFEST})
    if foreign:
        raise OutputError(
            f"{folder} also holds {foreign[0]}, which no sweep wrote; move it away, or name "
            "another folder with --out."
        )
    with locked(folder / ".locks" / "sweep.lock") as mine:
        if not mine:
            raise OutputError(f"Another process is at work on {folder}; wait for it, or stop it.")
        for name in sorted(own & names - {".locks"}):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (folder / MANIFEST).unlink(missing_ok=True)


def _set_up(
    folder: Path,
    store: Store,
    plan: SweepPlan,
    asked: Mapping[str, Any],
    identity: Mapping[str, Any],
) -> None:
    """Write what a sweep is, once, before its first block."""
    folder.mkdir(parents=True, exist_ok=True)
    store.locks.mkdir(exist_ok=True)
    with locked(store.locks / "sweep.lock", wait=_PATIENCE) as mine:
        if not mine:
            raise OutputError(f"Another process is at work on {folder}; wait for it, or stop it.")
        store.prepare()
        if (folder / MANIFEST).is_file():
            _check_folder(folder, identity, overwrite=False)
            return
        used = sorted({layout.index for layout in plan.layouts})
        floor = measure_noise(used, plan.cells, plan.model, plan.depth, precision=plan.precision)
        vocabulary = plan.cells.vocabulary
        tokens = sorted({int(t) for lay in plan.layouts for t in plan.cells.ranked[lay.index]})
        genes, names = describe_genes_and_cells(
            tokens,
            [vocabulary.gene(token) for token in tokens],
            [vocabulary.symbol(token) for token in tokens],
            plan.cells.obs,
        )
        _write_whole(folder / GENES, lambda path: genes.to_parquet(path, index=False))
        _write_whole(folder / CELLS, names.to_parquet)
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
        _write_manifest(folder, manifest)


def _finish(folder: Path, *, progress: bool) -> None:
    """Write the tables that a finished sweep has, and say that it is finished."""
    found = read_sweep(folder)
    with locked(found.store.locks / "sweep.lock", wait=_PATIENCE) as mine:
        if not mine:
            return
        found = read_sweep(folder)
        done, blocks = found.progress()
        if done < blocks or found.complete:
            return
        manifest = {**found.manifest, "complete": True}
        complete = Sweep(folder, manifest)
        read = manifest["asked"]["read"]
        if read != "genes":
            shifts = complete.cell_shifts()
            _write_whole(folder / CELL_SHIFTS, lambda path: shifts.to_parquet(path, index=False))
        if read != "cell":
            _write_means(complete, progress=progress)
        _write_manifest(folder, manifest)


def _write_means(found: Sweep, *, progress: bool) -> None:
    layouts = [found.store.layout(index) for index in found.store.cells()]
    genes = len(set().union(*(lay.knocked_out.tolist() for lay in layouts)))
    responders = len(set().union(*(lay.responders.tolist() for lay in layouts)))
    if genes * responders * len(found.arms) > _MOST_ENTRIES or not responders:
        if progress:
            print(
                f"note: {MEAN_EFFECTS} was not written, as it would have {genes:,} knock-outs × "
                f"{responders:,} responders; take a part with read_sweep(…).effects(…).",
                file=sys.stderr,
            )
        return
    found.export(found.folder / MEAN_EFFECTS)


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    _write_whole(folder / MANIFEST, lambda path: path.write_text(text, encoding="utf-8"))


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say in one line that results could not be written, and that what was done is kept."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"The results could not be written to {folder} ({system_reason(error)}); what was done "
            "is kept. Make room, and run the same command again: it goes on from there."
        ) from error
