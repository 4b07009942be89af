"""Whether a gene's own knock-out points the way of cells that lack it more than others' do.

Plain arrays in, tables out: no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.statistics.intervals import Estimate, mean_interval, mean_test
from ranklock.statistics.relabelling import full_places, mean_of_known

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LEVEL = 0.05
BEYOND, NOT_BEYOND, BELOW, PLACEBO = "beyond", "not beyond", "below", "placebo"


@dataclass(frozen=True)
class ModelSummary:
    """One model's knock-outs over genes.

    Attributes
    ----------
    own, others
        Mean over genes of the cosine of a direction with its own gene's knock-out, and with those
        of the other genes in the same cells.
    difference
        Own less others, with its interval over genes.
    place
        Mean place of the own gene among all genes' knock-outs along its direction: 0.5 is chance, 1
        means that it points there most.
    p
        Of a place as high as this when directions are given to genes at random, one-sided.
    """

    own: float
    others: float
    difference: Estimate
    place: Estimate
    p: float


@dataclass(frozen=True)
class NaturalSummary:
    """One arm.

    Attributes
    ----------
    arm
        Its name.
    genes
        Genes that were judged.
    model, null
        The checkpoint, and its null model.
    beyond_null
        Place in the checkpoint less place in the null model, gene by gene, with its interval over
        genes.
    p
        Of none, two-sided, times the number of arms that are no placebo.
    verdict
        ``beyond`` where the checkpoint's own place is above chance and above the null model's;
        ``below`` where it is below the null model's; ``not beyond`` otherwise; ``placebo`` of an
        arm in which the gene itself is not removed.
    """

    arm: str
    genes: int
    model: ModelSummary
    null: ModelSummary
    beyond_null: Estimate
    p: float
    verdict: str


def own_against_others(
    cosines: Array, judged: Bools, replicates: npt.NDArray[np.int64], units: str
) -> tuple[pd.DataFrame, Array]:
    """Every gene's knock-out along its own direction, beside the other genes'.

    Parameters
    ----------
    cosines
        Of knock-outs with directions, shape (cells, knocked-out genes, directions), genes in the
        same order; NaN where a cell lacks a gene.
    judged
        Cells that a direction is judged in, shape (cells, directions).
    replicates
        Replicate of each cell, a donor or the cell itself, shape (cells,).
    units
        What replicates are, in words.

    Returns
    -------
    table
        A row a gene: ``held_out_cells``, ``replicates``, ``cosine``, ``cosine_of_others``,
        ``difference``, ``low``, ``high`` (its 95 % interval over replicates; cells of a replicate
        are averaged first) and ``place``.
    place_of
        Place of every gene's mean cosine among all genes' along each direction, shape (directions,
        knocked-out genes), from 0 (points away most) to 1 (points there most), with mean 0.5 in
        each row. Its diagonal is ``place``.
    """
    genes = cosines.shape[1]
    means = np.full((genes, genes), np.nan)
    rows = []
    for gene in range(genes):
        own = cosines[:, gene, gene]
        cells = np.flatnonzero(judged[:, gene] & np.isfinite(own))
        along = cosines[cells, :, gene]
        # In the same cells: a direction may suit some cells' knock-outs, whichever gene it is.
        others = mean_of_known(np.delete(along, gene, axis=1), axis=1)
        means[gene] = mean_of_known(along, axis=0)
        by_replicate = pd.DataFrame({"own": own[cells], "others": others}).dropna()
        number = len(by_replicate)
        by_replicate = by_replicate.groupby(replicates[cells][by_replicate.index]).mean()
        difference = by_replicate["own"] - by_replicate["others"]
        interval = mean_interval(difference, np.arange(len(difference)))
        rows.append(
            {
                "held_out_cells": number, "replicates": len(by_replicate),
                "replicates_are": units, "cosine": by_replicate["own"].mean(),
                "cosine_of_others": by_replicate["others"].mean(),
                "difference": interval.value, "low": interval.low, "high": interval.high,
            }
        )  # fmt: skip
    place_of = full_places(means)
    table = pd.DataFrame(rows)
    table["place"] = np.diagonal(place_of)
    return table, place_of


def summarise_arm(
    arm: str,
    table: pd.DataFrame,
    p_of_models: tuple[float, float],
    arms: int,
    *,
    placebo: bool = False,
) -> NaturalSummary:
    """One arm over genes.

    Parameters
    ----------
    arm
        Its name.
    table
        A row a gene, with the columns of :func:`own_against_others` and, of the null model, the
        same with ``null_`` before them.
    p_of_models
        What :func:`ranklock.statistics.relabelling.relabelling_p` says of the checkpoint and of
        its null model.
    arms
        Number of arms that the verdict is given for, with which p is multiplied (Bonferroni).
    placebo
        Whether this arm is none of them.
    """
    beyond, p = mean_test(table["place"] - table["null_place"], np.arange(len(table)))
    p = min(p * arms, 1.0)
    model, null = (
        _summary(table, prefix, p_own)
        for prefix, p_own in zip(("", "null_"), p_of_models, strict=True)
    )
    verdict = NOT_BEYOND
    if placebo:
        verdict = PLACEBO
    elif p <= LEVEL and beyond.value < 0:
        verdict = BELOW
    elif p <= LEVEL and min(model.p * arms, 1.0) <= LEVEL:
        verdict = BEYOND
    return NaturalSummary(arm, len(table), model, null, _over_genes(beyond), p, verdict)


def _summary(table: pd.DataFrame, prefix: str, p: float) -> ModelSummary:
    genes = np.arange(len(table))
    return ModelSummary(
        float(table[f"{prefix}cosine"].mean()),
        float(table[f"{prefix}cosine_of_others"].mean()),
        _over_genes(mean_interval(table[f"{prefix}difference"], genes)),
        _over_genes(mean_interval(table[f"{prefix}place"], genes)),
        p,
    )


def _over_genes(estimate: Estimate) -> Estimate:
    return replace(estimate, replicates="genes")
