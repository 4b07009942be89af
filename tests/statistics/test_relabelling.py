from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.statistics.relabelling import full_places, mean_of_known, relabelling_p


@given(st.integers(0, 1000), st.integers(2, 8))
def test_places_are_the_share_of_others_below(seed, size):
    values = np.random.default_rng(seed).integers(0, 5, (3, size)).astype(float)
    place = full_places(values)
    for row in range(3):
        for column in range(size):
            others = np.delete(values[row], column)
            expected = (others < values[row, column]).mean()
            expected += 0.5 * (others == values[row, column]).mean()
            assert place[row, column] == pytest.approx(expected)
    np.testing.assert_allclose(place.mean(axis=1), 0.5)


def test_unknown_values_have_no_place_and_take_none():
    values = np.array([[3.0, np.nan, 1.0, 2.0], [np.nan, np.nan, 5.0, np.nan]])
    place = full_places(values)
    np.testing.assert_array_equal(place[0], [1.0, np.nan, 0.0, 0.5])
    assert np.isnan(place[1]).all()
    assert mean_of_known(place) == 0.5


def test_p_is_that_of_all_permutations():
    place = full_places(np.random.default_rng(4).normal(size=(5, 5)) + 0.8 * np.eye(5))
    rows = np.arange(5)
    exact = np.mean([place[rows, list(order)].mean() >= np.diagonal(place).mean() - 1e-12
                     for order in permutations(range(5))])  # fmt: skip
    assert relabelling_p(place, seed=1, relabellings=20_000) == pytest.approx(exact, abs=0.01)
    assert relabelling_p(place, seed=1) == relabelling_p(place, seed=1)


def test_what_is_in_front_along_every_label_is_not_told_apart():
    values = np.tile(np.arange(6.0), (6, 1))
    assert relabelling_p(full_places(values), relabellings=99) == 1.0
