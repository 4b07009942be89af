"""Question 2, with all genes or with particular genes: rank, gene and cell told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ranklock.arms import placebo_arm
from ranklock.audits.measure import Measurements
from ranklock.statistics.significance import FALSE_DISCOVERIES, false_discovery_rates, moderated_t
from ranklock.statistics.smooth import rank_smooth
from ranklock.statistics.variance import VarianceShares, variance_shares

FEWEST_CELLS = 3  # that must have a gene for it to be tested
_SHOWN = 10
_DEPARTURE = ["gene", "gene_id", "cells", "mean_rank", "step", "departure", "q"]
_MEANS = ("step", "superiority", "cosine_distance")


@dataclass(frozen=True)
class Placebo:
    """The same test under the rank shift alone, where the knocked-out gene stays and cannot matter.

    ``significant`` genes of the ``tested`` depart under ``arm`` from what their rank predicts: by
    the genes below them and the positions that those take, and not by what they are.
    """

    arm: str
    tested: int
    significant: int


@dataclass(frozen=True)
class GenesAnswer:
    """Answer to question 2.

    ``placebo`` is None where the rank shift alone was not run.

    A record of ``larger`` and ``smaller`` is a gene that departs from what its rank predicts, with
    the columns ``_DEPARTURE`` of ``table``. ``table`` has a row a knocked-out gene: ``gene``,
    ``gene_id``, ``cells``, ``mean_rank``, ``share_of_shift`` (where it was measured), ``step``
    (under the arm that genes were tested on), ``departure``, ``p``, ``q``.
    """

    measured: str  # what genes were tested on, a key of variance
    variance: dict[str, VarianceShares]  # of each thing measured
    tested: int  # genes in FEWEST_CELLS or more
    significant: int  # at FALSE_DISCOVERIES
    placebo: Placebo | None
    larger: list[dict[str, Any]]
    smaller: list[dict[str, Any]]
    table: pd.DataFrame
    means: pd.DataFrame  # over cells, one row a knocked-out gene and arm

    @property
    def beyond_placebo(self) -> bool:
        """Whether more genes depart than under the placebo, by more than chance.

        Where each that departs is as likely to do so under either arm, an exact binomial test finds
        so many here in one of twenty cases at most. Without a placebo it is whether any depart.
        """
        if self.placebo is None or not self.significant:
            return self.significant > 0
        both = self.significant + self.placebo.significant
        test = stats.binomtest(self.significant, both, 0.5, alternative="greater")
        return bool(test.pvalue <= FALSE_DISCOVERIES)

    @property
    def shares(self) -> VarianceShares:
        """Of what genes were tested on."""
        return self.variance[self.measured]

    @property
    def placebo_shares(self) -> VarianceShares | None:
        """Of the step under the placebo; None without it."""
        return None if self.placebo is None else self.variance.get(_step_under(self.placebo.arm))


def _step_under(arm: str) -> str:
    return f"step under {arm}"


def answer_genes(measured: Measurements) -> GenesAnswer | None:
    """Rank, gene or cell; and the genes that are unlike their rank. None without a step."""
    if "step" not in measured.table:
        return None
    arm = measured.whole or measured.arms[0]
    placebo = placebo_arm(measured.arms)
    series = {_step_under(arm): (arm, "step")}
    if placebo is not None and placebo != arm:
        series[_step_under(placebo)] = (placebo, "step")
    if measured.whole and "share_of_shift" in measured.table:
        series[f"artefact share of {arm}"] = (arm, "share_of_shift")
    if measured.edit and measured.edit != arm:
        series[f"contrast under {measured.edit}"] = (measured.edit, "step")
    shares = {}
    for what, (arm_of_series, column) in series.items():
        rows = measured.drawn(arm_of_series)
        shares[what] = variance_shares(
            rows[column], rows["relative_rank"], rows["gene_id"], rows["cell"]
        )
    table = _by_gene(measured, arm)
    tested = table[table["q"].notna()]
    larger, smaller = tested[tested["departure"] > 0], tested[tested["departure"] < 0]
    return GenesAnswer(
        next(iter(series)),
        shares,
        len(tested),
        int((tested["q"] <= FALSE_DISCOVERIES).sum()),
        None if placebo in (None, arm) else _placebo(measured, placebo),
        larger.nlargest(_SHOWN, "departure")[_DEPARTURE].to_dict("records"),
        smaller.nsmallest(_SHOWN, "departure")[_DEPARTURE].to_dict("records"),
        table,
        gene_means(measured),
    )


def _placebo(measured: Measurements, arm: str) -> Placebo:
    q = _by_gene(measured, arm)["q"]
    return Placebo(arm, int(q.notna().sum()), int((q <= FALSE_DISCOVERIES).sum()))


def gene_means(measured: Measurements) -> pd.DataFrame:
    """Means over cells of what was measured, a row a knocked-out gene and arm."""
    columns = [column for column in _MEANS if column in measured.table]
    grouped = measured.table.groupby(["gene_id", "gene", "arm"], observed=True)
    return grouped[columns].mean().reset_index()


def _by_gene(measured: Measurements, arm: str) -> pd.DataFrame:
    """One row a knocked-out gene, and the test of its departure under one arm.

    Knock-outs that were added for a network are not tested: they do not cover the ranks.
    """
    rows = measured.table[measured.table["arm"] == arm]
    drawn = rows[np.isfinite(rows["step"]) & rows["by_rank"]]
    rows = rows.assign(departure=np.nan)
    if len(drawn):
        residual = drawn["step"] - rank_smooth(drawn["step"], drawn["relative_rank"])
        # Without the gene's own knock-out: a cell with few would follow it.
        by_cell = residual.groupby(drawn["cell"])
        count, total = by_cell.transform("size"), by_cell.transform("sum")
        elsewhere = (total - residual) / (count - 1).where(count > 1)
        rows.loc[drawn.index, "departure"] = residual - elsewhere.fillna(0.0)
    grouped = rows.groupby("gene_id")
    columns = {
        "gene": grouped["gene"].first(),
        "cells": grouped["cell"].nunique(),
        "mean_rank": grouped["gene_rank"].mean(),
        "step": grouped["step"].mean(),
    }
    if "share_of_shift" in rows:
        along, squared = grouped["shift_along_total"].sum(), grouped["displacement_squared"].sum()
        columns["share_of_shift"] = along / squared
    table = pd.DataFrame(columns)
    counts = grouped["departure"].count()
    table["departure"] = grouped["departure"].mean()
    table["p"], table["q"] = np.nan, np.nan
    enough = counts >= FEWEST_CELLS
    if enough.any():
        means, variances = table["departure"][enough], grouped["departure"].var()[enough]
        _, p = moderated_t(means.to_numpy(), variances.to_numpy(), counts[enough].to_numpy())
        table.loc[enough, "p"] = p
        table.loc[enough, "q"] = false_discovery_rates(p)
    return table.reset_index().sort_values(
        ["cells", "gene_id"], ascending=[False, True], kind="stable", ignore_index=True
    )
