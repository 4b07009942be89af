"""Question 3, cell shifts and rankings of knock-outs: how they go with rank and with the arm."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from ranklock.audits.measure import Measurements, reference_of
from ranklock.statistics.intervals import Estimate, mean_spearman, spearman
from ranklock.statistics.variance import variance_shares

TOPS = (10, 50, 100)
GOAL = "towards_goal"
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
    place_under_delete: int
    place_under_reference: int


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
        Genes whose place improves or worsens most from ``delete`` to ``hold``.
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
    table = measured.by_rank
    arms = [arm for arm in measured.arms if f"{arm}_cell_shift" in table]
    if not arms:
        return None
    with_goal = [arm for arm in arms if f"{arm}_{GOAL}" in table]
    return RankingsAnswer(
        _ranking(table, arms, "cell_shift", "cell shift", signed=False),
        _ranking(table, with_goal, GOAL, "shift towards the goal", signed=True)
        if with_goal
        else None,
    )


def _ranking(
    table: pd.DataFrame, arms: list[str], column: str, what: str, *, signed: bool
) -> Ranking:
    ranks, cells = table["gene_rank"], table["cell"].astype(str)
    means = table.groupby("gene_id", observed=True)[[f"{arm}_{column}" for arm in arms]].mean()
    means = means.set_axis(arms, axis=1)
    reference = reference_of(arms)
    compares = "delete" in arms and reference is not None
    rise, fall = _movers(table, means, str(reference)) if compares else ([], [])
    return Ranking(
        what,
        {arm: mean_spearman(table[f"{arm}_{column}"], ranks, cells) for arm in arms},
        {arm: _explained(table, f"{arm}_{column}") for arm in arms},
        {arm: mean_spearman(table[f"{arm}_{column}"].abs(), ranks, cells) for arm in arms}
        if signed
        else None,
        [_agreement(table, means, column, *pair) for pair in combinations(arms, 2)],
        rise,
        fall,
    )


def _explained(table: pd.DataFrame, column: str) -> Estimate:
    size = table[column].abs()
    shares = variance_shares(
        np.log10(size.where(size > 0)), table["relative_rank"], table["gene_id"].astype(str),
        table["cell"].astype(str),
    )  # fmt: skip
    return shares.shares["rank"]


def _agreement(
    table: pd.DataFrame, means: pd.DataFrame, column: str, one: str, other: str
) -> Agreement:
    both = means[[one, other]].dropna()
    overlap = {}
    for size in TOPS:
        if len(both) >= 2 * size:
            tops = [set(both[arm].nlargest(size).index) for arm in (one, other)]
            overlap[str(size)] = (len(tops[0] & tops[1]) / size, size / len(both))
    return Agreement(
        (one, other),
        len(both),
        spearman(both[one], both[other]),
        mean_spearman(
            table[f"{one}_{column}"], table[f"{other}_{column}"], table["cell"].astype(str)
        ),
        overlap,
    )


def _movers(
    table: pd.DataFrame, means: pd.DataFrame, reference: str
) -> tuple[list[Mover], list[Mover]]:
    both = means[["delete", reference]].dropna()
    places = both.rank(ascending=False, method="first").astype(int)
    change = (places["delete"] - places[reference]).sort_values(kind="stable")
    grouped = table.groupby("gene_id", observed=True)
    names, ranks = grouped["gene"].first().astype(str), grouped["gene_rank"].mean()

    def movers(ids: pd.Index) -> list[Mover]:
        return [
            Mover(
                names[i], str(i), float(ranks[i]), int(places.loc[i, "delete"]),
                int(places.loc[i, reference]),
            )
            for i in ids
        ]  # fmt: skip

    rising, falling = change[change > 0], change[change < 0]
    return movers(rising.index[::-1][:_SHOWN]), movers(falling.index[:_SHOWN])
