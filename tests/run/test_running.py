import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ranklock.run.running import RunningMoments


@given(
    seed=st.integers(0, 999),
    cells=st.integers(1, 12),
    offset=st.sampled_from([0.0, 1e6]),
    missing=st.sampled_from([0.0, 0.3]),
)
def test_means_and_variances_are_numpys(seed, cells, offset, missing):
    draw = np.random.default_rng(seed)
    running = RunningMoments((6, 5))
    whole = np.full((cells, 6, 5), np.nan)
    for cell in range(cells):
        rows = np.sort(draw.permutation(6)[: draw.integers(1, 7)])
        columns = np.sort(draw.permutation(5)[: draw.integers(1, 6)])
        numbers = offset + draw.normal(size=(len(rows), len(columns)))
        numbers[draw.random(numbers.shape) < missing] = np.nan
        running.update(rows, columns, numbers)
        whole[np.ix_([cell], rows, columns)] = numbers
    count = (~np.isnan(whole)).sum(axis=0)
    np.testing.assert_array_equal(running.count, count)
    np.testing.assert_array_equal(np.isnan(running.means()), count == 0)
    np.testing.assert_array_equal(np.isnan(running.variances()), count < 2)
    for row, column in np.argwhere(count > 1):
        numbers = whole[:, row, column][~np.isnan(whole[:, row, column])]
        # float32 results; around 1e6, sums of squares in float64 would leave three digits of the
        # variance, and in float32 none.
        np.testing.assert_allclose(running.means()[row, column], numbers.mean(), rtol=1e-6)
        np.testing.assert_allclose(running.variances()[row, column], numbers.var(ddof=1), rtol=1e-5)
