"""The results of estimates: tables, figures, and what a reader must know, in a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ranklock.estimates.figure import estimates_figure
from ranklock.estimates.manifest import CellsChecked, Manifest, Missed, Outcome
from ranklock.estimates.plan import EstimatesPlan
from ranklock.estimates.result import CHECKS, FIGURES, TABLE, VERIFIED
from ranklock.page.style import draw
from ranklock.run.files import write_whole
from ranklock.run.folder import file_digest
from ranklock.run.work import WorkFolder

_COLUMNS = (
    "gene", "gene_id", "effect", "standard_error", "chosen", "exact", "verified_estimate",
    "verified_in", "estimate", "n_cells", "ranked", "gross", "peak", "dominance", "gene_rank",
)  # fmt: skip


def write_results(
    work: WorkFolder,
    plan: EstimatesPlan,
    genes: pd.DataFrame,
    pairs: pd.DataFrame,
    checks: pd.DataFrame,
    *,
    suspects: int,
    least: int,
    missed: Missed,
) -> None:
    """Write tables and figures, and the manifest last.

    ``genes`` are of :func:`ranklock.estimates.genes.mended`, with names, ``chosen`` and ``ranked``.
    ``pairs`` has a row a knock-out that was measured,
    ``checks`` one a cell in which some were. ``suspects`` are suspicious genes, ``least`` the
    fewest cells of a gene that is ranked.
    """
    names = np.array(plan.cells.names, object)
    table = _table(genes)
    of_pairs = pairs.drop(columns=["agreement", "token"]).assign(
        cell=names[pairs["cell"]],
        gene=plan.genes["symbol"].loc[pairs["token"]].to_numpy(),
        gene_id=plan.genes["gene_id"].loc[pairs["token"]].to_numpy(),
    )
    of_cells = checks.rename_axis("row").reset_index()
    of_cells.insert(0, "cell", names[of_cells["row"]])
    frames = {TABLE: table, VERIFIED: of_pairs, CHECKS: of_cells}
    figure = estimates_figure(table, plan.asked.question)
    writers: dict[str, Callable[[Path], object]] = {
        name: partial(frame.to_parquet, index=False, compression="zstd")
        for name, frame in frames.items()
    }
    writers |= {name: partial(draw, figure) for name in FIGURES}
    for name, write in writers.items():
        write_whole(work.folder / name, write, work.locks / name)
    judged = checks["error"].dropna()
    outcome = Outcome(
        suspects=suspects,
        missed=missed,
        cells_checked=CellsChecked(
            len(judged),
            int(checks["bad"].sum()),
            int(checks["fell_back"].sum()),
            float(judged.median()),
        ),
        statements=tuple(_statements(plan, checks, missed, least)),
        files={name: file_digest(work.folder / name) for name in writers},
    )
    work.write_manifest(replace(Manifest.read(work.folder), outcome=outcome).to_json())


def _table(genes: pd.DataFrame) -> pd.DataFrame:
    """Every gene, the largest absolute effect first; those that are not ranked last."""
    table = genes.rename(columns={"symbol": "gene"}).assign(size=genes["effect"].abs())
    order = ["ranked", "size", "gene_id"]
    table = table.sort_values(order, ascending=[False, False, True], ignore_index=True)
    return table[list(_COLUMNS)]


def _statements(plan: EstimatesPlan, checks: pd.DataFrame, missed: Missed, least: int) -> list[str]:
    """What a reader must know before believing the table, a sentence each."""
    measuring = plan.asked.measuring
    bad, fell_back = int(checks["bad"].sum()), int(checks["fell_back"].sum())
    judged = int(checks["error"].notna().sum())
    statements = []
    if plan.asked.unknown:
        statements.append(f"No genes of the vocabulary, left out: {', '.join(plan.asked.unknown)}.")
    if bad:
        unmeasured = "" if fell_back == bad else f"; {bad - fell_back} were not (--fallback-cells)"
        statements.append(
            f"In {bad} of {judged} cells that were judged the estimates are bad (see error in "
            f"{CHECKS}); {fell_back} of these were measured whole{unmeasured}."
        )
    if not judged:
        statements.append("No cell has enough exact effects to judge its estimates (--verify).")
    if not missed.recall or any(np.isnan(share.value) for share in missed.recall):
        statements.append(
            "Too few genes were measured at random to say what the estimates miss (--recheck)."
        )
    if len(plan.rows) > 1 and least < measuring.min_cells:
        statements.append(
            f"No gene is in {measuring.min_cells} cells (--min-cells): those in {least} or "
            "more are ranked."
        )
    return statements
