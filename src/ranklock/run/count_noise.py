"""Count noise: how far embeddings move when a cell's counts are thinned by 1 %.

It is a floor of relevance, not of precision: an effect far below it is exact, and may still be of
no consequence, because the same cell sequenced a little less deeply differs by more.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranklock.arms import NOT_RANKED, ModelInput, baseline, capacity
from ranklock.cells import Cells
from ranklock.cells.thinning import holds_counts, thinned_genes
from ranklock.engine.batches import hidden_states
from ranklock.engine.cost import forward_flop
from ranklock.engine.method import baseline_precision
from ranklock.errors import OutputError, RanklockWarning
from ranklock.progress import progress as show_progress
from ranklock.quantities import count, counted
from ranklock.run.cell_noise import Embedded, noise_of_draws
from ranklock.run.fields import CELL, GENES, count_noise_fields, schema_of, towards
from ranklock.run.locks import locked
from ranklock.run.store import SHARDS, Store
from ranklock.run.work import work_through

if TYPE_CHECKING:
    from ranklock.run.planned import Plan

COUNT_NOISE = "count_noise.parquet"
KEPT = 0.99  # of the counts, or of the genes where there are none
DRAWS = 5
COUNTS_THINNED, GENES_DROPPED = "counts", "genes"  # what was thinned, as the file says it

# What a kill can cost: on a CPU some ten seconds, unless a single cell takes more.
_PIECE_FLOP = 4e12
_PIECE_CELLS = 1024
_BYTES_OF_ROW = 8  # token and distance, compressed
_PATIENCE = 600.0  # seconds to wait for another process that puts the pieces together

Numbers = npt.NDArray[np.float64]


def embed_draws(plan: Plan, row: int, *, by_counts: bool) -> tuple[Embedded, list[Embedded]]:
    """Embed a cell of a plan and its thinned versions by plain forwards, at the run's depth.

    Each cell has forwards of its own, so that what is found does not depend on other cells. A
    draw in which the model would see what it sees of the cell is the cell.

    Parameters
    ----------
    plan
        The plan.
    row
        Row of the cell.
    by_counts
        Whether counts are thinned; otherwise genes are dropped.
    """
    cells, model = plan.cells, plan.model
    most = capacity(model.input_size, special_frame=cells.special_frame)
    shown = cells.ranked[row][:most]
    thinned = [
        thinned_genes(cells, row, number, kept=KEPT, by_counts=by_counts, seed=plan.asked.seed)
        for number in range(DRAWS)
    ]
    draws = [genes[:most] for genes in thinned]
    others = [genes for genes in draws if not np.array_equal(genes, shown)]
    inputs = [
        baseline(genes, cells.vocabulary, special_frame=cells.special_frame)
        for genes in (shown, *others)
    ]
    precision = baseline_precision(plan.asked.precision)
    states = hidden_states(model, inputs, plan.depth, precision=precision)
    cell, *rest = (
        _embedded(*parts, special_frame=cells.special_frame)
        for parts in zip(inputs, states, strict=True)
    )
    embedded = iter(rest)
    return cell, [cell if np.array_equal(genes, shown) else next(embedded) for genes in draws]


def _embedded(
    shown: ModelInput, states: npt.NDArray[np.float32], *, special_frame: bool
) -> Embedded:
    ranked = shown.ranks != NOT_RANKED
    return Embedded(shown.tokens[ranked], states[ranked], states[0] if special_frame else None)


def measure_count_noise(plan: Plan, store: Store, *, progress: bool) -> None:
    """Thin the cells of a run, and write how far that moves what the run reads of them.

    Work goes by pieces of some seconds, each written whole, that several processes share; whoever
    finds them all there puts them into one file.

    Parameters
    ----------
    plan
        The plan.
    store
        Of the run; its folders must be there.
    progress
        Whether to show progress on stderr.
    """
    target = store.folder / COUNT_NOISE
    with _alone(store):
        if target.is_file() and not store.is_sound(target):
            target.unlink()
    if target.is_file():
        return
    by_counts = holds_counts(plan.cells)
    schema = _schema(plan)
    pieces = pieces_of(plan)
    paths = [store.folder / SHARDS / f"count_noise-{p:08d}.parquet" for p in range(len(pieces))]
    with show_progress(len(plan.cells_used), "cells thinned", shown=progress) as advance:

        def finish(piece: int) -> None:
            # The pieces go once the whole is there: looked for in this order, one of them is.
            done = store.is_sound(paths[piece]) or target.is_file()
            if not done:
                rows = [_rows_of(plan, int(row), by_counts=by_counts) for row in pieces[piece]]
                store.write_file(paths[piece], schema, [_table(rows, schema)])
            advance(len(pieces[piece]), done_before=done)

        # The store clears locks of such names away when a run is whole.
        work_through(
            range(len(pieces)),
            lambda piece: locked(store.locks / f"part-count-noise-{piece}.lock"),
            finish,
        )
    # Whoever wrote the last piece finds all of them here, whatever others were at.
    with _alone(store):
        if not target.is_file() and all(path.is_file() for path in paths):
            store.write_file(target, schema, (store.read(path) for path in paths))


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    with locked(store.locks / "part-count-noise.lock", wait=_PATIENCE) as held:
        if not held:
            raise OutputError(f"Another process is at work on {store.folder}; wait for it.")
        yield


def pieces_of(plan: Plan) -> list[npt.NDArray[np.int64]]:
    """Rows of the cells that are thinned, in pieces that are computed and stored together."""
    rows = plan.cells_used
    weight = np.maximum(_flop_of_cells(plan) / _PIECE_FLOP, 1 / _PIECE_CELLS)
    piece = np.floor(np.cumsum(weight) - weight)
    return np.split(rows, np.flatnonzero(np.diff(piece)) + 1)


def _flop_of_cells(plan: Plan) -> Numbers:
    """Floating-point operations of the forwards of each thinned cell, shape (cells,)."""
    frame = 2 * plan.cells.special_frame
    most = plan.model.input_size
    tokens = [min(len(plan.cells.ranked[row]) + frame, most) for row in plan.cells_used]
    flop = [(1 + DRAWS) * forward_flop(plan.model, n, n, plan.depth) for n in tokens]
    return np.array(flop, dtype=float)


def count_noise_flop(plan: Plan) -> float:
    """Floating-point operations of a plan's count noise; 0 where none is asked for."""
    return float(_flop_of_cells(plan).sum()) if plan.asked.count_noise else 0.0


def count_noise_bytes(plan: Plan) -> int:
    """Bytes that a plan's count noise takes on disk, about; 0 where none is asked for."""
    if not plan.asked.count_noise:
        return 0
    return _BYTES_OF_ROW * sum(1 + len(_stored(plan, int(row))) for row in plan.cells_used)


def count_noise_identity(plan: Plan) -> list[Any] | None:
    """What two runs must have in common for one count noise, of plain JSON; None without any.

    Cells may rank alike with other counts, or with none, and thinning tells those apart.
    """
    if not plan.asked.count_noise:
        return None
    digest = hashlib.sha256()
    if holds_counts(plan.cells):
        for levels in plan.cells.levels or ():
            digest.update(levels.astype("<f8").tobytes())
    return [DRAWS, KEPT, plan.asked.seed, digest.hexdigest()]


def describe_count_noise_plan(plan: Plan) -> list[str]:
    """What a plan's count noise takes, in words; nothing where none is asked for."""
    if not plan.asked.count_noise:
        return []
    forwards = (1 + DRAWS) * len(plan.cells_used)
    how = "counts" if holds_counts(plan.cells) else "genes, for want of counts,"
    return [
        f"Count noise: {counted(DRAWS, 'draw')} a cell with {1 - KEPT:.0%} of the {how} taken "
        f"away: {counted(forwards, 'forward')} more, {count(count_noise_flop(plan))}FLOP"
    ]


def warn_without_counts(cells: Cells) -> None:
    """Say that cells without counts cannot be thinned as sequencing would.

    Warns
    -----
    RanklockWarning
        When they hold ranks, or values that are no whole numbers.
    """
    if holds_counts(cells):
        return
    what = "ranks, no counts" if cells.levels is None else "values that are no whole counts"
    warnings.warn(
        f"{cells.source} holds {what}: for count noise one gene in a hundred is dropped instead.",
        RanklockWarning,
        stacklevel=3,
    )


def _stored(plan: Plan, row: int) -> npt.NDArray[np.int64]:
    """Ranks of the genes of a cell whose count noise is stored: those that are responders."""
    if GENES not in plan.asked.read:
        return np.zeros(0, np.int64)
    most = capacity(plan.model.input_size, special_frame=plan.cells.special_frame)
    genes = plan.cells.ranked[row][:most]
    kept = np.ones(len(genes), bool) if plan.responders is None else np.isin(genes, plan.responders)
    return np.flatnonzero(kept)


def _schema(plan: Plan) -> pa.Schema:
    return schema_of(count_noise_fields(plan.state_names), {})


def _rows_of(plan: Plan, row: int, *, by_counts: bool) -> dict[str, list[Any]]:
    """Rows of one cell: its genes by rank, and the cell embedding last."""
    states = None
    if plan.states is not None:
        states = plan.states.vectors[plan.states.group_of_cell[row]]
    cell, draws = embed_draws(plan, row, by_counts=by_counts)
    noise = noise_of_draws(cell, draws, states)
    stored = _stored(plan, row)
    tokens: list[int | None] = [*cell.tokens[stored].tolist()]
    distances = [*noise.genes[stored].tolist()]
    times = [*noise.draws[stored].tolist()]
    turns = np.full((len(stored), len(noise.towards)), np.nan)
    if CELL in plan.asked.read:
        tokens.append(None)
        distances.append(noise.cell)
        times.append(noise.cell_draws)
        turns = np.concatenate([turns, noise.towards[None]])
    return {
        "cell": [plan.cells.names[row]] * len(tokens),
        "token": tokens,
        "cosine_distance": distances,
        "draws": times,
        "thinned": [COUNTS_THINNED if by_counts else GENES_DROPPED] * len(tokens),
        **{towards(s): turns[:, place].tolist() for place, s in enumerate(plan.state_names)},
    }


def _table(rows: Sequence[dict[str, list[Any]]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_arrays([_column(rows, field) for field in schema], schema=schema)


def _column(rows: Sequence[dict[str, list[Any]]], field: pa.Field) -> pa.Array:
    entries = [entry for of_cell in rows for entry in of_cell[field.name]]
    if pa.types.is_dictionary(field.type):
        return pa.array(entries, pa.string()).dictionary_encode()
    return pa.array(entries, field.type, from_pandas=True)
