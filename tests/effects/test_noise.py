import numpy as np
import pytest

from ranklock.effects import noise_floor


def test_the_floor_is_twice_the_largest_move_between_repeats_of_any_cell():
    draw = np.random.default_rng(0)
    genes = np.repeat(draw.normal(size=(1, 4, 8)), 3, axis=0)
    cell = np.repeat(draw.normal(size=(1, 8)), 3, axis=0)
    still = (genes.copy(), cell.copy())
    genes[2, 1, 0] += 3e-6
    cell[1, 0] += 1e-7
    floor = noise_floor([still, (genes, cell)])
    assert floor.displacement == pytest.approx(2 * 3e-6)
    assert floor.cell_displacement == pytest.approx(2 * 1e-7)
    assert 0 < floor.cosine_distance < 1e-11
    assert 0 < floor.cell_shift < 1e-13
    assert floor.comparisons == 2 * 2 * 4


def test_exact_repeats_have_no_floor():
    floor = noise_floor([(np.ones((2, 3, 4)), np.ones((2, 4)))])
    assert floor.displacement == floor.cell_shift == 0
