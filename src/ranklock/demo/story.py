"""What the demo does, and what it says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranklock.audits.audit import audit
from ranklock.cells import Cells, Selection, read_cells
from ranklock.demo import cells_file, model_folder, vocabulary_file
from ranklock.models import load_model
from ranklock.run.states import StateQuestion

if TYPE_CHECKING:
    from pathlib import Path

    from ranklock.audits.folder import Audit
    from ranklock.run.old_run import Run

DEMO_GENE = "SPI1"
DEMO_CELL_TYPE = "CD14+ Monocyte"
DEMO_GOAL = "Dendritic"
STEP = 2.0  # called a step when genes after the rank move this many times as far as those before


def demo_cells() -> Cells:
    """CD14+ monocytes of the demo, those the model was trained on and those held out."""
    return read_cells(
        cells_file(), vocabulary_file(), select=Selection(where={"cell_type": (DEMO_CELL_TYPE,)})
    )


def demo_audit(out: Path, *, overwrite: bool = False) -> Audit:
    """The five questions on the demo's monocytes, with dendritic cells as their goal."""
    return audit(
        read_cells(cells_file(), vocabulary_file()),
        load_model(model_folder()),
        out,
        states=StateQuestion("cell_type", DEMO_CELL_TYPE, DEMO_GOAL),
        overwrite=overwrite,
    )


def tell(run: Run) -> list[str]:
    """Five lines: what was found, and what of it was artefact."""
    found = run.manifest["summary"][0]
    delete, hold = found["arms"]["delete"], found["arms"]["hold"]
    ranks, lengths, shifts = found["ranks"], found["genes_in_cell"], run.cell_shifts
    correlation = {
        arm: part["gene_rank"].corr(part["cosine_distance"], method="spearman")
        for arm, part in shifts.groupby("arm", observed=True)
    }
    agreement = _shared_top(run, 10)
    return [
        f"PU.1 ({found['gene']}) knocked out of {found['cells']} monocytes, where it stands at "
        f"rank {ranks[0]} to {ranks[1]} of {lengths[0]} to {lengths[1]}.",
        f"delete: the genes below it move {_ratio(delete):.1f} times as far as those above it "
        f"(median cosine distance {delete['median_after']:.1e} against "
        f"{delete['median_before']:.1e}): {_verdict(delete)}.",
        "hold: with every position held, the same removal moves them "
        f"{_ratio(hold):.1f} times as far "
        f"({hold['median_after']:.1e} against {hold['median_before']:.1e}): {_verdict(hold)}.",
        f"Artefact: {found['artefact_share']:.1%} of the squared movement under delete is rank "
        "shift; of the ten genes that move most under delete, "
        f"{agreement:.1f} are among the ten under hold.",
        "Cell shift against the gene's rank (Spearman): "
        f"{correlation['delete']:+.2f} under delete, {correlation['hold']:+.2f} under hold.",
    ]


def _ratio(sides: dict[str, float]) -> float:
    return sides["median_after"] / sides["median_before"]


def _verdict(sides: dict[str, float]) -> str:
    return "a step" if _ratio(sides) >= STEP else "no step"


def _shared_top(run: Run, most: int) -> float:
    """Mean over cells of how many of the most moved genes two arms have in common."""
    shared = []
    for _, rows in run.table.groupby("cell", observed=True):
        tops = [
            set(rows[rows["arm"] == arm].nlargest(most, "cosine_distance")["responder"])
            for arm in ("delete", "hold")
        ]
        shared.append(len(tops[0] & tops[1]))
    return float(np.mean(shared))
