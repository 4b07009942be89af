"""How well scores rank known targets, against targets drawn at random from the same ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
STRATA = 40  # stretches of ranks among which targets are drawn, if each has enough genes
FEWEST, MOST = 5, 25  # genes in a stretch


@dataclass(frozen=True, eq=False)
class Enrichment:
    """Recovery of targets by a score, and under the null of rank-matched targets.

    ``null_auroc`` and ``null_average_precision`` are of each draw, shape (draws,).
    """

    auroc: float
    average_precision: float
    null_auroc: Array
    null_average_precision: Array

    @property
    def p(self) -> float:
        """Of an AUROC as large by chance among genes of the same ranks, one-sided."""
        draws = len(self.null_auroc)
        return float((1 + (self.null_auroc >= self.auroc - 1e-12).sum()) / (1 + draws))


def matched_draws(
    targets: npt.NDArray[np.bool_], ranks: npt.ArrayLike, draws: int, seed: int
) -> npt.NDArray[np.int_]:
    """Sets of genes with as many of every stretch of ranks as the targets have.

    ``targets`` are marks and ``ranks`` numbers, shape (genes,). Gives indices of genes, shape
    (draws, targets).
    """
    generator = np.random.default_rng(seed)
    order = np.argsort(np.asarray(ranks), kind="stable")
    parts = []
    size = min(max(len(order) // STRATA, FEWEST), MOST)
    for stratum in np.array_split(order, max(len(order) // size, 1)):
        wanted = int(targets[stratum].sum())
        if wanted:
            keys = generator.random((draws, len(stratum)))
            parts.append(stratum[np.argsort(keys, axis=1)[:, :wanted]])
    return np.concatenate(parts, axis=1)


def enrichment(
    scores: npt.ArrayLike, targets: npt.NDArray[np.bool_], drawn: npt.NDArray[np.int_]
) -> Enrichment:
    """AUROC and average precision of targets, and of each set that was drawn in their place.

    Ties count half in the AUROC; in the average precision they come in the order of the genes'
    mean place.
    """
    values = np.asarray(scores, dtype=np.float64)
    upwards, downwards = stats.rankdata(values), stats.rankdata(-values)
    places = np.flatnonzero(targets)[None, :]
    return Enrichment(
        float(_auroc(upwards, places)[0]),
        float(_average_precision(downwards, places)[0]),
        _auroc(upwards, drawn),
        _average_precision(downwards, drawn),
    )


def auroc(scores: npt.ArrayLike, targets: npt.NDArray[np.bool_]) -> float:
    """Probability that a target scores above another gene, ties counting half."""
    return float(_auroc(stats.rankdata(scores), np.flatnonzero(targets)[None, :])[0])


def _auroc(ranks: Array, chosen: npt.NDArray[np.int_]) -> Array:
    k, n = chosen.shape[1], len(ranks)
    return np.asarray((ranks[chosen].sum(axis=1) - k * (k + 1) / 2) / (k * (n - k)))


def _average_precision(ranks: Array, chosen: npt.NDArray[np.int_]) -> Array:
    places = np.sort(ranks[chosen], axis=1)
    return np.asarray((np.arange(1, chosen.shape[1] + 1) / places).clip(max=1.0).mean(axis=1))
