"""Genes perturbed together, against the sum of what each does alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ranklock.errors import InputError, OptionError
from ranklock.run.fields import CELL, TOGETHER
from ranklock.run.run import Run, as_run
from ranklock.significance.results import Section, table_writers
from ranklock.statistics.replicates import means_tested

NAME = "combinations"
TABLE = "combinations.parquet"
_IN_CELL = ["cell", "kind", "arm"]
_COLUMNS = ["kind", "arm", "gene", "gene_id", "shift", "sum_of_singles", "beyond_sum",
            "standard_error", "t", "p", "q", "n_cells"]  # fmt: skip


def combinations(
    together: Run | str | Path, singles: Run | str | Path, min_cells: int = 5
) -> pd.DataFrame:
    """Compare the cell shift of a combination with the sum of its genes' own, cell by cell.

    Parameters
    ----------
    together, singles
        Runs, or their folders: of genes perturbed together, and of each alone, in the same cells.
    min_cells
        Combinations in fewer cells are not tested.

    Returns
    -------
    One row a kind, arm and combination: ``kind``, ``arm``, ``gene``, ``gene_id``, ``shift`` (mean
    of the combination), ``sum_of_singles``, ``beyond_sum`` (their mean difference),
    ``standard_error``, ``t``, ``p``, ``q``, ``n_cells``. Cells in which a gene was not perturbed
    alone are left out.

    Raises
    ------
    InputError
        When nothing was perturbed together, or no combination has its genes alone.

    Notes
    -----
    A cosine distance grows with the square of a displacement, so even displacements that add up
    give a combination other than the sum: of two that are orthogonal it is the sum, of two that
    are the same it is twice the sum. ``beyond_sum`` says how far from orthogonal they act.
    """
    if min_cells < 1:
        raise OptionError(f"min_cells is {min_cells}; what is tested is in one cell at least.")
    together, singles = as_run(together), as_run(singles)
    sets, alone = _cell_shifts(together), _cell_shifts(singles)
    sets = sets[sets["gene_id"].str.contains(TOGETHER, regex=False)]
    if sets.empty:
        raise InputError(
            f"{together.folder} has no genes perturbed together; make a run with ranklock perturb "
            "--together."
        )
    sets["of_one"] = sets["gene_id"].str.split(TOGETHER)
    joined = sets.explode("of_one").merge(
        alone.drop(columns="gene").rename(columns={"gene_id": "of_one"}),
        on=[*_IN_CELL, "of_one"], how="left", suffixes=("", "_alone"),
    )  # fmt: skip
    in_cells = joined.groupby([*_IN_CELL, "gene", "gene_id"], sort=False).agg(
        shift=("cosine_distance", "first"),
        sum_of_singles=("cosine_distance_alone", lambda values: values.sum(skipna=False)),
    )
    in_cells = in_cells.dropna(subset="sum_of_singles").reset_index()
    if in_cells.empty:
        raise InputError(
            "No cell has a combination and each of its genes alone; perturb the singles in the "
            "same cells and arms (ranklock perturb without --together)."
        )
    in_cells["beyond_sum"] = in_cells["shift"] - in_cells["sum_of_singles"]
    table = in_cells.groupby(["kind", "arm", "gene", "gene_id"], sort=False).agg(
        shift=("shift", "mean"),
        sum_of_singles=("sum_of_singles", "mean"),
        beyond_sum=("beyond_sum", "mean"),
        variance=("beyond_sum", "var"),
        n_cells=("beyond_sum", "size"),
    )
    enough = (table["n_cells"] >= min_cells).to_numpy()
    tested = means_tested(table["beyond_sum"], table["variance"], table["n_cells"], enough)
    table["standard_error"] = np.asarray(tested.standard_error)
    table["t"], table["p"], table["q"] = tested.t, tested.p, tested.q
    order = ["kind", "arm", "p"]
    return table.reset_index()[_COLUMNS].sort_values(order, kind="stable", ignore_index=True)


def section_of(table: pd.DataFrame, together: Run, singles: Run, min_cells: int) -> Section:
    """What of a table of combinations is written to a folder."""
    manifest = {"together": str(together.folder), "singles": str(singles.folder),
                "min_cells": min_cells}  # fmt: skip
    return Section(NAME, manifest, table_writers({TABLE: table}))


def _cell_shifts(run: Run) -> pd.DataFrame:
    """The columns that are compared, names as plain text."""
    run.check_reads(CELL)
    names = {name: run.shifts[name].astype(str) for name in (*_IN_CELL, "gene", "gene_id")}
    return pd.DataFrame({**names, "cosine_distance": run.shifts["cosine_distance"]})
