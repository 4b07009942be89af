import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ranklock
from ranklock.audits.sample import FEWEST, Sample, draw_sample
from tests import helpers


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return ranklock.load_model(str(tiny_checkpoint), device="cpu")


@pytest.fixture(scope="module")
def vocabulary():
    return helpers.vocabulary(60)


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=8).filter(lambda x: max(x) >= 2),
    knockouts=st.integers(1, 300),
    seed=st.integers(0, 50),
)
def test_a_sample_covers_the_ranks_within_its_budget(model, vocabulary, lengths, knockouts, seed):
    cells = helpers.cells_of(lengths, vocabulary, seed=seed)
    sample = draw_sample(cells, model, knockouts, seed=seed)
    assert sample.cells == tuple(sorted(set(sample.cells)))
    for cell, ranks in zip(sample.cells, sample.by_rank, strict=True):
        assert lengths[cell] >= 2
        assert list(ranks) == sorted(set(ranks))
        assert ranks[0] >= 0
        assert ranks[-1] < lengths[cell]
        # One gene a stretch: no gap is longer than two stretches.
        longest = -(-lengths[cell] // len(ranks))
        assert np.diff([-1, *ranks, lengths[cell]]).max() <= 2 * longest
    assert sum(map(len, sample.ranks)) <= max(knockouts, len(sample.cells))
    if len(sample.cells) < sum(length >= 2 for length in lengths):
        assert len(sample.cells) == max(knockouts // FEWEST, 1)
    written = Sample(**json.loads(json.dumps(asdict(sample))))
    assert written.ranks == sample.ranks


def test_cells_are_drawn_of_those_that_may_be(model, vocabulary):
    cells = helpers.cells_of([40] * 6, vocabulary)
    sample = draw_sample(cells, model, 1000, rows=[1, 4])
    assert sample.cells == (1, 4)


def test_everything_is_knocked_out_where_the_budget_allows(model, vocabulary):
    cells = helpers.cells_of([10, 30], vocabulary)
    sample = draw_sample(cells, model, 1000)
    assert [list(ranks) for ranks in sample.by_rank] == [list(range(10)), list(range(30))]


def test_every_gene_of_a_stretch_is_as_likely(model, vocabulary):
    cells = helpers.cells_of([40], vocabulary)
    drawn = [draw_sample(cells, model, 8, seed=seed).by_rank[0] for seed in range(1500)]
    counts = np.bincount(np.concatenate([list(ranks) for ranks in drawn]), minlength=40)
    # 1,500 draws of one in five: 300 each, with a standard deviation of 15.5.
    assert np.abs(counts - 300).max() < 5 * 15.5


def test_the_same_genes_come_up_in_many_cells(model, vocabulary):
    # The same order in all cells but for some swaps, as in cells of one type.
    draw = np.random.default_rng(0)
    order = np.array(sorted(vocabulary.tokens.values()))
    alike = [order[np.argsort(np.arange(60) + draw.normal(0, 4, 60))].astype(np.int32)
             for _ in range(10)]  # fmt: skip
    cells = helpers.cells_of([60] * 10, vocabulary)
    object.__setattr__(cells, "ranked", tuple(alike))
    sample = draw_sample(cells, model, 10 * FEWEST, seed=1)
    genes = [int(alike[c][r]) for c, ranks in zip(sample.cells, sample.by_rank, strict=True)
             for r in ranks]  # fmt: skip
    _, counts = np.unique(genes, return_counts=True)
    independent = 60 * (1 - (1 - FEWEST / 60) ** 10)  # genes that come up at least once
    assert len(counts) < 0.85 * independent
    assert (counts >= 3).mean() > 0.7


def test_regulators_are_added_and_do_not_count_as_drawn_by_rank(model, vocabulary):
    cells = helpers.cells_of([60] * 3, vocabulary)
    sources = sorted(vocabulary.tokens.values())[:20]
    sample = draw_sample(cells, model, 3 * FEWEST, sources=sources, seed=0)
    for cell, by_rank, extra in zip(sample.cells, sample.by_rank, sample.for_network, strict=True):
        assert extra
        assert not set(extra) & set(by_rank)
        assert set(cells.ranked[cell][list(extra)].tolist()) <= set(sources)
        assert len(by_rank) >= FEWEST // 2
