"""What a screen estimates, measured: exact `hold` effects from a sweep of the chosen knock-outs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.estimates.plan import ScreenPlan
from ranklock.run.old_store import CellLayout
from ranklock.run.old_sweep import run_sweep
from ranklock.run.old_sweep_result import OF_A_SCREEN, Sweep

Array = npt.NDArray[np.float64]


def measure_pairs(
    plan: ScreenPlan, pairs: pd.DataFrame, folder: Path, arms: Sequence[str], *, progress: bool
) -> pd.DataFrame | None:
    """Knock the chosen genes out of their cells, each by a forward.

    Parameters
    ----------
    plan
        The screen.
    pairs
        One row a cell and gene: ``cell`` (its row) and ``gene_rank``.
    folder
        Where the sweep's results go; what is there already is not computed again.
    arms
        Names of arms; ``hold`` is one of them.
    progress
        Whether to show it on stderr.

    Returns
    -------
    ``cell``, ``token``, ``exact`` and ``under_noise_floor``; None while another process is at it.
    """
    ranks_of = {
        int(cell): sorted(int(rank) for rank in rows["gene_rank"])
        for cell, rows in pairs.groupby("cell")
    }
    responders = plan.question.responders
    found = run_sweep(
        plan.exact(ranks_of, arms),
        folder,
        {
            "genes": OF_A_SCREEN,
            "responders": "all" if responders is None else list(plan.asked["genes"]),
            "controls": 0,
            "states": plan.asked.get("states", {}),
            "classifier": plan.asked.get("label"),
        },
        progress=progress,
    )
    if not found.complete:
        return None
    return pd.concat(_effects(found, plan), ignore_index=True)


def _effects(found: Sweep, plan: ScreenPlan) -> Iterator[pd.DataFrame]:
    for index in found.store.cells():
        layout = found.store.layout(index)
        exact, under = _of_cell(found, layout, plan)
        yield pd.DataFrame(
            {
                "cell": np.int32(index),
                "token": layout.knocked_out,
                "exact": exact,
                "under_noise_floor": under,
            }
        )


def _of_cell(
    found: Sweep, layout: CellLayout, plan: ScreenPlan
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Exact answer to the screen's question, and whether it is under the noise floor."""
    numbers = found.store.knockouts(layout)
    under_floor = numbers["hold_cell_displacement"] <= found.floor.cell_displacement
    if plan.question.head is not None:
        return numbers["hold_logit"], under_floor
    if plan.question.goal is not None:
        return numbers["hold_towards_goal"], under_floor
    exact, moved = np.full((2, len(layout.knocked_out)), np.nan)
    for block in found.store.done(layout):
        effects = found.store.effects(layout, block, ["hold", "hold_displacement"])
        rows = layout.rows(block)
        counts = np.isfinite(effects["hold"]).sum(1)
        for into, field in ((exact, "hold"), (moved, "hold_displacement")):
            sums = np.nansum(effects[field].astype(np.float64), axis=1)
            into[rows] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return exact, moved <= found.floor.displacement
