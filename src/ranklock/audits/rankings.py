"""Question 3, cell shifts and rankings of knock-outs: how they go with rank and with the arm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ranklock.audits.measure import Measurements
from ranklock.run.fields import towards
from ranklock.run.states import GOAL
from ranklock.statistics.intervals import Estimate, mean_spearman, spearman
from ranklock.statistics.variance import variance_shares

TOPS = (10, 50, 100)
_SHOWN = 10


@dataclass(frozen=True)
class Agreement:
    """How two arms rank the knock-outs, by Spearman's correlation of their shifts."""

    arms: tuple[str, str]
    genes: int  # knocked-out ones that both rank
    pooled: float  # of the genes' means
    within_cells: Estimate  # among the knock-outs of a cell, averaged over cells
    # Size of a top → share that is in both tops, and the share that chance gives.
    overlap: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Ranking:
    """How one kind of shift goes with the rank, and how the arms order the knock-outs by it.

    A record of ``rise`` and ``fall`` is a gene whose place improves or worsens most from what
    people run today to the edit alone: ``gene``, ``gene_id``, ``mean_rank``, ``place_under_whole``
    and ``place_under_edit``, 1 being the largest shift.
    """

    what: str  # "cell shift" or "shift towards the goal"
    against_rank: dict[str, Estimate]  # arm → Spearman's correlation with the rank, within cells
    # Arm → part of the variance of its size, on the log scale, that a smooth function of the rank
    # explains: a shift may go with rank up and down.
    rank_explains: dict[str, Estimate]
    size_against_rank: dict[str, Estimate] | None  # of its absolute value; None of what has no sign
    agreements: list[Agreement]  # of every pair of arms
    rise: list[dict[str, Any]]
    fall: list[dict[str, Any]]


@dataclass(frozen=True)
class RankingsAnswer:
    """Answer to question 3; ``goal`` is None where there is no goal state."""

    cell_shift: Ranking
    goal: Ranking | None


def answer_rankings(measured: Measurements) -> RankingsAnswer | None:
    """Cell shifts against rank, and between arms; None where cell shifts were not read."""
    if "cosine_distance" not in measured.table:
        return None
    goal = towards(GOAL)
    return RankingsAnswer(
        _ranking(measured, "cosine_distance", "cell shift", signed=False),
        _ranking(measured, goal, "shift towards the goal", signed=True)
        if goal in measured.table
        else None,
    )


def _ranking(measured: Measurements, column: str, what: str, *, signed: bool) -> Ranking:
    arms = {arm: measured.drawn(arm) for arm in measured.arms}
    shifts = measured.beside(column)
    tasks = measured.tasks.loc[shifts.index]
    means = shifts.groupby(tasks["gene_id"]).mean()
    return Ranking(
        what,
        {arm: mean_spearman(r[column], r["gene_rank"], r["cell"]) for arm, r in arms.items()},
        {arm: _explained(rows, column) for arm, rows in arms.items()},
        {arm: mean_spearman(r[column].abs(), r["gene_rank"], r["cell"]) for arm, r in arms.items()}
        if signed
        else None,
        [_agreement(shifts, means, tasks["cell"], pair) for pair in combinations(measured.arms, 2)],
        *_movers(measured, column),
    )


def _explained(rows: pd.DataFrame, column: str) -> Estimate:
    size = rows[column].abs()
    logs = np.log10(size.where(size > 0))
    variance = variance_shares(logs, rows["relative_rank"], rows["gene_id"], rows["cell"])
    return variance.shares["rank"]


def _agreement(
    shifts: pd.DataFrame, means: pd.DataFrame, cells: pd.Series, arms: tuple[str, str]
) -> Agreement:
    first, second = arms
    ranked = means[[first, second]].dropna()
    overlap = {}
    for size in TOPS:
        if len(ranked) >= 2 * size:
            tops = [set(ranked[arm].nlargest(size).index) for arm in arms]
            overlap[str(size)] = (len(tops[0] & tops[1]) / size, size / len(ranked))
    return Agreement(
        arms,
        len(ranked),
        spearman(ranked[first], ranked[second]),
        mean_spearman(shifts[first], shifts[second], cells),
        overlap,
    )


def places(measured: Measurements, column: str) -> pd.DataFrame | None:
    """Places of knocked-out genes by their mean shifts, as in ``Ranking.rise``; a row a gene.

    None where what people run today and the edit alone were not both run.
    """
    if measured.whole is None or measured.edit is None:
        return None
    shifts = measured.beside(column)[[measured.whole, measured.edit]]
    tasks = measured.tasks.loc[shifts.index]
    means = shifts.groupby(tasks["gene_id"]).mean().dropna()
    means.columns = pd.Index(["place_under_whole", "place_under_edit"])
    genes = tasks.groupby("gene_id").agg(gene=("gene", "first"), mean_rank=("gene_rank", "mean"))
    ranked = genes.join(means.rank(ascending=False, method="first").astype(int), how="right")
    return ranked.reset_index()[["gene", "gene_id", "mean_rank", *means.columns]]


def _movers(measured: Measurements, column: str) -> Iterator[list[dict[str, Any]]]:
    """Genes that rise most, and those that fall most."""
    ranked = places(measured, column)
    if ranked is None:
        return iter(([], []))
    change = ranked["place_under_whole"] - ranked["place_under_edit"]
    change = change.sort_values(kind="stable")
    rising, falling = change.index[change > 0], change.index[change < 0]
    return (ranked.loc[i[:_SHOWN]].to_dict("records") for i in (rising[::-1], falling))
