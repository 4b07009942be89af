"""Folds of responders over impostors, gathered over replicates one cell at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil

from ranklock.errors import InputError
from ranklock.run import fields as f
from ranklock.run.run import EffectBlock, Run
from ranklock.run.running import RunningMoments
from ranklock.significance.claims import Claims
from ranklock.statistics.minimum import Means

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_BYTES = 2 * 20 + 3 * 8 + 4 + 40  # of a pair: running moments, sums, counts, temporaries


@dataclass(frozen=True, eq=False)
class Pairs:
    """Perturbations × responders of one kind under one arm.

    Attributes
    ----------
    perturbations, responders
        Numbers of the one and tokens of the other, ascending.
    claims
        Folds of the pairs, row by row; zero cells where the two are in no cell together.
    log_distance
        Mean log10 of the cosine distance over cells, shape (perturbations × responders,).
    """

    perturbations: Integers
    responders: Integers
    claims: Claims
    log_distance: Array


def gather_pairs(
    run: Run, kind: str, arm: str, replicates: pd.Series, *, min_cells: int, keep: bool
) -> Pairs:
    """Mean folds of pairs of genes over replicates.

    Parameters
    ----------
    run, kind, arm
        Whose effects.
    replicates
        Cell's name → its replicate; cells that it lacks are passed over. Cells of a replicate are
        averaged first.
    min_cells
        Genes that fewer cells have are left out of rows and columns, unless none has so many.
    keep
        Whether the replicates' own values are kept, for exact tests.

    Raises
    ------
    InputError
        When the matrices do not fit into memory.
    """
    order = list(replicates.sort_values(kind="stable").index)
    rows, columns = _in_cells(run, kind, order, min_cells)
    shape = (len(rows), len(columns))
    names = replicates.unique()
    needed = shape[0] * shape[1] * (_BYTES + 4 * len(names) * keep)
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"Tests of {shape[0]:,} perturbations × {shape[1]:,} responders take "
            f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; take fewer genes "
            "(--gene), or only those in more cells (--min-cells)."
        )
    folds, logs, cells = RunningMoments(shape), RunningMoments(shape), np.zeros(shape, np.int64)
    values = np.full((len(names), *shape), np.nan, np.float32) if keep else None
    all_rows, all_columns = np.arange(shape[0]), np.arange(shape[1])
    blocks = run.blocks((f.FOLD.name, f.COSINE_DISTANCE.name), [arm], kind, order)
    of_replicates = groupby(blocks, key=lambda block: replicates[block.cell])
    for number, (_, of_replicate) in enumerate(of_replicates):
        sums, counts = np.zeros(shape), np.zeros(shape, np.int64)
        for block in of_replicate:
            of_rows, of_columns, fold, distance = _part(block, arm, rows, columns)
            where, known = np.ix_(of_rows, of_columns), np.isfinite(fold)
            sums[where] += np.where(known, fold, 0.0)
            counts[where] += known
            with np.errstate(divide="ignore"):
                log = np.log10(distance)
            logs.update(of_rows, of_columns, np.where(np.isfinite(log), log, np.nan))
        with np.errstate(invalid="ignore"):
            means = sums / counts  # NaN where there is none
        folds.update(all_rows, all_columns, means)
        cells += counts
        if values is not None:
            values[number] = means
    claims = Claims(
        Means(
            folds.means().ravel().astype(np.float64),
            folds.variances().ravel().astype(np.float64),
            folds.count.ravel().astype(np.int64),
        ),
        cells.ravel(),
        signed=False,
        values=None if values is None else values.reshape(len(names), -1).astype(np.float64),
    )
    return Pairs(rows, columns, claims, logs.means().ravel().astype(np.float64))


def _part(
    block: EffectBlock, arm: str, rows: Integers, columns: Integers
) -> tuple[Integers, Integers, Array, Array]:
    """Where the wanted pairs of a block belong, and their folds and distances."""
    tasks = np.flatnonzero(np.isin(block.perturbations, rows))
    known = np.flatnonzero(np.isin(block.responders, columns))
    part = np.ix_(tasks, known)
    fold, distance = (
        block.values[field][arm][part].astype(np.float64)
        for field in (f.FOLD.name, f.COSINE_DISTANCE.name)
    )
    return (
        np.searchsorted(rows, block.perturbations[tasks]),
        np.searchsorted(columns, block.responders[known]),
        fold,
        distance,
    )


def _in_cells(run: Run, kind: str, cells: list[str], min_cells: int) -> tuple[Integers, Integers]:
    """Perturbations and responders in enough cells; all, where none are in so many."""
    of_perturbation = np.zeros(len(run.perturbations), np.int64)
    of_responder = np.zeros(int(run.genes.index.max()) + 1, np.int64)
    for _, blocks in groupby(run.blocks((), None, kind, cells), key=lambda block: block.cell):
        responders: set[int] = set()
        for block in blocks:
            of_perturbation[block.perturbations] += 1
            responders.update(block.responders.tolist())
        of_responder[list(responders)] += 1
    rows, columns = (
        np.flatnonzero(counts >= min_cells) for counts in (of_perturbation, of_responder)
    )
    if not len(rows) or not len(columns):
        rows, columns = np.flatnonzero(of_perturbation), np.flatnonzero(of_responder)
    return rows, columns
