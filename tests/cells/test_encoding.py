from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ranklock.cells.encoding import as_linear, rank_cells, rank_genes
from ranklock.errors import InputError

GENES = 8
COUNTS = arrays(np.int64, (3, GENES), elements=st.integers(0, 6))
# Halves and quarters make exact ties between different counts and medians.
MEDIANS = arrays(np.float64, GENES, elements=st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.0]))
TOKENS = st.permutations(range(10, 10 + GENES)).map(lambda t: np.array(t, dtype=np.int32))


def obvious(counts, tokens, medians):
    """Geneformer's rule in exact arithmetic, one gene at a time."""
    total = Fraction(int(counts.sum()))
    scored = [
        (-(Fraction(int(count)) / total * 10_000 / Fraction(float(median))), int(token))
        for count, token, median in zip(counts, tokens, medians, strict=True)
        if count
    ]
    return [token for _, token in sorted(scored)]


@given(COUNTS, TOKENS, MEDIANS)
def test_against_an_obvious_recomputation(counts, tokens, medians):
    ranked = rank_cells(sp.csr_matrix(counts), tokens, medians)
    for row, genes in zip(counts, ranked, strict=True):
        assert genes.tolist() == obvious(row, tokens, medians)
        assert genes.dtype == np.int32


@given(COUNTS, MEDIANS)
def test_duplicate_ids_are_summed(counts, medians):
    tokens = np.array([10, 11, 12, 13, 10, 11, 14, 10], dtype=np.int32)
    medians = medians[[0, 1, 2, 3, 0, 1, 4, 0]]
    summed = np.zeros((3, 15), dtype=int)
    for column, token in enumerate(tokens):
        summed[:, token] += counts[:, column]
    unique = np.array([10, 11, 12, 13, 14], dtype=np.int32)
    ranked = rank_cells(sp.csr_matrix(counts), tokens, medians)
    for row, genes in zip(summed[:, 10:], ranked, strict=True):
        assert genes.tolist() == obvious(row, unique, medians[[0, 1, 2, 3, 6]])


@given(COUNTS, TOKENS, MEDIANS, st.permutations(range(GENES)), st.floats(0.001, 1000))
def test_neither_the_order_of_the_genes_nor_the_cells_depth_matters(
    counts, tokens, medians, order, depth
):
    there = rank_cells(sp.csr_matrix(counts), tokens, medians)
    order = list(order)
    again = rank_cells(sp.csr_matrix(counts[:, order]), tokens[order], medians[order])
    for one, other in zip(there, again, strict=True):
        assert one.tolist() == other.tolist()
    first = rank_genes(counts[0].astype(float), tokens, medians)
    # A power of two scales without rounding, so even ties stay ties.
    scaled = rank_genes(counts[0] * 2.0 ** np.round(np.log2(depth)), tokens, medians)
    assert first.tolist() == scaled.tolist()


def test_explicit_zeros_are_not_ranked():
    counts = sp.csr_matrix((np.array([0, 2]), np.array([0, 1]), np.array([0, 2])), shape=(1, 3))
    ranked = rank_cells(counts, np.array([5, 6, 7], dtype=np.int32), np.ones(3))
    assert ranked[0].tolist() == [6]


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([1.0, np.nan], "counts", "1 NaN or infinite"),
        ([1.0, np.inf], "normalised", "1 NaN or infinite"),
        ([-1.0, 2.0], "counts", r"negative values \(smallest -1\).*scaled"),
        ([-1.0, 2.0], "log1p", "negative values"),
        ([0.69, 2.3], "counts", "look log-transformed.*--values log1p"),
        ([13.1, 250.4], "counts", "look normalised.*--values normalised"),
        ([13.1, 250.4], "log1p", "said to be log1p"),
        ([1.0, 2.0], "guess", "unknown"),
    ],
)
def test_values_that_are_not_what_they_are_said_to_be(values, kind, message):
    with pytest.raises(InputError, match=message):
        as_linear(sp.csr_matrix([values]), kind, "cells.h5ad, X")


@given(COUNTS)
def test_a_logarithm_is_undone(counts):
    logs = sp.csr_matrix(np.log1p(counts * 10_000 / 3))
    linear = as_linear(logs, "log1p", "X").toarray()
    np.testing.assert_allclose(linear, counts * 10_000 / 3, rtol=1e-12)
