"""Shifts of cells as a tidy table of quantities, from a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.errors import InputError
from ranklock.run import fields
from ranklock.run.run import Run
from ranklock.significance.asked import tests_of

CELL_SHIFT, GENE_SHIFT = "cell shift", "mean gene shift"
TOWARDS = "towards "
GOAL, BEYOND = TOWARDS + "goal", "goal beyond alternatives"
UNSIGNED = (CELL_SHIFT, GENE_SHIFT)  # distances: compared on the log scale, larger is a finding
COLUMNS = ("cell", "replicate", "gene", "gene_id", "gene_rank", "kind", "arm", "quantity", "shift",
           "scaled", "under_noise_floor")  # fmt: skip
SMALLEST = 1e-16  # of a distance without a noise floor: the rounding of float64


def scaled(
    shift: npt.ArrayLike, quantity: str, floor: float, under: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Shifts as they are compared: log10 of distances; NaN under the noise floor."""
    values = np.asarray(shift, np.float64)
    if quantity in UNSIGNED:
        values = np.log10(np.maximum(values, max(floor, SMALLEST)))
    return np.where(under, np.nan, values)


def shifts_of_run(
    run: Run, arms: Sequence[str] | None, replicates: pd.Series
) -> tuple[pd.DataFrame, list[str]]:
    """Every shift that a run read: of cells, towards states, of a classifier's logits.

    Returns
    -------
    One row a cell that ``replicates`` names, perturbation, arm and quantity, with
    :data:`COLUMNS`: ``scaled`` as of :func:`scaled`; and sentences about what was left out.

    Raises
    ------
    InputError
        When the run read no shifts of cells.
    OptionError
        When it has no such arm.
    """
    tests = tests_of(run, arms)
    if fields.LOGITS not in run.reads:
        run.check_reads(fields.CELL)
    table = run.shifts
    names = table["cell"].astype(str)
    unranked = table["gene_rank"].isna()
    table = table[names.isin(replicates.index) & ~unranked]
    statements = [
        f"{unranked.mean():.0%} of the shifts are of genes that were inserted into their cell; "
        "they have no rank there, and so nothing at like ranks to be compared with."
    ] * bool(unranked.any())
    parts = []
    for kind, arm in tests:
        rows = table[(table["kind"] == kind) & (table["arm"] == arm)]
        if rows.empty:
            continue
        # None are known to be under the noise floor where the cell's embedding was not read.
        under = np.asarray(rows.get(fields.UNDER_NOISE_FLOOR.name, [False] * len(rows)), bool)
        common = rows[["cell", "gene", "gene_id"]].astype(str)
        common["replicate"] = replicates[common["cell"]].to_numpy()
        common["gene_rank"] = rows["gene_rank"].astype(int)
        common["kind"], common["arm"] = kind, arm
        for quantity, shift, floor in _quantities(rows, run):
            values = shift.to_numpy(np.float64)
            parts.append(
                common.assign(
                    quantity=quantity, shift=values,
                    scaled=scaled(values, quantity, floor, under), under_noise_floor=under,
                )
            )  # fmt: skip
    if not parts:
        raise InputError(f"{run.folder} holds no shift of a gene that its cell has.")
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)], statements


def _quantities(rows: pd.DataFrame, run: Run) -> Iterator[tuple[str, pd.Series, float]]:
    """Name of each quantity that was read, its values, and the noise floor of a distance."""
    if fields.CELL in run.reads:
        yield CELL_SHIFT, rows["cosine_distance"], run.floor.cell_shift
        if rows["mean_gene_distance"].notna().any():
            yield GENE_SHIFT, rows["mean_gene_distance"], run.floor.cosine_distance
    for state in run.states:
        yield TOWARDS + state, rows[fields.towards(state)], 0.0
    alternatives = [fields.towards(state) for state in run.states if state != "goal"]
    if "goal" in run.states and alternatives:
        yield BEYOND, rows[fields.towards("goal")] - rows[alternatives].mean(axis=1), 0.0
    for label in run.labels if fields.LOGITS in run.reads else ():
        after, before = (rows[fields.logit(label, when)] for when in ("after", "before"))
        yield f"logit of {label}", after - before, 0.0
