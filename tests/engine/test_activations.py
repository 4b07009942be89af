"""f(a + δ) − f(a) against fifty digits, for the activations that checkpoints have."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.activations import ACT2FN

from ranklock.engine.activations import DERIVATIVES, relu_displacement_, smooth_displacement


def gelu(x):
    return x * mpmath.ncdf(x)


def gelu_tanh(x):
    inner = mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)
    return x / 2 * (1 + mpmath.tanh(inner))


def silu(x):
    return x / (1 + mpmath.exp(-x))


IN_FIFTY_DIGITS = {
    "gelu": gelu,
    "gelu_python": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "silu": silu,
    "swish": silu,
    "tanh": mpmath.tanh,
}
# transformers writes √(2/π) of its fast GELU with ten digits, and so is another function than its
# derivative here belongs to by 4e-12 of the slope.
TEN_DIGITS = 4e-12
KINDS = {"float32": torch.float32, "float64": torch.float64}


def exact_differences(name, a, delta):
    """f(a + δ) − f(a) of the numbers as they are stored, rounded once at the end."""
    function = IN_FIFTY_DIGITS[name]
    with mpmath.workdps(50):
        pairs = zip(a.tolist(), delta.tolist(), strict=True)
        return np.array([
            float(function(mpmath.mpf(x) + mpmath.mpf(d)) - function(mpmath.mpf(x)))
            for x, d in pairs
        ])  # fmt: skip


def computed(name, a, delta):
    found = smooth_displacement(delta[None], a, ACT2FN[name], DERIVATIVES[name])
    assert found.dtype is a.dtype
    return found[0].double().numpy()


def grid(kind, name):
    """a from −8 to 8 and δ of either sign from 1e-12 to 10, and around where the formula changes.

    Both lie off round numbers, where functions happen to be exact.
    """
    draw = np.random.default_rng(sorted(IN_FIFTY_DIGITS).index(name))
    a = np.linspace(-8, 8, 33) + 0.01 * draw.normal(size=33)
    sizes = np.concatenate([10.0 ** np.arange(-12, 1.01), [0.029, 0.031, 0.1, 0.24, 0.26, 0.5]])
    sizes = sizes * (1 + 0.001 * draw.normal(size=len(sizes)))
    a, delta = np.meshgrid(a, np.concatenate([sizes, -sizes]))
    return torch.from_numpy(a.ravel()).to(kind), torch.from_numpy(delta.ravel()).to(kind)


@pytest.mark.parametrize("name", sorted(DERIVATIVES))
def test_every_derivative_is_that_of_the_function_of_its_name(name):
    a = torch.linspace(-8, 8, 2001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ACT2FN[name](a).sum(), a)
    # Slopes are about 1; both are some ten operations in float64.
    atol = 3 * TEN_DIGITS if name == "gelu_fast" else 1e-14
    np.testing.assert_allclose(DERIVATIVES[name](a.detach()), slope, rtol=0, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(DERIVATIVES))
def test_a_displacement_errs_by_little_of_what_came_in(name, kind):
    """Wherever a stands: beside slopes of 0 too, where hardly anything comes out.

    The worst place is just above where the plain difference is taken. There a + δ and both values
    of f are rounded, each by half of what float32 resolves at 8 (9.5e-7) and float64 at 8
    (1.8e-15), and δ is 0.25 and 0.03: 6e-6 and 9e-14 of δ together, and torch's own functions err
    by as much as one rounding more.
    """
    a, delta = grid(KINDS[kind], name)
    allowed = {"float32": 1e-5, "float64": 2e-13}[kind]
    if name == "gelu_fast":
        allowed = max(allowed, TEN_DIGITS)
    errors = np.abs(computed(name, a, delta) - exact_differences(name, a, delta))
    assert (errors / delta.double().abs().numpy()).max() < allowed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(DERIVATIVES))
def test_a_small_displacement_errs_by_little_of_what_comes_out(name, kind):
    """However small it is: a plain difference would lose all of 1e-12 in either format.

    Where the slope is at least a tenth. Below, GELU's two terms cancel and tanh is flat, and the
    error stays one of what came in (the test above). Three slopes of some ten operations each round
    by 6e-8 and 1.1e-16 of terms up to ten times the slope; three nodes err by δ⁶ |f⁽⁷⁾| / 2e6, at
    most for tanh, whose seventh derivative is 272 at 0: 3e-8 and 1e-13 of the slope there.
    """
    a, delta = grid(KINDS[kind], name)
    small = delta.abs() < {"float32": 0.25, "float64": 0.03}[kind]
    a, delta = a[small], delta[small]
    expected = exact_differences(name, a, delta)
    steep = np.abs(expected / delta.double().numpy()) > 0.1
    assert steep.mean() > 0.1
    of_float64 = 10 * TEN_DIGITS if name == "gelu_fast" else 2e-13
    allowed = {"float32": 2e-6, "float64": of_float64}[kind]
    errors = np.abs(computed(name, a, delta) / expected - 1)[steep]
    assert errors.max() < allowed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", sorted(DERIVATIVES))
def test_what_does_not_move_is_not_moved_by_a_smooth_activation(name, kind):
    a = torch.linspace(-20, 20, 1001, dtype=KINDS[kind])
    assert not computed(name, a, torch.zeros_like(a)).any()


@pytest.mark.parametrize("name", sorted(DERIVATIVES))
def test_far_below_zero_a_large_displacement_is_still_finite(name):
    """The slopes overflow on their way there, where they must not be used."""
    a = torch.tensor([-100.0, -90.0, 0.0, 90.0, 100.0])
    for size in (1e-6, 0.1, 30.0, 300.0):
        for delta in (torch.full_like(a, size), torch.full_like(a, -size)):
            assert np.isfinite(computed(name, a, delta)).all()


def test_without_a_derivative_the_plain_difference_is_taken():
    a = torch.linspace(-4, 4, 101, dtype=torch.float64)
    delta = torch.full((2, 101), 1e-3, dtype=torch.float64)
    found = smooth_displacement(delta, a, ACT2FN["mish"], None)
    mish = ACT2FN["mish"]
    np.testing.assert_array_equal(found, mish(a + delta) - mish(a))


def test_the_unperturbed_cell_survives_an_activation_in_place():
    """A layer's activation may write over what it is given."""
    a = torch.linspace(-4, 4, 101)
    kept = a.clone()
    smooth_displacement(torch.zeros(3, 101), a, torch.relu_, None)
    assert torch.equal(a, kept)


# Multiples of 2⁻²⁰ below 16, which float32 holds exactly; so does float64 their sums.
fine = st.integers(-(2**24) + 1, 2**24 - 1).map(lambda number: number / 2**20)


@given(st.lists(st.tuples(fine, fine), min_size=1, max_size=20))
def test_relu_is_exact_to_the_bit(pairs):
    """The exact difference, rounded once."""
    a, delta = torch.tensor(pairs, dtype=torch.float64).T
    expected = (torch.relu(a + delta) - torch.relu(a)).float()
    minus_a = -a.float()
    found = relu_displacement_(delta.float()[None], minus_a, -minus_a.clamp(min=0.0))
    assert torch.equal(found[0], expected)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_does_not_move_is_not_moved_by_relu(kind):
    """In every format: what is taken off must be what is added again."""
    a = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 10
    a = torch.cat([a, torch.tensor([0.0, -0.0, 1e-30, -1e-30, 6e4, -6e4])])
    minus_a = -a.to(kind)
    found = relu_displacement_(torch.zeros(2, len(a), dtype=kind), minus_a, -minus_a.clamp(min=0.0))
    assert not found.any()


def test_relu_writes_where_its_displacement_stood():
    delta = torch.tensor([[1.0, -3.0]])
    found = relu_displacement_(delta, torch.tensor([-2.0, -2.0]), torch.tensor([0.0, 0.0]))
    assert found.data_ptr() == delta.data_ptr()
    assert delta.tolist() == [[1.0, -2.0]]
