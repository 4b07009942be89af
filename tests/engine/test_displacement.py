"""The displacement forward: its layer norm, its products, and whole runs against two forwards."""

from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranklock.arms import KNOCK_OUT_ARMS, MOVE_ARMS, baseline
from ranklock.engine.displacement import (
    Formats,
    NormBaseline,
    embedded_displacement,
    norm_displacement,
)
from ranklock.engine.groups import Reading
from ranklock.engine.method import EXACT, FLOAT32, Method
from ranklock.engine.tasks import measure_groups
from ranklock.models import load_model
from ranklock.models.encoder import Norm, encoder_of
from tests.engine.groups import effects, group_of
from tests.helpers import checkpoint, knock_out, move, vocabulary

KINDS = {"float32": torch.float32, "float64": torch.float64}
WIDTH, LAYERS = 16, 3
FLOAT64 = Method(displacement=True, precision="float64")


def a_norm(kind, *, seed=0, epsilon=1e-12):
    draw = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(2, WIDTH, generator=draw, dtype=torch.float64)
    return Norm((1 + 0.3 * weight).to(kind), bias.to(kind), epsilon)


def layer_norm(states, norm):
    """One row in fifty digits, without the bias, which no displacement has."""
    mean = mpmath.fsum(states) / len(states)
    centred = [x - mean for x in states]
    deviation = mpmath.sqrt(mpmath.fsum(c * c for c in centred) / len(states) + norm.epsilon)
    return [
        c / deviation * mpmath.mpf(g) for c, g in zip(centred, norm.weight.tolist(), strict=True)
    ]


def exact_norm_displacement(delta, states, norm):
    """Norm of x + δ minus norm of x, of the numbers as they are stored."""
    with mpmath.workdps(50):
        rows = []
        for of_row, before in zip(delta.tolist(), states.tolist(), strict=True):
            x = [mpmath.mpf(value) for value in before]
            y = [value + mpmath.mpf(d) for value, d in zip(x, of_row, strict=True)]
            after = zip(layer_norm(y, norm), layer_norm(x, norm), strict=True)
            rows.append([float(b - a) for b, a in after])
    return torch.tensor(rows, dtype=torch.float64)


def behind_norm(delta, states, norm):
    base = NormBaseline.of(states, norm)
    return norm_displacement(delta[None], base, norm, torch.empty_like(delta[None]))[0]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(-30, 6).map(lambda power: 10.0**power),
    offset=st.sampled_from([0.0, 3.0]),
)
def test_a_norm_errs_by_little_of_the_displacement_however_small_or_large(kind, seed, size, offset):
    """From far below what float32 resolves of the states, to a million times the states."""
    draw = torch.Generator().manual_seed(seed)
    states = (offset + torch.randn(3, WIDTH, generator=draw, dtype=torch.float64)).to(KINDS[kind])
    delta = (size * torch.randn(3, WIDTH, generator=draw, dtype=torch.float64)).to(KINDS[kind])
    norm = a_norm(KINDS[kind], seed=seed)
    expected = exact_norm_displacement(delta, states, norm)
    error = (behind_norm(delta, states, norm).double() - expected).norm(dim=-1)
    # Some ten sums over a row. Where the displacement turns a state nearly to nothing, the variance
    # that is left is a difference: sixteen normal numbers leave a tenth of it at the least.
    assert (error / expected.norm(dim=-1)).max() < 100 * torch.finfo(KINDS[kind]).eps


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_move_is_not_moved_by_a_norm(kind):
    states = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(1)).to(KINDS[kind])
    assert not behind_norm(torch.zeros_like(states), states, a_norm(KINDS[kind])).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1e-20, 1e-6, 1.0, 1e3])
def test_a_norm_does_not_see_what_all_entries_share(kind, size):
    states = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(1)).to(KINDS[kind])
    delta = torch.full_like(states, size)
    found = behind_norm(delta, states, a_norm(KINDS[kind]))
    assert found.abs().max() < 20 * torch.finfo(KINDS[kind]).eps * size


@pytest.mark.parametrize("kind", KINDS)
def test_a_norm_of_equal_entries_is_led_by_epsilon(kind):
    """A variance of zero before, or after, is divided by nowhere."""
    norm = a_norm(KINDS[kind], epsilon=1e-5)
    flat, varied = torch.ones(1, WIDTH), torch.linspace(-1, 1, WIDTH)[None]
    for states, delta in ((flat, 1e-3 * varied), (flat + varied, -varied)):
        states, delta = states.to(KINDS[kind]), delta.to(KINDS[kind])
        found = behind_norm(delta, states, norm)
        expected = exact_norm_displacement(delta, states, norm)
        # What is left of the variance, ε, is a difference of numbers of 0.4, 3e4 times as large.
        atol = 1e5 * torch.finfo(KINDS[kind]).eps
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoints by activation, with large random weights, and one as a training begins."""
    made: dict[str, Path] = {}
    for name in ("relu", "gelu", "gelu_new", "silu"):
        made[name] = checkpoint(
            tmp_path_factory.mktemp(name), layers=LAYERS, spread=0.3, bias_spread=0.2,
            activation=name,
        )  # fmt: skip
    made["initial"] = checkpoint(
        tmp_path_factory.mktemp("initial"), layers=LAYERS, width=32, activation="gelu"
    )
    return made


@pytest.fixture(scope="module")
def models(folders):
    return {name: load_model(folder, device="cpu") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def half(models):
    return Method(displacement=True, precision="float16").formats(models["relu"])


@given(
    powers=st.lists(st.floats(-30, 4), min_size=1, max_size=6),
    columns=st.integers(1, 12),
    seed=st.integers(0, 10_000),
)
def test_products_in_float16_err_by_little_of_each_row_however_small(half, powers, columns, seed):
    """float16 itself ends at 6e-8 and 65,504."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randn(len(powers), WIDTH, generator=draw)
    delta = rows * 10.0 ** torch.tensor(powers)[:, None]
    weight = (0.3 * torch.randn(WIDTH, columns, generator=draw)).half()
    found = half.multiply(delta, weight)
    assert found.dtype is torch.float32
    expected = delta.double() @ weight.double()
    # Each factor is rounded, and the sum; entries far below the largest of a row to 2⁻²⁴ of it.
    terms = delta.double().abs() @ weight.double().abs()
    terms += delta.double().abs().amax(-1, keepdim=True) * weight.double().abs().sum(0) / 100
    assert ((found.double() - expected).abs() / terms).max() < 2 * torch.finfo(torch.float16).eps


def test_rows_of_zeros_and_of_powers_of_two_stay_exact_in_float16(half):
    delta = torch.zeros(4, WIDTH)
    delta[1:, 3] = torch.tensor([2.0**-100, -(2.0**-24), 2.0**17])
    weight = torch.eye(WIDTH).half()
    assert torch.equal(half.multiply(delta, weight), delta)


def test_float16_is_for_products_alone(half):
    assert half.inner is half.exact is torch.float32
    assert half.products.tokens.dtype is torch.float16


@pytest.mark.parametrize(
    ("precision", "exact", "inner"),
    [
        ("float64", torch.float64, torch.float64),
        ("float32", torch.float32, torch.float32),
        ("bfloat16", torch.float32, torch.bfloat16),
    ],
)
def test_formats_keep_the_unperturbed_cell_exact(models, precision, exact, inner):
    formats: Formats = Method(displacement=True, precision=precision).formats(models["relu"])
    assert formats.exact is exact
    assert formats.inner is inner
    assert (
        formats.multiply(
            torch.ones(2, WIDTH, dtype=exact), formats.products.layers[0].widen.weight
        ).dtype
        is inner
    )


def test_embeddings_move_as_they_do(models):
    """A token, a position, both, or neither."""
    encoder = encoder_of(models["relu"], "float64")
    before = torch.tensor([5, 6, 7, 8]), torch.tensor([0, 1, 2, 3])
    after = torch.tensor([9, 6, 10, 8]), torch.tensor([0, 2, 1, 3])
    found = embedded_displacement(encoder, before, after)
    expected = encoder.embed(*after) - encoder.embed(*before)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    assert not found[3].any()


def a_cell(genes, *, framed=False, seed=0):
    words = vocabulary(special_frame=framed)
    tokens = np.array(list(words.tokens.values()), dtype=np.int32)
    tokens = np.random.default_rng(seed).permutation(tokens)
    return baseline(tokens[:genes], words, special_frame=framed), words, tokens[genes:].tolist()


def groups_of(framed):
    """Knock-outs, alone and together, and moves, some of which put genes in."""
    cell, words, below = a_cell(30, framed=framed)
    genes = cell.tokens[1:-1] if framed else cell.tokens
    knock_outs = [knock_out(cell, ranks) for ranks in ([0], [13], [28], [4, 20])]
    moves = [move(cell, {int(genes[25]): 0}), move(cell, {int(genes[2]): 20, below[0]: 5})]
    return [
        group_of(cell, knock_outs, KNOCK_OUT_ARMS, words, below=below),
        group_of(cell, moves, MOVE_ARMS, words),
    ]


def measured_effects(model, groups, reading, method):
    found = measure_groups(model, groups, reading, method=method)
    return [
        effects(group, of_group, reading) for group, of_group in zip(groups, found, strict=True)
    ]


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("name", ["relu", "gelu", "gelu_new", "silu", "initial"])
def test_every_effect_is_right_to_a_part_of_itself(models, name, framed):
    """However small beside the embedding, of whose rounding it knows nothing."""
    reading = Reading(LAYERS, cell=True, special_frame=framed, totals=not framed)
    groups = groups_of(framed)
    exact = measured_effects(models[name], groups, reading, EXACT)
    for method, allowed in ((FLOAT32, 1e-5), (FLOAT64, 1e-10)):
        found = measured_effects(models[name], groups, reading, method)
        for values, expected in zip(found, exact, strict=True):
            for key, array in expected.items():
                np.testing.assert_allclose(
                    values[key], array, rtol=allowed, atol=0, err_msg=f"{method}: {key}"
                )


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_a_perturbation_that_changes_nothing_has_no_effect_at_all(models, name, precision):
    """The placebo of the last gene moves nobody; nor does it where others move in its batch."""
    cell, words, _ = a_cell(30)
    changes = [knock_out(cell, [29]), knock_out(cell, [3]), knock_out(cell, [28, 29])]
    arms = {arm: KNOCK_OUT_ARMS[arm] for arm in ("delete", "shift", "mask")}
    group = group_of(cell, changes, arms, words)
    reading = Reading(LAYERS, cell=True, special_frame=False, totals=True)
    method = Method(displacement=True, precision=precision)
    (values,) = measured_effects(models[name], [group], reading, method)
    for key, array in values.items():
        assert np.isfinite(array).all(), key
        assert bool(array[0].any()) is not key.startswith("shift"), key
        assert array[1].any(), key


@pytest.mark.parametrize("method", [FLOAT32, FLOAT64], ids=str)
def test_neighbours_in_a_batch_change_no_effect(models, method):
    """Alone, or with others of its cell and of other cells."""
    groups = [group for framed in (False, True) for group in groups_of(framed)][:2]
    reading = Reading(LAYERS, cell=True, special_frame=False)
    together = measured_effects(models["gelu"], groups, reading, method)
    allowed = {"float32": 1e-5, "float64": 1e-10}[method.precision]
    for group, expected in zip(groups, together, strict=True):
        (alone,) = measured_effects(models["gelu"], [group], reading, method)
        for key, array in expected.items():
            np.testing.assert_allclose(alone[key], array, rtol=allowed, atol=0, err_msg=key)
