from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.errors import InputError
from ranklock.perturbseq.natural_design import (
    LACKS,
    NOT_DRAWN,
    UNKNOWN,
    NaturalOptions,
    design_of,
    halves,
    matched_pairs,
    ranks_of,
    strata_of,
)
from tests import helpers
from tests.perturbseq import natural_world as world


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 6))
def test_pairs_are_the_nearest_of_each_stratum(seed, lacking, having):
    """Against all ways to pair: the least sum of log differences, no cell twice."""
    draw = np.random.default_rng(seed)
    shown = draw.integers(5, 400, lacking + having)
    strata = np.zeros(lacking + having, int)
    left, right = np.arange(lacking), lacking + np.arange(having)
    pairs = matched_pairs(left, right, shown, strata, 100, 0.999, draw)
    few, many = sorted((left, right), key=len)
    costs = [
        np.abs(np.log(shown[few]) - np.log(shown[list(chosen)])).sum()
        for chosen in permutations(many, len(few))
    ]
    got = np.abs(np.log(shown[pairs[:, 0]]) - np.log(shown[pairs[:, 1]])).sum()
    assert got == pytest.approx(min(costs))
    assert len(np.unique(pairs)) == pairs.size == 2 * min(lacking, having)


@given(st.integers(0, 1000), st.floats(0, 0.9))
def test_no_pair_leaves_its_stratum_or_is_too_far_apart(seed, apart):
    draw = np.random.default_rng(seed)
    shown, strata = draw.integers(1, 300, 60), draw.integers(-1, 3, 60)
    rows = draw.permutation(np.flatnonzero(strata >= 0))
    left, right = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    pairs = matched_pairs(left, right, shown, strata, 10, apart, draw)
    assert len(pairs) <= 10
    assert np.isin(pairs[:, 0], left).all()
    assert np.isin(pairs[:, 1], right).all()
    assert (strata[pairs[:, 0]] == strata[pairs[:, 1]]).all()
    sizes = shown[pairs]
    assert (np.abs(np.diff(sizes)[:, 0]) <= apart * sizes.max(axis=1) + 1e-9).all()


def test_a_gene_that_may_have_been_cut_is_not_lacking():
    vocabulary = helpers.vocabulary(40)
    cells = helpers.cells_of([40, 20, 30, 35], vocabulary)
    tokens = sorted(vocabulary.tokens.values())
    ranks = ranks_of(cells, tokens, 25)
    for row, genes in enumerate(cells.ranked):
        for column, token in enumerate(tokens):
            where = np.flatnonzero(genes == token)
            if len(where):
                expected = where[0] if where[0] < 25 else UNKNOWN
            else:  # the file of these may have been cut at the 25 that the model takes
                expected = UNKNOWN if len(genes) >= 25 else LACKS
            assert ranks[row, column] == expected


def test_held_out_cells_are_half_of_each_stratum_and_in_no_direction():
    cells = world.cells()
    strata = strata_of(cells, ["type", "donor"])
    assert len(np.unique(strata)) == 6  # even and odd cells are of other donors
    out = halves(strata, 5)
    for stratum in np.unique(strata):
        assert out[strata == stratum].mean() == 0.5
    tokens = [cells.vocabulary.token(gene) for gene in world.FIRST]
    design = design_of(cells, tokens, 64, NaturalOptions(match=("type",), min_cells=5, seed=2))
    for gene, weights, judged in zip(design.genes, design.weights, design.judged.T, strict=True):
        assert not np.isin(gene.pairs, design.held_out).any()
        assert weights.sum() == pytest.approx(0)
        assert np.abs(weights).sum() == pytest.approx(2)
        assert (gene.token in set(cells.ranked[gene.pairs[0, 1]].tolist())) is True
        assert all(gene.token not in cells.ranked[row] for row in gene.pairs[:, 0])
        for row, is_judged in zip(design.held_out, judged, strict=True):
            assert is_judged == (gene.token in cells.ranked[row])


def test_cells_without_a_stratum_or_donor_are_on_neither_side():
    cells = world.cells()
    cells.obs.loc[cells.obs.index[:40], "donor"] = None
    tokens = [cells.vocabulary.token(gene) for gene in world.FIRST]
    design = design_of(cells, tokens, 64, NaturalOptions(donor="donor", min_cells=5))
    used = np.concatenate([design.held_out, *(gene.pairs.ravel() for gene in design.genes)])
    assert used.min() >= 40
    assert len(np.unique(design.replicates[used])) == 6


def test_more_genes_than_asked_for_are_drawn_and_the_others_say_so():
    cells = world.cells()
    tokens = [cells.vocabulary.token(gene) for gene in world.FIRST]
    drawn = [
        design_of(cells, tokens, 64, NaturalOptions(min_cells=5, max_genes=4, seed=seed))
        for seed in (0, 0, 1)
    ]
    chosen = [[gene.token for gene in design.genes] for design in drawn]
    assert chosen[0] == chosen[1] != chosen[2]
    assert [len(genes) for genes in chosen] == [4, 4, 4]
    left_out = [gene.why_not for gene in drawn[0].candidates if gene.why_not]
    assert len(left_out) == world.MODULES - 4
    assert all(reason.startswith(NOT_DRAWN) for reason in left_out)
    assert drawn[0].ranks.shape == (len(cells), 4)
    with pytest.raises(InputError, match="0 of 11 genes can be judged"):
        design_of(cells, tokens, 64, NaturalOptions(min_cells=100, held_out=200))
