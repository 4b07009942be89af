from dataclasses import replace

import numpy as np
import pytest
import torch

from ranklock.arms import KNOCK_OUT_ARMS, Change, apply, baseline
from ranklock.engine.forward import pack, run_layers
from ranklock.estimates.gates import sensitivities
from ranklock.models import load_model
from ranklock.models.encoder import Dense, Layer, Norm, encoder_of
from tests import helpers


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = helpers.checkpoint(
        tmp_path_factory.mktemp("gates"), layers=3, spread=0.2, bias_spread=0.1, activation="gelu"
    )
    return load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def double(model):
    """The encoder in float64, in which differences can be taken."""
    encoder = encoder_of(model)

    def dense(part):
        return Dense(part.weight.double(), part.bias.double())

    def norm(part):
        return Norm(part.weight.double(), part.bias.double(), part.epsilon)

    def layer(part):
        return Layer(
            part.project_weight.double(), part.query_bias.double(), dense(part.attention_out),
            norm(part.attention_norm), dense(part.widen), part.activation, part.activate,
            dense(part.narrow), norm(part.norm),
        )  # fmt: skip

    return replace(
        encoder, tokens=encoder.tokens.double(), positions=encoder.positions.double(),
        norm=norm(encoder.norm), layers=tuple(map(layer, encoder.layers)),
    )  # fmt: skip


def inputs_of(lengths, *, special_frame=False):
    vocabulary = helpers.vocabulary(60, special_frame=special_frame)
    cells = helpers.cells_of(lengths, vocabulary, special_frame=special_frame)
    return [baseline(genes, vocabulary, special_frame=special_frame)
            for genes in cells.ranked], vocabulary  # fmt: skip


def without(cell, rank, vocabulary):
    """The input under `hold` of the gene at a rank of a cell."""
    change = Change((int(cell.tokens[cell.ranks == rank][0]),), (rank,))
    return apply(KNOCK_OUT_ARMS["hold"], cell, change, vocabulary)


def gated_attention(log_gates):
    """Attention with the same gate on a key in every layer and head; −∞ removes the key."""

    def attend(queries, keys, values, visible, layer, stretch):
        bias = log_gates[stretch][:, None, None, :]
        if visible is not None:
            bias = bias.masked_fill(~visible, -torch.inf)
        return torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=bias
        )

    return attend


def gated(encoder, packed, depth, logs):
    states = encoder.embed(packed.tokens, packed.positions)
    return run_layers(
        encoder, states, packed.stretches, encoder.layers[:depth], None, gated_attention(logs)
    )


def test_open_gates_are_the_baseline_and_a_closed_one_is_hold(double):
    (cell,), vocabulary = inputs_of([30])
    packed = pack([cell], double.device)
    logs = torch.zeros((1, 30), dtype=torch.float64)
    states = double.embed(packed.tokens, packed.positions)
    plain = run_layers(double, states, packed.stretches, double.layers)
    torch.testing.assert_close(gated(double, packed, 3, [logs]), plain)
    for rank in (0, 11, 29):
        closed = logs.clone()
        closed[0, rank] = -torch.inf
        held = pack([without(cell, rank, vocabulary)], double.device)
        embedded = double.embed(held.tokens, held.positions)
        expected = run_layers(double, embedded, held.stretches, double.layers)
        kept = [gene for gene in range(30) if gene != rank]
        torch.testing.assert_close(gated(double, packed, 3, [closed])[kept], expected)


@pytest.mark.parametrize("read", [None, [4]])
def test_the_derivative_is_that_of_central_differences(double, read):
    (cell,), _ = inputs_of([24])
    packed = pack([cell], double.device, None if read is None else [len(read)])
    rows = None if read is None else torch.tensor(read)
    direction = torch.randn((2, 24 if read is None else 1, 16), dtype=torch.float64,
                            generator=torch.Generator().manual_seed(0))  # fmt: skip
    sums = sensitivities(double, packed, 3, lambda states: direction, rows)[0]
    step = 1e-5
    for token in (0, 7, 23):
        ends = []
        for sign in (1, -1):
            logs = torch.zeros((1, 24), dtype=torch.float64)
            logs[0, token] = np.log1p(sign * step)
            out = gated(double, packed, 3, [logs])
            out = out if rows is None else out[rows]
            ends.append((direction * out).sum((1, 2)).numpy())
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(sums.derivative[:, token], -slope, rtol=1e-6, atol=1e-9)


def test_removal_is_exact_where_attention_is_all_there_is_in_between(double):
    """In one layer, each query's output is moved exactly; what follows is linear in the readout."""
    (cell,), vocabulary = inputs_of([20])
    packed = pack([cell], double.device)
    states = double.embed(packed.tokens, packed.positions)
    scale = 1e-4  # of the values: what moves is small, so that the layer behind is a line
    weight = double.layers[0].project_weight.clone()
    weight[:, 32:] *= scale
    shallow = replace(double, layers=(replace(double.layers[0], project_weight=weight),))
    plain = run_layers(shallow, states, packed.stretches, shallow.layers)
    direction = torch.randn((1, 20, 16), dtype=torch.float64,
                            generator=torch.Generator().manual_seed(1))  # fmt: skip
    for rank in range(20):
        kept = [gene for gene in range(20) if gene != rank]
        direction_of_others = direction.clone()
        direction_of_others[:, rank] = 0
        sums = sensitivities(shallow, packed, 1, lambda s, d=direction_of_others: d)[0]
        held = pack([without(cell, rank, vocabulary)], shallow.device)
        embedded = shallow.embed(held.tokens, held.positions)
        after = run_layers(shallow, embedded, held.stretches, shallow.layers)
        moved = (direction[0, kept] * (after - plain[kept])).sum().item()
        assert sums.removal[0, rank] == pytest.approx(moved, rel=1e-2)


def test_numbers_add_up_and_do_not_depend_on_what_else_is_packed(double):
    cells, _ = inputs_of([30, 24, 30])

    def ones(states):
        weights = torch.linspace(-1, 1, 16, dtype=torch.float64)
        return torch.stack([weights.expand(len(states), -1), 2 * weights.expand(len(states), -1)])

    packed = sensitivities(double, pack(cells, double.device), 3, ones)
    for cell, sums in zip(cells, packed, strict=True):
        alone = sensitivities(double, pack([cell], double.device), 3, ones)[0]
        for name in ("removal", "derivative", "gross"):
            numbers = getattr(sums, name)
            np.testing.assert_allclose(numbers, getattr(alone, name), atol=1e-12)
            np.testing.assert_allclose(numbers[1], 2 * numbers[0])
        np.testing.assert_allclose(sums.peak, alone.peak)
        assert (sums.gross >= np.abs(sums.removal) - 1e-12).all()
