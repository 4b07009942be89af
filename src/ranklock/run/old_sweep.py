"""Knock out every gene of many cells under several arms, into a store that survives anything."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ranklock.arms import DEFAULT_ARMS, find_arms
from ranklock.cells import Cells
from ranklock.effects import step
from ranklock.effects.moments import approach, displacements, distances, mask_beyond_hold, split
from ranklock.engine.blocks import Baseline, measure_baseline, measure_block
from ranklock.engine.moments import Numbers
from ranklock.engine.readout import Measured
from ranklock.errors import InputError, OptionError
from ranklock.models import Model
from ranklock.models.encoder import output_of_layer
from ranklock.progress import progress as show_progress
from ranklock.quantities import duration
from ranklock.run.old_plan import baseline_of, check_fit, warn_of_backfill
from ranklock.run.old_records import DECOMPOSED
from ranklock.run.old_store import CellLayout, Store
from ranklock.run.old_sweep_folder import (
    at_work,
    bytes_in,
    check_folder,
    finish,
    identity_of,
    set_up,
    writing,
)
from ranklock.run.old_sweep_plan import SweepPlan, plan_sweep
from ranklock.run.old_sweep_result import (
    STORE,
    Sweep,
    digest_of,
    read_sweep,
)
from ranklock.run.states import StateQuestion, find_ends

_WORTH_SAYING = 20.0  # seconds that a sweep takes, from which on its time is said

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
    controls: int = 0,
    states: StateQuestion | None = None,
    seed: int = 0,
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
    controls
        Beside each gene that is named, knock out as many other genes at the nearest ranks of the
        same cell: what :func:`ranklock.responders` compares it with.
    states
        Sweep the cells in a start state, and read how far each knock-out turns them towards a goal
        state and alternatives.
    seed
        Of the cells that a state's embedding is averaged over, where there are more than 200.
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
    ends = None
    if states is not None:
        if read == "genes":
            raise OptionError("Shifts towards states are of the cell embedding; read it (--read).")
        check_fit(cells, model, find_arms(arms))
        depth = output_of_layer(model, layer)
        ends = find_ends(states, cells, model, depth, precision=precision, seed=seed)
    plan = plan_sweep(
        cells if ends is None else ends.cells, model, genes, arms,
        responders=responders, read=read, layer=layer, precision=precision,
        controls=controls, states=None if ends is None else ends.embeddings,
    )  # fmt: skip
    return run_sweep(
        plan,
        Path(out),
        {
            "genes": "all" if genes is None else [str(gene) for gene in genes],
            "responders": "all" if responders is None else [str(gene) for gene in responders],
            "controls": controls,
            "states": {} if ends is None else ends.asked,
        },
        batch_size=batch_size,
        overwrite=overwrite,
        progress=progress,
    )


def run_sweep(
    plan: SweepPlan,
    out: Path,
    asked: Mapping[str, Any],
    *,
    batch_size: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Sweep:
    """Do what a plan says, or what is left of it.

    Parameters
    ----------
    plan
        The plan.
    out
        Folder for the results.
    asked
        Names of the ``genes`` and ``responders`` that were asked for, for the manifest.
    batch_size, overwrite, progress
        As in :func:`sweep`.
    """
    warn_of_backfill(plan.arms, plan.cells, plan.model, [lay.index for lay in plan.layouts])
    folder = out.resolve()
    asked = {
        "command": "sweep",
        **asked,
        "arms": [arm.name for arm in plan.arms],
        "read": plan.read,
        "layer": plan.layer,
        "precision": plan.precision,
        "backfill": any(arm.backfill for arm in plan.arms),
    }
    identity = identity_of(plan, asked)
    store = Store(folder / STORE, plan.effect_fields, plan.knockout_fields, digest_of(identity))
    with writing(folder):
        check_folder(folder, identity, overwrite=overwrite)
        plan.check_fits(folder, already=bytes_in(store.folder))
        if progress:
            for line in plan.describe(folder=folder):
                print(line, file=sys.stderr)
        with at_work(folder):
            set_up(folder, store, plan, asked, identity)
            waiting = run_blocks(plan, store, batch_size, progress=progress)
            if waiting:
                print(
                    f"note: another process is at work on {waiting} of the cells; it finishes the "
                    "sweep, or the same command does once that has ended.",
                    file=sys.stderr,
                )
            else:
                finish(folder, progress=progress)
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
        beyond = mask_beyond_hold(measured.genes)
        if "mask_squared" in plan.knockout_fields and beyond is not None:
            numbers["mask_beyond_hold_squared"] = np.nansum(of_responders(beyond), axis=1)
            moved = measured.genes.moved["mask"]
            numbers["mask_squared"] = np.nansum(of_responders(moved), axis=1)
    if measured.cell is not None:
        for name, run in names.items():
            numbers[f"{name}_cell_shift"] = distances(measured.cell, run)
            numbers[f"{name}_cell_displacement"] = displacements(measured.cell, run)
        whole = split(measured.cell) if plan.decomposes else None
        if whole is not None:
            numbers["cell_shift_artefact_share"] = whole.artefact_share
        if measured.states is not None:
            for name, run in names.items():
                towards = approach(measured.cell, measured.states, run)
                numbers |= {
                    f"{name}_towards_{state}": towards[:, column]
                    for column, state in enumerate(plan.states)
                }
    if measured.logits is not None:
        numbers |= {f"{name}_logit": measured.logits[run] for name, run in names.items()}
    return effects, numbers


def run_blocks(plan: SweepPlan, store: Store, batch_size: int | None, *, progress: bool) -> int:
    """Compute and store every block that is not there; the number of cells left to others.

    Cells that others are at are passed over, and looked at again when all else is done: the
    process that ends last finds everything there, and finishes the sweep.
    """
    with show_progress(plan.knockouts, "knock-outs", shown=progress) as advance:
        clock = _Clock(plan.flop, shown=progress)
        left = list(plan.layouts)
        while True:
            passed_over = [
                layout
                for layout in left
                if not _run_cell(plan, store, layout, batch_size, advance, clock)
            ]
            if not passed_over or len(passed_over) == len(left):
                return len(passed_over)
            left = passed_over


def _run_cell(
    plan: SweepPlan,
    store: Store,
    layout: CellLayout,
    batch_size: int | None,
    advance: Callable[[int], None],
    clock: _Clock,
) -> bool:
    """Compute and store what a cell lacks; False when another process is at it."""
    with store.cell_locked(layout.index) as mine:
        if not mine:
            return False
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
    return True


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
    numbers += list((measured.logits or {}).values())
    if not all(np.isfinite(array).all() for array in numbers):
        raise InputError(
            f"The model gives NaN or infinity for cell {layout.name} of {plan.cells.source}; its "
            f"weights are damaged, or too large for {plan.precision}. What was done is kept."
        )
