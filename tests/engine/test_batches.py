import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranklock.arms import ARMS, apply, baseline
from ranklock.engine.batches import hidden_states
from ranklock.engine.forward import run_layers
from ranklock.models import load_model
from tests.helpers import knock_out, plain_forward, vocabulary

VOCABULARY = vocabulary()

# Hidden states leave a layer norm with length √16 = 4. Two layers of float32 sums of up to 64 terms
# err by some tens of roundings of 6e-8: 2e-5 leaves a factor of five.
ATOL = 2e-5


def cells(lengths, seed=0):
    draw = np.random.default_rng(seed)
    genes = np.array(list(VOCABULARY.tokens.values()), dtype=np.int32)
    return [baseline(draw.permutation(genes)[:n], VOCABULARY, special_frame=False) for n in lengths]


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(tiny_checkpoint, device="cpu")


@settings(max_examples=20)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    batch_size=st.integers(1, 12),
    hidden=st.integers(0, 11),
)
def test_no_batch_size_or_order_changes_a_state(model, lengths, batch_size, hidden):
    inputs = cells(lengths)
    which = hidden % len(inputs)
    if lengths[which] > 1:
        change = knock_out(inputs[which], [0])
        inputs[which] = apply(ARMS["attention-mask"], inputs[which], change, VOCABULARY)
    alone = [hidden_states(model, [cell], 2)[0] for cell in inputs]
    together = hidden_states(model, inputs, 2, batch_size=batch_size)
    backwards = hidden_states(model, inputs[::-1], 2, batch_size=batch_size)[::-1]
    for a, b, c in zip(alone, together, backwards, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=ATOL)
        np.testing.assert_allclose(a, c, rtol=0, atol=ATOL)


def test_states_are_those_of_the_plain_forward(model, tiny_checkpoint):
    (cell,) = cells([30])
    plain = plain_forward(tiny_checkpoint, cell.tokens.tolist(), list(range(30)), layer=0)
    np.testing.assert_allclose(hidden_states(model, [cell], 2)[0], plain, rtol=0, atol=ATOL)


def test_an_empty_input_has_no_states(model):
    (cell,) = cells([1])
    empty = apply(ARMS["hold"], cell, knock_out(cell, [0]), VOCABULARY)
    assert hidden_states(model, [empty, cell], 2)[0].shape == (0, 16)


def test_a_batch_that_does_not_fit_is_halved(model, monkeypatch):
    sizes = []

    def small_device(encoder, states, stretches, *rest):
        sizes.append(sum(stretch.inputs for stretch in stretches))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError
        return run_layers(encoder, states, stretches, *rest)

    inputs = cells([10] * 7)
    expected = hidden_states(model, inputs, 2)
    monkeypatch.setattr("ranklock.engine.batches.run_layers", small_device)
    for halved, states in zip(hidden_states(model, inputs, 2), expected, strict=True):
        np.testing.assert_allclose(halved, states, rtol=0, atol=ATOL)
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]


def test_an_input_that_does_not_fit_at_all_is_said_to(model, monkeypatch):
    def no_device(*_):
        # What torch's CPU allocator says.
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate "
                           "memory: you tried to allocate 10 bytes.")  # fmt: skip

    monkeypatch.setattr("ranklock.engine.batches.run_layers", no_device)
    with pytest.raises(MemoryError, match="cpu is out of memory"):
        hidden_states(model, cells([10] * 3), 2)


def test_another_error_of_torch_is_not_taken_for_memory(model, monkeypatch):
    def broken(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("ranklock.engine.batches.run_layers", broken)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        hidden_states(model, cells([10] * 3), 2)
