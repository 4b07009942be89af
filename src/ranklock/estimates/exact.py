"""What is estimated, measured: exact effects of the edit alone, from a run of chosen knock-outs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import edit_arm
from ranklock.estimates.plan import EstimatesPlan
from ranklock.run import fields
from ranklock.run.execute import execute
from ranklock.run.run import Run

Array = npt.NDArray[np.float64]


def measure_pairs(
    plan: EstimatesPlan, pairs: pd.DataFrame, folder: Path, arms: Sequence[str], *, progress: bool
) -> pd.DataFrame | None:
    """Knock the chosen genes out of their cells, each by a forward.

    The pairs, a row a cell (its row) and ``gene_rank`` in order of these, come back with ``exact``;
    None while another process is at it. What the folder holds already is not computed again.
    """
    ranks_of = {int(row): ranks.tolist() for row, ranks in pairs.groupby("cell")["gene_rank"]}
    asked = None if plan.goal is None else plan.goal.asked
    run = execute(plan.run_of(ranks_of, arms), folder, states_asked=asked, progress=progress)
    if not run.complete:
        return None
    # A run's tasks are in order of cells and ranks too.
    exact = _numbers(run, plan) if plan.question.signed else _mean_effects(run)
    return pairs.assign(exact=exact)


def _numbers(run: Run, plan: EstimatesPlan) -> Array:
    """Changes of the number that is asked about."""
    rows = run.shifts[run.shifts[fields.ARM.name] == edit_arm(run.arms)]
    if plan.asked.label is not None:
        before, after = (fields.logit(plan.asked.label, when) for when in ("before", "after"))
        changes = rows[after] - rows[before]
    else:
        changes = rows[fields.towards(run.states[0])]
    return np.asarray(changes, dtype=np.float64)


def _mean_effects(run: Run) -> Array:
    """Mean effects on the responders."""
    arm = str(edit_arm(run.arms))
    means: list[Array] = []
    for block in run.blocks(arms=[arm]):
        distances = block.distances[arm].astype(np.float64)
        number = np.isfinite(distances).sum(1)
        sums = np.where(number > 0, np.nansum(distances, axis=1), np.nan)
        means.append(sums / np.maximum(number, 1))
    return np.concatenate(means)
