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
from ranklock.perturbseq.measure import Thresholds, measure
from ranklock.perturbseq.scores import Scores, genes_in_cells, scores_of_anndata, scores_of_run
from ranklock.perturbseq.screen import Screen
from ranklock.perturbseq.screen_cells import ScreenOptions, open_h5ad, read_screen_cells
from ranklock.perturbseq.screen_table import SUFFIXES, TableColumns, read_screen_table
from ranklock.perturbseq.summary import LayerSummary, orient_baselines, summarise
from ranklock.perturbseq.text import plain
from ranklock.run.folder import read_folder, write_folder
from ranklock.run.run import Run, as_run

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

    from ranklock.audits.folder import Audit

COMMAND = "evaluate"
TABLE, COVERAGE, CONTENT = "evaluation.parquet", "coverage.parquet", "evaluation.json"
FIGURES = ("evaluation.png", "evaluation.svg")


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """How well a run ranks the genes that changed in a laboratory screen.

    Attributes
    ----------
    table
        A row a perturbed gene and layer.
    coverage
        A row a perturbed gene of the screen, scored or not, and why not.
    layers
        Layer → its summary over perturbed genes.
    content
        What was asked, of what, and the summaries, for programs.
    """

    table: pd.DataFrame
    coverage: pd.DataFrame
    layers: dict[str, LayerSummary]
    content: dict[str, Any]

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

        return "\n".join(
            describe_evaluation(self.content, self.coverage, list(self.layers.values()))
        )

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
                TABLE: lambda path: self.table.to_parquet(path, index=False),
                COVERAGE: lambda path: self.coverage.to_parquet(path, index=False),
                CONTENT: lambda path: path.write_text(text, encoding="utf-8"),
                **{name: partial(draw, figure) for name in FIGURES},
            },
            overwrite=overwrite,
        )
        return folder


def evaluate(
    run: Run | Audit | AnnData | str | Path,
    truth: str | Path | AnnData | Screen,
    *,
    layers: Sequence[str] | None = None,
    kind: str | None = None,
    cells: Run | Audit | str | Path | None = None,
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
        When either cannot be read, or they share no perturbed gene that can be scored.
    """
    _check(max_q, min_fold_change, min_changed)
    scores = read_scores(run, layers, kind=kind, cells=cells)
    screen = _screen(truth, scores, columns, unlisted, controls, screen_options, progress)
    if min_fold_change > 0 and not np.isfinite(screen.log_fold_change).any():
        raise OptionError(
            f"{screen.name} has no fold changes for min_fold_change; name their column "
            "(--effect-column), or leave it out."
        )
    thresholds = Thresholds(max_q, min_fold_change, min_changed)
    excluded = {scores.names.call(gene) for gene in exclude}
    measured = measure(scores, screen, thresholds, excluded, seed)
    table = orient_baselines(measured)
    summaries = summarise(table, measured.baselines)
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
        "baselines": measured.baselines,
        "layers": {name: plain(asdict(summary)) for name, summary in summaries.items()},
    }  # fmt: skip
    return Evaluation(table, measured.coverage, summaries, content)


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
    table, coverage = pd.read_parquet(folder / TABLE), pd.read_parquet(folder / COVERAGE)
    content = json.loads((folder / CONTENT).read_text(encoding="utf-8"))
    return Evaluation(table, coverage, summarise(table, content["baselines"]), content)


def read_scores(
    source: Run | Audit | AnnData | str | Path,
    layers: Sequence[str] | None = None,
    *,
    kind: str | None = None,
    cells: Run | Audit | str | Path | None = None,
) -> Scores:
    """Scores of a run or an AnnData, wherever they are: see :func:`evaluate`.

    Raises
    ------
    OptionError
        When something else is given, or a run beside a run.
    """
    from anndata import AnnData

    if isinstance(source, str | Path) and Path(source).suffix == ".h5ad":
        name, adata = str(source), open_h5ad(Path(source), backed=False)
    elif isinstance(source, AnnData):
        name, adata = "AnnData", source
    elif cells is not None:
        raise OptionError("A run brings its own cells; leave out --cells.")
    else:
        return scores_of_run(_run_in(source), layers, kind)
    in_cells = None if cells is None else genes_in_cells(_run_in(cells))
    return scores_of_anndata(adata, layers, name, kind=kind, in_cells=in_cells)


def _run_in(source: Run | Audit | str | Path) -> Run:
    """The run that is given, or that an audit or an estimate (object or folder) keeps."""
    return as_run(source if isinstance(source, Run) else getattr(source, "folder", source))


def _screen(
    truth: str | Path | AnnData | Screen,
    scores: Scores,
    columns: TableColumns | None,
    unlisted: str,
    controls: Sequence[str],
    options: ScreenOptions | None,
    progress: bool,
) -> Screen:
    if isinstance(truth, Screen):
        return truth
    if isinstance(truth, str | Path):
        suffix = Path(truth).suffix
        if suffix in SUFFIXES:
            return read_screen_table(
                truth, scores.names, columns=columns, controls=controls, unlisted=unlisted
            )
        if suffix != ".h5ad":
            raise InputError(
                f"{truth} is neither a table ({', '.join(SUFFIXES)}) nor cells of a screen (.h5ad)."
            )
    options = options or ScreenOptions(controls=controls)
    return read_screen_cells(truth, scores.names, set(scores.perturbed), options, progress=progress)


def _check(max_q: float, min_fold_change: float, min_changed: int) -> None:
    if not 0 < max_q < 1:
        raise OptionError(f"max_q is {max_q}; it is an adjusted p between 0 and 1 (--max-q).")
    if not min_fold_change >= 0:
        raise OptionError(f"min_fold_change is {min_fold_change}; it is 0 or more.")
    if min_changed < 1:
        raise OptionError(f"min_changed is {min_changed}; it is 1 or more.")
