import numpy as np
import pytest

from ranklock.statistics.variogram import variogram


def planted(noise, walk, rows=4000, columns=16, seed=0):
    draw = np.random.default_rng(seed)
    steps = draw.standard_normal((rows, columns)) * walk
    return steps.cumsum(axis=0) + noise * draw.standard_normal((rows, columns))


def test_it_is_the_mean_over_all_pairs_of_rows():
    rows = np.random.default_rng(0).standard_normal((20, 3))
    found = variogram(rows)
    assert list(found.semivariance) == [1, 2, 4, 8]
    for lag, value in found.semivariance.items():
        pairs = [rows[p + lag] - rows[p] for p in range(20 - lag)]
        assert value == pytest.approx(np.mean(np.square(pairs)) / 2)
    assert found.variance == pytest.approx(rows.var(axis=0).mean())


@pytest.mark.parametrize(("noise", "walk"), [(1.0, 0.1), (0.3, 0.3), (0.05, 0.5)])
def test_noise_about_a_random_walk_is_told_from_the_walk(noise, walk):
    found = variogram(planted(noise, walk))
    # A walk of steps w has γ(1) = w²/2, the noise adds its variance.
    assert found.nugget == pytest.approx(noise**2, rel=0.05, abs=0.01)
    expected = noise**2 / (noise**2 + walk**2 / 2)
    assert found.noise_of_neighbours == pytest.approx(expected, abs=0.05)


def test_white_noise_is_all_noise_and_a_line_is_none():
    assert variogram(planted(1.0, 0.0)).noise_of_table == pytest.approx(1.0, abs=0.05)
    line = variogram(np.arange(100.0)[:, None] * [[1.0, -2.0]])
    assert line.nugget == 0.0
    assert line.noise_of_neighbours == 0.0
    assert np.isnan(variogram(np.ones((10, 2))).noise_of_neighbours)


def test_rows_without_weight_do_not_count():
    rows = planted(0.2, 0.1, rows=200)
    spoilt = np.concatenate([rows, 1e3 * planted(1.0, 0.0, rows=56, seed=1)])
    weights = np.repeat([3.0, 0.0], [200, 56])
    alone, beside = variogram(rows), variogram(spoilt, weights)
    assert beside.nugget == pytest.approx(alone.nugget)
    assert beside.variance == pytest.approx(alone.variance)
    assert beside.semivariance[4] == pytest.approx(alone.semivariance[4])


def test_what_has_no_variogram_is_refused():
    with pytest.raises(ValueError, match="at least 4 rows, not 3"):
        variogram(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="stand two apart"):
        variogram(np.zeros((8, 2)), [1, 1, 0, 0, 0, 0, 0, 0])
