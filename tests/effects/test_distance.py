import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ranklock.effects import cosine_distance, displacement

mpmath.mp.dps = 60

# Input of the formula is float64. Its longest chain of roundings is three sums of 256 products
# (numpy sums pairwise, so their relative error is some ten roundings), and the projection's error
# is one rounding of the whole displacement, squared. 1e-12 is 5,000 roundings.
RELATIVE = 1e-12


def exact(x, y):
    """1 - cos in 60-digit arithmetic, from the very numbers given."""
    x, y = ([mpmath.mpf(float(v)) for v in array] for array in (x, y))
    return 1 - mpmath.fdot(x, y) / mpmath.sqrt(mpmath.fdot(x, x) * mpmath.fdot(y, y))


def naive_float32(x, y):
    x, y = x.astype(np.float32), y.astype(np.float32)
    return np.float32(1) - x @ y / (np.linalg.norm(x) * np.linalg.norm(y))


@pytest.mark.parametrize("exponent", range(-12, 1))
@pytest.mark.parametrize("seed", range(5))
def test_against_60_digits_for_displacements_from_1e_12_to_1(exponent, seed):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=256)
    x /= np.linalg.norm(x)
    direction = draw.normal(size=256)
    y = x + 10.0**exponent * direction / np.linalg.norm(direction)
    truth = exact(x, y)
    assert abs(cosine_distance(x, y) - truth) <= RELATIVE * truth


@pytest.mark.parametrize("exponent", range(-12, -4))
def test_the_naive_float32_difference_fails_there(exponent):
    draw = np.random.default_rng(0)
    x = draw.normal(size=256)
    y = x + 10.0**exponent * draw.normal(size=256)
    truth = float(exact(x, y))
    assert abs(naive_float32(x, y) - truth) > 0.5 * truth
    assert abs(cosine_distance(x, y) - truth) <= RELATIVE * truth


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.5707, 1.5709, 2.5, 3.14159, np.pi])
def test_every_angle(angle):
    x = np.array([2.0, 0.0])
    y = 5.0 * np.array([np.cos(angle), np.sin(angle)])
    assert cosine_distance(x, y) == pytest.approx(float(exact(x, y)), rel=RELATIVE, abs=1e-300)


FLOATS = st.floats(-1e3, 1e3, width=32)


@given(arrays(np.float32, (3, 8), elements=FLOATS), arrays(np.float32, (3, 8), elements=FLOATS))
def test_is_between_0_and_2_symmetric_and_0_without_a_move(x, y):
    x[:, 0] = np.where(np.abs(x[:, 0]) < 1, 1, x[:, 0])
    y[:, 1] = np.where(np.abs(y[:, 1]) < 1, 1, y[:, 1])
    forth, back = cosine_distance(x, y), cosine_distance(y, x)
    assert ((forth >= 0) & (forth <= 2)).all()
    # What is lost where the displacement is along x: the projection's rounding, 1e-16 of its
    # squared length over ‖y‖², which is at most (1e3 · √8)² here.
    np.testing.assert_allclose(forth, back, rtol=1e-9, atol=1e-15)
    assert (cosine_distance(x, x) == 0).all()


def test_a_zero_embedding_has_no_direction():
    assert np.isnan(cosine_distance(np.zeros(3), np.ones(3)))
    assert np.isnan(cosine_distance(np.ones(3), np.zeros(3)))


def test_displacement_is_a_length():
    before = np.array([[0, 0], [1, 1]], dtype=np.float32)
    after = np.array([[3, 4], [1, 1]], dtype=np.float32)
    assert displacement(before, after).tolist() == [5, 0]


def test_the_smallest_step_of_float32_is_seen():
    x = np.full(256, 1, dtype=np.float32)
    y = x.copy()
    y[0] = np.nextafter(np.float32(1), np.float32(2))
    assert cosine_distance(x, y) == pytest.approx(float(exact(x, y)), rel=RELATIVE)
    assert naive_float32(x, y) == 0
