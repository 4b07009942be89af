"""The audit: knock-outs over all ranks, and the five questions answered from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ranklock.arms import DEFAULT_ARMS, find_arms
from ranklock.audits.answers import answer
from ranklock.audits.budget import DEFAULT_BUDGET, Budget, parse_budget
from ranklock.audits.folder import Audit, read_audit
from ranklock.audits.measure import measure
from ranklock.audits.sample import FEWEST, Sample, draw_sample
from ranklock.audits.uncertainty import describe_sample
from ranklock.audits.write import (
    SWEEP,
    begun_sample,
    check_audit_folder,
    remember_sample,
    write_audit,
)
from ranklock.cells import Cells
from ranklock.errors import InputError, OptionError
from ranklock.genes.network import Network
from ranklock.models import Model
from ranklock.models.encoder import output_of_layer
from ranklock.models.precision import check_precision
from ranklock.page.files import check_formats
from ranklock.run.old_plan import check_fit
from ranklock.run.old_sweep import run_sweep
from ranklock.run.old_sweep_folder import writing
from ranklock.run.old_sweep_plan import SweepPlan, plan_of_ranks
from ranklock.run.old_sweep_result import Sweep
from ranklock.run.states import MOST_CELLS, StateQuestion, state_embedding

_CELLS_TO_TIME = 3
_BESIDE = 0.7  # of a time: the rest goes to writing, measuring and the report


def audit(
    cells: Cells,
    model: Model,
    out: str | Path,
    *,
    budget: str | int = DEFAULT_BUDGET,
    seed: int = 0,
    arms: Sequence[str] = DEFAULT_ARMS,
    layer: int = -1,
    states: StateQuestion | None = None,
    network: Network | None = None,
    precision: str = "float32",
    batch_size: int | None = None,
    figures: Sequence[str] = (),
    overwrite: bool = False,
    progress: bool = True,
) -> Audit:
    """Answer the five questions on these cells and this checkpoint, in a report.

    Knocks out genes at ranks spread over each cell, under every arm, and writes ``report.html``,
    ``audit.json``, tables and the sweep under them. An audit that was stopped goes on when it is
    called again with the same arguments.

    Parameters
    ----------
    cells
        Cells, from :func:`ranklock.read_cells`.
    model
        Checkpoint, from :func:`ranklock.load_model`.
    out
        Folder for the results.
    budget
        Forwards, as ``4000``, or time, as ``"10m"``. What that leaves uncertain is said in the
        report. A time is turned into knock-outs by this machine's speed, so that another machine
        makes another sample; a number of forwards gives the same everywhere.
    seed
        Of the sample and of random draws.
    arms
        Names of arms.
    layer
        Layer to read, as Geneformer's ``emb_layer``.
    states
        Start and goal states: cells in the start state are audited, and their shifts towards the
        goal state are read.
    network
        Known links, from :func:`ranklock.read_network`. Half of the knock-outs are then of its
        regulators.
    precision, batch_size
        As in :func:`ranklock.sweep`.
    figures
        Formats of the figures as files: ``png``, ``svg``. They need kaleido, and Chrome or
        Chromium.
    overwrite
        Replace another audit that is in the folder.
    progress
        Whether to show progress on stderr.

    Returns
    -------
    Audit
        ``verdict``, ``content``, ``table(…)``, ``report``, ``sweep``.

    Raises
    ------
    InputError
        Before the first forward, when something does not fit.
    OutputError
        When the folder holds something else, or cannot be written.
    """
    wanted, formats = parse_budget(budget), check_formats(figures)
    # An alias runs as what it is the same as, and is compared as that.
    chosen = find_arms(dict.fromkeys(arm.runs_as or arm.name for arm in find_arms(arms)))
    check_fit(cells, model, chosen)
    check_precision(precision, model.device)
    depth = output_of_layer(model, layer)
    targets = None if network is None else network.targets(_finder(cells), cells.vocabulary.source)
    audited, goal = cells, None
    if states is not None:
        states.ends()
        if states.alternatives:
            raise OptionError("An audit has no alternative states; a sweep has.")
        audited, goal = cells[states.rows(cells, states.start)], states.rows(cells, states.goal)
    folder = Path(out).resolve()
    identity = {
        "checkpoint": model.sha256,
        "vocabulary": cells.vocabulary.sha256,
        "cells": cells.sha256(),
        "layer": depth,
        "arms": [arm.name for arm in chosen],
        "precision": precision,
        "budget": str(budget),
        "seed": seed,
        "states": None
        if states is None or goal is None
        else {**states.named, "cells": [audited.sha256(), cells[goal].sha256()]},
        "network": None if network is None else network.sha256,
        "version of Ranklock": version("ranklock"),
    }
    with writing(folder):
        check_audit_folder(folder, identity, overwrite=overwrite)
        sources = sorted(targets or {})

        def planned(sample: Sample, embeddings: Mapping[str, Any] | None = None) -> SweepPlan:
            return plan_of_ranks(
                audited[list(sample.cells)],
                model,
                dict(enumerate(sample.ranks)),
                [arm.name for arm in chosen],
                layer=layer,
                precision=precision,
                states=embeddings,
            )

        spent = 0 if goal is None else min(len(goal), MOST_CELLS)
        sample = begun_sample(folder) or _sample(
            audited, model, wanted, sources, seed, planned, spent
        )
        embeddings = None
        if goal is not None:
            embeddings = {
                "goal": state_embedding(cells, goal, model, depth, precision=precision, seed=seed)
            }
        plan = planned(sample, embeddings)
        remember_sample(folder, identity, sample)
        asked = {
            "genes": f"{sample.knockouts} knock-outs over the ranks of {len(sample.cells)} cells",
            "responders": "all",
            "states": identity["states"] or {},
        }  # fmt: skip
        found = run_sweep(plan, folder / SWEEP, asked, batch_size=batch_size, progress=progress)
        if not found.complete:
            raise InputError(
                f"Another process is at work on {folder}; the audit is written by the command that "
                "ends last: run this one again then."
            )
        measured = measure(
            found,
            by_rank=_named(plan, sample),
            sources=sources if targets else (),
            progress=progress,
        )
        symbols = found.genes["symbol"].astype(str).to_dict()
        answers = answer(
            measured, targets=targets, network=network.name if network else "", symbols=symbols,
            seed=seed,
        )  # fmt: skip
        of_sample = {
            "cells": len(plan.layouts),
            "cells_given": len(audited),
            "budget": str(budget),
            "seed": seed,
            "forwards": plan.forwards,
            "states": None if states is None else {
                **states.named, "goal_cells": min(len(goal), MOST_CELLS) if goal is not None else 0
            },
            "network": None if network is None else network.name,
        }  # fmt: skip
        write_audit(
            folder, measured, answers, describe_sample(of_sample, measured, answers), found, formats
        )
    return read_audit(folder)


def audit_sweep(
    sweep: Sweep,
    out: str | Path,
    *,
    network: Network | None = None,
    seed: int = 0,
    figures: Sequence[str] = (),
    overwrite: bool = False,
    progress: bool = True,
) -> Audit:
    """Answer the five questions from a sweep that is there, without another forward.

    Parameters
    ----------
    sweep
        From :func:`ranklock.read_sweep`; what it did not read is not answered.
    out, network, seed, figures, overwrite, progress
        As in :func:`audit`.
    """
    formats = check_formats(figures)
    folder = Path(out).resolve()
    if folder == sweep.folder.resolve() or sweep.folder.resolve() in folder.parents:
        raise OptionError(f"{folder} is in the sweep's own folder; name another with --out.")
    identity = {
        "sweep": sweep.manifest["identity"],
        "blocks": list(sweep.progress()),
        "network": None if network is None else network.sha256,
        "seed": seed,
    }
    names = {
        name: int(token)
        for column in ("symbol", "gene_id")
        for token, name in sweep.genes[column].astype(str).items()
    }
    targets = None if network is None else network.targets(names.get, str(sweep.folder))
    with writing(folder):
        check_audit_folder(folder, identity, overwrite=overwrite)
        remember_sample(folder, identity, None)
        measured = measure(sweep, sources=sorted(targets or {}), progress=progress)
        answers = answer(
            measured, targets=targets, network=network.name if network else "",
            symbols=sweep.genes["symbol"].astype(str).to_dict(), seed=seed,
        )  # fmt: skip
        done, blocks = sweep.progress()
        of_sample = {
            "cells": int(measured.knockouts["cell"].nunique()),
            "cells_given": len(sweep.cells),
            "sweep": str(sweep.folder),
            "unfinished": done < blocks,
            "network": None if network is None else network.name,
            "states": None,
        }
        write_audit(
            folder, measured, answers, describe_sample(of_sample, measured, answers), sweep, formats
        )
    return read_audit(folder)


def _finder(cells: Cells) -> Callable[[str], int | None]:
    vocabulary = cells.vocabulary

    def find(name: str) -> int | None:
        gene = vocabulary.find(name)
        return None if gene is None else vocabulary.tokens[gene]

    return find


def _sample(
    cells: Cells,
    model: Model,
    budget: Budget,
    sources: Sequence[int],
    seed: int,
    planned: Callable[[Sample], SweepPlan],
    spent: int,
) -> Sample:
    """A sample that the budget pays for, at least one knock-out; some forwards go elsewhere."""
    if not any(len(ranked) >= 2 for ranked in cells.ranked):
        raise InputError(
            f"None of the {len(cells)} cells from {cells.source} has two genes, so nothing can "
            "respond; choose other cells."
        )

    def draw(knockouts: int) -> Sample:
        return draw_sample(cells, model, knockouts, sources=sources, seed=seed)

    trial = planned(draw(_CELLS_TO_TIME))
    forwards = budget.forwards or 0
    if budget.seconds is not None:
        each = trial.flop / trial.forwards
        forwards = int(_BESIDE * budget.seconds * trial.measure_rate() / each)
    baselines = 1 / FEWEST  # a knock-out, where cells are not wanting
    return draw(max(int((forwards - spent) / (len(trial.computed) + baselines)), 1))


def _named(plan: SweepPlan, sample: Sample) -> dict[str, tuple[int, ...]]:
    return {layout.name: sample.by_rank[layout.index] for layout in plan.layouts}
