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


@given(st.integers(0, 39), st.floats(-3, 3), st.integers(0, 5))
def test_a_constant_potency_changes_no_specific_effect(gene, constant, seed):
    cells = simulated(3, 40, perturbed=20 if gene < 20 else None, seed=seed)
    more = changed(cells, lambda c: c.log_effects + constant * (c.perturbations == gene)[:, None])
    for plain, changed_cell in zip(specific_of(cells), specific_of(more), strict=True):
        np.testing.assert_allclose(plain.specific, changed_cell.specific, **ALIKE)
        np.testing.assert_allclose(plain.standardised, changed_cell.standardised, **ALIKE)


@given(st.integers(0, 39), st.floats(-3, 3), st.integers(0, 5))
def test_a_constant_responsiveness_changes_no_specific_effect(gene, constant, seed):
    cells = simulated(3, 40, perturbed=20, seed=seed)
    more = changed(cells, lambda c: c.log_effects + constant * (c.responders == gene)[None, :])
    for plain, changed_cell in zip(specific_of(cells), specific_of(more), strict=True):
        np.testing.assert_allclose(plain.specific, changed_cell.specific, **ALIKE)


def test_the_constants_are_found():
    (cell,) = simulated(1, 80, noise=0.01)
    more = changed([cell], lambda c: c.log_effects + 2.0 * (c.perturbations == 7)[:, None])
    before, after = (specific_of(c)[0].potency for c in ([cell], more))
    moved = after - before
    # Relative to the mean of the cell's 80 knock-outs.
    assert moved[cell.perturbations == 7] == pytest.approx(2.0 * 79 / 80, abs=0.02)


def test_relabelling_genes_permutes_and_changes_nothing():
    cells = simulated(4, 50, seed=3)
    names = np.random.default_rng(1).permutation(50)
    renamed = [
        replace(c, perturbations=names[c.perturbations], responders=names[c.responders])
        for c in cells
    ]
    for plain, renamed_cell in zip(specific_of(cells), specific_of(renamed), strict=True):
        np.testing.assert_array_equal(plain.specific, renamed_cell.specific)


def test_a_planted_effect_is_found_at_its_size():
    cells = simulated(30, 60, planted={(4, 9): 1.0, (30, 2): -0.8}, noise=0.1)
    effects = specific_of(cells)
    for (gene, responder), size in {(4, 9): 1.0, (30, 2): -0.8}.items():
        values = [
            s.specific[c.perturbations == gene][:, c.responders == responder].item()
            for c, s in zip(cells, effects, strict=True)
        ]
        # One standard error is 0.1 × 1.5 / √30 = 0.03.
        assert np.mean(values) == pytest.approx(size, abs=0.12)


def test_the_surface_takes_step_and_distance_away():
    cells = simulated(8, 60, noise=0.05)
    for cell, effects in zip(cells, specific_of(cells), strict=True):
        below = cell.responder_ranks[None, :] > cell.gene_ranks[:, None]
        raw = np.nanmean(cell.log_effects[below]) - np.nanmean(cell.log_effects[~below])
        left = np.nanmean(effects.specific[below]) - np.nanmean(effects.specific[~below])
        assert raw > 1
        assert abs(left) < 0.02


def test_one_perturbation_has_nothing_to_be_compared_with():
    for effects in specific_of(simulated(5, 40, perturbed=1)):
        assert np.isnan(effects.specific).all()


def test_two_perturbations_are_compared_with_each_other():
    cells = specific_of(simulated(40, 40, perturbed=2, planted={(0, 9): 2.0}, noise=0.05))
    assert any(np.isfinite(cell.specific).any() for cell in cells)
    for cell in cells:
        able = np.isfinite(cell.specific).all(axis=0)
        # What is one's gain is the other's loss: nothing else is known.
        np.testing.assert_allclose(cell.specific[0, able], -cell.specific[1, able], atol=1e-8)
