from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ranklock.cells import Cells
from ranklock.cells.encoding import as_linear, rank_after_factor, rank_cells, rank_genes
from ranklock.errors import InputError, OptionError
from ranklock.genes.vocabulary import Vocabulary
from tests.helpers import cells_of, vocabulary

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
    for row, (genes, levels) in zip(counts, ranked, strict=True):
        assert genes.tolist() == obvious(row, tokens, medians)
        assert genes.dtype == np.int32
        count_of = dict(zip(tokens.tolist(), row.tolist(), strict=True))
        assert levels.tolist() == [count_of[gene] for gene in genes.tolist()]


@given(COUNTS, MEDIANS)
def test_duplicate_ids_are_summed(counts, medians):
    tokens = np.array([10, 11, 12, 13, 10, 11, 14, 10], dtype=np.int32)
    medians = medians[[0, 1, 2, 3, 0, 1, 4, 0]]
    summed = np.zeros((3, 15), dtype=int)
    for column, token in enumerate(tokens):
        summed[:, token] += counts[:, column]
    unique = np.array([10, 11, 12, 13, 14], dtype=np.int32)
    ranked = rank_cells(sp.csr_matrix(counts), tokens, medians)
    for row, (genes, _) in zip(summed[:, 10:], ranked, strict=True):
        assert genes.tolist() == obvious(row, unique, medians[[0, 1, 2, 3, 6]])


@given(COUNTS, TOKENS, MEDIANS, st.permutations(range(GENES)), st.floats(0.001, 1000))
def test_neither_the_order_of_the_genes_nor_the_cells_depth_matters(
    counts, tokens, medians, order, depth
):
    ranked = rank_cells(sp.csr_matrix(counts), tokens, medians)
    order = list(order)
    permuted = rank_cells(sp.csr_matrix(counts[:, order]), tokens[order], medians[order])
    for (genes, _), (genes_permuted, _) in zip(ranked, permuted, strict=True):
        assert genes.tolist() == genes_permuted.tolist()
    first, _ = rank_genes(counts[0].astype(float), tokens, medians)
    # A power of two scales without rounding, so even ties stay ties.
    scaled, _ = rank_genes(counts[0] * 2.0 ** np.round(np.log2(depth)), tokens, medians)
    assert first.tolist() == scaled.tolist()


def test_explicit_zeros_are_not_ranked():
    counts = sp.csr_matrix((np.array([0, 2]), np.array([0, 1]), np.array([0, 2])), shape=(1, 3))
    ((genes, levels),) = rank_cells(counts, np.array([5, 6, 7], dtype=np.int32), np.ones(3))
    assert genes.tolist() == [6]
    assert levels.tolist() == [2]


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


VALUES = st.one_of(
    st.integers(0, 6).map(float),
    st.floats(0, 100, allow_subnormal=False),
    st.sampled_from([0.1, 0.3, 1 / 3, 2**24 + 1.0, 1e300]),
)
FACTORS = st.one_of(
    st.sampled_from([0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 1 / 3]), st.floats(1e-6, 1e6)
)


@given(
    arrays(np.float64, (2, GENES), elements=VALUES),
    st.lists(st.sampled_from([0.1, 0.3, 0.7, 1.0, 1.5, 3.0]), min_size=GENES, max_size=GENES),
    FACTORS,
)
def test_the_rank_after_a_factor_is_that_of_encoding_the_multiplied_counts(values, medians, factor):
    names = [f"G{token}" for token in range(2, 2 + GENES)]
    vocab = Vocabulary(
        {name: token for token, name in enumerate(names, 2)},
        {"<pad>": 0, "<mask>": 1},
        medians=dict(zip(names, medians, strict=True)),
    )
    tokens, medians = np.arange(2, 2 + GENES, dtype=np.int32), np.array(medians)
    ranked = rank_cells(sp.csr_matrix(values), tokens, medians)
    cells = Cells(
        tuple(genes for genes, _ in ranked),
        pd.DataFrame(index=["a", "b"]),
        vocab,
        special_frame=False,
        levels=tuple(levels for _, levels in ranked),
    )[[1, 0]]
    for row, expression in enumerate(values[::-1]):
        for token in cells.ranked[row].tolist():
            multiplied = expression.copy()
            multiplied[token - 2] *= factor
            genes, _ = rank_genes(multiplied, tokens, medians)
            if multiplied[token - 2]:  # not so small that nothing is left
                place = genes.tolist().index(token)
                assert rank_after_factor(cells, row, token, factor) == place


def test_levels_take_the_memory_of_tokens_where_they_are_counts():
    values = np.array([3.0, 2**24, 1.0])
    _, levels = rank_genes(values, np.arange(3, dtype=np.int32), np.ones(3))
    assert levels.dtype == np.float32
    _, levels = rank_genes(values + 0.1, np.arange(3, dtype=np.int32), np.ones(3))
    assert levels.dtype == np.float64


def test_a_factor_that_cannot_be():
    cells = cells_of([5], vocabulary(9))
    with pytest.raises(InputError, match="holds ranks, and a factor needs counts"):
        rank_after_factor(cells, 0, int(cells.ranked[0][0]), 0.5)
    counted = replace(cells, levels=(np.ones(5, np.float32),))
    lacking = min(set(cells.vocabulary.genes) - set(cells.ranked[0].tolist()))
    with pytest.raises(InputError, match="Cell cell0 has no GENE"):
        rank_after_factor(counted, 0, lacking, 0.5)
    for factor in (0, -1, float("nan"), float("inf")):
        with pytest.raises(OptionError, match="above zero"):
            rank_after_factor(counted, 0, 5, factor)
    with pytest.raises(InputError, match="one level"):
        replace(cells, levels=(np.ones(4, np.float32),))


def test_levels_are_not_what_the_model_sees():
    cells = cells_of([5], vocabulary(9))
    assert replace(cells, levels=(np.ones(5),)).sha256() == cells.sha256()
