import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranklock.arms import ModelInput
from ranklock.engine.batches import hidden_states
from ranklock.errors import InputError
from ranklock.models import load_model
from ranklock.models.encoder import encoder_of, output_of_layer
from tests.helpers import checkpoint, plain_forward

ATOL = 2e-5  # see tests/engine/test_batches.py


def an_input(visible=None):
    places = np.arange(20, dtype=np.int32)
    return ModelInput(places + 2, places, np.ones(20, bool) if visible is None else visible, places)


@pytest.mark.parametrize("layer", [0, -1, -2, -3])
def test_layers_have_geneformers_meaning(tmp_path, layer):
    folder = checkpoint(tmp_path, layers=3, spread=0.3)
    model = load_model(folder, device="cpu")
    one = an_input()
    (states,) = hidden_states(model, [one], output_of_layer(model, layer))
    plain = plain_forward(folder, one.tokens.tolist(), one.positions.tolist(), layer=layer)
    np.testing.assert_allclose(states, plain, rtol=0, atol=ATOL)


@pytest.mark.parametrize("layer", [1, -3])
def test_a_layer_that_is_not_there_is_refused(tiny_checkpoint, layer):
    with pytest.raises(InputError, match="has 2 layers, so --layer goes from -2 to 0"):
        output_of_layer(load_model(tiny_checkpoint, device="cpu"), layer)


def test_later_layers_and_the_head_are_never_computed(tmp_path):
    folder = checkpoint(tmp_path, layers=3)
    model = load_model(folder, device="cpu")
    encoder = encoder_of(model)
    expected = hidden_states(model, [an_input()], 2)[0]
    encoder.layers[2].project_weight.fill_(torch.nan)  # what would touch it would show it
    np.testing.assert_array_equal(hidden_states(model, [an_input()], 2)[0], expected)
    assert not any("cls" in name or "pooler" in name for name, _ in model.encoder.named_modules())


def test_a_hidden_key_is_hidden_in_every_layer(tmp_path):
    folder = checkpoint(tmp_path, layers=3, spread=0.3)
    model = load_model(folder, device="cpu")
    visible = np.ones(20, dtype=bool)
    visible[7] = False
    one = an_input(visible)
    (states,) = hidden_states(model, [one], 3)
    plain = plain_forward(
        folder, one.tokens.tolist(), one.positions.tolist(), visible.tolist(), layer=0
    )
    np.testing.assert_allclose(states, plain, rtol=0, atol=ATOL)


@settings(max_examples=15)
@given(
    layers=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 4]),
    activation=st.sampled_from(["relu", "gelu", "gelu_new"]),
    seed=st.integers(0, 99),
)
def test_biases_and_activations_are_those_of_the_plain_forward(
    tmp_path_factory, layers, heads, activation, seed
):
    """Random checkpoints have zero biases; where they are folded into others must not matter."""
    folder = checkpoint(
        tmp_path_factory.mktemp("biased"), layers=layers, heads=heads, seed=seed, spread=0.3,
        bias_spread=0.5, activation=activation,
    )  # fmt: skip
    one = an_input()
    (states,) = hidden_states(load_model(folder, device="cpu"), [one], layers)
    plain = plain_forward(folder, one.tokens.tolist(), one.positions.tolist(), layer=0)
    np.testing.assert_allclose(states, plain, rtol=0, atol=3 * ATOL)  # three layers, not two
