import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.statistics.two_way import comparable, matched_rows, two_way_residuals


def with_dummies(values, present):
    """Least squares on a dummy for each row and column: the same, computed otherwise."""
    rows, columns = np.nonzero(present)
    design = np.zeros((len(rows), sum(values.shape)))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), values.shape[0] + columns] = 1
    y = values[present]
    left = np.zeros(values.shape)
    left[present] = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return left


@given(st.integers(2, 8), st.integers(2, 9), st.floats(0, 0.4), st.integers(0, 10_000))
def test_residuals_are_those_of_least_squares(rows, columns, missing, seed):
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(rows, columns))
    present = comparable(draw.random((rows, columns)) >= missing)
    found = two_way_residuals(values, present)
    assert (found[~present] == 0).all()
    # 200 rounds leave up to 1e-6 in matrices with few and badly connected entries.
    np.testing.assert_allclose(found, with_dummies(values, present), atol=1e-5)


def test_several_matrices_at_once():
    draw = np.random.default_rng(0)
    stack, present = draw.normal(size=(6, 7, 3)), comparable(draw.random((6, 7)) > 0.2)
    found = two_way_residuals(stack, present)
    for one in range(3):
        np.testing.assert_allclose(
            found[..., one], two_way_residuals(stack[..., one], present), atol=1e-10
        )


def test_what_is_alone_in_its_row_or_column_is_not_comparable():
    present = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], bool)
    np.testing.assert_array_equal(comparable(present), [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 10_000))
def test_predictions_are_those_of_a_line_through_the_neighbours(rows, reach, seed):
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(rows, 4))
    places = np.cumsum(draw.integers(1, 5, rows)).astype(float)
    group = draw.random((rows, 4)) > 0.3
    found = matched_rows(values, places, [group], reach)
    for row in range(rows):
        for column in range(4):
            near = [
                k
                for k in range(max(row - reach, 0), min(row + reach + 1, rows))
                if k != row and group[k, column]
            ]
            if not group[row, column]:
                assert found.count[row, column] == 0
                continue
            assert found.count[row, column] == len(near)
            if not near:
                continue
            y, x = values[near, column], places[near]
            expected = np.polyval(np.polyfit(x, y, 1), places[row]) if len(near) >= 6 else y.mean()
            assert found.predicted[row, column] == pytest.approx(expected, abs=1e-8)


def test_a_trend_along_the_rows_leaves_nothing_even_at_the_ends():
    values = np.arange(40.0)[:, None] * np.array([[0.1, -0.3]])
    found = matched_rows(values, np.arange(40.0), [np.ones((40, 2), bool)], 12)
    np.testing.assert_allclose(found.predicted, values, atol=1e-9)


def test_the_unit_is_the_spread_of_the_difference():
    values = np.random.default_rng(0).normal(size=(400, 50))
    found = matched_rows(values, np.arange(400.0), [np.ones((400, 50), bool)], 12)
    z = (values - found.predicted) / found.unit
    assert z.std() == pytest.approx(1.0, abs=0.05)
    assert z[[0, -1]].std() == pytest.approx(1.0, abs=0.15)
