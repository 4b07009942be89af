import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ranklock.effects import decompose, pooled_artefact_share

FOUR = arrays(np.float32, (4, 5, 6), elements=st.floats(-1e3, 1e3, width=32))


@given(FOUR)
def test_the_two_parts_sum_to_the_displacement(states):
    b, h, s, d = states
    parts = decompose(b, h, s, d)
    total = d.astype(np.float64) - b.astype(np.float64)
    # float64 sums of float32 numbers below 1e3: five roundings of 4e3 · 1.1e-16
    np.testing.assert_allclose(parts.edit + parts.shift, total, rtol=0, atol=1e-11)
    np.testing.assert_array_equal(parts.total, total)


@given(FOUR)
def test_these_are_the_shapley_values(states):
    b, h, s, d = states.astype(np.float64)
    parts = decompose(b, h, s, d)
    # The mean, over the two orders of the players, of what each adds when it joins.
    np.testing.assert_allclose(parts.edit, ((h - b) + (d - s)) / 2, atol=1e-11)
    np.testing.assert_allclose(parts.shift, ((d - h) + (s - b)) / 2, atol=1e-11)
    np.testing.assert_allclose(parts.interaction, (d - s) - (h - b), atol=1e-11)


@given(FOUR)
def test_swapping_the_causes_swaps_the_parts(states):
    b, h, s, d = states
    one, other = decompose(b, h, s, d), decompose(b, s, h, d)
    np.testing.assert_allclose(one.edit, other.shift, atol=1e-11)


def test_shares_of_pure_causes():
    b = np.zeros((2, 3))
    moved = np.array([[1.0, 2, 3], [4, 5, 6]])
    assert decompose(b, b, moved, moved).artefact_share.tolist() == [1, 1]
    assert decompose(b, moved, b, moved).artefact_share.tolist() == [0, 0]
    assert decompose(b, moved, moved, 2 * moved).artefact_share.tolist() == [0.5, 0.5]


def test_pooling_weighs_responders_by_how_far_they_moved():
    b = np.zeros((2, 2))
    d = np.array([[3.0, 0], [0, 1.0]])
    shift_moves_the_first = np.array([[3.0, 0], [0, 0]])
    hold_moves_the_second = np.array([[0.0, 0], [0, 1.0]])
    parts = decompose(b, hold_moves_the_second, shift_moves_the_first, d)
    assert parts.artefact_share.tolist() == [1, 0]
    pooled = pooled_artefact_share(parts.shift_along_total, parts.total_squared)
    assert pooled == pytest.approx(9 / 10)


def test_where_nothing_moved_there_is_no_share():
    still = np.ones((2, 3))
    parts = decompose(still, still, still, still)
    assert np.isnan(parts.artefact_share).all()
    assert np.isnan(pooled_artefact_share(parts.shift_along_total, parts.total_squared))
