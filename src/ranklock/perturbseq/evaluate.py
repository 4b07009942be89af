"""Hold a run against a laboratory screen, and against what gene-level baselines know."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ranklock.errors import InputError, OptionError, OutputError
from ranklock.perturbseq.knock_outs import KnockOutSummary, knock_outs_of, summarise_knock_outs
from ranklock.perturbseq.measure import Thresholds, measure
from ranklock.perturbseq.scores import Scores
from ranklock.perturbseq.screen import Screen
from ranklock.perturbseq.screen_cells import ScreenOptions
from ranklock.perturbseq.screen_table import TableColumns
from ranklock.perturbseq.sources import read_scores, read_screen
from ranklock.perturbseq.summary import LayerSummary, orient_baselines, summarise
from ranklock.perturbseq.text import plain
from ranklock.run.folder import read_folder, write_folder
from ranklock.run.run import Run

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

    from ranklock.audits.folder import Audit

COMMAND = "evaluate"
TABLE, COVERAGE, CONTENT = "evaluation.parquet", "coverage.parquet", "evaluation.json"
KNOCK_OUTS = "knock_outs.parquet"
CHECKPOINT, NULL_MODEL = "checkpoint", "null model"  # in the column ``model`` of the tables
FIGURES = ("evaluation.png", "evaluation.svg")


@dataclass(frozen=True, eq=False)
class Judged:
    """One model's scores, judged by a screen.

    Attributes
    ----------
    table
        A row a perturbed gene and layer.
    layers
        Layer → its summary over perturbed genes.
    knock_outs
        A row a perturbed gene and layer: how far its knock-out shifts cells, what it does in the
        screen, and the place of its own profile there
        (:func:`ranklock.perturbseq.knock_outs.knock_outs_of`).
    knock_out_layers
        Layer → the summary of that.
    """

    table: pd.DataFrame
    layers: dict[str, LayerSummary]
    knock_outs: pd.DataFrame
    knock_out_layers: dict[str, KnockOutSummary]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Judged):
    """How well a run agrees with a laboratory screen: :class:`Judged`, and more.

    Attributes
    ----------
    coverage
        A row a perturbed gene of the screen, scored or not, and why not.
    content
        What was asked, of what, and the summaries, for programs.
    null
        The same of the null model's run, where there is one.
    """

    coverage: pd.DataFrame
    content: dict[str, Any]
    null: Judged | None = None

    def __repr__(self) -> str:
        verdicts = ", ".join(f"{name}: {layer.verdict}" for name, layer in self.layers.items())
        return f"Evaluation: {self.table['gene_id'].nunique()} perturbed genes; {verdicts}"

    def figure(self) -> Figure:
        """Score against best baseline, a panel a layer and a point a perturbed gene."""
        from ranklock.perturbseq.report import evaluation_figure

        return evaluation_figure(self.table, list(self.layers.values()))

    def text(self) -> str:
        """All of it in words."""
        from ranklock.perturbseq.report import describe_evaluation

        return "\n".join(describe_evaluation(self))

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the evaluation's folder, whole or not at all.

        Raises
        ------
        OutputError
            When it exists and may not be replaced, or cannot be written.
        """
        from ranklock.page.style import draw

        folder = Path(folder)
        figure = self.figure()
        text = json.dumps(self.content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_folder(
            folder,
            {key: self.content[key] for key in ("version", "asked", "run", "screen")},
            {
                TABLE: lambda path: self._of_both("table").to_parquet(path, index=False),
                KNOCK_OUTS: lambda path: self._of_both("knock_outs").to_parquet(path, index=False),
                COVERAGE: lambda path: self.coverage.to_parquet(path, index=False),
                CONTENT: lambda path: path.write_text(text, encoding="utf-8"),
                **{name: partial(draw, figure) for name in FIGURES},
            },
            overwrite=overwrite,
        )
        return folder

    def _of_both(self, table: str) -> pd.DataFrame:
        """One of the tables, of the checkpoint and of the null model, with a column ``model``."""
        parts = {CHECKPOINT: self, NULL_MODEL: self.null}
        return pd.concat(
            [getattr(part, table).assign(model=name) for name, part in parts.items() if part],
            ignore_index=True,
        )


def evaluate(
    run: Run | Audit | AnnData | str | Path,
    truth: str | Path | AnnData | Screen,
    *,
    layers: Sequence[str] | None = None,
    kind: str | None = None,
    cells: Run | Audit | str | Path | None = None,
    null: Run | str | Path | None = None,
    max_q: float = 0.05,
    min_fold_change: float = 0.0,
    min_changed: int = 5,
    exclude: Collection[str] = (),
    columns: TableColumns | None = None,
    unlisted: str = "left-out",
    controls: Sequence[str] = (),
    screen_options: ScreenOptions | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Hold a run against a laboratory screen, and against what gene-level baselines know.

    Parameters
    ----------
    run
        A run with effects on genes, or an audit or estimate that has one (object or folder); or an
        AnnData or ``.h5ad`` with obs = perturbations, var = responders and a layer of scores.
    truth
        A table of differential expression (``.csv``, ``.tsv``, ``.txt``, ``.parquet``), or cells of
        a screen (``.h5ad`` as of scPerturb, or AnnData).
    layers
        Which arms or layers; all arms by default. Larger scores mean: changed more.
    kind
        Which kind of perturbation; knock-outs by default, where there are any.
    cells
        For scores of an AnnData: the run that they come from, whose cells say which genes are
        expressed, and how much.
    null
        The run of the null model (``ranklock.perturb(cells, ranklock.permuted(model), …)``), which
        is judged alike: what it shows too is no knowledge of the checkpoint's.
    max_q, min_fold_change
        A gene really changed at an adjusted p of at most this, and a |log fold change| (in the
        screen's base) of at least that.
    min_changed
        Changed genes, and unchanged ones, that a perturbed gene needs to be scored.
    exclude
        Genes that are never scored, by symbol or Ensembl ID. The perturbed gene itself never is.
    columns, unlisted, controls
        Of a table: see :func:`ranklock.perturbseq.screen_table.read_screen_table`.
    screen_options
        Of cells: see :class:`ranklock.perturbseq.screen_cells.ScreenOptions`.
    seed
        Of what is drawn at random.
    progress
        Whether to show progress.

    Returns
    -------
    Evaluation

    Raises
    ------
    OptionError
        When something else is given, or options do not fit it.
    InputError
        When either cannot be read, or they share no perturbed gene that can be scored; or when the
        null model's run is of the same weights.
    """
    _check(max_q, min_fold_change, min_changed)
    scores = read_scores(run, layers, kind=kind, cells=cells)
    null_scores = None if null is None else _null_scores(null, scores, kind)
    screen = read_screen(truth, scores, columns, unlisted, controls, screen_options, progress)
    if min_fold_change > 0 and not np.isfinite(screen.log_fold_change).any():
        raise OptionError(
            f"{screen.name} has no fold changes for min_fold_change; name their column "
            "(--effect-column), or leave it out."
        )
    thresholds = Thresholds(max_q, min_fold_change, min_changed)
    excluded = {scores.names.call(gene) for gene in exclude}
    judged, coverage, part = _judge(scores, screen, thresholds, excluded, seed)
    null_judged = null_part = None
    if null_scores is not None:
        null_judged, _, null_part = _judge(null_scores, screen, thresholds, excluded, seed)
        null_part = {"run": null_scores.name, **null_part}
    content = {
        "version": version("ranklock"),
        "asked": {
            "command": COMMAND, "layers": list(scores.layers), **asdict(thresholds), "seed": seed,
            "excluded_genes": len(excluded),
            "excluded_not_in_run": sum(scores.names.find(gene) is None for gene in exclude),
        },
        "run": {
            "name": scores.name, "kind": scores.kind, "perturbations": len(scores.perturbed),
            "responders": len(scores.responders), "sets": scores.sets,
            "cells": None if scores.in_cells is None else scores.in_cells.cells,
        },
        "screen": {
            "name": screen.name, "sha256": screen.sha256,
            "perturbed": len(screen.perturbed) + len(screen.elsewhere),
            "genes": len(screen.genes), **screen.provenance,
        },
        **part, "null": null_part,
    }  # fmt: skip
    return Evaluation(**vars(judged), coverage=coverage, content=content, null=null_judged)


def read_evaluation(folder: str | Path) -> Evaluation:
    """Read an evaluation back from its folder.

    Raises
    ------
    OutputError
        When the folder holds none, or a file in it was damaged or changed.
    """
    folder = Path(folder)
    manifest = read_folder(folder)
    if manifest["asked"]["command"] != COMMAND:
        raise OutputError(f"{folder} holds a {manifest['asked']['command']}, not an evaluation.")
    tables = [pd.read_parquet(folder / name) for name in (TABLE, KNOCK_OUTS)]
    content = json.loads((folder / CONTENT).read_text(encoding="utf-8"))
    judged = _judged_again(tables, CHECKPOINT, content)
    null = None
    if content["null"] is not None:
        null = _judged_again(tables, NULL_MODEL, content["null"])
    return Evaluation(
        **vars(judged), coverage=pd.read_parquet(folder / COVERAGE), content=content, null=null
    )


def _judge(
    scores: Scores, screen: Screen, thresholds: Thresholds, excluded: Collection[str], seed: int
) -> tuple[Judged, pd.DataFrame, dict[str, Any]]:
    """One model's scores; coverage; and the part of the content that is of it."""
    measured = measure(scores, screen, thresholds, excluded, seed)
    table = orient_baselines(measured)
    layers = summarise(table, measured.baselines)
    knock_outs, summaries = knock_outs_of(
        scores, screen, thresholds.most_q, thresholds.least_fold_change, seed
    )
    part = {
        "baselines": measured.baselines,
        "layers": {name: plain(asdict(summary)) for name, summary in layers.items()},
        "knock_outs": {name: plain(asdict(summary)) for name, summary in summaries.items()},
    }
    return Judged(table, layers, knock_outs, summaries), measured.coverage, part


def _judged_again(tables: Sequence[pd.DataFrame], model: str, part: dict[str, Any]) -> Judged:
    """The same from its tables and its part of the content."""
    table, knock_outs = (
        table[table["model"] == model].drop(columns="model").reset_index(drop=True)
        for table in tables
    )
    summaries = {
        name: summarise_knock_outs(
            knock_outs[knock_outs["layer"] == name],
            {k: _number(v) for k, v in summary["baselines"].items()}, _number(summary["p"]),
        )
        for name, summary in part["knock_outs"].items()
    }  # fmt: skip
    return Judged(table, summarise(table, part["baselines"]), knock_outs, summaries)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _null_scores(null: Run | str | Path, scores: Scores, kind: str | None) -> Scores:
    """Scores of the null model's run, in the layers of the run itself."""
    null_scores = read_scores(null, list(scores.layers), kind=kind)
    if scores.model and scores.model == null_scores.model:
        raise InputError(
            f"{null_scores.name} was computed with the weights of {scores.name} itself; a null "
            "model has them permuted: ranklock.perturb(cells, ranklock.permuted(model), ...)."
        )
    return null_scores


def _check(max_q: float, min_fold_change: float, min_changed: int) -> None:
    if not 0 < max_q < 1:
        raise OptionError(f"max_q is {max_q}; it is an adjusted p between 0 and 1 (--max-q).")
    if not min_fold_change >= 0:
        raise OptionError(f"min_fold_change is {min_fold_change}; it is 0 or more.")
    if min_changed < 1:
        raise OptionError(f"min_changed is {min_changed}; it is 1 or more.")
