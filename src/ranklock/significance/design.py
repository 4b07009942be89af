"""What a design can find, before anything is run: smallest effect, too few replicates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from ranklock.quantities import counted
from ranklock.significance.claims import FEWEST_REPLICATES, MINIMUM, Rule
from ranklock.significance.replicates import replicates_of
from ranklock.statistics.significance import FALSE_DISCOVERIES

if TYPE_CHECKING:
    from ranklock.run.plan import Plan

# Standard deviations of folds between cells, log10: the medians of the pairs, and of the cell
# shifts, of README's example.
SPREAD, SPREAD_OF_SHIFTS = 0.42, 0.28
POWER = 0.8


def smallest_fold(
    replicates: int, claims: int, minimum: float = MINIMUM, spread: float = SPREAD
) -> float:
    """The smallest fold that is found with a power of 80 %, as a factor; inf of too few.

    Parameters
    ----------
    replicates
        Cells, or donors, that a claim is measured in.
    claims
        Claims that are tested together.
    minimum
        What it is tested to exceed.
    spread
        Standard deviation of folds between replicates, log10.

    Notes
    -----
    Of a single finding among many claims, whose p must be below 5 % / claims: the fold at which a
    t test of known spread, with as many degrees of freedom as replicates less one, rejects with
    that power: log minimum + (t_{1 − α} + t_{0.8}) s / √n.
    """
    if replicates < FEWEST_REPLICATES:
        return float("inf")
    degrees = replicates - 1
    reach = stats.t.isf(FALSE_DISCOVERIES / max(claims, 1), degrees) + stats.t.ppf(POWER, degrees)
    return float(minimum * 10.0 ** (reach * spread / np.sqrt(replicates)))


def describe_design(plan: Plan, rule: Rule | None = None) -> list[str]:
    """What tests of a planned run could find, a line each; none without impostors.

    Parameters
    ----------
    plan
        The run.
    rule
        How it will be tested; by default as ``ranklock test`` does, over the run's donors.
    """
    if plan.impostors is None:
        return []
    rule = rule or Rule(donor=plan.asked.donor)
    replicates = replicates_of(plan.cells.obs, rule.donor, plan.cells.source)
    names = np.array(plan.cells.names, object)[plan.tasks.cell]
    tasks = pd.DataFrame({
        "perturbation": plan.tasks.perturbation, "cell": names,
        "replicate": replicates.reindex(names).to_numpy(),
    }).dropna()  # fmt: skip
    by_gene = tasks.groupby("perturbation").agg(
        cells=("cell", "nunique"), replicates=("replicate", "nunique")
    )
    median = int(by_gene["replicates"].median())
    shown = np.unique(np.concatenate([
        plan.cells.ranked[row] for row in plan.cells_used
    ]))  # fmt: skip
    responders = len(shown) if plan.responders is None else len(plan.responders)
    pairs = len(by_gene) * responders
    few = (by_gene["cells"] < rule.min_cells) | (by_gene["replicates"] < rule.fewest)
    share = 1.0 - sum(map(len, plan.computed.values())) / sum(map(len, plan.inputs.values()))
    again = ", and the null model as much again as all of it" if plan.asked.null_model else ""
    lines = [
        f"Design: impostors take about {share:.0%} of the work{again}.",
        f"Design: {counted(plan.asked.impostors, 'impostor')} a task, {rule.replicate} as "
        f"replicates, {median} of them for the median gene; up to {pairs:,} pairs are tested "
        f"together, so that a single finding needs p ≤ {FALSE_DISCOVERIES / pairs:.1e}.",
    ]
    if few.any():
        lines.append(
            f"Design: {counted(int(few.sum()), 'perturbation')} of {len(by_gene)} in fewer than "
            f"{rule.min_cells} cells or {rule.fewest} {rule.replicate} will not be tested, which "
            "says nothing either way."
        )
    folds = [
        smallest_fold(median, claims, rule.minimum, spread)
        for claims, spread in ((pairs, SPREAD), (len(by_gene), SPREAD_OF_SHIFTS))
    ]
    if np.isfinite(folds[0]):
        lines.append(
            f"Design: with folds that spread between {rule.replicate} as between the demo's cells "
            f"({SPREAD:g} and {SPREAD_OF_SHIFTS:g}, log10), responders are found with {POWER:.0%} "
            f"power from ×{folds[0]:.1f} on, cell shifts from ×{folds[1]:.1f}."
        )
    else:
        lines.append(
            f"Design: nothing can be found with {counted(median, rule.replicate.rstrip('s'))}: a "
            f"test needs {rule.fewest}. Take more (--sample), or name no donors."
        )
    return lines
