import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from ranklock.statistics.enrichment import auroc
from ranklock.statistics.ranking import average_precision, normal_scores, places, signed_rank_p


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=4, max_size=60))
def test_auroc_and_average_precision_are_those_of_scikit_learn_ties_included(rows):
    scores = np.array([score for score, _ in rows], float)
    targets = np.array([target for _, target in rows])
    if targets.all() or not targets.any():
        return
    # Sums of at most sixty terms of at most one, in another order.
    assert average_precision(scores, targets) == pytest.approx(
        average_precision_score(targets, scores), abs=1e-12
    )
    assert auroc(scores, targets) == pytest.approx(roc_auc_score(targets, scores), abs=1e-12)


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
