from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.cells import thinning
from ranklock.cells.thinning import drop_genes, holds_counts, thin_counts, thinned_genes
from ranklock.errors import OptionError
from tests.helpers import cells_of, counted_cells, vocabulary

COUNTED = counted_cells([30, 12, 45], vocabulary(50))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(0, 9))
def test_where_all_is_kept_a_cell_is_what_it_was(counts, number):
    cells = counted_cells([len(counts)], vocabulary(40), counts=[counts])
    thinned = thinned_genes(cells, 0, number, kept=1.0, by_counts=True)
    assert thinned.tolist() == cells.ranked[0].tolist()
    assert thinned.dtype == np.int32


@pytest.mark.parametrize("kept", [0.99, 0.5])
def test_thinned_counts_are_ranked_by_geneformers_rule(monkeypatch, kept):
    thinned_counts = []

    def recorded(counts, kept, draw):
        thinned_counts.append(thin_counts(counts, kept, draw))
        return thinned_counts[-1]

    monkeypatch.setattr(thinning, "thin_counts", recorded)
    medians = COUNTED.vocabulary.median_of_token
    changed = 0
    for row in range(len(COUNTED)):
        for number in range(20):
            ranked = thinned_genes(COUNTED, row, number, kept=kept, by_counts=True)
            counts = zip(COUNTED.ranked[row].tolist(), thinned_counts[-1].tolist(), strict=True)
            scored = [(-Fraction(n) / Fraction(float(medians[g])), g) for g, n in counts if n]
            assert ranked.tolist() == [gene for _, gene in sorted(scored)]
            changed += ranked.tolist() != COUNTED.ranked[row].tolist()
    assert changed > 20


@pytest.mark.parametrize("kept", [0.99, 0.7])
def test_thinning_is_binomial(kept):
    counts = np.array([1, 2, 10, 500])
    draw = np.random.default_rng(0)
    draws = np.stack([thin_counts(counts, kept, draw) for _ in range(20_000)])
    assert (draws >= 0).all()
    assert (draws <= counts).all()
    variance = counts * kept * (1 - kept)
    error = np.sqrt(variance / len(draws))
    np.testing.assert_array_less(np.abs(draws.mean(0) - counts * kept), 4 * error)
    np.testing.assert_allclose(draws.var(0), variance, rtol=0.08)
    # Molecules of different genes are kept independently.
    assert np.abs(np.corrcoef(draws.T)[np.triu_indices(4, 1)]).max() < 4 / np.sqrt(len(draws))


def test_a_draw_is_that_of_cell_number_and_seed_alone():
    def drawn(cells, row, number=0, seed=0):
        genes = thinned_genes(cells, row, number, kept=0.5, by_counts=True, seed=seed)
        return tuple(genes.tolist())

    assert drawn(COUNTED, 2) == drawn(COUNTED[[2, 0]], 0) == drawn(COUNTED[[2]], 0)
    assert len({drawn(COUNTED, 2, number, seed) for number in range(4) for seed in (0, 7)}) == 8
    renamed = replace(COUNTED, obs=COUNTED.obs.set_axis(["x", "y", "z"]))
    assert drawn(renamed, 2) != drawn(COUNTED, 2)


@pytest.mark.parametrize(
    ("genes", "kept", "dropped"),
    [(200, 0.99, 2), (240, 0.99, 2), (12, 0.99, 1), (2, 0.99, 1), (1, 0.99, 0), (0, 0.99, 0),
     (200, 1.0, 0)],
)  # fmt: skip
def test_one_gene_in_a_hundred_is_dropped(genes, kept, dropped):
    tokens = np.arange(10, 10 + genes, dtype=np.int32)[::-1]
    left = drop_genes(tokens, kept, np.random.default_rng(0))
    assert len(left) == genes - dropped
    assert (np.diff(left) < 0).all()
    assert set(left) <= set(tokens)


def test_every_gene_is_dropped_equally_often():
    tokens = np.arange(20, dtype=np.int32)
    draw, times = np.random.default_rng(0), np.zeros(20)
    for _ in range(8000):
        times[np.setdiff1d(tokens, drop_genes(tokens, 0.9, draw))] += 1
    # Two of twenty each time: mean 800, variance 8000 × 0.1 × 0.9.
    assert np.abs(times - 800).max() < 4 * np.sqrt(720)


def test_cells_without_counts_lose_genes():
    cells = cells_of([40, 30], vocabulary(50))
    assert not holds_counts(cells)
    for number in range(3):
        left = thinned_genes(cells, 0, number, kept=0.99, by_counts=holds_counts(cells))
        assert len(left) == 39
        assert [g for g in cells.ranked[0].tolist() if g in set(left.tolist())] == left.tolist()


def test_counts_are_whole_numbers_of_every_cell():
    assert holds_counts(COUNTED)
    normalised = replace(COUNTED, levels=tuple(levels / 2.5 for levels in COUNTED.levels))
    assert not holds_counts(normalised)
    half = replace(COUNTED, levels=(*COUNTED.levels[:2], COUNTED.levels[2] + np.float32(0.5)))
    assert not holds_counts(half)
    assert holds_counts(half[[0, 1]])


@pytest.mark.parametrize("kept", [0.0, -0.1, 1.01, float("nan")])
def test_a_part_is_a_part(kept):
    with pytest.raises(OptionError, match="above 0 and at most 1"):
        thinned_genes(COUNTED, 0, 0, kept=kept, by_counts=True)
