"""How strongly every gene responds to each regulator of a network, over cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import stats

from ranklock.run.run import EffectBlock

Array = npt.NDArray[np.float64]
DISTANCE, COEXPRESSION = "rank distance", "co-expression"
BASELINES = (COEXPRESSION, DISTANCE)
FEWEST_CELLS = 8  # for a correlation over cells to say anything


@dataclass(eq=False)
class Response:
    """How genes respond to one regulator: sums over the cells it was knocked out of."""

    places: Array  # of each gene among the effects, shape (arms, genes)
    distances: Array  # in rank, from the regulator, shape (genes,)
    ranks: Array  # relative ones of the responders, shape (genes,)
    counts: Array  # of cells, shape (genes,)
    regulator_ranks: float = 0.0  # relative

    @property
    def mean_rank(self) -> float:
        """Relative rank of the regulator, averaged over the cells it was knocked out of."""
        return float(self.regulator_ranks / max(self.counts.max(), 1.0))


@dataclass(eq=False)
class Responses:
    """Responses to the regulators of a network (``sources``), filled block by block.

    ``expression`` holds of each row of the cells the relative expression rank of each gene: 1 for
    the highest, 0 where it is absent.
    """

    genes: npt.NDArray[np.int64]  # tokens of all genes, ascending
    sources: Sequence[int]
    arms: tuple[str, ...]
    of: dict[int, Response] = field(default_factory=dict)
    expression: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)

    def add(self, block: EffectBlock) -> None:
        """Add the knock-outs of a block that are regulators."""
        columns = np.searchsorted(self.genes, block.responders)
        if block.row not in self.expression:
            levels = np.zeros(len(self.genes), np.float32)
            levels[columns] = 1 - block.responder_ranks / max(block.genes_in_cell, 1)
            self.expression[block.row] = levels
        last = max(block.genes_in_cell - 1, 1)
        for k in np.flatnonzero(np.isin(block.genes, self.sources)):
            source = int(block.genes[k])
            if source not in self.of:
                sums = np.zeros((len(self.arms) + 3, len(self.genes)))
                self.of[source] = Response(sums[:-3], *sums[-3:])
            response = self.of[source]
            responding = np.isfinite(block.distances[self.arms[0]][k])
            genes, ranks = columns[responding], block.responder_ranks[responding]
            for places, arm in zip(response.places, self.arms, strict=True):
                effects = block.distances[arm][k][responding]
                places[genes] += stats.rankdata(effects) / max(len(genes), 1)
            response.distances[genes] += np.abs(ranks - block.gene_ranks[k])
            response.ranks[genes] += ranks / last
            response.counts[genes] += 1
            response.regulator_ranks += float(block.gene_ranks[k]) / last

    def coexpression(self, source: int) -> Array | None:
        """|Spearman| of every gene with a regulator over the cells; None with too few cells."""
        if len(self.expression) < FEWEST_CELLS:
            return None
        levels = self._ranked_expression
        regulator = levels[:, int(np.searchsorted(self.genes, source))]
        norms = np.sqrt((levels**2).sum(axis=0) * (regulator**2).sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.nan_to_num(np.abs(regulator @ levels / norms)))

    @cached_property
    def _ranked_expression(self) -> Array:
        levels = np.stack([self.expression[row] for row in sorted(self.expression)])
        ranked = stats.rankdata(levels, axis=0)
        return np.asarray(ranked - ranked.mean(axis=0))
