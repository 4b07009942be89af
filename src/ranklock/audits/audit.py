"""The audit: knock-outs over all ranks, and the five questions answered from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ranklock.arms import find_arms
from ranklock.audits.answers import answer
from ranklock.audits.budget import DEFAULT_BUDGET, Budget, parse_budget
from ranklock.audits.content import content_of
from ranklock.audits.experiment import Experiment
from ranklock.audits.figure_files import check_formats, write_figures
from ranklock.audits.figures import figures_of
from ranklock.audits.folder import CONTENT, FIGURES, KIND, REPORT, TABLES, Audit, read_audit
from ranklock.audits.measure import Measurements, check_kinds, measure
from ranklock.audits.position_table import PositionTable, answer_position_table
from ranklock.audits.report import report_of
from ranklock.audits.sample import Sample
from ranklock.audits.smoothing import answer_smoothing
from ranklock.audits.tables import tables_of
from ranklock.audits.uncertainty import describe_sample
from ranklock.cells import Cells
from ranklock.errors import InputError, OptionError
from ranklock.genes.network import Network
from ranklock.kinds import KNOCK_OUT
from ranklock.models import Model
from ranklock.models.precision import AUTO
from ranklock.run.asked import AUDIT, ESTIMATE, Asked
from ranklock.run.files import write_whole
from ranklock.run.run import INNER, Run, as_run
from ranklock.run.states import States
from ranklock.run.work import WorkFolder, work_folder

# Purpose of a run → how its genes were chosen, where a user did not name them.
_CHOSEN = {
    AUDIT: "drawn over the ranks, with a network's regulators among them if there was one",
    ESTIMATE: "chosen by their estimates",
}
SMOOTHED = "smoothed"  # folder of the runs with smoothed position tables
_OWN = {INNER, SMOOTHED, FIGURES, CONTENT, REPORT, TABLES}


def audit(
    source: Cells | Run | str | Path,
    model: Model | None = None,
    out: str | Path | None = None,
    *,
    budget: str | int = DEFAULT_BUDGET,
    seed: int = 0,
    arms: Sequence[str] | None = None,
    layer: int = -1,
    states: States | None = None,
    network: Network | None = None,
    precision: str = AUTO,
    batch_size: int | None = None,
    figures: Sequence[str] = (),
    overwrite: bool = False,
    progress: bool = True,
) -> Audit:
    """Answer the five questions on some cells and a checkpoint, or on a run, in a report.

    Of cells, genes at ranks spread over each cell are knocked out under every arm, into ``run`` in
    the folder. Of a run that is there, its knock-outs are audited without another forward. Beside
    it come ``report.html``, ``audit.json`` and ``tables``. An audit that was stopped goes on when
    it is called again with the same arguments.

    Parameters
    ----------
    source
        Cells, from :func:`ranklock.read_cells`; or a run, or its folder: what it did not read is
        not answered.
    model
        Checkpoint, from :func:`ranklock.load_model`; None for a run.
    out
        Folder for the results.
    budget
        Forwards, as ``4000``, or time, as ``"10m"``. What that leaves uncertain is said in the
        report. A time is turned into knock-outs by this machine's speed, so that another machine
        makes another sample; a number of forwards gives the same everywhere.
    seed
        Of the sample and of random draws.
    arms
        Names of arms of knock-outs; the usual ones by default.
    layer
        Layer to read, as Geneformer's ``emb_layer``.
    states
        Start and goal states: cells in a start state are audited, and their shifts towards the
        goal state are read. Alternatives are in the run, and not in the report.
    network
        Known links, from :func:`ranklock.read_network`. Half of the knock-outs are then of its
        regulators.
    precision, batch_size
        As in :func:`ranklock.perturb`.
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
        ``verdict``, ``content``, ``table(…)``, ``report``, ``folder``.

    Raises
    ------
    InputError
        Before the first forward, when something does not fit.
    OutputError
        When the folder holds something else, or cannot be written.
    """
    if out is None:
        raise OptionError("Name a folder for the audit (out=).")
    spend = parse_budget(budget)
    options = _Options(
        Path(out).resolve(), network, seed, check_formats(figures), overwrite, progress
    )
    if not isinstance(source, Cells):
        if model is not None or states is not None:
            raise OptionError(
                "The audit of a run makes no forward: leave out the model and the states, or give "
                f"cells from ranklock.read_cells() instead of {type(source).__name__}."
            )
        return _audit_run(as_run(source), options)
    if not isinstance(model, Model):
        raise OptionError(
            "The audit of cells needs a model from ranklock.load_model(), not "
            f"{type(model).__name__}; only that of a run needs none."
        )
    # An alias runs as what it is the same as, and is compared as that.
    names = tuple(dict.fromkeys(arm.computed_as for arm in find_arms(arms, KNOCK_OUT)))
    asked = Asked(arms=names, layer=layer, precision=precision, seed=seed, purpose=AUDIT)
    experiment = Experiment(
        source, model, asked, options.folder / INNER, states, network, batch_size, progress
    )
    return _audit_cells(experiment, options, spend)


@dataclass(frozen=True)
class _Options:
    """Options of an audit, of whatever it is."""

    folder: Path
    network: Network | None
    seed: int
    formats: tuple[str, ...]
    overwrite: bool
    progress: bool

    @property
    def identity(self) -> dict[str, Any]:
        """What two calls must have in common."""
        network = None if self.network is None else self.network.sha256
        return {"network": network, "seed": self.seed, "version of Ranklock": version("ranklock")}


def _audit_cells(experiment: Experiment, options: _Options, budget: Budget) -> Audit:
    """Draw the knock-outs, run them, and answer from them."""
    cells, asked = experiment.cells, experiment.asked
    experiment.check()
    identity = {
        "checkpoint": experiment.model.sha256,
        "vocabulary": cells.vocabulary.sha256,
        "cells": cells.sha256(),
        "layer": asked.layer,
        "arms": list(asked.arms),
        "precision": asked.precision,
        "budget": budget.text,
        "states": experiment.states_identity,
        **options.identity,
    }
    with work_folder(options.folder, KIND, identity, _OWN, overwrite=options.overwrite) as work:
        with work.setup_lock():
            if work.manifest is None:
                work.write_manifest({"sample": asdict(experiment.sample(budget))})
        sample = Sample(**(work.manifest or {})["sample"])
        run = experiment.run(sample)
        smoothed = experiment.smoothed_runs(sample, work.folder / SMOOTHED)
        if not all(each.complete for each in (run, *smoothed.values())):
            raise InputError(
                f"Another process is at work on {work.folder}; the audit is written by the command "
                "that ends last: run this one again then."
            )
        described = {
            "cells": len(sample.cells),
            "cells_given": len(experiment.rows),
            "budget": budget.text,
            "seed": options.seed,
            "forwards": sum(each.manifest.planned.forwards for each in (run, *smoothed.values())),
        }
        drawn = dict(zip((cells.names[row] for row in sample.cells), sample.by_rank, strict=True))

        def position_table(measured: Measurements) -> PositionTable | None:
            models = {0: experiment.model} | experiment.smooth_models
            smoothing = answer_smoothing(
                measured, smoothed, models, cells, sample.cells, options.seed
            ) if smoothed else None  # fmt: skip
            return answer_position_table(
                measured, run, experiment.model, smoothing, special_frame=cells.special_frame
            )

        _answer(work, run, options, experiment.targets, described, drawn, position_table)
    return read_audit(options.folder)


def _audit_run(run: Run, options: _Options) -> Audit:
    """Answer from a run that is there."""
    check_kinds(run)
    source = run.folder.resolve()
    if options.folder == source or source in options.folder.parents:
        raise OptionError(f"{options.folder} is in the run's own folder; name another with --out.")
    names = {
        name: int(token)
        for column in ("symbol", "gene_id")
        for token, name in run.genes[column].astype(str).items()
    }
    network = options.network
    targets = {} if network is None else network.targets(names.get, str(run.folder))
    done, tasks = run.progress()
    asked = run.manifest.asked
    identity = {"run": run.manifest.identity, "tasks": done, **options.identity}
    described = {
        "cells_given": len(run.cells),
        "run": str(source),
        "unfinished": done < tasks,
        "other_kinds": [kind for kind in run.kinds if kind != KNOCK_OUT.name],
        "chosen": _CHOSEN.get(asked.purpose) or (None if asked.all_genes else "named"),
        "responders": len(asked.responders) or None,
    }
    with work_folder(options.folder, KIND, identity, _OWN, overwrite=options.overwrite) as work:
        work.write_manifest({"sample": None})
        _answer(work, run, options, targets, described)
    return read_audit(options.folder)


def _answer(
    work: WorkFolder,
    run: Run,
    options: _Options,
    targets: Mapping[int, set[int]],
    sample: Mapping[str, Any],
    drawn: Mapping[str, Sequence[int]] | None = None,
    position_table: Callable[[Measurements], PositionTable | None] | None = None,
) -> None:
    """Measure, answer and write, each file whole or not at all; by one process at a time.

    ``position_table`` describes the checkpoint's position table, where there is a checkpoint.
    """
    network = "" if options.network is None else options.network.name
    symbols = run.genes["symbol"].astype(str).to_dict()
    folder, locks = work.folder, work.locks
    with work.setup_lock():
        measured = measure(run, drawn=drawn, sources=sorted(targets), progress=options.progress)
        answers = answer(
            measured, targets=targets, network=network, symbols=symbols, seed=options.seed,
            position_table=None if position_table is None else position_table(measured),
        )  # fmt: skip
        cells = measured.tasks["cell"].nunique()
        described = {"cells": cells, **sample, "network": network or None}
        (folder / TABLES).mkdir(exist_ok=True)
        for name, table in tables_of(measured, answers).items():
            path = folder / TABLES / f"{name}.parquet"
            write_whole(path, partial(table.to_parquet, index=False), locks / path.name)
        described = describe_sample(described, measured, answers)
        content = content_of(answers, described, run.manifest.to_json())
        work.write_json(folder / CONTENT, content)
        figures = figures_of(measured, answers)
        page = report_of(measured, answers, content, run.manifest, figures)
        write = partial(Path.write_text, data=page, encoding="utf-8")
        write_whole(folder / REPORT, write, locks / REPORT)
        write_figures(figures, folder / FIGURES, options.formats)
        work.write_manifest({**(work.manifest or {}), "complete": True})
