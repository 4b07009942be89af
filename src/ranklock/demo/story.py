"""What the demo does, and what it says of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ranklock.arms import edit_arm, whole_arm
from ranklock.audits.audit import audit
from ranklock.audits.folder import Audit
from ranklock.cells import Selection, read_cells
from ranklock.demo import cells_file, model_folder, vocabulary_file
from ranklock.errors import OutputError
from ranklock.models import load_model
from ranklock.run.files import write_whole
from ranklock.run.folder import file_digest
from ranklock.run.perturb import perturb
from ranklock.run.run import FIGURES, Run
from ranklock.run.states import States
from ranklock.run.work import work_folder
from ranklock.significance.responders import Responders, read_responders, responders

GENE = "SPI1"
PRECISION = "float32"  # the same numbers on every machine
CELL_TYPE, GOAL = "CD14+ Monocyte", "Dendritic"
RUN, TESTED, AUDIT, EFFECTS = "run", "tested", "audit", "effects.h5ad"
IMPOSTORS = 8
STEP = 2.0  # called a step when genes below the rank move this many times as far as those above it
_TOP = 10
_NAMED = 4  # findings


@dataclass(frozen=True)
class Demo:
    """The demo's knock-out, its tests and audit, in their folder."""

    folder: Path
    run: Run
    responders: Responders
    audit: Audit

    def text(self) -> list[str]:
        """What was found, and where it is."""
        return [
            *tell(self.run),
            tell_findings(self.responders),
            f"Figure:  {self.folder / RUN / FIGURES[0]}",
            f"Findings: {self.folder / TESTED} (each responder beside impostors)",
            f"Results: {self.folder / EFFECTS} (AnnData; the whole run is {self.folder / RUN})",
            f"Report:  {self.folder / AUDIT / self.audit.report.name} (the five questions, "
            "answered on these cells)",
        ]


def run_demo(folder: str | Path, *, overwrite: bool = False, progress: bool = True) -> Demo:
    """Knock PU.1 (SPI1) out of the demo's monocytes, and audit them with dendritic cells as a goal.

    Parameters
    ----------
    folder
        Where the results go. A demo that was stopped goes on there.
    overwrite
        Replace the demo that is there.
    progress
        Whether to show progress.

    Raises
    ------
    OutputError
        When the folder holds something else, or cannot be written.
    """
    identity = {"cells": file_digest(cells_file()), "vocabulary": file_digest(vocabulary_file())}
    with work_folder(
        folder, "demo", identity, (RUN, TESTED, AUDIT, EFFECTS), overwrite=overwrite
    ) as work:
        work.write_manifest({"complete": False})
        model = load_model(model_folder())
        monocytes = read_cells(
            cells_file(), vocabulary_file(), select=Selection(where={"cell_type": (CELL_TYPE,)})
        )
        run = perturb(
            monocytes,
            model,
            [GENE],
            impostors=IMPOSTORS,
            null_model=True,
            precision=PRECISION,
            out=work.folder / RUN,
            overwrite=overwrite,
            progress=progress,
        )
        write_whole(work.folder / EFFECTS, run.effects().write_h5ad)
        tested = _tested(run, work.folder / TESTED)
        audited = audit(
            read_cells(cells_file(), vocabulary_file()),
            model,
            work.folder / AUDIT,
            states=States("cell_type", start=(CELL_TYPE,), goal=GOAL),
            precision=PRECISION,
            overwrite=overwrite,
            progress=progress,
        )
        work.write_manifest({"complete": True})
    return Demo(Path(folder), run, tested, audited)


def _tested(run: Run, folder: Path) -> Responders:
    """Tests of the demo's run: those that are there, or new ones."""
    with suppress(OutputError):
        there = read_responders(folder)
        if there.manifest["run"]["identity"] == run.manifest.identity:
            return there
    tested = responders(run, progress=False)
    tested.save(folder, overwrite=True)
    return tested


def tell(run: Run) -> list[str]:
    """Five lines: what was found, and what of it was artefact."""
    whole, edit = whole_arm(run.arms), edit_arm(run.arms)
    if whole is None or edit is None:
        raise ValueError("the demo's story is of a run with a whole arm and its edit")
    by_arm = dict(list(run.shifts.groupby("arm", observed=True)))
    rows = by_arm[whole]
    ranks, lengths = rows["gene_rank"], rows["genes_in_cell"]
    share = rows["shift_along_total"].sum() / rows["displacement_squared"].sum()
    correlation = {
        arm: by_arm[arm]["gene_rank"].corr(by_arm[arm]["cosine_distance"], method="spearman")
        for arm in (whole, edit)
    }
    return [
        f"PU.1 ({rows['gene'].iloc[0]}) knocked out of {len(rows)} monocytes, where it stands at "
        f"rank {ranks.min()} to {ranks.max()} of {lengths.min()} to {lengths.max()}.",
        f"{whole}: the genes below it move {_step(rows)}.",
        f"{edit}: with every position held, the same removal moves them {_step(by_arm[edit])}.",
        f"Artefact: {share:.1%} of the squared displacement under {whole} is rank shift; of the "
        f"ten genes that move most under {whole}, {_shared_top(run, whole, edit):.1f} are among "
        f"the ten under {edit}.",
        f"Cell shift against the gene's rank (Spearman): {correlation[whole]:+.2f} under {whole}, "
        f"{correlation[edit]:+.2f} under {edit}.",
    ]


def tell_findings(tested: Responders) -> str:
    """Which responders remain beside impostors, and what a model without knowledge shows."""
    arm = tested.first_arm
    findings = tested.findings(arm)
    counts = tested.summary.set_index("arm").loc[arm]
    named = ", ".join(
        f"{row.responder} ×{row.fold:.1f} in {row.n_cells} cells"
        for row in findings.sort_values("q", kind="stable").head(_NAMED).itertuples(index=False)
    )
    null = 0 if pd.isna(counts["null_found"]) else int(counts["null_found"])
    return (
        f"Beside {IMPOSTORS} impostors, genes that a cell lacks put in its place: {len(findings)} "
        f"of {counts['tested']} responders move more than "
        f"×{tested.manifest['asked']['minimum']:g} as far under {arm}"
        + (f" (the surest: {named})" if named else "")
        + f"; in the same model with its weights permuted {null} do."
    )


def _step(rows: pd.DataFrame) -> str:
    """How far genes below the rank move, beside those above it, and whether that is a step."""
    below, above = rows["median_shifted"].median(), rows["median_unshifted"].median()
    verdict = "a step" if below / above >= STEP else "no step"
    return (
        f"{below / above:.1f} times as far as those above it (median cosine distance {below:.1e} "
        f"against {above:.1e}): {verdict}"
    )


def _shared_top(run: Run, *arms: str) -> float:
    """Mean over cells of how many of the responders that move most two arms have in common."""
    shared = []
    for block in run.blocks(arms=arms):
        top = [np.argsort(-np.nan_to_num(block.distances[arm]), axis=1)[:, :_TOP] for arm in arms]
        shared += [len(np.intersect1d(*pair)) for pair in zip(*top, strict=True)]
    return float(np.mean(shared))
