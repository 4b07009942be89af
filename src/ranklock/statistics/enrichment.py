"""How well scores rank known targets, against the same network on permuted genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
STRATA = 40  # stretches of ranks among which genes change places, if each has enough genes
FEWEST, MOST = 5, 25  # genes in a stretch


@dataclass(frozen=True, eq=False)
class Enrichment:
    """Recovery of one regulator's targets by a score, and under permutations of the genes.

    ``null_auroc`` and ``null_average_precision`` are of each permutation, shape (permutations,);
    NaN where it left no target among the genes that respond.
    """

    auroc: float
    average_precision: float
    null_auroc: Array
    null_average_precision: Array

    @property
    def p(self) -> float:
        """Of an AUROC as large by chance among genes of the same ranks, one-sided."""
        return permutation_p(self.auroc, self.null_auroc)


def permutation_p(value: float, null: Array) -> float:
    """One-sided p-value of a statistic among those of permutations; it counts as one of them.

    (1 + #{null ≥ value}) / (1 + permutations): Phipson and Smyth, *Statistical Applications in
    Genetics and Molecular Biology* 9, 2010.
    """
    drawn = null[np.isfinite(null)]
    return float((1 + (drawn >= value - 1e-12).sum()) / (1 + len(drawn)))


def matched_permutations(ranks: npt.ArrayLike, draws: int, seed: int) -> Indices:
    """Permutations of genes that keep each within its stretch of ranks.

    Parameters
    ----------
    ranks
        Of the genes, shape (genes,).
    draws
        How many.
    seed
        Of the draws.

    Returns
    -------
    What stands in each gene's place, as indices of genes, shape (draws, genes). The same
    permutation is meant for all regulators of a network: genes that are targets of several stay
    targets of all of them, so that what they have in common stays common.
    """
    generator = np.random.default_rng(seed)
    order = np.argsort(np.asarray(ranks), kind="stable")
    permuted = np.empty((draws, len(order)), dtype=np.int64)
    size = min(max(len(order) // STRATA, FEWEST), MOST)
    for stretch in np.array_split(order, max(len(order) // size, 1)):
        keys = generator.random((draws, len(stretch)))
        permuted[:, stretch] = stretch[np.argsort(keys, axis=1)]
    return permuted


def enrichment(scores: npt.ArrayLike, targets: Indices, permuted: Indices) -> Enrichment:
    """AUROC and average precision of targets, and of what stands in their place when permuted.

    Parameters
    ----------
    scores
        Of all genes, NaN for those that do not respond, shape (genes,).
    targets
        Indices of targets; those that do not respond are left out.
    permuted
        From :func:`matched_permutations`, shape (draws, genes).

    Notes
    -----
    Ties count half in the AUROC; in the average precision they come in the order of the genes'
    mean place.
    """
    values = np.asarray(scores, dtype=np.float64)
    upwards, downwards = _ranks(values), _ranks(-values)
    places, drawn = targets[None, :], permuted[:, targets]
    return Enrichment(
        float(_auroc(upwards, places)[0]),
        float(_average_precision(downwards, places)[0]),
        _auroc(upwards, drawn),
        _average_precision(downwards, drawn),
    )


def aurocs(scores: npt.ArrayLike, chosen: Indices) -> Array:
    """Probability that a chosen gene scores above another one, ties counting half.

    Parameters
    ----------
    scores
        Of all genes, NaN for those that do not respond, shape (genes,).
    chosen
        Indices of genes, shape (sets, genes of a set); those that do not respond are left out.

    Returns
    -------
    Shape (sets,); NaN where none or all of the genes that respond are chosen.
    """
    return _auroc(_ranks(np.asarray(scores, dtype=np.float64)), chosen)


def auroc(scores: npt.ArrayLike, targets: npt.NDArray[np.bool_]) -> float:
    """Probability that a target scores above another gene, ties counting half."""
    return float(aurocs(scores, np.flatnonzero(targets)[None, :])[0])


def _ranks(values: Array) -> Array:
    """Ranks from 1 among the genes that respond; NaN for the others."""
    return np.asarray(stats.rankdata(values, nan_policy="omit"))


def _auroc(ranks: Array, chosen: Indices) -> Array:
    of_chosen = ranks[chosen]
    k, n = np.isfinite(of_chosen).sum(axis=1), np.isfinite(ranks).sum()
    over = np.nansum(of_chosen, axis=1) - k * (k + 1) / 2
    return np.where((k > 0) & (k < n), over / np.maximum(k * (n - k), 1), np.nan)


def _average_precision(ranks: Array, chosen: Indices) -> Array:
    places = np.sort(ranks[chosen], axis=1)  # NaN last
    k = np.isfinite(places).sum(axis=1)
    precision = (np.arange(1, chosen.shape[1] + 1) / places).clip(max=1.0)
    return np.where(k > 0, np.nansum(precision, axis=1) / np.maximum(k, 1), np.nan)
