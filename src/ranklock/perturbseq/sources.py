"""Where the scores and the screen of an evaluation are read from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ranklock.errors import InputError, OptionError
from ranklock.perturbseq.scores import Scores, genes_in_cells, scores_of_anndata, scores_of_run
from ranklock.perturbseq.screen import Screen
from ranklock.perturbseq.screen_cells import ScreenOptions, open_h5ad, read_screen_cells
from ranklock.perturbseq.screen_table import SUFFIXES, TableColumns, read_screen_table
from ranklock.run.run import Run, as_run

if TYPE_CHECKING:
    from anndata import AnnData

    from ranklock.audits.folder import Audit


def read_scores(
    source: Run | Audit | AnnData | str | Path,
    layers: Sequence[str] | None = None,
    *,
    kind: str | None = None,
    cells: Run | Audit | str | Path | None = None,
) -> Scores:
    """Scores of a run or an AnnData, wherever they are: see :func:`ranklock.evaluate`.

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
        return scores_of_run(run_in(source), layers, kind)
    in_cells = None if cells is None else genes_in_cells(run_in(cells))
    return scores_of_anndata(adata, layers, name, kind=kind, in_cells=in_cells)


def run_in(source: Run | Audit | str | Path) -> Run:
    """The run that is given, or that an audit or an estimate (object or folder) keeps."""
    return as_run(source if isinstance(source, Run) else getattr(source, "folder", source))


def read_screen(
    truth: str | Path | AnnData | Screen,
    scores: Scores,
    columns: TableColumns | None,
    unlisted: str,
    controls: Sequence[str],
    options: ScreenOptions | None,
    progress: bool,
) -> Screen:
    """The screen, wherever it is: see :func:`ranklock.evaluate`.

    Raises
    ------
    InputError
        When it cannot be read.
    """
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
