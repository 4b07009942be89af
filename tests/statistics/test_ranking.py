import numpy as np

from ranklock.statistics.ranking import normal_scores, places, signed_rank_p


def test_places_leave_out_what_is_missing():
    found = places(np.array([[3.0, np.nan, 1.0, 3.0], [np.nan] * 4]))
    np.testing.assert_allclose(found[0], [4 / 6, np.nan, 1 / 6, 4 / 6])
    assert np.isnan(found[1]).all()


def test_normal_scores_see_order_alone():
    values = np.random.default_rng(0).normal(size=50)
    np.testing.assert_array_equal(normal_scores(values), normal_scores(np.exp(3 * values)))


def test_no_p_value_from_nothing():
    assert np.isnan(signed_rank_p([0.1, 0.2]))
    assert signed_rank_p([0.0, 0.0, 0.0]) == 1.0
    assert signed_rank_p(np.linspace(0.1, 1, 12)) < 0.001
