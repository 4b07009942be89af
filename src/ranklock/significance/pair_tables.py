"""Tables of what was tested of pairs of genes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.run.run import Run
from ranklock.significance.calibration import calibration_of, histogram_of
from ranklock.significance.pairs import Pairs
from ranklock.significance.results import is_finding


def tables_of(
    pairs: Pairs, run: Run, kind: str, arm: str, min_cells: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Table, genes, calibration and histograms of one kind and arm, as Responders has them."""
    table = _pair_table(pairs, run, min_cells)
    tests = pd.DataFrame({"p": pairs.tested.p, "q": pairs.tested.q})
    larger = int(is_finding(table).sum())
    calibration = pd.DataFrame([{**calibration_of(tests, pairs.swapped), "larger": larger}])
    histogram = histogram_of(pairs.tested.p, pairs.swapped)
    results = table, _gene_table(pairs, run), calibration, histogram
    for result in results:
        result.insert(0, "kind", kind)
        result.insert(1, "arm", arm)
    return results


def _pair_table(pairs: Pairs, run: Run, min_cells: int) -> pd.DataFrame:
    kept = np.flatnonzero(
        (pairs.n_cells >= min_cells).ravel() & np.isfinite(pairs.specific.ravel())
    )
    row, column = np.unravel_index(kept, pairs.n_cells.shape)
    genes = run.perturbations.loc[pairs.perturbations[row]]
    readers = run.genes.loc[pairs.responders[column]]

    tested = pairs.tested
    matrices: dict[str, npt.NDArray[Any]] = {
        "specific": pairs.specific, "standard_error": tested.standard_error, "t": tested.t,
        "p": tested.p, "q": tested.q, "effect": pairs.log_effect, "n_cells": pairs.n_cells,
        "n_replicates": pairs.n_replicates,
    }  # fmt: skip
    table = pd.DataFrame(
        {
            "gene": genes["gene"].astype(str).to_numpy(),
            "responder": readers["symbol"].astype(str).to_numpy(),
            **{name: matrix.ravel()[kept] for name, matrix in matrices.items()},
            "gene_rank": pairs.gene_rank[row],
            "responder_rank": pairs.responder_rank[column],
            "under_noise_floor": pairs.under_floor.ravel()[kept],
            "gene_id": genes["gene_id"].astype(str).to_numpy(),
            "responder_id": readers["gene_id"].astype(str).to_numpy(),
        }
    )
    table["effect"] = 10 ** table["effect"]
    return table.sort_values(["p", "gene_id", "responder_id"], kind="stable", ignore_index=True)


def _gene_table(pairs: Pairs, run: Run) -> pd.DataFrame:
    """Potency of every perturbation and responsiveness of every responder, by gene."""
    perturbed = run.perturbations.loc[pairs.perturbations, ["gene", "gene_id"]].assign(
        rank=pairs.gene_rank, potency=pairs.potency
    )
    readers = run.genes.loc[pairs.responders].rename(columns={"symbol": "gene"})
    readers = readers[["gene", "gene_id"]].assign(
        rank=pairs.responder_rank, responsiveness=pairs.responsiveness
    )
    names = ["gene", "gene_id"]
    perturbed[names], readers[names] = perturbed[names].astype(str), readers[names].astype(str)
    genes = readers.merge(perturbed, how="outer", on=names, suffixes=("", "_perturbed"))
    genes["rank"] = genes["rank"].fillna(genes.pop("rank_perturbed"))
    measured = genes[["potency", "responsiveness"]].notna().any(axis=1)
    return genes.loc[measured, [*names, "rank", "potency", "responsiveness"]]
