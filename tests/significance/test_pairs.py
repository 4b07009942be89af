from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ranklock.significance.pairs import gather
from ranklock.significance.specific import fit_surface
from ranklock.significance.statements import statements_of
from tests.significance.simulated import simulated

RATE = 0.05


def pairs_of(cells, *, min_cells=5, seed=0):
    tokens = np.unique(np.concatenate([cell.responders for cell in cells]))
    rows = np.unique(np.concatenate([cell.perturbations for cell in cells]))
    return gather(cells, fit_surface(cells), rows, tokens, min_cells=min_cells, seed=seed)


def statements(cells, **options):
    pairs = pairs_of(cells, **options)
    return pairs, " ".join(
        statements_of(pairs, fit_surface(cells), donor=None, min_cells=options.get("min_cells", 5))
    )


def uniform(p, *, draws=400, seed=0):
    """Kolmogorov and Smirnov's p of a sample of p-values.

    With 400 draws the test at 0.001 finds a distance of 0.15 from uniform, such as 15 % of the
    p-values gathering below 0.01, in more than 90 % of cases (see below).
    """
    known = p[np.isfinite(p)]
    return stats.kstest(np.random.default_rng(seed).choice(known, draws, replace=False), "uniform")


def test_the_power_of_the_test_of_uniformity():
    draw = np.random.default_rng(0)
    rejected = []
    for _ in range(100):
        p = draw.random(400)
        p[draw.random(400) < 0.15] *= 0.01
        rejected.append(stats.kstest(p, "uniform").pvalue < 0.001)
    assert np.mean(rejected) > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_p_values_are_uniform_where_nothing_is_planted(seed):
    pairs = pairs_of(simulated(12, 60, seed=seed))
    assert uniform(pairs.tested.p).pvalue > 0.001
    assert uniform(pairs.swapped).pvalue > 0.001
    assert np.mean(pairs.tested.p[np.isfinite(pairs.tested.p)] <= 0.05) < 0.06
    assert (pairs.tested.q <= RATE).sum() <= 1


def test_p_values_of_swapped_perturbations_are_uniform_although_effects_are_planted():
    draw = np.random.default_rng(0)
    planted = {(int(g), int(i)): 0.7 for g, i in draw.integers(0, 60, (100, 2)) if g != i}
    pairs = pairs_of(simulated(12, 60, planted=planted))
    assert (pairs.tested.q <= RATE).sum() > 50
    assert uniform(pairs.swapped).pvalue > 0.001


def test_planted_effects_are_found_at_the_nominal_rate():
    false, total, missed = 0, 0, 0
    for seed in range(6):
        draw = np.random.default_rng(seed)
        planted = {(int(g), int(i)): 0.8 for g, i in draw.integers(0, 60, (100, 2)) if g != i}
        pairs = pairs_of(simulated(12, 60, planted=planted, seed=seed))
        truth = np.zeros(pairs.n_cells.shape, bool)
        for pair in planted:
            truth[pair] = True
        significant = (pairs.tested.q <= RATE).reshape(truth.shape)
        false += int((significant & ~truth).sum())
        total += int(significant.sum())
        missed += int((truth & ~significant).sum())
    # Binomial error of a rate of 5 % among that many, at 3 standard errors.
    assert false / total <= RATE + 3 * np.sqrt(RATE * (1 - RATE) / total)
    assert total - false > 3 * missed


def test_ten_copies_of_every_cell_prove_nothing_more_when_donors_are_given():
    cells = simulated(6, 40, donors=6, planted={(3, 5): 0.6})
    copies = [cell for cell in cells for _ in range(10)]
    single, ten = pairs_of(cells, min_cells=3), pairs_of(copies, min_cells=3)
    np.testing.assert_allclose(single.tested.p, ten.tested.p, rtol=1e-6, equal_nan=True)
    assert (ten.n_cells == 10 * single.n_cells).all()
    np.testing.assert_array_equal(ten.n_replicates, single.n_replicates)
    alone = [replace(cell, replicate=f"{i}") for i, cell in enumerate(copies)]
    assert np.nanmedian(pairs_of(alone).tested.p) < np.nanmedian(single.tested.p) / 2


def test_order_of_cells_changes_nothing_beyond_rounding():
    cells = simulated(8, 40)
    pairs, reversed_pairs = pairs_of(cells), pairs_of(cells[::-1])
    np.testing.assert_allclose(pairs.specific, reversed_pairs.specific, atol=1e-6)
    np.testing.assert_allclose(pairs.tested.p, reversed_pairs.tested.p, rtol=1e-4)


def test_effects_under_the_floor_are_never_significant():
    cells = simulated(12, 40, planted={(3, 5): 2.0})
    pairs = pairs_of(cells)
    index = (3, 5)
    assert pairs.tested.q.reshape(pairs.n_cells.shape)[index] < RATE
    under = [
        replace(
            c,
            under_floor=(c.perturbations == 3)[:, None] & (c.responders == 5)[None, :],
        )
        for c in cells
    ]
    assert np.isnan(pairs_of(under).tested.p.reshape(pairs.n_cells.shape)[index])


class TestDegenerate:
    def test_one_cell(self):
        pairs, said = statements(simulated(1, 40), min_cells=1)
        assert np.isnan(pairs.tested.p).all()
        assert "Nothing is tested: there are 1 replicates" in said

    def test_one_perturbation(self):
        pairs, said = statements(simulated(10, 40, perturbed=1))
        assert np.isnan(pairs.tested.p).all()
        assert np.isnan(pairs.specific).all()
        assert "--controls" in said

    def test_few_perturbations_say_what_they_rest_on(self):
        pairs, said = statements(simulated(10, 40, perturbed=3))
        assert np.isfinite(pairs.tested.p).any()
        assert "Responsiveness rests on" in said

    def test_many_perturbations_need_no_remark(self):
        assert statements(simulated(10, 40))[1] == ""

    def test_a_responder_seen_once(self):
        cells = simulated(8, 40)
        cells[1:] = [
            replace(
                c,
                log_effects=np.where(c.responders[None, :] == 7, np.nan, c.log_effects),
            )
            for c in cells[1:]
        ]
        pairs = pairs_of(cells)
        column = np.flatnonzero(pairs.responders == 7)
        assert np.isnan(pairs.tested.p.reshape(pairs.n_cells.shape)[:, column]).all()
        assert np.isfinite(pairs.tested.p).any()

    def test_all_at_the_floor(self):
        cells = [replace(c, under_floor=np.ones_like(c.under_floor)) for c in simulated(8, 40)]
        pairs, said = statements(cells)
        assert np.isnan(pairs.tested.p).all()
        assert "under the noise floor" in said

    def test_effects_that_are_all_alike(self):
        cells = [
            replace(c, log_effects=np.where(np.isfinite(c.log_effects), -4.0, np.nan))
            for c in simulated(8, 40)
        ]
        pairs, said = statements(cells)
        assert np.isnan(pairs.tested.p).all()
        assert "nothing is tested" in said

    def test_one_responder(self):
        cells = []
        for cell in simulated(8, 40):
            read = cell.responders == 7
            cells.append(
                replace(
                    cell,
                    responders=cell.responders[read],
                    responder_ranks=cell.responder_ranks[read],
                    log_effects=cell.log_effects[:, read],
                    under_floor=cell.under_floor[:, read],
                )
            )
        pairs, said = statements(cells, min_cells=1)
        assert np.isnan(pairs.tested.p).all()
        assert "One responder" in said
