"""Genes knocked out together, against the sum of what each does alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ranklock.errors import InputError
from ranklock.run.old_tables import TOGETHER
from ranklock.statistics.replicates import means_tested

_OF = ["cell", "arm"]


def combinations(together: pd.DataFrame, singles: pd.DataFrame, min_cells: int = 5) -> pd.DataFrame:
    """Compare the cell shift of a combination with the sum of its genes' own, cell by cell.

    Parameters
    ----------
    together, singles
        Cell shifts as in ``cell_shifts.parquet``: ``cell``, ``gene``, ``arm`` and
        ``cosine_distance``; of genes knocked out together, and of each alone, in the same cells.
    min_cells
        Combinations in fewer cells are not tested.

    Returns
    -------
    One row an arm and combination: ``arm``, ``gene``, ``shift`` (mean of the combination),
    ``sum_of_singles``, ``beyond_sum`` (their mean difference), ``standard_error``, ``t``, ``p``,
    ``q``, ``n_cells``. Cells in which a gene was not knocked out alone are left out.

    Raises
    ------
    InputError
        When nothing was knocked out together, or no combination has its genes alone.

    Notes
    -----
    A cosine distance grows with the square of a displacement, so even displacements that add up
    give a combination other than the sum: of two that are orthogonal it is the sum, of two that
    are the same it is twice the sum. ``beyond_sum`` says how far from orthogonal they act.
    """
    combined = together[together["gene"].astype(str).str.contains(TOGETHER, regex=False)]
    if combined.empty:
        raise InputError(
            "The first run has no genes knocked out together; make one with ranklock knockout "
            "--together."
        )
    alone = _plain(singles).drop_duplicates([*_OF, "gene"])
    each = _plain(combined).rename(columns={"gene": "combination"})
    each["gene"] = each["combination"].str.split(TOGETHER)
    joined = each.explode("gene").merge(
        alone, on=[*_OF, "gene"], how="left", suffixes=("", "_alone")
    )
    by_cell = joined.groupby([*_OF, "combination"], sort=False).agg(
        shift=("cosine_distance", "first"),
        sum_of_singles=("cosine_distance_alone", lambda values: values.sum(skipna=False)),
    )
    whole = by_cell.dropna(subset="sum_of_singles").reset_index()
    if whole.empty:
        raise InputError(
            "No cell has a combination and each of its genes alone; run the singles in the same "
            "cells and arms (ranklock knockout without --together, or a sweep)."
        )
    whole["beyond_sum"] = whole["shift"] - whole["sum_of_singles"]
    found = whole.groupby(["arm", "combination"], sort=False).agg(
        shift=("shift", "mean"),
        sum_of_singles=("sum_of_singles", "mean"),
        beyond_sum=("beyond_sum", "mean"),
        variance=("beyond_sum", "var"),
        n_cells=("beyond_sum", "size"),
    )
    enough = (found["n_cells"] >= min_cells).to_numpy()
    tested = means_tested(found["beyond_sum"], found["variance"], found["n_cells"], enough)
    found["standard_error"] = np.asarray(tested.standard_error)
    found["t"], found["p"], found["q"] = tested.t, tested.p, tested.q
    table = found.reset_index().rename(columns={"combination": "gene"})
    order = ["arm", "gene", "shift", "sum_of_singles", "beyond_sum", "standard_error", "t", "p",
             "q", "n_cells"]  # fmt: skip
    return table[order].sort_values(["arm", "p"], kind="stable", ignore_index=True)


def _plain(shifts: pd.DataFrame) -> pd.DataFrame:
    """The columns that are compared, names as plain text."""
    names = {name: shifts[name].astype(str) for name in (*_OF, "gene")}
    return pd.DataFrame({**names, "cosine_distance": shifts["cosine_distance"]})
