"""Means over replicates of what knock-outs do to responders, gathered one cell at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from ranklock.errors import InputError
from ranklock.run.running import RunningMoments
from ranklock.significance.log_effects import CellEffects
from ranklock.significance.specific import REACH, Specific, specific_effects
from ranklock.statistics.rank_surface import RankSurface
from ranklock.statistics.replicates import Tested, means_tested

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int32]
Tokens = npt.NDArray[np.int64]

_BYTES = 3 * 20 + 4 + 8 + 4 + 8 + 40  # of a pair: running moments, counts, sums, temporaries
_MOSTLY_UNDER = 0.5  # of a pair's cells: from there on its effect is called noise


@dataclass(frozen=True, eq=False)
class Pairs:
    """Knock-outs × responders, over cells; matrices of shape (knock-outs, responders).

    Attributes
    ----------
    knocked_out, responders
        Tokens, ascending.
    n_cells, n_replicates
        In which both genes were, and a specific effect could be told.
    log_effect
        Mean log10 cosine distance over cells.
    specific
        Mean specific effect over replicates, log10.
    tested
        Tests of the standardised specific effects, each array of shape (knock-outs × responders,).
        The standard error is of ``specific``.
    under_floor
        Share of the cells in which the effect is under the noise floor.
    null
        p-values of the same pairs where each knock-out was swapped for a rank-matched one.
    potency, responsiveness
        Means over cells, log10, shape (knock-outs,) and (responders,).
    knocked_out_rank, responder_rank
        Mean ranks over cells.
    cells, replicates
        How many there were.
    knockouts_in_cell
        How many genes were knocked out of each, shape (cells,).
    controls
        Median number of rank-matched controls of an entry.
    """

    knocked_out: Tokens
    responders: Tokens
    n_cells: Counts
    n_replicates: Counts
    log_effect: Array
    specific: Array
    tested: Tested
    under_floor: Array
    null: Array
    potency: Array
    responsiveness: Array
    knocked_out_rank: Array
    responder_rank: Array
    cells: int
    replicates: int
    knockouts_in_cell: npt.NDArray[np.int_]
    controls: float


def gather(
    effects: Iterable[CellEffects],
    surface: RankSurface,
    knocked_out: Tokens,
    responders: Tokens,
    *,
    min_cells: int,
    seed: int,
) -> Pairs:
    """Go through cells, and test what is specific to pairs of genes.

    Parameters
    ----------
    effects
        Cells; those of one replicate one after another.
    surface
        From :func:`ranklock.significance.specific.fit_surface`.
    knocked_out, responders
        Tokens of the pairs asked for, ascending. All knock-outs of a cell serve as controls.
    min_cells
        Pairs that fewer cells have are not tested.
    seed
        Of the null's swaps.

    Notes
    -----
    Within a replicate, cells are averaged first. A pair whose effect is under the noise floor in
    half of its cells is not tested: it is noise, whatever its mean.
    """
    gathered = _Gathered(knocked_out, responders, seed)
    for _, cells in groupby(effects, key=lambda cell: cell.replicate):
        gathered.add([(cell, specific_effects(cell, surface)) for cell in cells])
    return gathered.finish(min_cells)


def check_memory(knockouts: int, responders: int) -> None:
    """Refuse a table of pairs that does not fit into memory.

    Raises
    ------
    InputError
        With what would.
    """
    needed, free = knockouts * responders * _BYTES, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{knockouts:,} knock-outs × {responders:,} responders take {needed / 2**30:.1f} GiB, "
            f"and {free / 2**30:.1f} GiB are free; ask about fewer genes (--gene), or for more "
            "cells a pair (--min-cells)."
        )


class _Gathered:
    def __init__(self, knocked_out: Tokens, responders: Tokens, seed: int) -> None:
        self.knocked_out, self.responders = knocked_out, responders
        shape = (len(knocked_out), len(responders))
        self.specific, self.standardised = RunningMoments(shape), RunningMoments(shape)
        self.null = RunningMoments(shape)
        self.n_cells, self.under = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        self.log_effect = np.zeros(shape)
        self.of_rows = _Means(len(knocked_out), 2)  # potency, rank
        self.of_columns = _Means(len(responders), 2)  # responsiveness, rank
        self.knockouts_in_cell: list[int] = []
        self.controls: list[float] = []
        self.replicates = 0
        self._draw = np.random.default_rng(seed)

    def add(self, replicate: list[tuple[CellEffects, Specific]]) -> None:
        """Take in the cells of one replicate."""
        self.replicates += 1
        parts = [self._cell(cell, found) for cell, found in replicate]
        running = (self.specific, self.standardised, self.null)
        if len(parts) == 1:
            rows, columns, numbers = parts[0]
            for moments, values in zip(running, numbers, strict=True):
                moments.update(rows, columns, values)
            return
        shape = self.n_cells.shape
        for which, moments in enumerate(running):
            total, count = np.zeros(shape), np.zeros(shape)
            for rows, columns, numbers in parts:
                where = np.ix_(rows, columns)
                total[where] += np.nan_to_num(numbers[which])
                count[where] += np.isfinite(numbers[which])
            with np.errstate(invalid="ignore"):
                mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
            moments.update(np.arange(shape[0]), np.arange(shape[1]), mean)

    def _cell(
        self, cell: CellEffects, found: Specific
    ) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_], tuple[Array, Array, Array]]:
        asked = np.isin(cell.knocked_out, self.knocked_out)
        read = np.isin(cell.responders, self.responders)
        rows = np.searchsorted(self.knocked_out, cell.knocked_out[asked])
        columns = np.searchsorted(self.responders, cell.responders[read])
        part = np.ix_(asked, read)
        specific = found.specific[part]
        able = np.isfinite(specific)
        where = np.ix_(rows, columns)
        self.n_cells[where] += able
        self.under[where] += able & cell.under_floor[part]
        self.log_effect[where] += np.where(able, cell.log_effects[part], 0.0)
        self.of_rows.add(rows, found.potency[asked], cell.knocked_out_ranks[asked])
        self.of_columns.add(columns, found.responsiveness[read], cell.responder_ranks[read])
        self.knockouts_in_cell.append(len(cell.knocked_out))
        if (found.controls > 0).any():
            self.controls.append(float(np.median(found.controls[found.controls > 0])))
        swapped = found.standardised[neighbours(len(cell.knocked_out), self._draw)]
        swapped[cell.knocked_out[:, None] == cell.responders[None, :]] = np.nan
        return rows, columns, (specific, found.standardised[part], swapped[part])

    def finish(self, min_cells: int) -> Pairs:
        with np.errstate(invalid="ignore", divide="ignore"):
            under = self.under / self.n_cells
            log_effect = np.where(self.n_cells > 0, self.log_effect / self.n_cells, np.nan)
        testable = (self.n_cells >= min_cells) & (under < _MOSTLY_UNDER)
        tested = _test(self.standardised, testable)
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.sqrt(self.specific.variances() / self.specific.count)
        tested = Tested(error.ravel().astype(np.float64), tested.t, tested.p, tested.q)
        potency, rank = self.of_rows.means()
        responsiveness, responder_rank = self.of_columns.means()
        return Pairs(
            knocked_out=self.knocked_out,
            responders=self.responders,
            n_cells=self.n_cells,
            n_replicates=self.specific.count,
            log_effect=log_effect,
            specific=self.specific.means().astype(np.float64),
            tested=tested,
            under_floor=under,
            null=_test(self.null, testable).p,
            potency=potency,
            responsiveness=responsiveness,
            knocked_out_rank=rank,
            responder_rank=responder_rank,
            cells=len(self.knockouts_in_cell),
            replicates=self.replicates,
            knockouts_in_cell=np.array(self.knockouts_in_cell, dtype=int),
            controls=float(np.median(self.controls)) if self.controls else 0.0,
        )


class _Means:
    """Means of some numbers of each gene over cells."""

    def __init__(self, genes: int, numbers: int) -> None:
        self._sums, self._counts = np.zeros((numbers, genes)), np.zeros((numbers, genes))

    def add(self, genes: npt.NDArray[np.int_], *numbers: npt.NDArray[Any]) -> None:
        for row, values in enumerate(numbers):
            self._sums[row, genes] += np.nan_to_num(values)
            self._counts[row, genes] += np.isfinite(values)

    def means(self) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self._sums / self._counts)


def _test(moments: RunningMoments, testable: npt.NDArray[np.bool_]) -> Tested:
    return means_tested(
        moments.means().ravel(),
        moments.variances().ravel(),
        moments.count.ravel(),
        testable.ravel(),
    )


def neighbours(rows: int, draw: np.random.Generator) -> npt.NDArray[np.int_]:
    """For each row another one within reach; itself where it is alone."""
    own = np.arange(rows)
    if rows < 2:
        return own
    reach = min(REACH, rows - 1)
    away = draw.integers(1, reach + 1, rows) * draw.choice([-1, 1], rows)
    other = own + away
    other = np.where((other < 0) | (other >= rows), own - away, other)
    # In a short list a step may lead out at either end; then the next one is taken.
    outside = (other < 0) | (other >= rows)
    return np.where(outside, np.where(own + 1 < rows, own + 1, own - 1), other)
