"""Estimates with intervals, cells and genes as the replicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes
    ----------
    value
        The estimate; NaN where there was nothing to estimate it from.
    low, high
        Bounds of the 95 % interval; NaN where there are too few replicates for one.
    n
        Numbers that it is made of.
    replicates
        What the interval holds over: ``cells``, ``knock-outs`` of a single cell, ``regulators`` of
        a network, or ``none``.
    """

    value: float
    low: float
    high: float
    n: int
    replicates: str

    def clipped(self, least: float, most: float) -> Estimate:
        """The same, for a quantity that lies between two bounds."""
        value, low, high = (
            float(np.clip(x, least, most)) for x in (self.value, self.low, self.high)
        )
        return Estimate(value, low, high, self.n, self.replicates)


def without_interval(value: float, n: int = 0) -> Estimate:
    """An estimate whose uncertainty is not known."""
    return Estimate(value, np.nan, np.nan, n, "none")


NOTHING = without_interval(np.nan)


def mean_interval(
    values: npt.ArrayLike, cells: npt.ArrayLike, genes: npt.ArrayLike | None = None
) -> Estimate:
    """Mean of values of knock-outs, with an interval that holds for other cells and genes.

    Knock-outs of one cell are not independent, nor are those of one gene in several cells. So the
    variance is clustered by both.

    Parameters
    ----------
    values
        Shape (knock-outs,). NaN are left out.
    cells, genes
        Cell and gene of each, shape (knock-outs,). Without genes, they are taken to differ.

    Returns
    -------
    Estimate
        Over cells where there are two or more; over knock-outs where there is one cell, and then
        it says nothing about others.

    Notes
    -----
    Two-way cluster-robust variance V_cells + V_genes − V_both (Cameron, Gelbach and Miller,
    *Journal of Business & Economic Statistics* 29, 2011), each with G / (G − 1) for its G
    clusters, never less than the larger of the two; quantiles of Student's t with one degree of
    freedom less than the smaller number of clusters. With two or three cells that do not differ
    the interval is wider than it need be.
    """
    return mean_test(values, cells, genes)[0]


def mean_test(
    values: npt.ArrayLike, cells: npt.ArrayLike, genes: npt.ArrayLike | None = None
) -> tuple[Estimate, float]:
    """The same, and the two-sided p-value of a mean of zero; NaN where there is no interval."""
    y = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(y)
    y = y[finite]
    if not len(y):
        return NOTHING, np.nan
    labels = [np.asarray(cells)[finite]] + ([] if genes is None else [np.asarray(genes)[finite]])
    numbers = [np.unique(label, return_inverse=True)[1] for label in labels]
    over_cells = numbers[0].max() > 0
    clusters = [of for of in numbers if of.max() > 0] if over_cells else [np.arange(len(y))]
    mean = float(y.mean())
    if len(y) < 2:
        return without_interval(mean, len(y)), np.nan
    residuals = y - mean
    parts = [_clustered(residuals, of) for of in clusters]
    variance = max(parts)
    if len(parts) == 2:
        variance = max(variance, sum(parts) - _clustered(residuals, np.arange(len(y))))
    degrees = min(int(of.max()) for of in clusters)
    error = variance**0.5
    half = stats.t.ppf(0.5 + CONFIDENCE / 2, degrees) * error
    p = 2 * stats.t.sf(abs(mean) / error, degrees) if error > 0 else float(mean == 0)
    replicates = "cells" if over_cells else "knock-outs"
    return Estimate(mean, mean - half, mean + half, len(y), replicates), float(p)


def share_interval(
    hits: npt.ArrayLike, cells: npt.ArrayLike, genes: npt.ArrayLike | None = None
) -> Estimate:
    """Share of knock-outs of which something holds, with an interval that stays in 0 to 1.

    ``hits`` are 1 where it holds and 0 where it does not, shape (knock-outs,), NaN left out; the
    rest as in :func:`mean_interval`.

    Notes
    -----
    Wilson's score interval (*Journal of the American Statistical Association* 22, 1927), with the
    number of independent knock-outs that the clustered variance amounts to. Where all or none hold
    there is no variance, and each knock-out counts.
    """
    plain = mean_interval(hits, cells, genes)
    if not np.isfinite(plain.low):
        return plain
    share, half = plain.value, (plain.high - plain.low) / 2
    z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
    number = min(share * (1 - share) * (z / half) ** 2, plain.n) if half > 0 else plain.n
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    width = z / (1 + z**2 / number) * np.sqrt(share * (1 - share) / number + (z / number) ** 2 / 4)
    low, high = max(middle - width, 0.0), min(middle + width, 1.0)
    return Estimate(share, float(low), float(high), plain.n, plain.replicates)


def _clustered(residuals: Array, labels: npt.NDArray[np.int_]) -> float:
    """Variance of a mean of values that are alike within clusters."""
    clusters = int(labels.max()) + 1
    sums = np.bincount(labels, residuals)
    return float((sums**2).sum() / len(residuals) ** 2 * clusters / (clusters - 1))


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Spearman's rank correlation of the pairs that have both; NaN where one does not vary."""
    values, partners = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    pairs = np.isfinite(values) & np.isfinite(partners)
    if pairs.sum() < 3:
        return float("nan")
    ranks = np.stack([stats.rankdata(values[pairs]), stats.rankdata(partners[pairs])])
    if not np.ptp(ranks, axis=1).all():
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def mean_spearman(x: npt.ArrayLike, y: npt.ArrayLike, cells: npt.ArrayLike) -> Estimate:
    """Spearman's correlation within each cell, averaged over cells.

    Over cells by Student's t. For a single cell by Fisher's z with the standard error
    √((1 + ρ²/2) / (n − 3)) (Bonett and Wright, *Psychometrika* 65, 2000).
    """
    values, partners, labels = np.asarray(x, float), np.asarray(y, float), np.asarray(cells)
    names = np.unique(labels)
    correlations = np.array(
        [spearman(values[labels == name], partners[labels == name]) for name in names]
    )
    if np.isfinite(correlations).sum() != 1:
        return mean_interval(correlations, names).clipped(-1.0, 1.0)
    rho = float(correlations[np.isfinite(correlations)][0])
    inside = labels == names[np.flatnonzero(np.isfinite(correlations))[0]]
    n = int((np.isfinite(values) & np.isfinite(partners) & inside).sum())
    if n < 4:
        return without_interval(rho, n)
    z = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    half = stats.norm.ppf(0.5 + CONFIDENCE / 2) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    return Estimate(rho, float(np.tanh(z - half)), float(np.tanh(z + half)), n, "knock-outs")
