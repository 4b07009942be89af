import numpy as np
import pytest
from scipy import stats

from ranklock.statistics.significance import false_discovery_rates, moderated_t


def groups(draw, number, spread, counts=(3, 9)):
    sizes = draw.integers(*counts, number)
    scales = np.exp(spread * draw.standard_normal(number))
    values = [scale * draw.standard_normal(n) for scale, n in zip(scales, sizes, strict=True)]
    means = np.array([v.mean() for v in values])
    return means, np.array([v.var(ddof=1) for v in values]), sizes


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_p_values_are_uniform_under_the_null(spread):
    draw = np.random.default_rng(0)
    p = np.concatenate([moderated_t(*groups(draw, 300, spread))[1] for _ in range(20)])
    # 6,000 p-values: the standard error of a share of 5 % is 0.3 %. The prior is fitted, and with
    # spread 1 it is not exactly of the assumed shape, hence the wider bounds.
    assert 0.035 <= (p <= 0.05).mean() <= 0.065
    assert abs(np.median(p) - 0.5) < 0.03


def test_it_is_stronger_than_plain_t_where_variances_are_alike():
    draw = np.random.default_rng(1)
    means, variances, sizes = groups(draw, 400, 0.0, (3, 4))
    _, p = moderated_t(means + 2.0, variances, sizes)
    t = (means + 2.0) / np.sqrt(variances / sizes)
    plain = 2 * stats.t.sf(np.abs(t), sizes - 1)
    assert (p < 0.01).mean() > 3 * (plain < 0.01).mean()


def test_one_group_and_no_variance_do_not_break_it():
    t, p = moderated_t(np.array([1.0]), np.array([0.5]), np.array([4]))
    assert t[0] == pytest.approx(1 / np.sqrt(0.5 / 4))
    assert 0 < p[0] < 1
    t, p = moderated_t(np.zeros(5), np.zeros(5), np.full(5, 3))
    assert np.isnan(t).all()


def test_false_discovery_rates_leave_out_what_was_not_tested():
    q = false_discovery_rates([0.01, np.nan, 0.04, 0.03])
    np.testing.assert_allclose(q, [0.03, np.nan, 0.04, 0.04])
    assert np.isnan(false_discovery_rates([np.nan])).all()
