"""A laboratory screen from its cells (scPerturb's .h5ad), with differential expression."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from ranklock.cells.encoding import Values, as_linear
from ranklock.errors import InputError, OptionError
from ranklock.perturbseq.labels import Labels, read_labels
from ranklock.perturbseq.screen import (
    GeneNames,
    Screen,
    best_names,
    described_labels,
    names_as_text,
)
from ranklock.progress import progress as show_progress
from ranklock.run.folder import file_digest

if TYPE_CHECKING:
    from anndata import AnnData

# Where scPerturb's files and others keep the perturbation, and the responders' names.
_PERTURBATION = ("perturbation", "perturbed_gene", "target_gene", "gene", "condition", "guide_id")
_GENES = ("ensembl_id", "gene_ids", "gene_id", "gene_symbol", "gene_symbols", "gene_name",
          "feature_name")  # fmt: skip
_INDEX = "var_names"
_NPERTS = "nperts"  # scPerturb: 0 of control cells, 1 of one gene, 2 and more of combinations
_TOTAL = 10_000.0
_PERTURBED, _CONTROL = "perturbed", "control"  # the two sides that are compared
CONTROL_EXPRESSION, CONTROL_VARIANCE = "expression in control cells", "variance in control cells"


@dataclass(frozen=True)
class ScreenOptions:
    """How a screen's cells are read and tested.

    Attributes
    ----------
    perturbation
        Column of obs with the perturbation; ``perturbation`` as in scPerturb, or what is found.
    controls
        Labels of control cells; the usual ones are recognised.
    min_cells
        Fewest cells of a perturbed gene, and of controls, and in which a gene must be found.
    max_controls
        Control cells that are compared with, drawn at random where there are more.
    seed
        Of that draw.
    values, layer
        What the matrix holds, and which it is, as of cells: ``counts`` in ``X``.
    """

    perturbation: str | None = None
    controls: Sequence[str] = ()
    min_cells: int = 20
    max_controls: int = 2000
    seed: int = 0
    values: Values = "counts"
    layer: str = "X"


def read_screen_cells(
    source: str | Path | AnnData,
    names: GeneNames,
    wanted: Collection[str],
    options: ScreenOptions,
    *,
    progress: bool,
) -> Screen:
    """Differential expression of every wanted gene's perturbation against control cells.

    Parameters
    ----------
    source
        An ``.h5ad`` as scPerturb writes it, or an AnnData: cells × genes, raw counts, obs column
        ``perturbation``, control cells called ``control``.
    names, wanted
        Names of the run's genes, and the perturbed genes to compute; others are only counted.
    options, progress
        How, and whether to show progress.

    Returns
    -------
    Screen
        With mean and variance of each gene's expression in the control cells as baselines, and the
        distance of each perturbation's cells from the controls.

    Raises
    ------
    InputError
        When it cannot be read, or lacks perturbations, controls, counts or enough cells.

    Notes
    -----
    Cells are normalised to 10,000 counts, and log(1 + x) of perturbed and control cells is
    compared by ``scanpy.tl.rank_genes_groups`` (Wilcoxon's rank-sum test, corrected for ties); p is
    adjusted over the genes of a perturbation that enough cells have (Benjamini and Hochberg).
    Guides of one gene are pooled. The log fold change is log₂ of the ratio of mean normalised
    counts, with one hundredth of a count per 10,000 added to both; scanpy's own adds 1e-9, and
    makes of a gene that one side lacks a change of twenty and more. Cells are the replicates, so p
    are small where cells are many, whatever the number of cultures: a table from a test of your
    own is taken as well.
    """
    if isinstance(source, str | Path):
        name, adata = str(source), open_h5ad(Path(source), backed=True)
    else:
        name, adata = "AnnData", source
    _scanpy()  # before anything is computed
    genes, gene_column = _genes(adata, names, name)
    labels, gene_of_cell, column = _labels(adata, names, genes, options, name)
    cell_counts = pd.Series(gene_of_cell[gene_of_cell != ""]).value_counts()
    testable = [gene for gene in cell_counts.index if cell_counts[gene] >= options.min_cells]
    perturbed = [gene for gene in testable if gene in wanted]
    controls = _controls(adata, labels, column, options, name)
    where = f"{name}, {options.layer}"
    control = _normalised(adata, controls, options, where)
    fold = np.full((len(perturbed), len(genes)), np.nan, np.float32)
    q = np.full_like(fold, np.nan)
    distance = np.full(len(perturbed), np.nan)
    with show_progress(len(perturbed), "perturbed genes tested", shown=progress) as advance:
        for row, gene in enumerate(perturbed):
            cells = _normalised(adata, np.flatnonzero(gene_of_cell == gene), options, where)
            fold[row], q[row] = _compare(cells, control, options.min_cells)
            others = np.flatnonzero(np.asarray(genes, dtype=object) != gene)
            distance[row] = distance_of_means(cells[:, others].log1p(), control[:, others].log1p())
            advance(1)
    mean, variance = _moments(control.log1p())
    unique, columns = np.unique(np.asarray(genes, dtype=object), return_index=True)
    provenance: dict[str, Any] = {
        "perturbation_column": column,
        "gene_column": gene_column,
        "control_cells": len(controls),
        "test": "scanpy.tl.rank_genes_groups (wilcoxon, tie_correct) on log(1 + counts per "
        "10,000), Benjamini and Hochberg",
        "min_cells": options.min_cells,
        "cells_of_one_gene": int((gene_of_cell != "").sum()),
        "cells_in_all": int(adata.n_obs),
        "perturbed_genes_with_too_few_cells": int(len(cell_counts) - len(testable)),
        "cells": {gene: int(cell_counts[gene]) for gene in perturbed},
        "genes_named_twice": len(genes) - len(unique),
        **described_labels(labels),
    }
    return Screen(
        perturbed,
        [str(gene) for gene in unique],
        fold[:, columns],
        q[:, columns],
        name,
        file_digest(Path(name)) if isinstance(source, str | Path) else "",
        elsewhere=[gene for gene in testable if gene not in wanted],
        gene_level={CONTROL_EXPRESSION: mean[columns], CONTROL_VARIANCE: variance[columns]},
        distance=distance,
        cells=np.array([cell_counts[gene] for gene in perturbed], dtype=np.float64),
        provenance=provenance,
    )


def open_h5ad(path: Path, *, backed: bool) -> AnnData:
    """An ``.h5ad``, its matrix left on disk where it is ``backed``; InputError if unreadable."""
    from anndata import read_h5ad

    try:
        return read_h5ad(path, backed="r" if backed else None)
    except Exception as error:  # readers raise OSError, KeyError and errors of their own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is not a readable .h5ad file ({reason}).") from error


def _genes(adata: AnnData, names: GeneNames, name: str) -> tuple[list[str], str]:
    """What the run calls each gene of the matrix, and the column of var that says so."""
    columns = {_INDEX: names_as_text(adata.var_names)}
    columns |= {c: names_as_text(adata.var[c]) for c in _GENES if c in adata.var}
    column, known = best_names(columns, names.find)
    if not known:
        raise InputError(
            f"{name}: none of its {adata.n_vars} genes ({', '.join(columns[_INDEX][:3])}, …) is in "
            "the run; is it the same species, named by symbols or Ensembl IDs?"
        )
    return [names.call(gene) for gene in columns[column]], column


def _labels(
    adata: AnnData, names: GeneNames, genes: Sequence[str], options: ScreenOptions, name: str
) -> tuple[Labels, npt.NDArray[np.object_], str]:
    """Labels of the perturbations, the one gene perturbed in each cell or "", and the column."""
    usual = [c for c in _PERTURBATION if c in adata.obs]
    column = options.perturbation or (usual[0] if usual else None)
    if column is None or column not in adata.obs:
        said = f"has no obs column {column!r}" if column else "has no obs column perturbation"
        raise InputError(
            f"{name} {said}; name the one with the perturbed gene (--perturbation-column). It "
            f"has: {', '.join(map(str, adata.obs))}."
        )
    in_screen = set(genes) | {str(gene) for gene in adata.var_names}

    def find(label: str) -> str | None:
        return names.find(label) or (names.call(label) if label in in_screen else None)

    text = pd.Series(names_as_text(adata.obs[column]))
    labels = read_labels([label for label in text.unique() if label], find, options.controls)
    gene_of_cell = text.map(labels.genes).fillna("").to_numpy(dtype=object)
    if _NPERTS in adata.obs:
        number = pd.to_numeric(adata.obs[_NPERTS].astype(str), errors="coerce").to_numpy()
        gene_of_cell[number > 1] = ""
    return labels, gene_of_cell, column


def _controls(
    adata: AnnData, labels: Labels, column: str, options: ScreenOptions, name: str
) -> npt.NDArray[np.int_]:
    """Rows of the control cells, ascending, at most as many as asked for."""
    missing = [label for label in options.controls if label not in labels.controls]
    if missing:
        raise OptionError(f"{name}: no cell is called {missing[0]!r} in obs[{column!r}].")
    names = pd.Series(names_as_text(adata.obs[column]))
    rows = np.flatnonzero(names.isin(labels.controls).to_numpy())
    if len(rows) < options.min_cells:
        examples = ", ".join(names.unique()[:5])
        raise InputError(
            f"{name} has {len(rows)} control cells by obs[{column!r}], and {options.min_cells} "
            f"are needed (--screen-min-cells); name their label with --control. It begins with: "
            f"{examples}."
        )
    if len(rows) > options.max_controls:
        draw = np.random.default_rng(options.seed)
        rows = np.sort(draw.choice(rows, options.max_controls, replace=False))
    return rows


def _normalised(
    adata: AnnData, rows: npt.NDArray[np.int_], options: ScreenOptions, where: str
) -> sp.csr_matrix:
    """Counts per 10,000 of some cells; cells without a count stay empty."""
    matrix = adata.X if options.layer == "X" else adata.layers.get(options.layer)
    if options.layer == "raw" and adata.raw is not None and adata.raw.n_vars == adata.n_vars:
        matrix = adata.raw.X
    if matrix is None:
        layers = ", ".join(["X"] * (adata.X is not None) + list(adata.layers))
        raise InputError(f"{where}: there is no such matrix; there are: {layers} (--counts-layer).")
    linear = as_linear(sp.csr_matrix(matrix[rows]), options.values, where).astype(np.float64)
    linear.eliminate_zeros()  # stored zeros would count as found
    totals = np.asarray(linear.sum(axis=1)).ravel()
    scale = np.divide(_TOTAL, totals, out=np.zeros_like(totals), where=totals > 0)
    return sp.csr_matrix(sp.diags_array(scale) @ linear)


def _compare(
    cells: sp.csr_matrix, control: sp.csr_matrix, min_cells: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Log₂ fold change and q of every gene; NaN where too few cells have it."""
    from anndata import AnnData

    scanpy = _scanpy()
    detections = cells.getnnz(axis=0) + control.getnnz(axis=0)
    tested = np.flatnonzero(detections >= min_cells)
    q, fold = np.full((2, cells.shape[1]), np.nan)
    if not len(tested):
        return fold, q
    sides = np.repeat([_PERTURBED, _CONTROL], [cells.shape[0], control.shape[0]])
    both = AnnData(
        sp.csr_matrix(sp.vstack([cells[:, tested], control[:, tested]]).log1p()),
        obs=pd.DataFrame({"side": pd.Categorical(sides)}, index=np.arange(len(sides)).astype(str)),
        var=pd.DataFrame(index=tested.astype(str)),
    )
    scanpy.tl.rank_genes_groups(
        both, "side", groups=[_PERTURBED], reference=_CONTROL, method="wilcoxon", tie_correct=True,
        corr_method="benjamini-hochberg", use_raw=False,
    )  # fmt: skip
    ranked = scanpy.get.rank_genes_groups_df(both, group=_PERTURBED)
    q[ranked["names"].astype(int)] = ranked["pvals_adj"]
    means = (np.asarray(side[:, tested].mean(axis=0)).ravel() for side in (cells, control))
    treated, untreated = means
    fold[tested] = np.log2((treated + 0.01) / (untreated + 0.01))
    return fold, q


def distance_of_means(cells: sp.csr_matrix, control: sp.csr_matrix) -> float:
    """Squared distance between the means of two groups of cells, their sampling error taken off.

    Parameters
    ----------
    cells, control
        Expression, shape (cells, genes).

    Returns
    -------
    ‖x̄ − ȳ‖² − tr S_x / n − tr S_y / m, with S the covariance (n − 1); NaN for fewer than two cells.
    Below zero where nothing is there but sampling error, which it has the same mean without,
    however few the cells.

    Notes
    -----
    Half the energy distance with squared Euclidean distances of scPerturb (Peidli et al., *Nature
    Methods* 21, 2024), unbiased, in all genes in place of principal components.
    """
    if min(cells.shape[0], control.shape[0]) < 2:
        return float("nan")
    (mean, variance), (control_mean, control_variance) = map(_moments, (cells, control))
    errors = variance.sum() / (cells.shape[0] - 1) + control_variance.sum() / (control.shape[0] - 1)
    return float(((mean - control_mean) ** 2).sum() - errors)


def _scanpy() -> Any:
    try:
        import scanpy
    except ImportError as error:
        raise InputError(
            "Cells of a screen are tested by scanpy, which is not installed (pip install "
            "'ranklock[evaluate]'); or give a table of differential expression."
        ) from error
    return scanpy


def _moments(values: sp.csr_matrix) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    mean = np.asarray(values.mean(axis=0)).ravel()
    squares = np.asarray(values.multiply(values).mean(axis=0)).ravel()
    return mean, np.maximum(squares - mean**2, 0.0)
