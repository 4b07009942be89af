"""How strongly every gene responds to each regulator of a network, over cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import stats

from ranklock.run.old_store import CellLayout
from ranklock.run.old_sweep_result import Sweep

Array = npt.NDArray[np.float64]
DISTANCE, COEXPRESSION = "rank distance", "co-expression"
BASELINES = (COEXPRESSION, DISTANCE)
FEWEST_CELLS = 8  # for a correlation over cells to say anything


@dataclass(eq=False)
class Responses:
    """Sums over cells, filled block by block.

    Attributes
    ----------
    genes
        Tokens of all genes, ascending.
    sources
        Tokens of the regulators.
    arms
        Names of the arms.
    places
        Source → sum over cells of each gene's place among the effects, shape (arms, genes).
    distances, ranks, counts
        Source → sums of the distance in rank and of the responder's own relative rank, and number
        of cells, shape (genes,).
    expression
        Cell → relative expression rank of each gene: 1 for the highest, 0 where it is absent.
    own_ranks
        Source → sum over cells of its own relative rank.
    """

    genes: npt.NDArray[np.int64]
    sources: tuple[int, ...]
    arms: tuple[str, ...]
    places: dict[int, Array]
    distances: dict[int, Array]
    ranks: dict[int, Array]
    counts: dict[int, Array]
    expression: dict[int, npt.NDArray[np.float32]]
    own_ranks: dict[int, float] = field(default_factory=dict)

    @classmethod
    def empty(cls, sweep: Sweep, sources: Sequence[int]) -> Responses:
        """Responses of a sweep, before any is added."""
        return cls(sweep.genes.index.to_numpy(np.int64), tuple(sources), sweep.arms, {}, {}, {}, {},
                   {})  # fmt: skip

    def add(
        self, layout: CellLayout, rows: slice, effects: Mapping[str, npt.NDArray[np.float32]]
    ) -> None:
        """Add the knock-outs of a block that are regulators."""
        columns = np.searchsorted(self.genes, layout.responders)
        if layout.index not in self.expression:
            row = np.zeros(len(self.genes), np.float32)
            row[columns] = 1 - layout.responder_ranks / max(layout.genes_in_cell, 1)
            self.expression[layout.index] = row
        knocked_out, perturbed = layout.knocked_out[rows], layout.knocked_out_ranks[rows]
        size = len(self.genes)
        for k in np.flatnonzero(np.isin(knocked_out, self.sources)):
            source = int(knocked_out[k])
            if source not in self.counts:
                self.places[source] = np.zeros((len(self.arms), size))
                self.distances[source], self.ranks[source], self.counts[source] = np.zeros(
                    (3, size)
                )
            there = np.isfinite(effects[self.arms[0]][k])
            kept = columns[there]
            for row_of_arm, arm in zip(self.places[source], self.arms, strict=True):
                row_of_arm[kept] += stats.rankdata(effects[arm][k][there]) / max(there.sum(), 1)
            ranks = layout.responder_ranks[there]
            self.distances[source][kept] += np.abs(ranks - perturbed[k])
            self.ranks[source][kept] += ranks / max(layout.genes_in_cell - 1, 1)
            self.counts[source][kept] += 1
            relative = float(perturbed[k]) / max(layout.genes_in_cell - 1, 1)
            self.own_ranks[source] = self.own_ranks.get(source, 0.0) + relative

    def mean_rank(self, source: int) -> float:
        """Relative rank of a regulator, averaged over the cells it was knocked out of."""
        return float(self.own_ranks[source] / max(self.counts[source].max(), 1.0))

    def coexpression(self, source: int) -> Array | None:
        """|Spearman| of every gene with a regulator over the cells; None with too few cells."""
        if len(self.expression) < FEWEST_CELLS:
            return None
        ranked = self._ranked_expression
        own = ranked[:, int(np.searchsorted(self.genes, source))]
        norms = np.sqrt((ranked**2).sum(axis=0) * (own**2).sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.nan_to_num(np.abs(own @ ranked / norms)))

    @property
    def _ranked_expression(self) -> Array:
        if not hasattr(self, "_centred"):
            whole = np.stack([self.expression[cell] for cell in sorted(self.expression)])
            ranked = stats.rankdata(whole, axis=0)
            self._centred: Array = ranked - ranked.mean(axis=0)
        return self._centred
