"""What could be separated, and what not, in words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ranklock.significance.pairs import MOSTLY_UNDER, Pairs
from ranklock.statistics.rank_surface import RankSurface
from ranklock.statistics.replicates import FEWEST_REPLICATES

FEW_CONTROLS = 10  # below, single controls weigh on what is expected
_FEW_DIRECTIONS = 20


def statements_of(
    pairs: Pairs, surface: RankSurface, *, donor: str | None, min_cells: int
) -> list[str]:
    """What a reader must know before believing the table, a sentence each; none if all is well."""
    statements = []
    alone = int((pairs.perturbations_in_cell < 2).sum())
    if pairs.replicates < FEWEST_REPLICATES:
        statements.append(
            f"Nothing is tested: there are {pairs.replicates} replicates (one a "
            f"{donor or 'cell'}), and a test needs {FEWEST_REPLICATES}."
        )
    if alone == pairs.cells:
        statements.append(
            "One gene was perturbed in each cell, so what is specific to it cannot be told from "
            "how responsive its responders are; perturb rank-matched controls beside it "
            "(--controls)."
        )
        return statements
    if alone:
        statements.append(
            f"{alone} of {pairs.cells} cells had one perturbation only, with nothing to compare it "
            "with; they are left out."
        )
    if len(pairs.responders) < 2:
        statements.append(
            "One responder was stored, so what is specific to it cannot be told from the potency "
            "of the perturbations; store more responders."
        )
    elif pairs.controls < FEW_CONTROLS:
        statements.append(
            f"Responsiveness rests on {pairs.controls:.0f} rank-matched controls a cell (median): "
            "a specific effect is a difference from those few genes, and what they do to a "
            "responder counts against the gene. More controls (--controls) would tell."
        )
    if surface.determined < _FEW_DIRECTIONS:
        statements.append(
            f"The perturbed ranks determine {surface.determined} directions of the rank surface "
            "only; distance in rank is not fully separated from the genes."
        )
    enough = pairs.n_cells >= min_cells
    if not enough.any():
        statements.append(
            f"No pair of genes is in {min_cells} cells (--min-cells); nothing is tested."
        )
    elif (pairs.under_floor[enough] >= MOSTLY_UNDER).all():
        statements.append("All effects are under the noise floor; nothing is tested.")
    elif pairs.replicates >= FEWEST_REPLICATES and not np.isfinite(pairs.tested.p).any():
        statements.append(
            f"No pair of genes has {FEWEST_REPLICATES} replicates whose effects differ; nothing "
            "is tested."
        )
    return statements


def statements_of_shifts(
    shifts: pd.DataFrame, table: pd.DataFrame, min_cells: int, separated: bool
) -> list[str]:
    """What a reader must know before believing a table of shifts, a sentence each."""
    statements = []
    replicates = shifts["replicate"].nunique()
    if replicates < FEWEST_REPLICATES:
        statements.append(
            f"Nothing is tested: there are {replicates} replicates, and a test needs "
            f"{FEWEST_REPLICATES}."
        )
    in_cell = shifts.groupby("cell", observed=True).size()
    if (in_cell < 2).all():
        statements.append(
            "One gene was perturbed in each cell, so its shift cannot be compared with that of "
            "others at like ranks; perturb controls beside it (ranklock perturb --controls)."
        )
    elif in_cell.median() < 10:
        statements.append(
            f"A cell has {in_cell.median():.0f} perturbations (median): what is expected at a rank "
            "rests on those few genes."
        )
    if table["under_noise_floor"].ge(MOSTLY_UNDER).all():
        statements.append("All shifts are under the noise floor; nothing is tested.")
    elif (table["n_cells"] < min_cells).all():
        statements.append(f"No gene is in {min_cells} cells (--min-cells); nothing is tested.")
    if not separated and table["impact"].notna().any():
        statements.append(
            "One component describes the perturbations as well as two (BIC): impact is no more "
            "than a place in one distribution."
        )
    return statements
