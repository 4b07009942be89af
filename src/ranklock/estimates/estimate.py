"""Estimate what every knock-out does from passes back through each cell; measure where it matters.

The stages: estimates of all cells, part by part; a choice of genes and cells; exact effects of
these; cells that are found to be estimated badly, measured whole; one table over cells.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ranklock.cells import Cells
from ranklock.errors import InputError
from ranklock.estimates.attribution import estimate_cell
from ranklock.estimates.finish import finish
from ranklock.estimates.folder import (
    OWN,
    forget_measurements,
    identity_of,
    measured_of,
    refuse_foreign,
    set_up,
)
from ranklock.estimates.manifest import KIND, Measuring
from ranklock.estimates.parts import ESTIMATED, FOLDER, Parts
from ranklock.estimates.plan import EstimatesPlan, plan_estimates
from ranklock.estimates.result import Estimates, read_estimates
from ranklock.models import Model
from ranklock.progress import progress as show_progress
from ranklock.run.plan import unperturbed_cell
from ranklock.run.run import digest_of
from ranklock.run.states import States
from ranklock.run.work import bytes_in, work_folder, work_through


def estimate(
    cells: Cells,
    model: Model,
    out: str | Path,
    *,
    goal: States | None = None,
    classifier: str | None = None,
    potency: bool = False,
    gene_set: Sequence[str | int] | None = None,
    responder: str | int | None = None,
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
) -> Estimates:
    """Rank all genes of all cells by what knocking them out does to one number.

    All knock-outs of a cell are estimated from one forward and a pass back (several where there is
    no one number, but a mean effect). The largest are then measured by real forwards, and so are
    some of the others, which tells what the estimates miss. Positions are held throughout, so that
    no rank shift enters. Work that was stopped goes on when it is called again.

    Parameters
    ----------
    cells
        Cells, from :func:`ranklock.read_cells`.
    model
        Checkpoint, from :func:`ranklock.load_model`.
    out
        Folder for the results. Several processes may work on one.
    goal
        Question: how far does a knock-out turn the cell embedding from its state to another
        (change of cosine)? ``States(key, start, goal)``; with ``within``, each cell's goal is that
        of its own donor.
    classifier
        Question: what does it do to the logit of this label of a fine-tuned checkpoint?
    potency
        Question: how far does it move the other genes (mean cosine distance)?
    gene_set
        Question: how far does it move these genes (mean cosine distance)?
    responder
        Question: how far does it move this one gene? Cells without it are left out.
    verify
        Genes with the largest estimates that are knocked out by forwards; of suspicious ones half
        as many more, at most.
    recheck
        Genes at random, of the others: what tells how much the estimates miss.
    verify_cells
        Cells of each of these genes, at random.
    fallback_cells
        Cells that are measured whole, at most, where their estimates prove bad.
    probes
        Random signs, each a pass back, for mean effects.
    arms
        Arms of the forwards; with ``delete``, ``mask`` and ``shift`` too, an audit can be made.
    donor
        Column of obs that names donors: it is that of the run in it.
    min_cells
        Genes in fewer cells are neither ranked nor measured; where no gene is in so many,
        those in the most cells are.
    layer
        Layer to read, as Geneformer's ``emb_layer``: 0 is the last, -1 the second to last (the
        default; a classifier reads the last).
    precision
        Number format, as of :func:`ranklock.perturb`.
    seed
        Of the random signs and of all choices.
    overwrite
        Replace estimates that are in the folder already. They are kept if only what is measured
        of them changes.
    progress
        Whether to show the plan and progress on stderr.

    Returns
    -------
    Estimates
        ``table`` (every gene), ``cell()``, ``verified``, ``checks`` (DataFrames), ``run``.

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
    ...     estimates = ranklock.estimate(
    ...         cells[:1], model, folder + "/run", potency=True, verify=5, recheck=5, progress=False
    ...     )
    ...     len(estimates.table) == len(cells.ranked[0])
    True
    """
    folder = Path(out).resolve()
    refuse_foreign(folder)
    measuring = Measuring(
        verify, recheck, verify_cells, fallback_cells, tuple(arms), donor, min_cells
    )
    plan = plan_estimates(
        cells, model, goal=goal, classifier=classifier, potency=potency, gene_set=gene_set,
        responder=responder, probes=probes, measuring=measuring, layer=layer, precision=precision,
        seed=seed, progress=progress,
    )  # fmt: skip
    identity, measured = identity_of(plan), measured_of(plan)
    plan.check_disk(folder, already=bytes_in(folder / FOLDER))
    kept = forget_measurements(folder, identity, measured, overwrite=overwrite)
    with work_folder(folder, KIND, identity, OWN, overwrite=overwrite and not kept) as work:
        if progress:
            print("\n".join(plan.describe(folder)), file=sys.stderr)
        with work.setup_lock():
            set_up(work, plan, measured)
        parts = Parts(folder, len(plan.parts), digest_of(identity))
        waiting = run_parts(plan, parts, progress=progress)
        if waiting or not finish(work, plan, parts, progress=progress):
            print(
                "note: another process is at work on these estimates; it finishes them, or the "
                "same command does once that has ended.",
                file=sys.stderr,
            )
    return read_estimates(folder)


def run_parts(plan: EstimatesPlan, parts: Parts, *, progress: bool) -> int:
    """Compute and store every part that is not there; the number of those left to others."""
    with show_progress(plan.knockouts, "knock-outs", shown=progress) as advance:

        def finish(part: int) -> None:
            if parts.is_sound(part):
                advance(sum(map(plan.genes_of, plan.parts[part])), done_before=True)
                return
            tables = []
            for row in plan.parts[part]:
                tables.append(estimates_of(plan, row))
                advance(plan.genes_of(row))
            parts.write(part, pd.concat(tables, ignore_index=True))

        return work_through(range(parts.number), parts.lock, finish)


def estimates_of(plan: EstimatesPlan, row: int) -> pd.DataFrame:
    """Estimates of one cell, as parts hold them; an InputError where they cannot be had."""
    cell = unperturbed_cell(plan.cells, row, plan.model)
    name = plan.cells.names[row]
    try:
        estimates = estimate_cell(
            plan.model, cell, plan.question_of(row), plan.depth,
            special_frame=plan.cells.special_frame, precision=plan.asked.precision,
        )  # fmt: skip
    except MemoryError as error:
        raise InputError(
            f"Cell {name} ({len(cell)} tokens) does not fit into the memory of "
            f"{plan.model.device}; take another device. What was done is kept."
        ) from error
    if not np.isfinite(estimates.peak).all() or not np.isfinite(estimates.gross).any():
        raise InputError(
            f"The model gives NaN or infinity for cell {name} of {plan.cells.source}; its weights "
            f"are damaged, or too large for {plan.asked.precision}. What was done is kept."
        )
    genes = np.flatnonzero(cell.ranks >= 0)
    table = pd.DataFrame(
        {
            "cell": row,
            "token": cell.tokens[genes],
            "gene_rank": cell.ranks[genes],
            **{name: getattr(estimates, name) for name in ESTIMATED},
        }
    )
    # A gene that is the only responder has no effect; one that only forwards can tell is kept.
    return table if plan.question.signed else table.dropna(subset="estimate")
