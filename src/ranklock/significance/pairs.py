"""Means over replicates of what perturbations do to responders, gathered one cell at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
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
Integers = npt.NDArray[np.int64]

MOSTLY_UNDER = 0.5  # of its cells under the noise floor: what is never significant
_BYTES = 3 * 20 + 4 + 8 + 4 + 8 + 40  # of a pair: running moments, counts, sums, temporaries


@dataclass(frozen=True, eq=False)
class Pairs:
    """Perturbations × responders, over cells; matrices of shape (perturbations, responders).

    Attributes
    ----------
    perturbations, responders
        Numbers of the one and tokens of the other, ascending.
    n_cells, n_replicates
        In which both genes were, and a specific effect could be told.
    log_effect, under_floor
        Mean log10 cosine distance over cells; share of them that are under the noise floor.
    specific
        Mean specific effect over replicates, log10.
    tested, swapped
        Tests of the standardised specific effects, each array of shape (perturbations ×
        responders,), with the standard error of ``specific``; and p-values of the same pairs where
        each perturbation was swapped for a rank-matched one.
    potency, responsiveness, gene_rank, responder_rank
        Means over cells, log10 or ranks, shape (perturbations,) and (responders,).
    cells, replicates
        How many there were.
    perturbations_in_cell
        How many perturbations each had, shape (cells,).
    controls
        Median number of rank-matched controls of an entry.
    """

    perturbations: Integers
    responders: Integers
    n_cells: Counts
    n_replicates: Counts
    log_effect: Array
    specific: Array
    tested: Tested
    under_floor: Array
    swapped: Array
    potency: Array
    responsiveness: Array
    gene_rank: Array
    responder_rank: Array
    cells: int
    replicates: int
    perturbations_in_cell: npt.NDArray[np.int_]
    controls: float


def gather(
    effects: Iterable[CellEffects],
    surface: RankSurface,
    perturbations: Integers,
    responders: Integers,
    *,
    min_cells: int,
    seed: int,
) -> Pairs:
    """Go through cells, those of a replicate one after another, and test pairs of genes.

    ``perturbations`` and ``responders`` are the pairs asked for, ascending; all perturbations of a
    cell serve as controls. ``min_cells`` is the fewest that a pair is tested in.

    Within a replicate, cells are averaged first. A pair whose effect is under the noise floor in
    half of its cells is not tested: it is noise, whatever its mean.
    """
    sums = _Sums(perturbations, responders, seed)
    for _, cells in groupby(effects, key=attrgetter("replicate")):
        sums.add([(cell, specific_effects(cell, surface)) for cell in cells])
    return sums.finish(min_cells)


def check_memory(perturbations: int, responders: int) -> None:
    """Refuse a table of pairs that does not fit into memory (InputError)."""
    needed, free = perturbations * responders * _BYTES, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{perturbations:,} perturbations × {responders:,} responders take "
            f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; ask about fewer genes "
            "(--gene), or for more cells a pair (--min-cells)."
        )


class _Sums:
    def __init__(self, perturbations: Integers, responders: Integers, seed: int) -> None:
        self.perturbations, self.responders = perturbations, responders
        shape = (len(perturbations), len(responders))
        self.specific, self.standardised = RunningMoments(shape), RunningMoments(shape)
        self.swapped = RunningMoments(shape)
        self.n_cells, self.under = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        self.log_effect = np.zeros(shape)
        self.of_rows = _Means(len(perturbations), 2)  # potency, rank
        self.of_columns = _Means(len(responders), 2)  # responsiveness, rank
        self.perturbations_in_cell: list[int] = []
        self.controls: list[float] = []
        self.replicates = 0
        self._draw = np.random.default_rng(seed)

    def add(self, replicate: list[tuple[CellEffects, Specific]]) -> None:
        """Take in the cells of one replicate."""
        self.replicates += 1
        parts = [self._cell(cell, specific) for cell, specific in replicate]
        moments = (self.specific, self.standardised, self.swapped)
        shape = self.n_cells.shape
        for index, running in enumerate(moments):
            if len(parts) == 1:
                rows, columns, numbers = parts[0]
                running.update(rows, columns, numbers[index])
                continue
            total, count = np.zeros(shape), np.zeros(shape)
            for rows, columns, numbers in parts:
                entries = np.ix_(rows, columns)
                total[entries] += np.nan_to_num(numbers[index])
                count[entries] += np.isfinite(numbers[index])
            with np.errstate(invalid="ignore"):
                mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
            running.update(np.arange(shape[0]), np.arange(shape[1]), mean)

    def _cell(
        self, cell: CellEffects, effects: Specific
    ) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_], tuple[Array, Array, Array]]:
        asked = np.isin(cell.perturbations, self.perturbations)
        read = np.isin(cell.responders, self.responders)
        rows = np.searchsorted(self.perturbations, cell.perturbations[asked])
        columns = np.searchsorted(self.responders, cell.responders[read])
        part, entries = np.ix_(asked, read), np.ix_(rows, columns)
        specific = effects.specific[part]
        able = np.isfinite(specific)
        self.n_cells[entries] += able
        self.under[entries] += able & cell.under_floor[part]
        self.log_effect[entries] += np.where(able, cell.log_effects[part], 0.0)
        self.of_rows.add(rows, effects.potency[asked], cell.gene_ranks[asked])
        self.of_columns.add(columns, effects.responsiveness[read], cell.responder_ranks[read])
        self.perturbations_in_cell.append(len(cell.perturbations))
        if (effects.controls > 0).any():
            self.controls.append(float(np.median(effects.controls[effects.controls > 0])))
        swapped = effects.standardised[neighbours(len(cell.perturbations), self._draw)]
        swapped[~cell.present] = np.nan  # a gene is no responder to its own perturbation
        return rows, columns, (specific, effects.standardised[part], swapped[part])

    def finish(self, min_cells: int) -> Pairs:
        with np.errstate(invalid="ignore", divide="ignore"):
            under = self.under / self.n_cells
            log_effect = np.where(self.n_cells > 0, self.log_effect / self.n_cells, np.nan)
            error = np.sqrt(self.specific.variances() / self.specific.count)
        testable = (self.n_cells >= min_cells) & (under < MOSTLY_UNDER)
        tested = replace(
            _test(self.standardised, testable), standard_error=error.ravel().astype(np.float64)
        )
        potency, gene_rank = self.of_rows.means()
        responsiveness, responder_rank = self.of_columns.means()
        return Pairs(
            perturbations=self.perturbations,
            responders=self.responders,
            n_cells=self.n_cells,
            n_replicates=self.specific.count,
            log_effect=log_effect,
            specific=self.specific.means().astype(np.float64),
            tested=tested,
            under_floor=under,
            swapped=_test(self.swapped, testable).p,
            potency=potency,
            responsiveness=responsiveness,
            gene_rank=gene_rank,
            responder_rank=responder_rank,
            cells=len(self.perturbations_in_cell),
            replicates=self.replicates,
            perturbations_in_cell=np.array(self.perturbations_in_cell, dtype=int),
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
    numbers = moments.means(), moments.variances(), moments.count, testable
    return means_tested(*(matrix.ravel() for matrix in numbers))


def neighbours(rows: int, draw: np.random.Generator) -> npt.NDArray[np.int_]:
    """For each row another one within reach; itself where it is alone."""
    row = np.arange(rows)
    if rows < 2:
        return row
    reach = min(REACH, rows - 1)
    step = draw.integers(1, reach + 1, rows) * draw.choice([-1, 1], rows)
    target = row + step
    target = np.where((target < 0) | (target >= rows), row - step, target)
    # In a short list a step may lead out at either end; then the next row is taken.
    outside = (target < 0) | (target >= rows)
    return np.where(outside, np.where(row + 1 < rows, row + 1, row - 1), target)
