"""Estimate what every knock-out does from passes back through each cell; measure where it matters.

The stages: estimates of all cells, part by part; a choice of genes and cells; exact effects of
these; cells that are found to be estimated badly, measured whole; one table over cells.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ranklock.cells import Cells
from ranklock.errors import InputError
from ranklock.estimates.attribution import Screened, screen_cell
from ranklock.estimates.finish import finish
from ranklock.estimates.parts import FOLDER, Estimates
from ranklock.estimates.plan import Checking, ScreenPlan, plan_screen
from ranklock.estimates.result import Screen, read_screen
from ranklock.estimates.storage import (
    check_place,
    check_screen_folder,
    donors_digest,
    identity_of,
    set_up,
)
from ranklock.models import Model
from ranklock.progress import progress as show_progress
from ranklock.run.old_plan import baseline_of
from ranklock.run.old_sweep_folder import LOCKS, at_work, bytes_in, writing
from ranklock.run.old_sweep_result import digest_of
from ranklock.run.states import StateQuestion


def screen(
    cells: Cells,
    model: Model,
    out: str | Path,
    *,
    goal: StateQuestion | None = None,
    classifier: str | None = None,
    potency: bool = False,
    gene_set: Sequence[str | int] | None = None,
    verify: int = 50,
    recheck: int = 25,
    verify_cells: int = 20,
    fallback_cells: int = 10,
    probes: int = 32,
    arms: Sequence[str] = ("hold",),
    donor: str | None = None,
    min_cells: int = 5,
    layer: int | None = None,
    precision: str = "float32",
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Screen:
    """Rank all genes of all cells by what knocking them out does to one number.

    All knock-outs of a cell are estimated from one forward and a pass back (several where there is
    no one number, but a mean effect). The largest are then measured by real forwards, and so are
    some of the others, which tells what the estimates miss. Positions are held throughout, so that
    no rank shift enters. A screen that was stopped goes on when it is called again.

    Parameters
    ----------
    cells
        Cells, from :func:`ranklock.read_cells`.
    model
        Checkpoint, from :func:`ranklock.load_model`.
    out
        Folder for the results. Several processes may work on one.
    goal
        Question: how far does a knock-out turn the cell embedding from one state to another
        (change of cosine)?
    classifier
        Question: what does it do to the logit of this label of a fine-tuned checkpoint?
    potency
        Question: how far does it move the other genes (mean cosine distance)?
    gene_set
        Question: how far does it move these genes (mean cosine distance)?
    verify, recheck, verify_cells, fallback_cells, donor, min_cells
        As of :class:`ranklock.estimates.plan.Checking`.
    probes
        Random signs, each a pass back, for the last two questions.
    arms
        Arms of the forwards; with ``delete``, ``mask`` and ``shift`` too, an audit can be made.
    layer
        Layer to read, as Geneformer's ``emb_layer``: 0 is the last, -1 the second to last (the
        default; a classifier reads the last).
    precision
        Number format, as of :func:`ranklock.sweep`.
    seed
        Of the random signs and of all choices.
    overwrite
        Replace a screen that is in the folder already. Its estimates are kept if only what is
        measured changes.
    progress
        Whether to show the plan and progress on stderr.

    Returns
    -------
    Screen
        ``table`` (every gene), ``cell()``, ``verified``, ``checks`` (DataFrames), ``sweep``.

    Raises
    ------
    InputError
        Before the first forward, when something does not fit.
    OutputError
        When the folder holds something else, or cannot be written.

    Examples
    --------
    >>> import tempfile, ranklock
    >>> cells = ranklock.read_cells(ranklock.demo.cells_file(), ranklock.demo.vocabulary_file())
    >>> model = ranklock.load_model(ranklock.demo.model_folder())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = ranklock.screen(
    ...         cells[:1], model, folder + "/run", potency=True, verify=5, recheck=5, progress=False
    ...     )
    ...     len(found.table) == len(cells.ranked[0])
    True
    """
    checking = Checking(
        verify, recheck, verify_cells, fallback_cells, tuple(arms), donor, min_cells, seed
    )
    checking.check(cells)
    check_place(Path(out).resolve())
    plan = plan_screen(
        cells, model, goal=goal, classifier=classifier, potency=potency, gene_set=gene_set,
        probes=probes, layer=layer, precision=precision, seed=seed,
    )  # fmt: skip
    return run_screen(plan, checking, Path(out), overwrite=overwrite, progress=progress)


def regulators(
    gene: str | int,
    cells: Cells,
    model: Model,
    out: str | Path,
    **options: Any,
) -> Screen:
    """Rank all genes by how far knocking each out moves one responder.

    Parameters
    ----------
    gene
        The responder, by symbol, Ensembl ID or token.
    cells, model, out
        As in :func:`screen`; cells without the gene are left out.
    **options
        All others of :func:`screen`, questions excepted.
    """
    return screen(cells, model, out, gene_set=[gene], **options)


def run_screen(
    plan: ScreenPlan, checking: Checking, out: Path, *, overwrite: bool, progress: bool
) -> Screen:
    """Do what a plan says, or what is left of it.

    Parameters
    ----------
    plan, checking
        What is estimated, and what is measured.
    out, overwrite, progress
        As in :func:`screen`.
    """
    folder = out.resolve()
    identity = identity_of(plan, asdict(checking) | {"donors": donors_digest(plan, checking)})
    asked = {
        "command": "screen", **plan.asked, "layer": plan.layer, "precision": plan.precision,
        **asdict(checking),
    }  # fmt: skip
    with writing(folder):
        check_screen_folder(folder, identity, overwrite=overwrite)
        plan.check_fits(folder, already=bytes_in(folder / FOLDER))
        if progress:
            print("\n".join(plan.describe(folder)), file=sys.stderr)
        (folder / LOCKS).mkdir(parents=True, exist_ok=True)
        with at_work(folder):
            set_up(folder, plan, asked, identity)
            estimates = Estimates(folder, len(plan.parts), digest_of(identity["estimates"]))
            waiting = run_parts(plan, estimates, progress=progress)
            if waiting or not finish(folder, plan, estimates, checking, progress=progress):
                print(
                    "note: another process is at work on this screen; it finishes it, or the same "
                    "command does once that has ended.",
                    file=sys.stderr,
                )
    return read_screen(folder)


def run_parts(plan: ScreenPlan, estimates: Estimates, *, progress: bool) -> int:
    """Compute and store every part that is not there; the number of those left to others."""
    with show_progress(plan.genes, "knock-outs", shown=progress) as advance:
        left = list(range(len(plan.parts)))
        while True:
            passed_over = []
            for part in left:
                with estimates.part_locked(part) as mine:
                    if not mine:
                        passed_over.append(part)
                    elif estimates.is_sound(part):
                        advance(sum(len(plan.cells.ranked[row]) for row in plan.parts[part]))
                    else:
                        tables = []
                        for row in plan.parts[part]:
                            tables.append(estimates_of(plan, row))
                            advance(len(tables[-1]))
                        estimates.write(part, pd.concat(tables, ignore_index=True))
            if not passed_over or len(passed_over) == len(left):
                return len(passed_over)
            left = passed_over


def estimates_of(plan: ScreenPlan, row: int) -> pd.DataFrame:
    """Estimates of one cell, as :class:`ranklock.estimates.parts.Estimates` keeps them.

    Raises
    ------
    InputError
        When the model gives NaN, or a cell does not fit into memory.
    """
    cell = baseline_of(plan.cells, row, plan.model)
    name = plan.cells.names[row]
    try:
        found = screen_cell(
            plan.model, cell, plan.question, plan.depth,
            special_frame=plan.cells.special_frame, precision=plan.precision,
        )  # fmt: skip
    except MemoryError as error:
        raise InputError(
            f"Cell {name} ({len(cell)} tokens) does not fit into the memory of "
            f"{plan.model.device}; take another device. What was done is kept."
        ) from error
    _check_finite(found, name, plan)
    genes = np.flatnonzero(cell.ranks >= 0)
    table = pd.DataFrame(
        {
            "cell": row,
            "token": cell.tokens[genes],
            "gene_rank": cell.ranks[genes],
            "estimate": found.estimate,
            "gross": found.gross,
            "peak": found.peak,
            "dominance": found.dominance,
            "agreement": _agreement(found),
        }
    )
    # A gene that is the only responder has no effect; one that only forwards can tell is kept.
    return table if plan.question.signed else table.dropna(subset="estimate")


def _agreement(found: Screened) -> float:
    """Correlation of derivative and removal: where it is low, the first order is in doubt."""
    both = np.isfinite(found.estimate) & np.isfinite(found.derivative)
    one, other = found.estimate[both], found.derivative[both]
    if len(one) < 3 or not np.ptp(one) or not np.ptp(other):
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _check_finite(found: Screened, name: str, plan: ScreenPlan) -> None:
    if not np.isfinite(found.peak).all() or not np.isfinite(found.gross).any():
        raise InputError(
            f"The model gives NaN or infinity for cell {name} of {plan.cells.source}; its weights "
            f"are damaged, or too large for {plan.precision}. What was done is kept."
        )
