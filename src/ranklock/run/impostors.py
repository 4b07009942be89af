"""Impostors: genes that a cell lacks and others show at a rank, drawn to stand there.

Rank and proximity of an effect are matched by construction: whatever any gene in this place would
do, the impostors do (DESIGN.md, section 6).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ranklock.arms import NOT_RANKED, Change
from ranklock.cells import Cells
from ranklock.errors import InputError

Integers = npt.NDArray[np.int64]

# An impostor is a gene that another cell shows within so many ranks; the window doubles until it
# holds enough genes that the cell lacks.
WINDOW = 10


@dataclass(frozen=True, eq=False)
class Impostors:
    """Where impostors come from, and how they are drawn.

    Attributes
    ----------
    cells
        The chosen cells: each one's impostors are genes of the others.
    capacity
        Genes that fit into the model's input.
    number
        Impostors of every task.
    seed
        Of the draws. A draw depends on it, on the cell's name, on the perturbed genes and on their
        places: not on what else is perturbed, nor on what is done.
    """

    cells: Cells
    capacity: int
    number: int
    seed: int
    _near: dict[tuple[int, int], tuple[Integers, Integers]] = field(
        default_factory=dict, repr=False
    )

    def check(self, rows: Sequence[int] | Integers, genes: int) -> None:
        """Refuse cells for which there are too few.

        Parameters
        ----------
        rows
            Rows of the cells that are perturbed.
        genes
            Genes that are perturbed together, at most.

        Raises
        ------
        InputError
            When the genes that the chosen cells show and one of them lacks are fewer than needed.
        """
        shown = [genes[: self.capacity] for genes in self.cells.ranked]
        pool, needed = np.unique(np.concatenate(shown)), self.number * genes
        for row in rows:
            lacking = len(pool) - int(np.isin(pool, self.cells.ranked[int(row)]).sum())
            if lacking < needed:
                raise InputError(
                    f"Impostors are genes that a cell lacks and other chosen cells show; for "
                    f"{self.cells.obs.index[int(row)]} there are {lacking}, and {needed} are "
                    "needed: choose more cells, or fewer impostors (--impostors)."
                )

    def draw(self, row: int, change: Change) -> Integers:
        """Impostors of the genes that are perturbed together in one cell.

        Parameters
        ----------
        row
            The cell's.
        change
            What is done: the genes, and where they stand or are put in.

        Returns
        -------
        Tokens, shape (number, genes): genes that other chosen cells show within ``WINDOW`` ranks
        (or twice as many, and so on, until there are enough), each drawn in proportion to how often
        they do, none twice.
        """
        name = str(self.cells.obs.index[row])
        key = (self.seed, zlib.crc32(name.encode()), *change.tokens, *(r + 1 for r in change.ranks))
        random = np.random.default_rng(key)
        places = change.to_ranks or change.ranks
        taken = self.cells.ranked[row].astype(np.int64)
        columns = []
        for rank, place in zip(change.ranks, places, strict=True):
            drawn = self._drawn(place if rank == NOT_RANKED else rank, taken, random)
            taken = np.append(taken, drawn)
            columns.append(drawn)
        return np.stack(columns, axis=1)

    def _drawn(self, rank: int, taken: Integers, random: np.random.Generator) -> Integers:
        window = WINDOW
        while True:
            tokens, counts = self._shown_near(rank, window)
            free = ~np.isin(tokens, taken)
            if free.sum() >= self.number or window > self.capacity:
                break
            window *= 2
        tokens, counts = tokens[free], counts[free]
        # The smallest of exponential waiting times: a weighted draw without replacement.
        waits = random.exponential(size=len(tokens)) / counts
        return tokens[np.argsort(waits, kind="stable")[: self.number]]

    def _shown_near(self, rank: int, window: int) -> tuple[Integers, Integers]:
        """Genes that the cells show within a window around a rank, and in how many of them."""
        key = rank, window
        if key not in self._near:
            stretch = self._by_rank[max(rank - window, 0) : rank + window + 1]
            tokens, counts = np.unique(np.concatenate(stretch), return_counts=True)
            self._near[key] = tokens.astype(np.int64), counts.astype(np.int64)
        return self._near[key]

    @cached_property
    def _by_rank(self) -> list[npt.NDArray[np.int32]]:
        """Rank → the genes that the cells show there."""
        shown = [genes[: self.capacity] for genes in self.cells.ranked]
        ranks = np.concatenate([np.arange(len(genes)) for genes in shown])
        tokens = np.concatenate(shown).astype(np.int32)[np.argsort(ranks, kind="stable")]
        return np.split(tokens, np.cumsum(np.bincount(ranks))[:-1])
