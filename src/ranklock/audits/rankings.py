"""Question 3, cell shifts and rankings of knock-outs: how they go with rank and with the arm."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

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
    """How two arms rank the knock-outs.

    Attributes
    ----------
    arms
        The two.
    genes
        Knocked-out genes that both rank.
    pooled
        Spearman's correlation of the genes' mean shifts.
    within_cells
        The same among the knock-outs of a cell, averaged over cells.
    overlap
        Size of a top → share that is in both tops, and the share that chance gives.
    """

    arms: tuple[str, str]
    genes: int
    pooled: float
    within_cells: Estimate
    overlap: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Mover:
    """A gene and its places among the knock-outs, 1 being the largest shift."""

    gene: str
    gene_id: str
    mean_rank: float
    place_under_whole: int
    place_under_edit: int


@dataclass(frozen=True)
class Ranking:
    """How one kind of shift goes with the rank, and how the arms order the knock-outs by it.

    Attributes
    ----------
    what
        ``cell shift`` or ``shift towards the goal``.
    against_rank
        Arm → Spearman's correlation with the knocked-out gene's rank, within cells.
    rank_explains
        Arm → part of the variance of its size, on the log scale, that a smooth function of the
        rank explains: a shift may go with rank up and down.
    size_against_rank
        Arm → the correlation of its absolute value with rank, for a shift that has a sign; None
        for others.
    agreements
        Of every pair of arms.
    rise, fall
        Genes whose place improves or worsens most from what people run today to the edit alone.
    """

    what: str
    against_rank: dict[str, Estimate]
    rank_explains: dict[str, Estimate]
    size_against_rank: dict[str, Estimate] | None
    agreements: list[Agreement]
    rise: list[Mover]
    fall: list[Mover]


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
    rise: list[Mover] = []
    fall: list[Mover] = []
    if measured.whole is not None and measured.edit is not None:
        rise, fall = _movers(tasks, means[measured.whole], means[measured.edit])
    return Ranking(
        what,
        {arm: mean_spearman(r[column], r["gene_rank"], r["cell"]) for arm, r in arms.items()},
        {arm: _explained(rows, column) for arm, rows in arms.items()},
        {arm: mean_spearman(r[column].abs(), r["gene_rank"], r["cell"]) for arm, r in arms.items()}
        if signed
        else None,
        [_agreement(shifts, means, tasks["cell"], pair) for pair in combinations(measured.arms, 2)],
        rise,
        fall,
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


def _movers(
    tasks: pd.DataFrame, under_whole: pd.Series, under_edit: pd.Series
) -> tuple[list[Mover], list[Mover]]:
    means = pd.DataFrame({"whole": under_whole, "edit": under_edit}).dropna()
    places = means.rank(ascending=False, method="first").astype(int)
    change = (places["whole"] - places["edit"]).sort_values(kind="stable")
    grouped = tasks.groupby("gene_id")
    symbols, ranks = grouped["gene"].first(), grouped["gene_rank"].mean()

    def movers(ids: pd.Index) -> list[Mover]:
        return [Mover(symbols[i], str(i), float(ranks[i]), *map(int, places.loc[i])) for i in ids]

    rising, falling = change[change > 0], change[change < 0]
    return movers(rising.index[::-1][:_SHOWN]), movers(falling.index[:_SHOWN])
