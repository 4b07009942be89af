"""Cells from counts: ``.h5ad`` files and AnnData objects."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from ranklock.cells.cells import Cells, Levels, Tokens
from ranklock.cells.encoding import Values, as_linear, rank_cells
from ranklock.cells.selection import Selection
from ranklock.errors import InputError, RanklockWarning
from ranklock.genes.vocabulary import CLS, EOS, Vocabulary, gene_arrays
from ranklock.progress import progress as show_progress

if TYPE_CHECKING:
    from anndata import AnnData

# Columns of var in which the field keeps a gene's Ensembl ID or its symbol, most specific first.
_GENE_COLUMNS = (
    "ensembl_id", "gene_ids", "gene_id", "feature_id",
    "feature_name", "gene_symbols", "gene_symbol", "gene_name",
)  # fmt: skip
_INDEX = "var_names"
_CHUNK = 2048  # cells that are in memory at once, as counts
_FEW = 0.25  # of a file's genes known to the vocabulary; a usual file has half or more


def read_h5ad(
    path: Path,
    vocabulary: Vocabulary | None,
    selection: Selection,
    *,
    counts_layer: str | None = None,
    **how: Any,
) -> Cells:
    """Read an ``.h5ad`` file: its ``obs``, its ``var``, and the selected rows of one matrix.

    Parameters are those of :func:`encode_anndata`.
    """
    import h5py

    with ExitStack() as opened:
        with _damage_reported(str(path)):
            file = opened.enter_context(h5py.File(path, "r"))
            source = _open_file(file, counts_layer, str(path))
        return _encode(source, vocabulary, selection, **how)


def encode_anndata(
    adata: AnnData,
    vocabulary: Vocabulary | None,
    selection: Selection,
    *,
    counts_layer: str | None = None,
    **how: Any,
) -> Cells:
    """Encode the cells of an AnnData, which may be backed, by rank.

    Parameters
    ----------
    adata
        Cells × genes.
    vocabulary
        Tokens and medians of the checkpoint's genes.
    selection
        Which cells.
    counts_layer
        Where the values stand.
    **how
        ``values``, ``gene_column`` and ``progress``, as in :func:`ranklock.read_cells`.
    """
    raw, layer = adata.raw, counts_layer or "X"
    if layer == "raw":
        matrix = None if raw is None else raw.X
    else:
        matrix = adata.X if layer == "X" else adata.layers.get(layer)
    if matrix is None:
        raise InputError(_no_layer("AnnData", layer, raw is not None, adata.layers))
    var = raw.var if layer == "raw" else adata.var
    source = _Source("AnnData", adata.obs, var, matrix, layer)
    return _encode(source, vocabulary, selection, **how)


@dataclass(frozen=True, eq=False)
class _Source:
    """Cells and genes, and the one matrix that is to be read of them."""

    name: str
    obs: pd.DataFrame
    var: pd.DataFrame
    matrix: Any  # anything that gives rows by their numbers
    layer: str

    @property
    def where(self) -> str:
        return f"{self.name}, {self.layer}"


def _open_file(file: Any, layer: str | None, name: str) -> _Source:
    """Open one matrix of a file without reading it, nor any other."""
    from anndata.io import read_elem, sparse_dataset

    layer = layer or "X"
    place = {"X": "X", "raw": "raw/X"}.get(layer, f"layers/{layer}")
    if place not in file:
        raise InputError(_no_layer(name, layer, "raw" in file, file.get("layers", ())))
    matrix = file[place]
    if not hasattr(matrix, "dtype"):
        matrix = sparse_dataset(matrix)
        if matrix.format == "csc":
            # Columns on disk give no rows but all of them: read once, not once for each chunk.
            matrix = matrix.to_memory().tocsr()
    var = read_elem(file["raw/var" if place == "raw/X" else "var"])
    return _Source(name, read_elem(file["obs"]), var, matrix, layer)


def _no_layer(name: str, layer: str, raw: bool, layers: Iterable[str]) -> str:
    there = [*(["raw"] if raw else []), *layers]
    if layer == "X":
        have = f"has no X; name the layer with raw counts (--counts-layer): {', '.join(there)}"
    else:
        have = f"has no layer {layer!r}; there are: {', '.join(['X', *there])}"
    return f"{name} {have}."


def _encode(
    source: _Source,
    vocabulary: Vocabulary | None,
    selection: Selection,
    *,
    values: Values = "counts",
    gene_column: str | None = None,
    progress: bool = False,
) -> Cells:
    if vocabulary is None:
        raise InputError(f"{source.name} holds counts; encoding them by rank needs --vocabulary.")
    rows = selection.choose(source.obs, source.name)
    columns, genes = _known_genes(source.var, vocabulary, gene_column, source.name)
    tokens, medians = gene_arrays(vocabulary, genes)
    usable = np.isfinite(medians)
    ranked: list[tuple[Tokens, Levels]] = []
    with show_progress(len(rows), "cells encoded", shown=progress) as advance:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            # Every gene is looked at, not only the known ones: a NaN elsewhere is a broken file.
            with _damage_reported(source.name):
                counts = source.matrix[chunk]
            linear = as_linear(_plain(counts, source.where), values, source.where)
            ranked += rank_cells(linear[:, columns[usable]], tokens[usable], medians[usable])
            advance(len(chunk))
    reading = {
        "selection": selection.described(),
        "values": values,
        "layer": source.layer,
        "gene_column": gene_column,
        "genes_in_file": len(source.var),
        "genes_in_vocabulary": len(genes),
        "genes_without_median": int((~usable).sum()),
    }
    _warn_of_few(reading, source.name, vocabulary)
    empty = sum(not len(genes) for genes, _ in ranked)
    if empty:
        warnings.warn(
            f"{source.name}: {empty} of {len(ranked)} cells have no count of a known gene.",
            RanklockWarning,
            stacklevel=2,
        )
    return Cells(
        tuple(genes for genes, _ in ranked),
        _named_apart(source.obs.iloc[rows].copy(), rows, source.name),
        vocabulary,
        special_frame={CLS, EOS} <= set(vocabulary.special),
        source=source.name,
        complete=True,
        reading=reading,
        levels=tuple(levels for _, levels in ranked),
    )


@contextmanager
def _damage_reported(name: str) -> Iterator[None]:
    """Say of a broken file that it is: readers raise OSError, KeyError and errors of their own."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{name} is not a readable .h5ad file ({reason}).") from error


def _plain(rows: Any, where: str) -> sp.csr_matrix:
    if rows.dtype.kind not in "biuf":
        raise InputError(f"{where} holds {rows.dtype} values, not numbers; name another layer.")
    if rows.dtype == np.float16:  # which scipy's sparse matrices do not know
        rows = rows.astype(np.float32)
    return sp.csr_matrix(rows)


def _warn_of_few(reading: dict[str, Any], name: str, vocabulary: Vocabulary) -> None:
    known = reading["genes_in_vocabulary"]
    usable = known - reading["genes_without_median"]
    if usable < _FEW * reading["genes_in_file"] or reading["genes_without_median"] > known / 2:
        warnings.warn(
            f"{name}: of {reading['genes_in_file']} genes, {known} are in {vocabulary.source} and "
            f"{usable} have a median there; the others are not ranked. Is it the right "
            "vocabulary, and the right column of var (--gene-column)?",
            RanklockWarning,
            stacklevel=2,
        )


def _named_apart(obs: pd.DataFrame, rows: npt.NDArray[np.int_], name: str) -> pd.DataFrame:
    obs.index = obs.index.astype(str)
    if not obs.index.is_unique:
        obs.index = pd.Index([f"{cell}-{row}" for cell, row in zip(obs.index, rows, strict=True)])
        warnings.warn(
            f"{name}: cells share names, so each is named with its row number.",
            RanklockWarning,
            stacklevel=2,
        )
    return obs


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
