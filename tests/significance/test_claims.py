import numpy as np
import pytest

from ranklock.errors import OptionError
from ranklock.significance.claims import OF_TEST, Claims, Rule, needed_replicates
from ranklock.significance.claims import claims_tested as table_of
from ranklock.statistics.minimum import Means


def claims(values, *, signed=False, cells=None):
    """Claims of replicates × claims; NaN where a replicate has none."""
    columns = [column[np.isfinite(column)] for column in values.T]
    counts = np.array([len(column) for column in columns])
    means = Means(
        np.array([c.mean() if len(c) else np.nan for c in columns]),
        np.array([c.var(ddof=1) if len(c) > 1 else np.nan for c in columns]),
        counts,
    )
    return Claims(means, counts if cells is None else np.asarray(cells), signed, values)


def folds(seed, size, *, replicates=12, number=100, spread=0.2):
    return np.random.default_rng(seed).normal(size, spread, (replicates, number))


def test_what_is_as_large_as_impostors_is_never_found_and_what_is_larger_is():
    values = folds(0, 0.0)
    values[:, :10] += np.log10(6.0)
    values[:, 10:20] += np.log10(1.2)  # certain with so many cells, and of no consequence
    values[:, 20:30] -= np.log10(6.0)
    table = table_of(claims(values), Rule(), None)
    assert list(table) == list(OF_TEST)
    assert table["finding"].to_numpy().nonzero()[0].tolist() == list(range(10))
    smaller = (table["q_smaller"] <= 0.05).to_numpy().nonzero()[0]
    assert smaller.tolist() == list(range(20, 30))  # a question of its own
    np.testing.assert_allclose(table["fold"][:10], 6.0, rtol=0.4)
    assert (table["fold_low"] < table["fold"]).all()
    assert (table["fold"] < table["fold_high"]).all()
    assert table["null_rate"].isna().all()


def test_nothing_is_found_that_the_null_model_has_as_often():
    values, null = folds(1, 0.5), folds(2, 0.5)
    table = table_of(claims(values), Rule(), table_of(claims(null), Rule()))
    assert (table["q"] <= 0.05).mean() > 0.9
    assert table["null_rate"].min() > 0.5
    assert not table["finding"].any()
    knows_nothing = table_of(claims(values), Rule(), table_of(claims(folds(3, 0.0)), Rule()))
    assert (knows_nothing["finding"] == (knows_nothing["q"] <= 0.05)).all()


def test_a_few_do_not_slip_in_between_the_few_of_the_null_model():
    values, null = folds(1, 0.0), folds(2, 0.0)
    values[:, :3] += 2.0
    assert table_of(claims(values), Rule(), table_of(claims(null), Rule()))["finding"].sum() == 3
    null[:, :2] += 1.0  # it has findings of its own, if less certain ones
    table = table_of(claims(values), Rule(), table_of(claims(null), Rule()))
    assert not table["finding"].any()
    assert table["null_rate"].min() == pytest.approx(1 / 3)
    values[:, :40] += 2.0  # 40 of the checkpoint's before the first of the null's
    assert table_of(claims(values), Rule(), table_of(claims(null), Rule()))["finding"].sum() == 40


@pytest.mark.parametrize("exact", [False, True])
def test_relabelling_and_scale_change_nothing(exact):
    values = folds(4, 0.3)
    rule = Rule(exact=exact)
    table = table_of(claims(values), rule, None)
    order = np.random.default_rng(5).permutation(values.shape[1])
    again = table_of(claims(values[:, order]), rule, None)
    np.testing.assert_allclose(again["p"], table["p"].to_numpy()[order])
    np.testing.assert_array_equal(again["finding"], table["finding"].to_numpy()[order])


def test_a_sign_is_a_direction():
    values = folds(6, 0.0, spread=0.5)
    values[:, 0], values[:, 1] = values[:, 0] + 4.0, values[:, 1] - 4.0
    table = table_of(claims(values, signed=True), Rule(), None)
    assert table["finding"].to_numpy().nonzero()[0].tolist() == [0, 1]
    assert table["fold"][0] > 3
    assert table["fold"][1] < -3
    assert table["q_smaller"].isna().all()


def test_what_is_in_too_few_cells_says_so_and_is_never_no_effect():
    values = folds(7, 1.0, number=4)
    values[3:, 0] = np.nan
    table = table_of(claims(values), Rule(min_cells=5), None)
    assert table["status"].tolist() == ["not tested: 3 cells, 5 needed", *["tested"] * 3]
    assert np.isnan(table.loc[0, ["p", "q"]].astype(float)).all()
    assert not table["finding"][0]


def test_a_design_that_cannot_find_is_named():
    values = folds(8, 2.0, replicates=6, number=100)
    rule = Rule(exact=True, donor="donor")
    # 2⁻ⁿ × 100 ≤ 0.05 takes n = 11.
    assert needed_replicates(rule, 100) == 11
    table = table_of(claims(values, cells=[60] * 100), rule, None)
    assert set(table["status"]) == {"not tested: 6 donors, 11 needed"}
    assert not table["finding"].any()
    enough = table_of(claims(folds(9, 2.0, replicates=11), cells=[60] * 100), rule, None)
    assert enough["finding"].all()


def test_exact_tests_need_the_replicates_values():
    few = claims(folds(10, 0.0))
    without = Claims(few.means, few.cells, signed=False)
    with pytest.raises(ValueError, match="own values"):
        table_of(without, Rule(exact=True), None)


@pytest.mark.parametrize("minimum", [0.9, 0.0, -1.0, np.inf, np.nan])
def test_a_minimum_below_what_impostors_do_is_refused(minimum):
    with pytest.raises(OptionError, match="minimum"):
        Rule(minimum)


def test_cells_are_replicates_where_no_donor_is_named():
    assert Rule().replicate == "cells"
    assert Rule(donor="sample").replicate == "donors"
    assert Rule(min_cells=8).fewest == 8
    assert Rule(donor="sample", min_cells=8).fewest == 3
