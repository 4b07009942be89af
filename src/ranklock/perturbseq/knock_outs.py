"""Whole knock-outs against a screen: how much each does, and whether it is told from the others.

Where :mod:`ranklock.perturbseq.measure` asks which genes change under one perturbation, this asks
which perturbations change much, and whose measured profile a predicted one is most like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ranklock.perturbseq.measure import MEAN_EFFECT, NEARNESS, SCREEN_MEAN, means_of_others
from ranklock.perturbseq.scores import EXPRESSION, Scores
from ranklock.perturbseq.screen import Screen
from ranklock.statistics.intervals import NOTHING, Estimate, mean_interval
from ranklock.statistics.partial import partial_spearman
from ranklock.statistics.ranking import places
from ranklock.statistics.relabelling import full_places, relabelling_p

Array = npt.NDArray[np.float64]

FEWEST = 3  # perturbed genes, below which there are no others to compare with
CHANGED, DISTANCE = "changed_genes", "screen_distance"
TRUTHS = {CHANGED: "genes that changed", DISTANCE: "distance from controls"}
# What is known of a perturbed gene without the run: column of the table → in words.
KNOWN = {"expression": "its expression", "screen_cells": "its cells in the screen"}


@dataclass(frozen=True)
class Strength:
    """Whether the knock-outs that shift cells most are those that do most in the screen.

    Attributes
    ----------
    truth
        What is measured in the screen: ``changed_genes`` or ``screen_distance``.
    shift
        Spearman's correlation with the cell shift, over perturbed genes.
    known
        The same of what is known without the run: name → correlation.
    beyond
        That of the cell shift, what is known taken out of both.
    """

    truth: str
    shift: Estimate
    known: dict[str, Estimate]
    beyond: Estimate


@dataclass(frozen=True)
class KnockOutSummary:
    """One layer's knock-outs against a screen.

    Attributes
    ----------
    layer
        Its name.
    strengths
        By what is measured in the screen; empty where the scores have no cell shifts.
    discrimination
        Mean place of a perturbation's own measured profile among all by likeness to the predicted
        one: 0.5 is chance, 1 that it is always the most alike.
    baselines
        The same of profiles that baselines predict.
    p
        Of a place as high when profiles are given to perturbations at random, one-sided.
    """

    layer: str
    strengths: tuple[Strength, ...]
    discrimination: Estimate
    baselines: dict[str, float]
    p: float


def likeness(predicted: Array, measured: Array) -> Array:
    """How alike predicted and measured profiles are.

    Parameters
    ----------
    predicted, measured
        Shape (perturbations, genes) and (profiles, genes); NaN where not known.

    Returns
    -------
    Shape (perturbations, profiles). Spearman's correlation where all genes are known of all; a gene
    that is not known of one counts as average there. NaN where nothing varies.
    """

    def standard(values: Array) -> Array:
        known = np.isfinite(values)
        ranks = stats.rankdata(np.where(known, values, np.inf), axis=1)
        numbers = np.maximum(known.sum(axis=1, keepdims=True), 1)
        centred = np.where(known, ranks - (numbers + 1) / 2, 0.0)
        with np.errstate(invalid="ignore"):
            scaled: Array = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        return scaled

    alike: Array = standard(predicted) @ standard(measured).T
    return alike


def knock_outs_of(
    scores: Scores, screen: Screen, most_q: float, least_fold_change: float, seed: int = 0
) -> tuple[pd.DataFrame, dict[str, KnockOutSummary]]:
    """Hold every layer's knock-outs against the screen's.

    Parameters
    ----------
    scores, screen
        The run and the screen.
    most_q, least_fold_change
        What counts as changed.
    seed
        Of the random permutations.

    Returns
    -------
    table
        A row a perturbed gene that both have, and layer: ``gene``, ``gene_id``, ``layer``,
        ``cell_shift``, ``changed_genes``, ``screen_distance``, ``screen_cells``, ``expression`` and
        ``place`` (of its own profile).
    summaries
        Layer → summary.
    """
    row_of = {gene: row for row, gene in enumerate(scores.perturbed)}
    shared = [i for i, gene in enumerate(screen.perturbed) if gene in row_of]
    genes = [screen.perturbed[i] for i in shared]
    rows = np.array([row_of[gene] for gene in genes], dtype=np.int64)
    nothing = np.full(len(screen.perturbed), np.nan)
    about = {
        "gene": [scores.names.symbol(gene) for gene in genes], "gene_id": genes,
        CHANGED: screen.changed(most_q, least_fold_change).sum(axis=1)[shared],
        DISTANCE: (nothing if screen.distance is None else screen.distance)[shared],
        "screen_cells": (nothing if screen.cells is None else screen.cells)[shared],
        "expression": _expression(scores, genes),
    }  # fmt: skip
    columns = screen.columns_of(scores.responders)
    measured = np.where(columns >= 0, screen.profiles()[shared][:, columns], np.nan)
    unread = np.full(len(scores.perturbed), np.nan)
    parts, summaries = [], {}
    for layer, values in scores.layers.items():
        place_of = full_places(likeness(values[rows], measured))
        shift = scores.cell_shifts.get(layer, unread)[rows]
        part = pd.DataFrame(
            {**about, "layer": layer, "cell_shift": shift, "place": np.diagonal(place_of)}
        )
        p = relabelling_p(place_of, seed) if len(genes) >= FEWEST else np.nan
        baselines = {
            name: float(np.mean(np.diagonal(full_places(likeness(predicted, measured)))))
            for name, predicted in _predicted_without(values, measured, rows, scores).items()
            if np.isfinite(predicted).any()
        }
        summaries[layer] = summarise_knock_outs(part, baselines, p)
        parts.append(part)
    return pd.concat(parts, ignore_index=True), summaries


def summarise_knock_outs(
    part: pd.DataFrame, baselines: Mapping[str, float], p: float
) -> KnockOutSummary:
    """One layer of the table that :func:`knock_outs_of` makes."""
    strengths = []
    known = [part[name] for name in KNOWN if part[name].notna().all() and part[name].nunique() > 1]
    if part["cell_shift"].notna().any():
        for truth in TRUTHS:
            if part[truth].notna().sum() < FEWEST:
                continue
            target = part[truth]
            strengths.append(
                Strength(
                    truth,
                    _over_genes(partial_spearman(part["cell_shift"], target)),
                    {c.name: _over_genes(partial_spearman(c, target)) for c in known},
                    _over_genes(partial_spearman(part["cell_shift"], target, *known)),
                )
            )
    place = part["place"].dropna()
    over_genes = mean_interval(place, np.arange(len(place))) if len(place) >= FEWEST else NOTHING
    return KnockOutSummary(
        str(part["layer"].iloc[0]), tuple(strengths), _over_genes(over_genes), dict(baselines), p
    )


def _predicted_without(
    values: Array, measured: Array, rows: npt.NDArray[np.int64], scores: Scores
) -> dict[str, Array]:
    """Profiles that are predicted without the perturbation itself, each of shape (shared, genes).

    The mean of all others is nearly the same for every perturbation, and so cannot tell them apart:
    it is what a run that knows which genes change under anything would score.
    """
    gene_ranks, ranks = scores.mean_ranks()
    return {
        MEAN_EFFECT: means_of_others(places(values))[rows],
        SCREEN_MEAN: means_of_others(measured),
        NEARNESS: -np.abs(ranks[None, :] - gene_ranks[rows][:, None]),
    }


def _expression(scores: Scores, genes: list[str]) -> Array:
    """Mean expression of the perturbed genes in the run's cells."""
    if scores.in_cells is None:
        return np.full(len(genes), np.nan)
    expression: Array = scores.in_cells.table[EXPRESSION].reindex(genes).to_numpy(np.float64)
    return expression


def _over_genes(estimate: Estimate) -> Estimate:
    return replace(estimate, replicates="perturbed genes")
