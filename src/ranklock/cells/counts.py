"""Cells from counts: ``.h5ad`` files and AnnData objects."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from ranklock.cells.cells import Cells, Tokens
from ranklock.cells.encoding import Values, as_linear, rank_cells
from ranklock.cells.selection import Selection
from ranklock.errors import InputError, RanklockWarning
from ranklock.vocabulary import CLS, EOS, Vocabulary, gene_arrays

if TYPE_CHECKING:
    from anndata import AnnData

# Columns of var in which the field keeps a gene's Ensembl ID or its symbol, most specific first.
_GENE_COLUMNS = (
    "ensembl_id", "gene_ids", "gene_id", "feature_id",
    "feature_name", "gene_symbols", "gene_symbol", "gene_name",
)  # fmt: skip
_INDEX = "var_names"
_CHUNK = 2048  # cells that are in memory at once, as counts


def read_h5ad(path: Path, vocabulary: Vocabulary | None, selection: Selection, **how: Any) -> Cells:
    """Read an ``.h5ad`` file; only the selected cells are brought into memory."""
    from anndata import read_h5ad as open_h5ad

    try:
        adata = open_h5ad(path, backed="r")
    # h5py and anndata raise OSError, KeyError and their own errors on a broken file.
    except Exception as error:
        raise InputError(f"{path} is not a readable .h5ad file ({error}).") from error
    try:
        return encode_anndata(adata, vocabulary, selection, source=str(path), **how)
    finally:
        adata.file.close()


def encode_anndata(
    adata: AnnData,
    vocabulary: Vocabulary | None,
    selection: Selection,
    *,
    source: str = "AnnData",
    values: Values = "counts",
    counts_layer: str | None = None,
    gene_column: str | None = None,
) -> Cells:
    """Encode the cells of an AnnData by rank.

    Parameters
    ----------
    adata
        Cells × genes. May be backed.
    vocabulary
        Tokens and medians of the checkpoint's genes.
    selection
        Which cells.
    source
        What the data is called in messages.
    values, counts_layer, gene_column
        As in :func:`ranklock.read_cells`.
    """
    if vocabulary is None:
        raise InputError(f"{source} holds counts; encoding them by rank needs --vocabulary.")
    rows = selection.choose(adata.obs, source)
    matrix, var, where = _matrix(adata, counts_layer, source)
    columns, genes = _known_genes(var, vocabulary, gene_column, source)
    tokens, medians = gene_arrays(vocabulary, genes)
    with_median = np.isfinite(medians)
    columns, tokens, medians = columns[with_median], tokens[with_median], medians[with_median]
    ranked: list[Tokens] = []
    for counts in _chunks(matrix, rows):
        # All genes are looked at, not only the known ones: a NaN elsewhere is still a broken file.
        linear = as_linear(counts, values, where)
        ranked += rank_cells(linear[:, columns], tokens, medians)
    obs = adata.obs.iloc[rows].copy()
    obs.index = obs.index.astype(str)
    if not obs.index.is_unique:
        obs.index = pd.Index([f"{name}-{row}" for name, row in zip(obs.index, rows, strict=True)])
        warnings.warn(
            f"{source}: cells share names, so each is named with its row number.",
            RanklockWarning,
            stacklevel=2,
        )
    special_frame = {CLS, EOS} <= set(vocabulary.special)
    return Cells(tuple(ranked), obs, vocabulary, special_frame, source, selection)


def _matrix(adata: AnnData, layer: str | None, source: str) -> tuple[Any, pd.DataFrame, str]:
    """Values, their genes, and what to call them."""
    if layer in (None, "X"):
        if adata.X is None:
            raise InputError(f"{source} has no X; name the layer with raw counts (--counts-layer).")
        return adata.X, adata.var, f"{source}, X"
    if layer == "raw" and adata.raw is not None:
        return adata.raw.X, adata.raw.var, f"{source}, raw.X"
    if layer in adata.layers:
        return adata.layers[layer], adata.var, f"{source}, layer {layer!r}"
    there = ["X", *(["raw"] if adata.raw is not None else []), *adata.layers]
    raise InputError(f"{source} has no layer {layer!r}; there are: {', '.join(there)}.")


def _chunks(matrix: Any, rows: npt.NDArray[np.int_]) -> Iterator[sp.csr_matrix]:
    for start in range(0, len(rows), _CHUNK):
        yield sp.csr_matrix(matrix[rows[start : start + _CHUNK]])


def _known_genes(
    var: pd.DataFrame, vocabulary: Vocabulary, column: str | None, source: str
) -> tuple[npt.NDArray[np.int_], list[str]]:
    """Columns of the matrix whose gene the vocabulary has, and those genes.

    Of the places where a gene's name may stand, the one that maps most genes is taken.
    """
    if column is not None and column not in var:
        raise InputError(
            f"{source} has no var column {column!r}; there are: {', '.join(map(str, var.columns))}."
        )
    places = [column] if column else [_INDEX, *(name for name in _GENE_COLUMNS if name in var)]
    best: tuple[int, list[str | None]] = (0, [])
    for place in places:
        names = var.index if place == _INDEX else var[place]
        found = [vocabulary.find(str(name)) for name in names]
        known = sum(gene is not None for gene in found)
        if known > best[0]:
            best = (known, found)
    if not best[0]:
        example = ", ".join(map(str, var.index[:3]))
        raise InputError(
            f"{source}: none of its {len(var)} genes ({example}, …) is in {vocabulary.source}; "
            "name the var column with Ensembl IDs or symbols (--gene-column), or the vocabulary "
            "of this species."
        )
    columns = np.array([i for i, gene in enumerate(best[1]) if gene is not None], dtype=np.int_)
    return columns, [gene for gene in best[1] if gene is not None]
