"""The results of estimates: tables, figures, and what a reader must know, in a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ranklock.estimates.figure import estimates_figure
from ranklock.estimates.manifest import Calibration, CellsChecked, Manifest, Missed, Outcome
from ranklock.estimates.plan import EstimatesPlan
from ranklock.estimates.result import CHECKS, FIGURES, TABLE, VERIFIED, read_estimates
from ranklock.page.style import draw
from ranklock.run.files import write_whole
from ranklock.run.folder import file_digest
from ranklock.run.work import WorkFolder
from ranklock.significance.pairs import MOSTLY_UNDER
from ranklock.significance.replicates import without_donor
from ranklock.statistics.replicates import FEWEST_REPLICATES

_COLUMNS = (
    "gene", "gene_id", "effect", "standard_error", "chosen", "exact", "verified_estimate",
    "verified_in", "estimate", "n_cells", "ranked", "gross", "peak", "dominance", "gene_rank",
    "specific", "t", "p", "q", "percentile", "n_replicates", "under_noise_floor",
)  # fmt: skip
_OF_TESTS = ["specific", "t", "p", "q", "percentile", "n_replicates"]


def write_results(
    work: WorkFolder,
    plan: EstimatesPlan,
    genes: pd.DataFrame,
    tested: pd.DataFrame,
    pairs: pd.DataFrame,
    checks: pd.DataFrame,
    *,
    suspects: int,
    least: int,
    calibration: Calibration,
    missed: Missed,
) -> None:
    """Write tables and figures, and the manifest last.

    ``genes`` are of :func:`ranklock.estimates.genes.mended`, with names, ``chosen`` and ``ranked``;
    ``tested`` against others at like ranks. ``pairs`` has a row a knock-out that was measured,
    ``checks`` one a cell in which some were. ``suspects`` are suspicious genes, ``least`` the
    fewest cells of a gene that is ranked.
    """
    names = np.array(plan.cells.names, object)
    table = _table(genes, tested)
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
        replicates=_replicates(plan).nunique(),
        suspects=suspects,
        calibration=calibration,
        missed=missed,
        cells_checked=CellsChecked(
            len(judged),
            int(checks["bad"].sum()),
            int(checks["fell_back"].sum()),
            float(judged.median()),
        ),
        noise_floor=read_estimates(work.folder).run.floor,
        statements=tuple(_statements(plan, checks, missed, least)),
        files={name: file_digest(work.folder / name) for name in writers},
    )
    work.write_manifest(replace(Manifest.read(work.folder), outcome=outcome).to_json())


def _table(genes: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    """Every gene, the largest absolute effect first; those that are not ranked last."""
    table = genes.join(tested.set_index("gene_id")[_OF_TESTS], on="gene_id")
    table = table.rename(columns={"symbol": "gene"}).assign(size=table["effect"].abs())
    # What is under the noise floor as measured is noise.
    table.loc[table["under_noise_floor"] >= MOSTLY_UNDER, ["t", "p", "q"]] = np.nan
    order = ["ranked", "size", "gene_id"]
    table = table.sort_values(order, ascending=[False, False, True], ignore_index=True)
    return table[list(_COLUMNS)]


def _replicates(plan: EstimatesPlan) -> pd.Series:
    """What each cell counts as: itself, or its donor; cells without one are left out."""
    rows = list(plan.rows)
    donor = plan.asked.measuring.donor
    return pd.Series(rows if donor is None else plan.donors[rows]).dropna()


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
    known = _replicates(plan)
    statements += without_donor(len(plan.rows), known, measuring.donor)
    replicates = known.nunique()
    if replicates < FEWEST_REPLICATES:
        statements.append(
            f"Nothing is tested: there are {replicates} replicates, and a test needs "
            f"{FEWEST_REPLICATES}."
        )
    return statements
