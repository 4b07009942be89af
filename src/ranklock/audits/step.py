"""Question 1, the step: under which arms, at which ranks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ranklock.audits.measure import Measurements
from ranklock.statistics.change_point import LEAST
from ranklock.statistics.intervals import Estimate, mean_interval, mean_test, share_interval
from ranklock.statistics.significance import FALSE_DISCOVERIES, false_discovery_rates

SMALL, MEDIUM, LARGE = 0.56, 0.64, 0.71
"""Bounds of Vargha and Delaney's A (Journal of Educational and Behavioral Statistics 25, 2000)."""

REGIONS = 10
MEASURED = ("step", "jump")
NEAR_RANK = 0.01  # of a cell's genes: how near the change point must lie, and at least 2


@dataclass(frozen=True)
class ArmStep:
    """The step under one arm; what is measured of a knock-out is said in ``Measurements``.

    ``located`` is the share of knock-outs whose largest change point lies within ``NEAR_RANK`` of
    the rank; ``located_exactly`` that of those in which it lies on it; ``located_by_chance`` that
    which a change point anywhere would give. ``size`` is as :func:`size_of` has it.
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

    @property
    def differs(self) -> bool:
        """Whether it differs from elsewhere, at a false-discovery rate of 5 %."""
        return self.q <= FALSE_DISCOVERIES


@dataclass(frozen=True)
class StepAnswer:
    """Answer to question 1."""

    arms: dict[str, ArmStep]
    regions: list[Region]
    knockouts: int
    too_near_an_end: int

    def along(self, arm: str, what: str) -> list[Region]:
        """Regions of one arm, in order of the ranks."""
        return [r for r in self.regions if (r.arm, r.what) == (arm, what)]


def answer_step(measured: Measurements) -> StepAnswer | None:
    """The step under each arm and along the ranks; None where effects were not read."""
    if "superiority" not in measured.table:
        return None
    rows = {arm: measured.drawn(arm) for arm in measured.arms}
    first = rows[measured.arms[0]]
    return StepAnswer(
        {arm: _of_arm(part) for arm, part in rows.items()},
        [region for arm, part in rows.items() for what in MEASURED
         for region in _regions(part, arm, what)],
        len(first),
        int(first["superiority"].isna().sum()),
    )  # fmt: skip


def _of_arm(rows: pd.DataFrame) -> ArmStep:
    superiority = mean_interval(rows["superiority"], rows["cell"], rows["gene_id"])
    superiority = superiority.clipped(0.0, 1.0)
    tested = rows[rows["superiority"].notna()]
    off = (tested["change_point"] - tested["before"]).abs()
    tolerance = np.maximum(2, (NEAR_RANK * tested["responders"]).round())
    # A change point that is nowhere (all effects the same) is not at the rank.
    near = (off <= tolerance).astype(float)
    places = (tested["responders"] - 2 * LEAST + 1).clip(lower=1)
    chance = ((2 * tolerance + 1) / places).clip(upper=1)
    return ArmStep(
        superiority,
        mean_interval(rows["step"], rows["cell"], rows["gene_id"]),
        mean_interval(rows["jump"], rows["cell"], rows["gene_id"]),
        share_interval(near, tested["cell"], tested["gene_id"]),
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


def _regions(rows: pd.DataFrame, arm: str, what: str) -> list[Region]:
    """Steps or jumps by tenths of the ranks, each against the rest of the same cells."""
    rows = rows[rows[what].notna()]
    tenth = (rows["relative_rank"] * REGIONS).astype(int).clip(upper=REGIONS - 1)
    regions, p_values = [], []
    for number in range(REGIONS):
        inside, outside = rows[tenth == number], rows[tenth != number]
        elsewhere = outside.groupby("cell")[what].mean().reindex(inside["cell"]).to_numpy()
        difference, p = mean_test(inside[what] - elsewhere, inside["cell"], inside["gene_id"])
        mean = mean_interval(inside[what], inside["cell"], inside["gene_id"])
        first, last = number / REGIONS, (number + 1) / REGIONS
        name = {0: "top tenth", REGIONS - 1: "bottom tenth"}.get(
            number, f"{first:.0%} to {last:.0%}"
        )
        regions.append(Region(arm, what, name, first, last, len(inside), mean, difference, np.nan))
        p_values.append(p)
    q_values = false_discovery_rates(p_values)
    return [replace(region, q=float(q)) for region, q in zip(regions, q_values, strict=True)]
