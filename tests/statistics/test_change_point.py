import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ranklock.statistics.change_point import LEAST, contrast


@given(st.integers(20, 120), st.data())
def test_superiority_is_the_mann_whitney_probability(n, data):
    k = data.draw(st.integers(LEAST, n - LEAST))
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    effects = draw.integers(0, 10, n).astype(float)  # with ties
    found = contrast(effects[None], [k]).superiority[0]
    u = stats.mannwhitneyu(effects[k:], effects[:k]).statistic
    assert found == pytest.approx(u / (k * (n - k)))


@given(st.integers(40, 300), st.data())
def test_a_step_is_found_where_it_is(n, data):
    k = data.draw(st.integers(LEAST, n - LEAST))
    draw = np.random.default_rng(data.draw(st.integers(0, 999)))
    effects = 0.1 * draw.standard_normal(n)
    effects[k:] += 3.0
    found = contrast(effects[None], [k])
    assert found.change_point[0] == k
    # The line through eight points with noise of 0.1 errs by 0.1 × √(4 / 8) at its end, twice.
    assert found.jump[0] == pytest.approx(3.0, abs=0.6)
    assert found.superiority[0] == 1.0


def test_the_jump_is_that_of_two_fitted_lines():
    draw = np.random.default_rng(0)
    effects, k, window = draw.standard_normal(200), 90, 16  # 8 % of 200
    found = contrast(effects[None], [k]).jump[0]
    x = np.arange(200)
    left = np.polynomial.Polynomial.fit(x[k - window : k], effects[k - window : k], 1)
    right = np.polynomial.Polynomial.fit(x[k : k + window], effects[k : k + window], 1)
    assert found == pytest.approx(right(k - 0.5) - left(k - 0.5))


def test_a_slope_towards_the_rank_is_no_jump():
    draw = np.random.default_rng(1)
    k = np.full(200, 100)
    hill = -np.abs(np.arange(200) - 99.5) / 10 + 0.1 * draw.standard_normal((200, 200))
    found = contrast(hill, k)
    assert abs(found.jump.mean()) < 0.02
    assert abs(found.superiority.mean() - 0.5) < 0.02


def test_without_a_step_change_points_are_anywhere():
    draw = np.random.default_rng(2)
    found = contrast(draw.standard_normal((500, 200)), np.full(500, 100))
    near = np.abs(found.change_point - 100) <= 2
    assert near.mean() < 0.08  # 5 of 191 places, and three standard errors


def test_what_is_not_there_is_left_out():
    effects = np.r_[np.zeros(20), np.nan, np.ones(20)]
    assert contrast(effects[None], [20]).change_point[0] == 20
    flat = contrast(np.full((1, 40), 2.0), [20])
    assert flat.superiority[0] == 0.5
    assert flat.jump[0] == pytest.approx(0.0, abs=1e-12)
    assert np.isnan(flat.change_point[0])
    near_end = contrast(np.arange(40.0)[None], [LEAST - 1])
    assert np.isnan([near_end.superiority[0], near_end.jump[0], near_end.change_point[0]]).all()
    assert np.isnan(contrast(np.full((1, 3), np.nan), [0]).superiority[0])
