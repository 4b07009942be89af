"""Question 1, the step: under which arms, at which ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ranklock.audits.measure import Measurements
from ranklock.statistics.change_point import LEAST
from ranklock.statistics.intervals import Estimate, mean_interval, mean_test, share_interval
from ranklock.statistics.significance import false_discovery_rates

SMALL, MEDIUM, LARGE = 0.56, 0.64, 0.71
"""Bounds of Vargha and Delaney's A (Journal of Educational and Behavioral Statistics 25, 2000)."""

REGIONS = 10
MEASURED = ("step", "jump")
NEAR_RANK = 0.01  # of a cell's genes: how near the change point must lie, and at least 2
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class ArmStep:
    """The step under one arm.

    Attributes
    ----------
    superiority
        Probability that a responder after the rank moves further than one before it.
    step
        Difference of the medians of log10 effect after and before the rank.
    jump
        How far log10 effects jump at the rank itself.
    located
        Share of knock-outs whose largest change point lies within 1 % of the responders (at
        least two) of the rank.
    located_exactly
        Share of them in which it lies on the rank.
    located_by_chance
        Share that a change point anywhere would give.
    size
        ``none``, ``small``, ``medium``, ``large`` or ``reversed``; ``unknown`` without interval.
    """

    superiority: Estimate
    step: Estimate
    jump: Estimate
    located: Estimate
    located_exactly: float
    located_by_chance: float
    size: str


@dataclass(frozen=True)
class Region:
    """A tenth of the ranks: its bounds as parts of the cell, and the step or jump in it.

    ``what`` is ``step`` or ``jump``; ``difference`` is that from elsewhere in the same cells, with
    its q-value.
    """

    arm: str
    what: str
    name: str
    first: float
    last: float
    knockouts: int
    mean: Estimate
    difference: Estimate
    q: float


@dataclass(frozen=True)
class StepAnswer:
    """Answer to question 1."""

    arms: dict[str, ArmStep]
    regions: list[Region]
    knockouts: int
    too_near_an_end: int


def answer_step(measured: Measurements) -> StepAnswer | None:
    """The step under each arm and along the ranks; None where effects were not read."""
    table = measured.by_rank
    arms = [arm for arm in measured.arms if f"{arm}_superiority" in table]
    if not arms:
        return None
    near_end = int(table[f"{arms[0]}_superiority"].isna().sum())
    return StepAnswer(
        {arm: _of_arm(table, arm) for arm in arms},
        [region for arm in arms for what in MEASURED for region in _regions(table, arm, what)],
        len(table),
        near_end,
    )


def _of_arm(table: pd.DataFrame, arm: str) -> ArmStep:
    cells, genes = table["cell"].astype(str), table["gene_id"].astype(str)
    superiority = mean_interval(table[f"{arm}_superiority"], cells, genes).clipped(0.0, 1.0)
    tested = table[f"{arm}_superiority"].notna()
    off = (table[f"{arm}_change_point"] - table["before"]).abs()[tested]
    responders = table["responders"][tested]
    tolerance = np.maximum(2, (NEAR_RANK * responders).round())
    # A change point that is nowhere (all effects the same) is not at the rank.
    near = (off <= tolerance).astype(float)
    chance = ((2 * tolerance + 1) / (responders - 2 * LEAST + 1).clip(lower=1)).clip(upper=1)
    return ArmStep(
        superiority,
        mean_interval(table[f"{arm}_step"], cells, genes),
        mean_interval(table[f"{arm}_jump"], cells, genes),
        share_interval(near, cells[tested], genes[tested]),
        float((off == 0).mean()) if len(off) else np.nan,
        float(chance.mean()) if len(off) else np.nan,
        size_of(superiority),
    )


def size_of(superiority: Estimate) -> str:
    """What a probability of superiority is called, by the bound of its interval nearest ½."""
    if not np.isfinite(superiority.low):
        return "unknown"
    if superiority.high < 1 - SMALL:
        return "reversed"
    for name, bound in (("large", LARGE), ("medium", MEDIUM), ("small", SMALL)):
        if superiority.low >= bound:
            return name
    return "none"


def _regions(table: pd.DataFrame, arm: str, what: str) -> list[Region]:
    """Steps or jumps by tenths of the ranks, each against the rest of the same cells."""
    part = table[table[f"{arm}_{what}"].notna()]
    values = part[f"{arm}_{what}"].to_numpy()
    cells, genes = part["cell"].astype(str).to_numpy(), part["gene_id"].astype(str).to_numpy()
    tenth = np.minimum((part["relative_rank"].to_numpy() * REGIONS).astype(int), REGIONS - 1)
    found, p_values = [], []
    for number in range(REGIONS):
        inside = tenth == number
        elsewhere = pd.Series(values[~inside]).groupby(cells[~inside]).mean()
        difference, p = mean_test(
            values[inside] - elsewhere.reindex(cells[inside]).to_numpy(), cells[inside],
            genes[inside],
        )  # fmt: skip
        first, last = number / REGIONS, (number + 1) / REGIONS
        name = "top tenth" if not number else f"{first:.0%} to {last:.0%}"
        if number == REGIONS - 1:
            name = "bottom tenth"
        found.append(
            Region(
                arm, what,name, first, last, int(inside.sum()),
                mean_interval(values[inside], cells[inside], genes[inside]), difference, np.nan,
            )
        )  # fmt: skip
        p_values.append(p)
    q_values = false_discovery_rates(p_values)
    return [
        Region(**{**vars(region), "q": float(q)}) for region, q in zip(found, q_values, strict=True)
    ]
