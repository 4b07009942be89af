import numpy as np
import pytest

from ranklock.statistics.missed import Approximated, recall_of_largest

GENES, TOP, CHECKED = 800, 50, 25


def simulated(draw, spread, verified=60):
    """Effects with heavy tails, approximations of them, and what a screen would measure."""
    exact = draw.standard_t(3, GENES) * 1e-3
    estimate = exact + spread * (np.abs(exact) + 3e-4) * draw.normal(size=GENES)
    scale = np.abs(estimate) + 3e-4
    order = np.argsort(-np.abs(estimate))
    measured, others = order[:verified], draw.permutation(order[verified:])
    checked, rest = others[:CHECKED], others[CHECKED:]
    known = np.concatenate([measured, checked])
    largest = set(np.argsort(-np.abs(exact))[:TOP])
    truth = len(largest & {*measured, *checked}) / TOP
    found = recall_of_largest(
        TOP,
        exact[known],
        np.zeros(len(known)),
        Approximated(estimate[rest], scale[rest]),
        Approximated(estimate[known], scale[known]),
        exact[known],
        0,
    )
    return truth, found


@pytest.mark.parametrize(("spread", "close"), [(0.02, 0.03), (0.2, 0.06), (0.5, 0.1)])
def test_recall_is_about_what_it_is_and_the_interval_covers(spread, close):
    draw = np.random.default_rng(1)
    both = [simulated(draw, spread) for _ in range(25)]
    truth = np.array([t for t, _ in both])
    value = np.array([f.value for _, f in both])
    assert abs(value.mean() - truth.mean()) < close
    covered = [f.low - 1e-9 <= t <= f.high + 1e-9 for t, f in both]
    assert np.mean(covered) > 0.7  # of errors that are not Student's, nor in proportion to scale
    # An approximation that is worse finds less.
    if spread == 0.5:
        assert truth.mean() < 0.9


NOTHING = Approximated(np.zeros(0), np.zeros(0))


def learned(number):
    return Approximated(np.arange(1.0, number + 1), np.ones(number)), np.arange(1.0, number + 1)


def test_what_was_all_measured_is_all_found():
    found = recall_of_largest(3, [5.0, -4.0, 3.0, 1.0], np.zeros(4), NOTHING, NOTHING, [], 0)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_an_approximation_without_error_misses_what_was_not_taken():
    rest = Approximated(np.array([9.0, 0.5, -8.0]), np.ones(3))
    found = recall_of_largest(3, [5.0, 4.0, 1.0], np.zeros(3), rest, *learned(6), 0)
    assert found.value == pytest.approx(1 / 3)  # of 9, -8 and 5


def test_too_few_checked_say_nothing():
    rest = Approximated(np.ones(10), np.ones(10))
    assert np.isnan(recall_of_largest(2, [5.0, 4.0], np.zeros(2), rest, *learned(4), 0).value)
    assert np.isnan(recall_of_largest(3, [5.0, 4.0], np.zeros(2), rest, *learned(9), 0).value)
