import numpy as np
import pytest
from scipy import stats

from ranklock.statistics.replicates import FEWEST_REPLICATES, means_tested


def test_p_values_of_nothing_are_uniform():
    numbers = np.random.default_rng(0).normal(size=(2000, 6))
    tested = means_tested(numbers.mean(1), numbers.var(1, ddof=1), np.full(2000, 6))
    # 2,000 draws: the test at 0.001 finds a distance of 0.06.
    assert stats.kstest(tested.p, "uniform").pvalue > 0.001
    assert tested.standard_error == pytest.approx(stats.sem(numbers, axis=1))


def test_what_has_too_few_replicates_is_not_tested():
    n = np.array([1, 2, FEWEST_REPLICATES, 9])
    tested = means_tested(np.ones(4), np.ones(4), n)
    np.testing.assert_array_equal(np.isnan(tested.p), n < FEWEST_REPLICATES)
    np.testing.assert_array_equal(np.isnan(tested.q), n < FEWEST_REPLICATES)
    assert np.isnan(tested.standard_error[0])


def test_what_may_not_be_tested_counts_for_nothing():
    means, testable = np.array([3.0, 3.0, 0.1]), np.array([True, False, True])
    tested = means_tested(means, np.ones(3), np.full(3, 5), testable)
    assert np.isnan(tested.p[1])
    alone = means_tested(means[testable], np.ones(2), np.full(2, 5))
    np.testing.assert_allclose(tested.q[testable], alone.q)


@pytest.mark.parametrize("variance", [0.0, np.nan])
def test_numbers_without_spread_are_no_measurement(variance):
    tested = means_tested(np.ones(5), np.full(5, variance), np.full(5, 9))
    assert np.isnan(tested.p).all()
