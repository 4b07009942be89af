"""Do what a plan says, shard by shard, into a folder that any kill leaves in order."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ranklock.engine.method import baseline_precision
from ranklock.engine.readout import Measured
from ranklock.engine.tasks import measure_groups
from ranklock.errors import InputError
from ranklock.genes.names import GeneLeftOut
from ranklock.progress import progress as show_progress
from ranklock.quantities import count, duration
from ranklock.run.count_noise import COUNT_NOISE, count_noise_identity, measure_count_noise
from ranklock.run.files import check_writable, write_whole
from ranklock.run.kept_states import STATES, key_of, read_states, write_states
from ranklock.run.manifest import (
    KIND,
    MANIFEST_VERSION,
    NUMERICS,
    Manifest,
    Planned,
    Provenance,
    StatesUsed,
)
from ranklock.run.metadata import add_metadata, spreadsheet_safe
from ranklock.run.method_choice import Chosen, choose_method
from ranklock.run.plan import Plan
from ranklock.run.run import (
    CELLS,
    FIGURES,
    GENES,
    LEFT_OUT,
    NULL_MODEL,
    PERTURBATIONS,
    Run,
    digest_of,
    open_run,
)
from ranklock.run.states import StateEmbeddings, StatesAsked
from ranklock.run.store import LOCKS, PARTS, SHARDS, STORE_VERSION, Store, stored_tables
from ranklock.run.tabulate import tables_of
from ranklock.run.work import WorkFolder, bytes_in, read_work, work_folder, work_through

OWN = {
    PARTS, SHARDS, LOCKS, CELLS, GENES, PERTURBATIONS, LEFT_OUT, STATES, COUNT_NOISE, NULL_MODEL,
    *FIGURES,
}  # fmt: skip
_WORTH_SAYING = 20.0  # seconds that a run takes, from which on its time is said


def execute(
    plan: Plan,
    folder: str | Path,
    *,
    states_asked: StatesAsked | None = None,
    overwrite: bool = False,
    batch_size: int | None = None,
    figure: bool = True,
    progress: bool = True,
) -> Run:
    """Do what a plan says, or what is left of it.

    Parameters
    ----------
    plan
        The plan.
    folder
        Where the results go. Several processes may work on one; each takes parts of its own.
    states_asked
        What was asked of the plan's states, for the manifest.
    overwrite
        Replace another run, or a finished one, that is in the folder.
    batch_size
        Tasks in one forward; found if not given. It changes nothing beyond the measured error.
    figure
        Whether to draw the figure into the folder once all is done.
    progress
        Whether to show the plan and progress on stderr.

    Returns
    -------
    Run
        Which is not ``complete`` where another process is still at work on it.

    Raises
    ------
    InputError
        When the model gives NaN, or a task does not fit into memory. What was done is kept.
    OutputError
        When the folder holds something else, or cannot be written.
    """
    identity = identity_of(plan)
    place = Path(folder)
    begun = read_work(place, KIND) is not None
    check_writable(place)
    plan.check_fits(place, already=bytes_in(place) if begun else 0)
    with work_folder(folder, KIND, identity, OWN, overwrite=overwrite) as work:
        tables = stored_tables(
            effects=bool(plan.effect_fields), impostors=bool(plan.impostor_fields)
        )
        store = Store(work.folder, digest_of(work.identity), plan.shards, tables)
        store.prepare()
        with work.setup_lock():
            computed = _set_up(work, store, plan, states_asked)
        plan = replace(plan, method=computed.method)
        if progress:
            print("\n".join(plan.describe(folder=work.folder)), file=sys.stderr)
            print(f"Method: {computed.method} ({computed.why})", file=sys.stderr)
        _run_parts(plan, store, batch_size, progress=progress)
        if plan.asked.count_noise:
            with _fitting(plan):
                measure_count_noise(plan, store, progress=progress)
        _finish(work, store, figure=figure, progress=progress)
    return open_run(work.folder)


def identity_of(plan: Plan) -> dict[str, Any]:
    """What two calls must have in common to be the same run, of plain JSON."""
    tasks = plan.tasks
    arrays = (tasks.cell, tasks.perturbation, tasks.rank, tasks.to_rank, tasks.shown, plan.shard_of)
    return {
        "checkpoint": plan.model.sha256,
        "vocabulary": plan.cells.vocabulary.sha256,
        "cells": plan.cells.sha256(),
        "layer": plan.depth,
        # Edit and positions beside the names, in the order of the stored fields.
        "arms": [
            [kind, [[arm.name, arm.edit.name, arm.positions.name, arm.backfill] for arm in arms]]
            for kind, arms in plan.arms.items()
        ],
        "perturbations": digest_of([[p.kind.name, *p.tokens] for p in plan.perturbations]),
        "tasks": [hashlib.sha256(a.astype("<i8").tobytes()).hexdigest() for a in arrays],
        "responders": "all" if plan.responders is None else plan.responders.tolist(),
        "what is read": list(plan.asked.read),
        "states": None if plan.states is None else [list(plan.state_names), plan.states.sha256],
        "classes": None if plan.head is None else list(plan.head.labels),
        "precision": [plan.asked.precision, plan.asked.accuracy],
        "impostors": [plan.asked.impostors, plan.asked.seed] if plan.asked.impostors else [],
        "count noise": count_noise_identity(plan),
        "purpose": plan.asked.purpose,
        "numerics": NUMERICS,
        "format": [MANIFEST_VERSION, STORE_VERSION],
    }


def _set_up(work: WorkFolder, store: Store, plan: Plan, states_asked: StatesAsked | None) -> Chosen:
    """Write what a run is before its first shard; again what is missing of it, or damaged.

    Returns how it is computed, which a run that goes on keeps.
    """
    contents = {
        name: table.to_parquet(write_page_checksum=True) for name, table in _tables(plan).items()
    }
    if plan.genes_left_out:
        contents[LEFT_OUT] = (
            spreadsheet_safe(_left_out(plan.genes_left_out)).to_csv(index=False).encode()
        )
    begun = work.manifest is not None
    if not begun:  # a kill may have come while another run was taken away
        store.clear_foreign()
        for name in {LEFT_OUT, STATES, COUNT_NOISE, *FIGURES} - set(contents):
            (work.folder / name).unlink(missing_ok=True)
    for name, content in contents.items():
        path = work.folder / name
        if not (path.is_file() and path.read_bytes() == content):
            write_whole(path, partial(_write_bytes, content=content), work.locks / name)
    if plan.states is not None:
        _keep_states(work, plan, plan.states)
    if begun:
        return Manifest.read(work.folder).computed
    manifest = _manifest(plan, states_asked)
    work.write_manifest(manifest.to_json() | {"identity": work.identity})
    return manifest.computed


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _left_out(genes: Sequence[GeneLeftOut]) -> pd.DataFrame:
    """Genes that cannot be perturbed, and why, as a table."""
    return pd.DataFrame([{**vars(gene), "nearest": " ".join(gene.nearest)} for gene in genes])


def _keep_states(work: WorkFolder, plan: Plan, states: StateEmbeddings) -> None:
    """Write the states' embeddings, unless they are there: other processes have taken those."""
    path = work.folder / STATES
    key = key_of(states.sha256, plan.model, plan.depth, baseline_precision(plan.asked.precision))
    if read_states(path, key, len(states.groups)) is None:
        write = partial(
            write_states, vectors=states.vectors, groups=states.groups, names=states.names, key=key
        )
        write_whole(path, write, work.locks / STATES)


def _tables(plan: Plan) -> dict[str, pd.DataFrame]:
    """The tables that let a run be read without its vocabulary and cells."""
    vocabulary = plan.cells.vocabulary
    present = np.zeros(vocabulary.largest_token + 1, bool)
    for row in plan.cells_used:
        present[plan.cells.ranked[row]] = True
    for perturbation in plan.perturbations:
        present[list(perturbation.tokens)] = True
    tokens = np.flatnonzero(present)
    genes = pd.DataFrame(
        {
            "token": tokens.astype(np.int32),
            "gene_id": [vocabulary.gene(int(token)) for token in tokens],
            "symbol": [vocabulary.symbol(int(token)) for token in tokens],
        }
    )
    names = pd.DataFrame(index=pd.Index(plan.cells.names, name="cell"))
    perturbed = [p.names(plan.cells) for p in plan.perturbations]
    perturbations = pd.DataFrame(
        {
            "gene": [symbols for symbols, _ in perturbed],
            "gene_id": [identifiers for _, identifiers in perturbed],
            "kind": [p.kind.name for p in plan.perturbations],
            "tokens": [list(p.tokens) for p in plan.perturbations],
        }
    )
    return {
        GENES: genes,
        CELLS: add_metadata(names, plan.cells.obs),
        PERTURBATIONS: perturbations,
    }


def _manifest(plan: Plan, states_asked: StatesAsked | None) -> Manifest:
    with _fitting(plan):
        computed = choose_method(plan)
    states = None
    if plan.states is not None and states_asked is not None:
        states = StatesUsed(
            states_asked, plan.state_names, tuple(plan.states.counts), tuple(plan.states.left_out)
        )
    return Manifest(
        asked=plan.asked,
        arms={kind: tuple(arm.name for arm in arms) for kind, arms in plan.arms.items()},
        decomposed=tuple(sorted(plan.decomposed)),
        labels=() if plan.head is None else plan.head.labels,
        states=states,
        planned=Planned(
            len(plan.cells_used), len(plan.tasks), plan.forwards, plan.flop, plan.shards
        ),
        computed=computed,
        made_from=Provenance.of(plan.cells, plan.model, plan.depth, computed.method.precision),
        genes_left_out=plan.genes_left_out,
        cells_left_out=plan.cells_left_out,
    )


def _run_parts(plan: Plan, store: Store, batch_size: int | None, *, progress: bool) -> None:
    """Compute and store every shard that is not there, but those that other processes are at."""
    with show_progress(len(plan.tasks), "tasks", shown=progress) as advance:
        clock = _Clock(plan, shown=progress)

        def finish(part: int) -> None:
            missing = set(store.missing(part))
            for shard in store.shards_of(part):
                if shard in missing:
                    store.write(shard, _computed(plan, shard, batch_size))
                    clock.did(shard)
                else:
                    clock.pass_over(shard)
                advance(len(plan.tasks_of(shard)), done_before=shard not in missing)
            store.finish_part(part)

        work_through(store.parts, store.part_locked, finish)


def _computed(plan: Plan, shard: int, batch_size: int | None) -> dict[str, pa.Table]:
    groups = plan.groups_of(plan.tasks_of(shard))
    inputs = [plan.group(group) for group in groups]
    with _fitting(plan, shard):
        measured = measure_groups(
            plan.model, inputs, plan.reading, method=plan.method, batch_size=batch_size
        )
    for group, numbers in zip(groups, measured, strict=True):
        _check_finite(plan, group, numbers)
    return tables_of(plan, groups, inputs, measured)


@contextmanager
def _fitting(plan: Plan, shard: int | None = None) -> Iterator[None]:
    """Say which cell does not fit into memory, of a shard or of the whole run."""
    try:
        yield
    except MemoryError as error:
        tasks = range(len(plan.tasks)) if shard is None else plan.tasks_of(shard)
        longest = max(tasks, key=lambda task: plan.tasks.shown[task])
        row = int(plan.tasks.cell[longest])
        raise InputError(
            f"One task in cell {plan.cells.names[row]} ({plan.tasks.shown[longest]} genes) "
            f"does not fit into the memory of {plan.model.device}; take fewer arms, or another "
            "device. What was done is kept."
        ) from error


def _check_finite(plan: Plan, group: range, measured: Measured) -> None:
    moments = [measured.genes] + ([measured.cell] if measured.cell is not None else [])
    numbers = [part.squared for part in moments]
    numbers += [array for part in moments for array in part.moved.values()]
    numbers += list((measured.logits or {}).values())
    if not all(np.isfinite(array).all() for array in numbers):
        name = plan.cells.names[int(plan.tasks.cell[group.start])]
        raise InputError(
            f"The model gives NaN or infinity for cell {name} of {plan.cells.source}; its weights "
            f"are damaged, or too large for {plan.method.precision}. What was done is kept."
        )


def _finish(work: WorkFolder, store: Store, *, figure: bool, progress: bool) -> None:
    """Say that a run is whole, and draw its figure, where every part is there.

    A process that finds another one here waits for it: that one may have looked before this one's
    last part was there.
    """
    with work.setup_lock():
        work.forget_killed_processes()
        run = open_run(work.folder)
        done = all(store.is_finished(part) for part in store.parts)
        if run.manifest.asked.count_noise:
            done &= (work.folder / COUNT_NOISE).is_file()
        if not done:
            if progress:
                print(
                    "note: another process is at work on this run; it finishes it, or the same "
                    "command does once that has ended.",
                    file=sys.stderr,
                )
            return
        store.clear_up()
        if not run.complete:
            if figure and not run.manifest.asked.purpose:
                run.draw(work.locks)
            content: Mapping[str, Any] = work.manifest or {}
            work.write_manifest({**content, "complete": True})


class _Clock:
    """Says once, after some work, how long the rest takes; what was there before is no progress."""

    def __init__(self, plan: Plan, *, shown: bool) -> None:
        self._plan, self._shown, self._left = plan, shown, plan.flop
        self._done, self._started = 0.0, time.monotonic()

    def pass_over(self, shard: int) -> None:
        """A shard was there."""
        self._left -= self._plan.flop_of_shard[shard]
        if not self._done:
            self._started = time.monotonic()

    def did(self, shard: int) -> None:
        """A shard was computed."""
        flop = self._plan.flop_of_shard[shard]
        self._left -= flop
        self._done += flop
        took = time.monotonic() - self._started
        seconds = self._left / max(self._done, 1.0) * took
        if self._shown and seconds > _WORTH_SAYING:
            print(
                f"Time: about {duration(seconds)} left, at {count(self._done / took)}FLOP/s",
                file=sys.stderr,
            )
        self._shown = False
