"""From a screen's estimates to its table: choose, measure, judge, mend, test, write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ranklock.estimates.choice import (
    RANDOM,
    choose_genes,
    choose_pairs,
    gene_means,
    order_of_cells,
)
from ranklock.estimates.exact import measure_pairs
from ranklock.estimates.figure import screen_figure
from ranklock.estimates.genes import as_large, judge_cells, mended, missed
from ranklock.estimates.parts import Estimates
from ranklock.estimates.plan import Checking, ScreenPlan
from ranklock.estimates.result import (
    CHECKS,
    FALLBACK,
    FIGURE_PNG,
    FIGURE_SVG,
    TABLE,
    VERIFIED,
    Screen,
    read_screen,
)
from ranklock.estimates.storage import keys_of
from ranklock.page.style import draw
from ranklock.run.folder import MANIFEST, file_digest
from ranklock.run.old_store import locked
from ranklock.run.old_sweep_folder import (
    LOCKS,
    forget_killed_processes,
    write_manifest,
    write_within,
)
from ranklock.run.old_sweep_result import INNER, read_sweep, sweep_in
from ranklock.significance.shift_tests import MOSTLY_UNDER, calibration_of, specific_tested
from ranklock.statistics.replicates import FEWEST_REPLICATES

Tables = Callable[[], Iterator[pd.DataFrame]]
_COLUMNS = (
    "gene", "gene_id", "effect", "standard_error", "chosen", "exact", "estimate_there",
    "verified_in", "estimate", "n_cells", "ranked", "gross", "peak", "dominance", "gene_rank",
    "specific", "t", "p", "q", "percentile", "n_replicates", "under_noise_floor",
)  # fmt: skip
_SMALLEST = 1e-30  # of a mean effect: below what a float32 forward could move


def finish(
    folder: Path, plan: ScreenPlan, estimates: Estimates, checking: Checking, *, progress: bool
) -> bool:
    """Write what a screen found, once all estimates are there; False while another is at it."""
    with locked(folder / LOCKS / "screen.lock") as mine:
        if not mine:
            return False
        forget_killed_processes(folder)
        there = read_screen(folder)
        if there.complete and _is_whole(there):
            return True
        means = gene_means(estimates.tables())
        least = min(checking.min_cells, len(plan.rows))
        chosen, suspects = choose_genes(
            means, checking.verify, checking.recheck, least, checking.seed
        )
        order = order_of_cells(keys_of(plan), checking.seed)
        pairs = choose_pairs(
            estimates.tables(), chosen.index.to_numpy(), order, checking.verify_cells
        )
        exact = measure_pairs(plan, pairs, folder / INNER, checking.arms, progress=progress)
        if exact is None:
            return False
        pairs = pairs.merge(exact, on=["cell", "token"], how="left").assign(fell_back=False)
        checks = judge_cells(pairs, plan.question.probes)
        worst = checks[checks["bad"]].sort_values("error", ascending=False).index
        checks["fell_back"] = checks.index.isin(worst[: checking.fallback_cells])
        whole = None
        if checks["fell_back"].any():
            rows = _of_cells(estimates, checks.index[checks["fell_back"]])
            whole = measure_pairs(plan, rows, folder / FALLBACK, ["hold"], progress=progress)
            if whole is None:
                return False
            rows = rows.merge(whole, on=["cell", "token"], how="left").assign(fell_back=True)
            rows = rows.merge(pairs[["cell", "token", "sampled"]], on=["cell", "token"], how="left")
            rows["sampled"] = rows["sampled"].eq(True)
            pairs = pd.concat([pairs[~pairs["cell"].isin(rows["cell"])], rows])
            pairs = pairs.sort_values(["cell", "gene_rank"], ignore_index=True)

        def tables() -> Iterator[pd.DataFrame]:
            return (_with_exact(table, whole) for table in estimates.tables())

        replaced = means if whole is None else gene_means(tables())
        genes = mended(means, replaced, pairs).assign(
            chosen=chosen.reindex(means.index).fillna(""), ranked=means["n_cells"] >= least
        )
        found = missed(genes, pairs, checking.verify, checking.seed)
        tested, calibration = _tested(folder, plan, tables, least, checking)
        under = genes["under_noise_floor"] >= MOSTLY_UNDER
        summary = {
            "suspects": suspects,
            "calibration": calibration,
            "missed": {
                "sampled": int((chosen == RANDOM).sum()),
                "as_large": as_large(genes, checking.verify),
                "correlation": _plain(asdict(found[0])),
                "recall": [_plain(asdict(recall)) for recall in found[1]],
            },
        }
        _write(folder, plan, genes, tested, under, pairs, checks, summary, checking)
    return True


def _is_whole(found: Screen) -> bool:
    measured = sweep_in(found.folder)
    return (measured is not None and measured.complete) and all(
        (found.folder / name).is_file() and file_digest(found.folder / name) == digest
        for name, digest in found.manifest["files"].items()
    )


def _of_cells(estimates: Estimates, cells: pd.Index) -> pd.DataFrame:
    parts = [table[table["cell"].isin(cells)] for table in estimates.tables()]
    return pd.concat(parts, ignore_index=True)


def _with_exact(table: pd.DataFrame, whole: pd.DataFrame | None) -> pd.DataFrame:
    """Estimates, with exact effects in their place in cells that were measured whole."""
    if whole is None or not table["cell"].isin(whole["cell"]).any():
        return table
    exact = table.merge(whole, on=["cell", "token"], how="left")["exact"].to_numpy()
    measured = table["cell"].isin(whole["cell"]).to_numpy()
    return table.assign(estimate=np.where(measured, exact, table["estimate"]))


def _tested(
    folder: Path, plan: ScreenPlan, tables: Tables, least: int, checking: Checking
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Effects against those of other genes at like ranks, over cells or donors, by ``gene_id``.

    And how the same tests come out with knock-outs swapped for rank-matched ones.
    """
    names = read_screen(folder).genes
    symbols, ids = names["symbol"].astype(str), names["gene_id"].astype(str)
    keys = np.array(keys_of(plan))
    donors = None
    if checking.donor is not None:
        donors = plan.cells.obs[checking.donor].astype(str).to_numpy()

    def shifts() -> Iterator[pd.DataFrame]:
        for table in tables():
            rows = table["cell"].to_numpy()
            values = table["estimate"].to_numpy(np.float64)
            scaled = values if plan.question.signed else np.log10(np.maximum(values, _SMALLEST))
            yield pd.DataFrame(
                {
                    "cell": keys[rows],
                    "replicate": keys[rows] if donors is None else donors[rows],
                    "gene": symbols.loc[table["token"]].to_numpy(),
                    "gene_id": ids.loc[table["token"]].to_numpy(),
                    "gene_rank": table["gene_rank"].to_numpy(),
                    "shift": values,
                    "scaled": scaled,
                    "under_noise_floor": False,
                }
            )

    tested, swapped = specific_tested(shifts, least, checking.seed)
    kept = ["gene_id", "specific", "t", "p", "q", "percentile", "n_replicates"]
    return tested[kept].set_index("gene_id"), _plain(calibration_of(tested, swapped))


def _write(
    folder: Path,
    plan: ScreenPlan,
    genes: pd.DataFrame,
    tested: pd.DataFrame,
    under: pd.Series,
    pairs: pd.DataFrame,
    checks: pd.DataFrame,
    summary: dict[str, Any],
    checking: Checking,
) -> None:
    there = read_screen(folder)
    names = there.genes.loc[genes.index]
    genes = genes.assign(
        gene=names["symbol"].astype(str).to_numpy(), gene_id=names["gene_id"].astype(str).to_numpy()
    )
    table = genes.join(tested, on="gene_id")
    table.loc[under, ["t", "p", "q"]] = np.nan  # as measured, they are noise
    table = table.reset_index(drop=True)
    table["size"] = table["effect"].abs()
    order = ["ranked", "size", "gene_id"]
    table = table.sort_values(order, ascending=[False, False, True], ignore_index=True)
    table = table[list(_COLUMNS)]
    labels = there.genes.loc[pairs["token"]]
    verified = pairs.assign(
        cell=np.array(plan.cells.names)[pairs["cell"]],
        gene=labels["symbol"].astype(str).to_numpy(),
        gene_id=labels["gene_id"].astype(str).to_numpy(),
    ).drop(columns=["token", "agreement"])
    checks = checks.rename_axis("row").reset_index()
    checks.insert(0, "cell", np.array(plan.cells.names)[checks["row"]])
    replicates = len(plan.rows)
    if checking.donor is not None:
        replicates = int(plan.cells.obs[checking.donor].iloc[list(plan.rows)].nunique())
    judged = checks["error"].dropna()
    figure = screen_figure(table, str(plan.asked["question"]))
    for name, frame in ((TABLE, table), (VERIFIED, verified), (CHECKS, checks)):
        write_within(folder / name, partial(_write_table, frame))
    for name in (FIGURE_PNG, FIGURE_SVG):
        write_within(folder / name, partial(draw, figure))
    files = (TABLE, VERIFIED, CHECKS, FIGURE_PNG, FIGURE_SVG)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest |= {
        "complete": True,
        "replicates": replicates,
        **summary,
        "cells_checked": {
            "judged": len(judged),
            "bad": int(checks["bad"].sum()),
            "fell_back": int(checks["fell_back"].sum()),
            "median_error": _number(float(np.median(judged)) if len(judged) else np.nan),
        },
        "noise_floor": read_sweep(folder / INNER).manifest["noise_floor"],
        "statements": _statements(plan, checking, checks, summary["missed"], replicates),
        "files": {name: file_digest(folder / name) for name in files},
    }
    write_manifest(folder, manifest)


def _statements(
    plan: ScreenPlan,
    checking: Checking,
    checks: pd.DataFrame,
    missed_by: dict[str, Any],
    replicates: int,
) -> list[str]:
    """What a reader must know before believing the table, a sentence each."""
    found = []
    bad, whole = int(checks["bad"].sum()), int(checks["fell_back"].sum())
    judged = int(checks["error"].notna().sum())
    if bad:
        rest = "" if whole == bad else f"; {bad - whole} were not (--fallback-cells)"
        found.append(
            f"In {bad} of {judged} cells that were judged the estimates are bad (see error in "
            f"{CHECKS}); {whole} of these were measured whole{rest}."
        )
    if not judged:
        found.append("No cell has enough exact effects to judge its estimates (--verify).")
    if any(recall["value"] is None for recall in missed_by["recall"]) or not missed_by["recall"]:
        found.append(
            "Too few genes were measured at random to say what the estimates miss (--recheck)."
        )
    if 1 < len(plan.rows) < checking.min_cells:
        found.append(
            f"There are {len(plan.rows)} cells, fewer than --min-cells: genes that all of them "
            "have are ranked."
        )
    if replicates < FEWEST_REPLICATES:
        found.append(
            f"Nothing is tested: there are {replicates} replicates, and a test needs "
            f"{FEWEST_REPLICATES}."
        )
    return found


def _plain(numbers: dict[str, Any]) -> dict[str, Any]:
    """The same for JSON, which has no NaN."""
    return {
        name: _number(value) if isinstance(value, float) else value
        for name, value in numbers.items()
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _write_table(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, index=False, compression="zstd")
