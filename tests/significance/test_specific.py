from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.significance.specific import fit_surface, specific_effects
from tests.significance.simulated import simulated


def specific_of(cells):
    surface = fit_surface(cells)
    return [specific_effects(cell, surface) for cell in cells]


def changed(cells, change):
    return [replace(cell, log_effects=change(cell)) for cell in cells]


# Constants are projected out to 1e-12 of the largest number, and a line through neighbours
# multiplies that by little.
ALIKE = {"rtol": 0, "atol": 1e-8, "equal_nan": True}


@given(st.integers(0, 59), st.floats(-3, 3), st.integers(0, 5))
def test_a_constant_potency_changes_no_specific_effect(gene, constant, seed):
    cells = simulated(3, 60, knocked_out=20 if gene < 20 else None, seed=seed)
    more = changed(cells, lambda c: c.log_effects + constant * (c.knocked_out == gene)[:, None])
    for one, other in zip(specific_of(cells), specific_of(more), strict=True):
        np.testing.assert_allclose(one.specific, other.specific, **ALIKE)
        np.testing.assert_allclose(one.standardised, other.standardised, **ALIKE)


@given(st.integers(0, 59), st.floats(-3, 3), st.integers(0, 5))
def test_a_constant_responsiveness_changes_no_specific_effect(gene, constant, seed):
    cells = simulated(3, 60, knocked_out=20, seed=seed)
    more = changed(cells, lambda c: c.log_effects + constant * (c.responders == gene)[None, :])
    for one, other in zip(specific_of(cells), specific_of(more), strict=True):
        np.testing.assert_allclose(one.specific, other.specific, **ALIKE)


def test_the_constants_are_found():
    (cell,) = simulated(1, 80, noise=0.01)
    more = changed([cell], lambda c: c.log_effects + 2.0 * (c.knocked_out == 7)[:, None])
    before, after = (specific_of(c)[0].potency for c in ([cell], more))
    moved = after - before
    # Relative to the mean of the cell's 80 knock-outs.
    assert moved[cell.knocked_out == 7] == pytest.approx(2.0 * 79 / 80, abs=0.02)


def test_relabelling_genes_permutes_and_changes_nothing():
    cells = simulated(4, 50, seed=3)
    names = np.random.default_rng(1).permutation(50)
    renamed = [
        replace(c, knocked_out=names[c.knocked_out], responders=names[c.responders]) for c in cells
    ]
    for one, other in zip(specific_of(cells), specific_of(renamed), strict=True):
        np.testing.assert_array_equal(one.specific, other.specific)


def test_a_planted_effect_is_found_at_its_size():
    cells = simulated(30, 60, planted={(4, 9): 1.0, (30, 2): -0.8}, noise=0.1)
    found = specific_of(cells)
    for (gene, responder), size in {(4, 9): 1.0, (30, 2): -0.8}.items():
        values = [
            s.specific[c.knocked_out == gene][:, c.responders == responder].item()
            for c, s in zip(cells, found, strict=True)
        ]
        # One standard error is 0.1 × 1.5 / √30 = 0.03.
        assert np.mean(values) == pytest.approx(size, abs=0.12)


def test_the_surface_takes_step_and_distance_away():
    cells = simulated(8, 60, noise=0.05)
    for cell, found in zip(cells, specific_of(cells), strict=True):
        below = cell.responder_ranks[None, :] > cell.knocked_out_ranks[:, None]
        raw = np.nanmean(cell.log_effects[below]) - np.nanmean(cell.log_effects[~below])
        left = np.nanmean(found.specific[below]) - np.nanmean(found.specific[~below])
        assert raw > 1
        assert abs(left) < 0.02


def test_one_knock_out_has_nothing_to_be_compared_with():
    for found in specific_of(simulated(5, 40, knocked_out=1)):
        assert np.isnan(found.specific).all()


def test_two_knock_outs_are_compared_with_each_other():
    found = specific_of(simulated(40, 40, knocked_out=2, planted={(0, 9): 2.0}, noise=0.05))
    assert any(np.isfinite(one.specific).any() for one in found)
    for one in found:
        able = np.isfinite(one.specific).all(axis=0)
        # What is one's gain is the other's loss: nothing else is known.
        np.testing.assert_allclose(one.specific[0, able], -one.specific[1, able], atol=1e-8)
