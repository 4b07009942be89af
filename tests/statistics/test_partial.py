import numpy as np
import pytest
from scipy import stats

from ranklock.statistics.partial import partial_spearman


def test_without_others_it_is_spearman():
    x, y = np.random.default_rng(0).normal(size=(2, 30))
    assert partial_spearman(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert partial_spearman(x, np.exp(x)).value == pytest.approx(1)


def test_one_other_is_taken_out_by_the_textbook_formula():
    draw = np.random.default_rng(1)
    z = draw.normal(size=50)
    x, y = z + draw.normal(size=50), z + draw.normal(size=50)
    xy, xz, yz = (stats.spearmanr(a, b).statistic for a, b in ((x, y), (x, z), (y, z)))
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_spearman(x, y, z).value == pytest.approx(expected)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """What a common cause does, given that cause, is nothing: in 95 % of 400 draws."""
    draw = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        z = draw.normal(size=40)
        x, y = z + draw.normal(size=40), 2 * z + draw.normal(size=40)
        estimate = partial_spearman(x, y, z)
        held += estimate.low <= 0.0 <= estimate.high
    assert 0.92 <= held / 400 <= 0.98


def test_what_does_not_vary_or_is_too_little_has_no_correlation():
    x = np.arange(10.0)
    for call in ((np.ones(10), x), (x, x[::-1], x), (x[:2], x[:2]), (x[:4], -x[:4], x[:4], x[:4])):
        assert np.isnan(partial_spearman(*call).value)
    y = x.copy()
    y[3] = np.nan
    assert partial_spearman(x, y).n == 9
