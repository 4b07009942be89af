import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ranklock.statistics.minimum import (
    Means,
    holm,
    moderated_test,
    rate_in_null,
    signed_rank_tests,
)
from ranklock.statistics.significance import false_discovery_rates

MINIMUM = np.log10(1.5)


def _known(values):
    """Means and variances over what is there."""
    columns = [column[np.isfinite(column)] for column in values.T]
    return (
        np.array([c.mean() if len(c) else np.nan for c in columns]),
        np.array([c.var(ddof=1) if len(c) > 1 else np.nan for c in columns]),
    )


def means_of(values):
    """Means of replicates × claims; NaN where a replicate has none."""
    return Means(
        *_known(values),
        np.isfinite(values).sum(axis=0),
    )  # fmt: skip


def test_of_one_claim_it_is_the_usual_t_test():
    values = np.random.default_rng(0).normal(0.4, 0.3, (9, 1))
    tested = moderated_test(means_of(values), MINIMUM, 3)
    plain = stats.ttest_1samp(values[:, 0], MINIMUM, alternative="greater")
    assert tested.p[0] == pytest.approx(plain.pvalue)
    assert tested.p_smaller[0] == pytest.approx(
        stats.ttest_1samp(values[:, 0], -MINIMUM, alternative="less").pvalue
    )


def test_of_a_minimum_of_zero_with_a_direction_it_is_the_two_sided_t_test():
    values = np.random.default_rng(1).normal(0.2, 0.3, (12, 1))
    tested = moderated_test(means_of(values), 0.0, 3, signed=True)
    assert tested.p[0] == pytest.approx(stats.ttest_1samp(values[:, 0], 0.0).pvalue)


def test_a_direction_is_tested_in_both():
    values = np.random.default_rng(2).normal(0.5, 0.2, (8, 50))
    up = moderated_test(means_of(values), 0.3, 3, signed=True)
    down = moderated_test(means_of(-values), 0.3, 3, signed=True)
    np.testing.assert_allclose(up.p, down.p)
    assert np.isnan(up.p_smaller).all()


def test_too_few_replicates_are_not_tested():
    values = np.random.default_rng(3).normal(1.0, 0.1, (5, 3))
    values[2:, 0], values[:, 1] = np.nan, np.nan
    tested = moderated_test(means_of(values), MINIMUM, 3)
    assert np.isfinite(tested.p).tolist() == [False, False, True]


def correlated(draw, shape, share):
    """Normal numbers that share a part of their variance over claims."""
    common = draw.normal(size=(shape[0], 1))
    return np.sqrt(share) * common + np.sqrt(1 - share) * draw.normal(size=shape)


NOISE = {
    "independent": lambda draw, shape: draw.normal(size=shape),
    "correlated responders": lambda draw, shape: correlated(draw, shape, 0.6),
    "heavy tails": lambda draw, shape: draw.standard_t(4, size=shape) / np.sqrt(2),
}


@pytest.mark.parametrize("kind", NOISE)
@pytest.mark.parametrize("replicates", [4, 10, 40])
def test_at_the_threshold_one_in_twenty_is_found_at_most(kind, replicates):
    draw = np.random.default_rng(replicates)
    shares, q_found = [], []
    for _ in range(60):
        # Variances of claims differ by a factor of some ten, as those of genes do.
        spread = 0.3 * draw.gamma(4.0, 0.25, size=200)
        values = MINIMUM + spread * NOISE[kind](draw, (replicates, 200))
        p = moderated_test(means_of(values), MINIMUM, 3).p
        shares.append(np.mean(p <= 0.05))
        q_found.append((false_discovery_rates(p) <= 0.05).any())
    # 5 %, and three standard errors of 60 rounds; correlated claims come and go together.
    assert np.mean(shares) <= 0.05 + 3 * np.std(shares) / np.sqrt(60) + 0.004
    assert np.mean(q_found) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_cells_of_a_donor_are_no_replicates_of_their_own():
    draw = np.random.default_rng(5)
    donors, cells = 6, 20
    by_donor, by_cell = [], []
    for _ in range(100):
        of_donor = 0.3 * draw.normal(size=(donors, 1, 50))
        values = MINIMUM + of_donor + 0.1 * draw.normal(size=(donors, cells, 50))
        by_donor.append((moderated_test(means_of(values.mean(1)), MINIMUM, 3).p <= 0.05).mean())
        flat = values.reshape(-1, 50)
        by_cell.append((moderated_test(means_of(flat), MINIMUM, 3).p <= 0.05).mean())
    assert np.mean(by_donor) <= 0.06
    assert np.mean(by_cell) > 0.2  # what averaging within donors is for


@given(st.integers(0, 10**6))
def test_signed_rank_tests_are_scipys(seed):
    draw = np.random.default_rng(seed)
    values = draw.normal(0.3, 0.4, (int(draw.integers(3, 12)), 7))
    p = signed_rank_tests(values, MINIMUM, 3)
    for column, one in zip(values.T, p, strict=True):
        exact = stats.wilcoxon(column - MINIMUM, alternative="greater", method="exact")
        assert one == pytest.approx(exact.pvalue)


def test_no_exact_p_is_below_what_so_few_replicates_allow():
    values = np.full((6, 3), 5.0) + np.arange(6)[:, None] * 0.1
    values[:2, 1] = np.nan
    p = signed_rank_tests(values, MINIMUM, 3)
    assert p.tolist() == [2.0**-6, 2.0**-4, 2.0**-6]
    assert signed_rank_tests(-values, MINIMUM, 3, signed=True)[0] == 2.0**-5
    assert np.isnan(signed_rank_tests(values[:2], MINIMUM, 3)).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_statsmodels(p):
    expected = multipletests(p, method="holm")[1]
    with_gap = np.append(p, np.nan)
    np.testing.assert_allclose(holm(with_gap)[:-1], expected)
    assert np.isnan(holm(with_gap)[-1])


def test_the_rate_in_the_null_model_is_what_it_finds_of_what_is_found():
    p, null = np.array([0.001, 0.01, 0.2, np.nan, 0.9]), np.array([0.005, 0.5, 0.6, 0.95])
    # Up to each p: 0 of 4 against 1 of 4, 1 against 2, 1 against 3, 3 against 4.
    np.testing.assert_allclose(rate_in_null(p, null), [0.0, 1 / 3, 1 / 3, np.nan, 0.75])
    assert np.isnan(rate_in_null(p, [])).all()


@given(st.integers(0, 1000))
def test_a_model_that_is_no_better_than_its_null_has_a_rate_of_one_somewhere(seed):
    draw = np.random.default_rng(seed)
    p, null = draw.random(200), draw.random(300)
    rates = rate_in_null(p, null)
    order = np.argsort(p)
    assert (np.diff(rates[order]) >= 0).all()
    assert rates.max() >= 0.9
