"""From estimates to their table: choose, measure, judge, mend, write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ranklock.estimates.choice import RANDOM, choose_genes, choose_pairs, gene_means, order_of_cells
from ranklock.estimates.exact import measure_pairs
from ranklock.estimates.genes import as_large, judge_cells, mended, missed
from ranklock.estimates.manifest import Missed
from ranklock.estimates.parts import Parts
from ranklock.estimates.plan import EstimatesPlan
from ranklock.estimates.result import FALLBACK, read_estimates
from ranklock.estimates.write import write_results
from ranklock.run.run import INNER
from ranklock.run.work import WorkFolder


def finish(work: WorkFolder, plan: EstimatesPlan, parts: Parts, *, progress: bool) -> bool:
    """Write what was found, once all estimates are there; False while another is at it."""
    with work.setup_lock(wait=0.0) as held:
        if not held:
            return False
        work.forget_killed_processes()
        if read_estimates(work.folder).is_whole():
            return True
        means = gene_means(parts.tables())
        # Where no gene is in so many cells, those in the most are ranked, which is said.
        measuring = plan.asked.measuring
        least = min(measuring.min_cells, int(means["n_cells"].max()))
        chosen, suspects = choose_genes(
            means, measuring.verify, measuring.recheck, least, plan.asked.seed
        )
        measured = _measure(work.folder, plan, parts, chosen, progress=progress)
        if measured is None:
            return False
        pairs, checks = measured
        verify, seed = measuring.verify, plan.asked.seed
        genes = mended(means, gene_means(_with_exact(parts.tables(), pairs)), pairs).assign(
            chosen=chosen.reindex(means.index).fillna(""), ranked=means["n_cells"] >= least
        )
        correlation, recall = missed(genes, pairs, verify, seed)
        sampled = int((chosen == RANDOM).sum())
        write_results(
            work, plan, genes.join(plan.genes), pairs, checks, suspects=suspects, least=least,
            missed=Missed(sampled, as_large(genes, verify), correlation, tuple(recall)),
        )  # fmt: skip
    return True


def _measure(
    folder: Path, plan: EstimatesPlan, parts: Parts, chosen: pd.Series, *, progress: bool
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Measure the chosen genes in some cells, and cells whose estimates then prove bad, whole.

    Returns
    -------
    One row a knock-out that was measured: ``estimate``, ``exact``, ``sampled`` (whether its cell
    was taken at random for the gene), ``fell_back``, …; and one row a cell in which some were:
    ``error``, ``bad``, ``fell_back``. None while another process is at it.
    """
    asked, measuring = plan.asked, plan.asked.measuring
    order = order_of_cells(plan.cells.names, asked.seed)
    chosen_pairs = choose_pairs(
        parts.tables(), chosen.index.to_numpy(), order, measuring.verify_cells
    )
    pairs = measure_pairs(plan, chosen_pairs, folder / INNER, measuring.arms, progress=progress)
    if pairs is None:
        return None
    pairs = pairs.assign(fell_back=False)
    checks = judge_cells(pairs, asked.probes)
    worst = checks[checks["bad"]].sort_values("error", ascending=False).index
    checks["fell_back"] = checks.index.isin(worst[: measuring.fallback_cells])
    cells = checks.index[checks["fell_back"]]
    if len(cells):
        rows = pd.concat([table[table["cell"].isin(cells)] for table in parts.tables()])
        entire = measure_pairs(plan, rows, folder / FALLBACK, ["hold"], progress=progress)
        if entire is None:
            return None
        sampled = pairs[["cell", "token", "sampled"]]
        entire = entire.assign(fell_back=True).merge(sampled, on=["cell", "token"], how="left")
        entire["sampled"] = entire["sampled"].eq(True)
        pairs = pd.concat([pairs[~pairs["cell"].isin(cells)], entire])
        pairs = pairs.sort_values(["cell", "gene_rank"], ignore_index=True)
    return pairs, checks


def _with_exact(tables: Iterator[pd.DataFrame], pairs: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Estimates, with exact effects in their place in cells that were measured whole."""
    rows = pairs.loc[pairs["fell_back"], ["cell", "token", "exact"]]
    for table in tables:
        measured = table["cell"].isin(rows["cell"]).to_numpy()
        if measured.any():
            exact = table.merge(rows, on=["cell", "token"], how="left")["exact"].to_numpy()
            table = table.assign(estimate=np.where(measured, exact, table["estimate"]))
        yield table
