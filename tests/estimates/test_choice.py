import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.estimates.choice import (
    LARGEST,
    RANDOM,
    SUSPICIOUS,
    choose_genes,
    choose_pairs,
    gene_means,
    order_of_cells,
)


def table_of(cells, genes=12, seed=0, drop=0.3):
    draw = np.random.default_rng(seed)
    parts = []
    for cell in range(cells):
        present = np.flatnonzero(draw.random(genes) > drop)
        n = len(present)
        parts.append(
            pd.DataFrame(
                {
                    "cell": cell, "token": draw.permutation(present) + 5, "gene_rank": np.arange(n),
                    "estimate": draw.normal(size=n), "gross": draw.random(n) + 1,
                    "peak": draw.random(n) * 0.5, "dominance": draw.random(n) * 0.5,
                    "agreement": 0.95 + 0.04 * draw.random(),
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def parts_of(table, rows):
    return [table[table["cell"] // rows == part] for part in range(table["cell"].max() // rows + 1)]


@given(seed=st.integers(0, 1000), rows=st.integers(1, 9))
def test_means_do_not_depend_on_the_parts(seed, rows):
    table = table_of(8, seed=seed)
    means = gene_means(parts_of(table, rows))
    by = table.groupby("token")
    np.testing.assert_allclose(means["estimate"], by["estimate"].mean())
    np.testing.assert_allclose(means["deviation"], by["estimate"].std())
    np.testing.assert_array_equal(means["peak"], by["peak"].max())
    np.testing.assert_array_equal(means["n_cells"], by.size())


def means_of(estimates, **columns):
    n = len(estimates)
    usual = {"gross": np.abs(estimates), "peak": 0.1, "dominance": 0.1, "n_cells": 9}
    return pd.DataFrame(
        {"estimate": estimates} | usual | columns, index=pd.Index(np.arange(n) + 5, name="token")
    )


def test_the_largest_are_taken_and_others_at_random():
    estimates = np.array([0.1, -9.0, 0.3, 8.0, 0.2, 0.4, 0.5])
    chosen, suspects = choose_genes(means_of(estimates), 2, 3, 1, 0)
    assert suspects == 0
    assert chosen[chosen == LARGEST].index.tolist() == [6, 8]
    assert (chosen == RANDOM).sum() == 3
    assert not (chosen == SUSPICIOUS).any()
    assert choose_genes(means_of(estimates), 2, 100, 1, 0)[0].size == 7


@pytest.mark.parametrize(
    ("column", "value"),
    [("peak", 0.99), ("dominance", 1.5), ("gross", 99.0)],
)
def test_a_suspicious_gene_is_taken_however_small_its_estimate(column, value):
    estimates = np.linspace(2.0, 1.0, 20)
    means = means_of(estimates)
    means.loc[24, column] = value
    chosen, suspects = choose_genes(means, 4, 0, 1, 0)
    assert suspects == 1
    assert chosen[24] == SUSPICIOUS
    assert (chosen == LARGEST).sum() == 4


def test_suspicious_ones_are_half_as_many_at_most_of_each_kind_the_worst():
    means = means_of(np.linspace(2.0, 1.0, 40))
    means["dominance"] = np.linspace(1.0, 2.0, 40)
    means.loc[20, "peak"], means.loc[21, "peak"] = 0.99, 0.97
    means.loc[22, "gross"] = 99.0
    chosen, suspects = choose_genes(means, 6, 0, 1, 0)
    assert suspects == 34
    assert set(chosen[chosen == SUSPICIOUS].index) == {44, 20, 22}


def test_genes_in_few_cells_are_left_out():
    means = means_of(np.array([9.0, 1.0, 2.0]))
    means.loc[5, "n_cells"] = 2
    assert 5 not in choose_genes(means, 2, 5, 3, 0)[0]


@given(rows=st.integers(1, 9), seed=st.integers(0, 50))
def test_cells_are_a_sample_that_does_not_depend_on_parts_or_order(rows, seed):
    table = table_of(8, seed=seed)
    order = order_of_cells([f"cell{i}" for i in range(8)], 0)
    genes = table["token"].unique()[:5]
    pairs = choose_pairs(parts_of(table, rows), genes, order, 3)
    assert set(pairs["token"]) == set(genes)
    for token, chosen in pairs.groupby("token"):
        having = table.loc[table["token"] == token, "cell"].to_numpy()
        expected = having[np.argsort(order[having])][:3]
        assert set(chosen["cell"]) == set(expected)
    assert pairs["sampled"].all()
    # The same cells in another order: the same are taken, by name.
    flipped = table.assign(cell=7 - table["cell"]).sort_values("cell", kind="stable")
    turned = choose_pairs([flipped], genes, order[::-1], 3)
    given = set(zip(pairs["cell"], pairs["token"], strict=True))
    assert given == set(zip(7 - turned["cell"], turned["token"], strict=True))


def test_cells_in_doubt_are_looked_at_beside_the_sample():
    table = table_of(8)
    order = order_of_cells([f"cell{i}" for i in range(8)], 0)
    last = int(np.argmax(order))
    table.loc[table["cell"] == last, "agreement"] = 0.5
    genes = table.loc[table["cell"] == last, "token"].unique()
    pairs = choose_pairs([table], genes, order, 2)
    rows = pairs[pairs["cell"] == last]
    assert set(rows["token"]) == set(genes)
    assert not rows["sampled"].all()
