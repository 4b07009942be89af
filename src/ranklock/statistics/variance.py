"""How much of the variance of a measurement is rank, gene, cell, and neither."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ranklock.statistics.intervals import CONFIDENCE, Estimate, without_interval
from ranklock.statistics.smooth import rank_smooth, smooth_degrees

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int_]
PARTS = ("rank", "gene", "cell", "rest")
_GROUPS = 20  # of genes, left out together
_FEWEST_CELLS = 5
_FEWEST_REPEATS = 20


@dataclass(frozen=True)
class VarianceShares:
    """Shares of the variance, which sum to one; NaN where one cannot be told apart.

    ``note`` says what could not be told apart, and why; it is empty when all could.
    """

    shares: dict[str, Estimate]
    note: str


def variance_shares(
    values: npt.ArrayLike, ranks: npt.ArrayLike, genes: npt.ArrayLike, cells: npt.ArrayLike
) -> VarianceShares:
    """Decompose the variance of a measurement of knock-outs, one a cell and gene.

    Parameters
    ----------
    values, ranks, genes, cells
        Number, perturbed rank, knocked-out gene and cell of each, shape (n,); values that are NaN
        are left out.

    Returns
    -------
    VarianceShares
        ``rank``: variance of a smooth function of the rank, which has the first claim, less
        what its coefficients fit of chance; ``gene`` and ``cell``: variance of random effects of
        what the rank leaves; ``rest``: all else.

    Notes
    -----
    Components of crossed random effects in unbalanced data by the method of moments (Gao and Owen,
    *Electronic Journal of Statistics* 11, 2017): sums of squares within genes, within cells and
    in all, solved for the three variances; negative ones are taken as zero. Intervals by
    leaving out one cell at a time, and one twentieth of the genes at a time (jackknife); the two
    variances are added.
    """
    y = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(y)
    x, y = np.asarray(ranks, dtype=np.float64)[finite], y[finite]
    g, c = (
        np.unique(np.asarray(labels)[finite], return_inverse=True)[1] for labels in (genes, cells)
    )
    n_cells = int(c.max(initial=-1)) + 1
    n_genes = int(g.max(initial=-1)) + 1
    repeats = len(y) - n_genes
    unknown = without_interval(np.nan, len(y))
    if len(y) < _FEWEST_REPEATS or np.ptp(y) == 0:
        why = "there are too few knock-outs" if len(y) < _FEWEST_REPEATS else "nothing varies"
        return VarianceShares(dict.fromkeys(PARTS, unknown), f"Not decomposed: {why}.")
    if n_cells < 2 or repeats < _FEWEST_REPEATS:
        rank = _of_rank(y, x, rank_smooth(y, x)) / float(np.var(y))
        return VarianceShares(
            {**dict.fromkeys(PARTS, unknown), "rank": without_interval(rank, len(y))},
            "Gene, cell and chance cannot be told apart: "
            + ("there is one cell." if n_cells < 2 else "too few genes are in several cells."),
        )
    parts = _shares(y, x, g, c)
    if n_cells < _FEWEST_CELLS:
        return VarianceShares(
            {p: without_interval(float(s), len(y)) for p, s in zip(PARTS, parts, strict=True)},
            f"No intervals: {n_cells} cells are too few for them.",
        )
    draw = np.random.default_rng(0)
    of_genes, of_all = draw.permutation(n_genes)[g] % _GROUPS, draw.permutation(len(y)) % _GROUPS
    by_gene, by_cell, by_both = (_jackknife(y, x, g, c, k) for k in (of_genes, c, of_all))
    variance = np.maximum.reduce([by_gene, by_cell, by_gene + by_cell - by_both])
    half = stats.t.ppf(0.5 + CONFIDENCE / 2, min(n_cells, _GROUPS) - 1) * np.sqrt(variance)
    middle = np.arcsin(np.sqrt(parts))
    low, high = (np.sin(np.clip(middle + h, 0.0, np.pi / 2)) ** 2 for h in (-half, half))
    shares = {
        part: Estimate(float(share), float(least), float(most), len(y), "cells")
        for part, share, least, most in zip(PARTS, parts, low, high, strict=True)
    }
    return VarianceShares(shares, "")


def _shares(y: Array, x: Array, g: Labels, c: Labels) -> Array:
    fitted = rank_smooth(y, x)
    parts = np.array([_of_rank(y, x, fitted), *_components(y - fitted, g, c)])
    parts = np.maximum(parts, 0.0)
    return np.asarray(parts / parts.sum())


def _of_rank(y: Array, x: Array, fitted: Array) -> float:
    """Variance of the smooth, less what it fits of chance: a part of the rest a coefficient."""
    degrees = smooth_degrees(x)
    rest = float(((y - fitted) ** 2).sum()) / max(len(y) - degrees - 1, 1)
    return max(float(np.var(fitted)) - degrees / len(y) * rest, 0.0)


def _components(y: Array, g: Labels, c: Labels) -> Array:
    """Variances of gene effects, of cell effects, and of what is left."""
    n = len(y)
    of_gene, of_cell = np.bincount(g), np.bincount(c)
    of_gene, of_cell = of_gene[of_gene > 0], of_cell[of_cell > 0]
    within_gene, within_cell = _within(y, g), _within(y, c)
    total = n * float(((y - y.mean()) ** 2).sum())
    equations = np.array([
        [0, n - len(of_gene), n - len(of_gene)],
        [n - len(of_cell), 0, n - len(of_cell)],
        [n**2 - (of_gene**2).sum(), n**2 - (of_cell**2).sum(), n**2 - n],
    ], np.float64)  # fmt: skip
    sums = np.array([within_gene, within_cell, total])
    return np.asarray(np.linalg.lstsq(equations, sums, rcond=None)[0])


def _within(y: Array, labels: Labels) -> float:
    counts = np.maximum(np.bincount(labels), 1)
    return float(((y - (np.bincount(labels, y) / counts)[labels]) ** 2).sum())


def _jackknife(y: Array, x: Array, g: Labels, c: Labels, left_out: Labels) -> Array:
    groups = np.unique(left_out)
    estimates = np.array([_shares(*(v[left_out != k] for v in (y, x, g, c))) for k in groups])
    estimates = np.arcsin(np.sqrt(estimates))
    n = len(groups)
    return np.asarray((n - 1) / n * ((estimates - estimates.mean(axis=0)) ** 2).sum(axis=0))
