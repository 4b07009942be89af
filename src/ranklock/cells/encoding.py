"""Counts → ranked genes, by Geneformer's rule.

Normalise the cell to 10,000 counts, divide each gene by its non-zero median over the pretraining
corpus, sort descending; genes without counts are not ranked. **Ties** go to the smaller token, so
an encoding does not depend on the order of the genes in a file.

The factor 10,000 / total is common to all genes of a cell and cannot change their order. It is left
out, which keeps exact ties exact: count / median is one correctly rounded division, equal for
equal ratios, where the longer product may round them apart.
"""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from ranklock.cells.cells import Cells, Levels, Tokens
from ranklock.errors import InputError, OptionError, RanklockWarning

Values = Literal["counts", "normalised", "log1p"]
VALUES: tuple[Values, ...] = get_args(Values)

_LARGEST_PLAUSIBLE_LOG = 20.0  # log1p of 10,000 counts is 9.2; of a million, 13.8


def rank_genes(
    values: npt.NDArray[np.float64], tokens: Tokens, medians: npt.NDArray[np.float64]
) -> tuple[Tokens, Levels]:
    """Rank the genes of one cell.

    Parameters
    ----------
    values
        Expression of each gene, shape (genes,), in any unit that is proportional to counts
        within the cell. Zeros may be present and are not ranked.
    tokens
        Token of each gene, shape (genes,).
    medians
        Non-zero median of each gene, shape (genes,).

    Returns
    -------
    ranked
        Tokens of the expressed genes, highest rank first; ties in ascending order of tokens.
    levels
        Their values, in the same order; in single precision where that holds them exactly.

    References
    ----------
    Theodoris et al., *Transfer learning enables predictions in network biology*, Nature 618 (2023).
    """
    expressed = np.flatnonzero(values)
    scaled = values[expressed] / medians[expressed]
    order = expressed[np.lexsort((tokens[expressed], -scaled))]
    levels = values[order]
    with np.errstate(over="ignore"):  # what single precision cannot hold stays as it is
        single = levels.astype(np.float32)
    exact = np.array_equal(single, levels)
    return tokens[order].astype(np.int32), single if exact else levels


def rank_cells(
    counts: sp.csr_matrix, tokens: Tokens, medians: npt.NDArray[np.float64]
) -> list[tuple[Tokens, Levels]]:
    """Rank the genes of every cell.

    Parameters
    ----------
    counts
        Expression, shape (cells, genes). Columns with the same token are summed first, as
        Geneformer does with duplicate IDs.
    tokens, medians
        As in :func:`rank_genes`.

    Returns
    -------
    For each cell, what :func:`rank_genes` gives.
    """
    unique, first, column = np.unique(tokens, return_index=True, return_inverse=True)
    summing = sp.csr_matrix(
        (np.ones(len(tokens)), (np.arange(len(tokens)), column)), shape=(len(tokens), len(unique))
    )
    summed = sp.csr_matrix(counts.astype(np.float64) @ summing)
    ranked = []
    for start, end in zip(summed.indptr[:-1], summed.indptr[1:], strict=True):
        columns = summed.indices[start:end]
        ranked.append(rank_genes(summed.data[start:end], unique[columns], medians[first][columns]))
    return ranked


def rank_after_factor(cells: Cells, row: int, token: int, factor: float) -> int:
    """Rank of a gene of a cell whose counts of it were multiplied.

    The rank is that of encoding the multiplied counts (in double precision) anew: the other genes
    keep their order, since the factor that normalises the cell is common to all.

    Parameters
    ----------
    cells
        Cells that were encoded from counts.
    row
        The cell.
    token
        The gene, which the cell must have.
    factor
        What its counts are multiplied by; above zero.

    Returns
    -------
    Rank among all genes of the cell, those below the input size included.

    Raises
    ------
    InputError
        When the cells were not encoded from counts, or the cell has no such gene.
    OptionError
        When the factor is not a number above zero.
    """
    if not 0 < factor < np.inf:
        raise OptionError(f"Counts are multiplied by a number above zero, not {factor}.")
    if cells.levels is None:
        raise InputError(
            f"{cells.source} holds ranks, and a factor needs counts: read the cells from an .h5ad "
            "with counts, or name a rank."
        )
    tokens, levels = cells.ranked[row], cells.levels[row].astype(np.float64)
    place = np.flatnonzero(tokens == token)
    if not len(place):
        raise InputError(f"Cell {cells.names[row]} has no {cells.vocabulary.symbol(token)}.")
    medians = cells.vocabulary.median_of_token[tokens]
    scaled = levels / medians
    multiplied = levels[place] * factor / medians[place]
    ahead = (scaled > multiplied) | ((scaled == multiplied) & (tokens < token))
    ahead[place] = False
    return int(ahead.sum())


def as_linear(values: sp.csr_matrix, kind: Values, where: str) -> sp.csr_matrix:
    """Check that expression values are what they are said to be, and undo a logarithm.

    Parameters
    ----------
    values
        Expression, shape (cells, genes).
    kind
        ``"counts"``: whole numbers. ``"normalised"``: proportional to counts within each cell.
        ``"log1p"``: natural logarithm of one plus such values; undone here.
    where
        What the values are called in messages.

    Returns
    -------
    Values proportional to counts within each cell, shape (cells, genes).

    Raises
    ------
    InputError
        When values are NaN, infinite or negative, or not of the kind named.
    """
    if kind not in VALUES:
        raise OptionError(f"values={kind!r} is unknown; use one of {', '.join(VALUES)}.")
    data = values.data
    if not np.isfinite(data).all():
        count = int((~np.isfinite(data)).sum())
        raise InputError(f"{where} holds {count} NaN or infinite values; mend or drop those cells.")
    if (data < 0).any():
        raise InputError(
            f"{where} holds negative values (smallest {data.min():.3g}), so it was scaled or "
            "centred and the counts cannot be had back; name the layer with raw counts "
            "(--counts-layer)."
        )
    largest = float(data.max(initial=0.0))
    if kind == "counts" and 0 < largest <= 1:
        warnings.warn(
            f"{where} holds nothing but zeros and ones: if it was binarised, the ranking is that "
            "of the medians alone.",
            RanklockWarning,
            stacklevel=2,
        )
    if kind == "counts" and not np.array_equal(data, np.rint(data)):
        looks = "log-transformed" if largest < _LARGEST_PLAUSIBLE_LOG else "normalised"
        said = "log1p" if looks == "log-transformed" else "normalised"
        raise InputError(
            f"{where} does not hold raw counts: values are not whole numbers (largest "
            f"{largest:.4g}), they look {looks}. Name the layer with raw counts "
            f"(--counts-layer), or say what they are (--values {said})."
        )
    if kind == "log1p":
        if largest >= _LARGEST_PLAUSIBLE_LOG:
            raise InputError(
                f"{where} is said to be log1p, but its largest value is {largest:.4g}, which "
                "would be e to that power counts; say what it is (--values)."
            )
        values = values.astype(np.float64)
        values.data = np.expm1(values.data)
    return values
