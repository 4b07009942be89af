import numpy as np
import pytest

from ranklock.statistics.smooth import rank_smooth


def test_a_cubic_is_its_own_smooth():
    x = np.random.default_rng(0).integers(0, 500, 300)
    y = 1 + 0.1 * x - 1e-4 * x**2 + 1e-7 * x**3
    np.testing.assert_allclose(rank_smooth(y, x), y, rtol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 5, 9, 15, 25, 60])
def test_few_numbers_get_a_simpler_curve(n):
    draw = np.random.default_rng(n)
    x, y = np.arange(n), draw.standard_normal(n)
    fitted = rank_smooth(y, x)
    assert np.isfinite(fitted).all()
    if n < 20:
        np.testing.assert_allclose(fitted, y.mean())


def test_one_rank_alone_gives_the_mean():
    np.testing.assert_allclose(rank_smooth([1.0, 2.0, 3.0], [7, 7, 7]), 2.0)


def test_it_takes_away_what_rank_predicts_and_no_more():
    draw = np.random.default_rng(1)
    x = draw.uniform(0, 1, 2000)
    y = np.sin(3 * x) + 0.3 * draw.standard_normal(2000)
    left = y - rank_smooth(y, x)
    assert left.std() == pytest.approx(0.3, rel=0.05)
