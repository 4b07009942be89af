"""Question 2, with all genes or with particular genes: rank, gene and cell told apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ranklock.audits.measure import Measurements
from ranklock.audits.step import SIGNIFICANT
from ranklock.statistics.significance import false_discovery_rates, moderated_t
from ranklock.statistics.smooth import rank_smooth
from ranklock.statistics.variance import VarianceShares, variance_shares

FEWEST_CELLS = 3  # that must have a gene for it to be tested
MEASURES = {
    "delete_step": "step under delete",
    "artefact_share": "artefact share of delete",
    "hold_step": "contrast under hold",
}
_SHOWN = 10


@dataclass(frozen=True)
class Departure:
    """A gene whose step departs from what its rank predicts.

    ``departure`` is the mean over its cells of the step, in log10, less what rank and cell predict.
    """

    gene: str
    gene_id: str
    cells: int
    mean_rank: float
    step: float
    departure: float
    q: float


@dataclass(frozen=True)
class GenesAnswer:
    """Answer to question 2.

    Attributes
    ----------
    measured
        Column that genes were tested on.
    variance
        Column → its variance decomposition.
    tested, significant
        Genes in three cells or more, and those that depart at a false-discovery rate of 5 %.
    larger, smaller
        Genes that depart most, both ways.
    table
        One row a knocked-out gene.
    """

    measured: str
    variance: dict[str, VarianceShares]
    tested: int
    significant: int
    larger: list[Departure]
    smaller: list[Departure]
    table: pd.DataFrame


def answer_genes(measured: Measurements) -> GenesAnswer | None:
    """Rank, gene or cell; and the genes that are unlike their rank. None without a step."""
    table = measured.by_rank
    columns = [name for name in MEASURES if name in table]
    steps = [f"{arm}_step" for arm in measured.arms if f"{arm}_step" in table]
    if not steps:
        return None
    tested_on = "delete_step" if "delete_step" in table else steps[0]
    cells, genes = table["cell"].astype(str), table["gene_id"].astype(str)
    shares = {
        name: variance_shares(table[name], table["relative_rank"], genes, cells)
        for name in columns or steps[:1]
    }
    by_gene = _by_gene(measured.knockouts, measured.arms, tested_on)
    tested = by_gene[by_gene["q"].notna()]
    significant = tested[tested["q"] <= SIGNIFICANT]
    return GenesAnswer(
        tested_on,
        shares,
        len(tested),
        len(significant),
        _departures(tested[tested["departure"] > 0].nlargest(_SHOWN, "departure"), tested_on),
        _departures(tested[tested["departure"] < 0].nsmallest(_SHOWN, "departure"), tested_on),
        by_gene,
    )


def _by_gene(table: pd.DataFrame, arms: tuple[str, ...], tested_on: str) -> pd.DataFrame:
    """One row a knocked-out gene: means over its cells, and the test of its departure.

    Knock-outs that were added for a network are not tested: they do not cover the ranks.
    """
    kept = table[np.isfinite(table[tested_on]) & table["by_rank"]]
    departure = pd.Series(np.nan, index=table.index)
    if len(kept):
        residual = kept[tested_on] - rank_smooth(kept[tested_on], kept["relative_rank"])
        # Without the gene's own knock-out: a cell with few would follow it.
        of_cell = residual.groupby(kept["cell"].astype(str))
        count, total = of_cell.transform("size"), of_cell.transform("sum")
        others = (total - residual) / (count - 1).where(count > 1)
        departure[kept.index] = (residual - others.fillna(0.0)).to_numpy()
    grouped = table.assign(departure=departure).groupby("gene_id", observed=True)
    columns = {
        "gene": grouped["gene"].first().astype(str),
        "cells": grouped["cell"].nunique(),
        "mean_rank": grouped["gene_rank"].mean(),
    }
    for arm in arms:
        for what in ("step", "superiority", "cell_shift"):
            if f"{arm}_{what}" in table:
                columns[f"{arm}_{what}"] = grouped[f"{arm}_{what}"].mean()
    if "artefact_share" in table:
        weighted = (table["artefact_share"] * table["total_squared"]).groupby(
            table["gene_id"], observed=True
        )
        columns["artefact_share"] = weighted.sum() / grouped["total_squared"].sum()
    found = pd.DataFrame(columns)
    counts = grouped["departure"].count()
    found["departure"] = grouped["departure"].mean()
    found["p"], found["q"] = np.nan, np.nan
    enough = counts >= FEWEST_CELLS
    if enough.any():
        means, variances = found["departure"][enough], grouped["departure"].var()[enough]
        _, p = moderated_t(means.to_numpy(), variances.to_numpy(), counts[enough].to_numpy())
        found.loc[enough, "p"] = p
        found.loc[enough, "q"] = false_discovery_rates(p)
    found.index = found.index.astype(str)
    return found.rename_axis("gene_id").reset_index().sort_values(
        ["cells", "gene_id"], ascending=[False, True], kind="stable", ignore_index=True
    )  # fmt: skip


def _departures(rows: pd.DataFrame, tested_on: str) -> list[Departure]:
    return [
        Departure(
            row.gene, row.gene_id, int(row.cells), float(row.mean_rank),
            float(getattr(row, tested_on)), float(row.departure), float(row.q),
        )
        for row in rows.itertuples()
    ]  # fmt: skip
