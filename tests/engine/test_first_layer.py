"""The shared first layer against the plain Hugging Face forward."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranklock.arms import ARMS, apply, baseline
from ranklock.engine import first_layer as module
from ranklock.engine.first_layer import first_layer, shares
from ranklock.engine.forward import Stretch, run_layers
from ranklock.models import load_model
from ranklock.models.encoder import encoder_of
from tests.helpers import checkpoint, knock_out, plain_forward, vocabulary

# As tests/engine/test_batches.py, for up to three layers.
ATOL = 6e-5


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Layers and heads → folder; attention is spread out in some, all on one key in others."""
    made = {}
    for layers, heads, spread in ((1, 1, 0.3), (2, 2, 0.3), (3, 4, 0.3), (1, 2, 4.0)):
        folder = tmp_path_factory.mktemp("model")
        made[layers, heads, spread] = checkpoint(
            folder, layers=layers, heads=heads, spread=spread, bias_spread=0.2, seed=heads
        )
    return made


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(module, "FEWEST_INPUTS", 1)
    monkeypatch.setattr(module, "_MOST_OWN", 1.0)


def states_of(encoder, inputs):
    """Hidden states of inputs of one arm through a shared first layer and the rest."""
    shared = first_layer(encoder, inputs)
    states = shared.states(0, len(inputs))
    stretches = [Stretch(len(inputs), shared.length)]
    return shared, run_layers(encoder, states, stretches, encoder.layers[1:]).view(
        len(inputs), shared.length, -1
    )


@settings(max_examples=40)
@given(data=st.data(), arm=st.sampled_from(["delete", "hold", "mask", "shift", "delete-backfill"]))
def test_every_arm_is_the_plain_forward(checkpoints, data, arm):
    which = data.draw(st.sampled_from(sorted(checkpoints)))
    special = data.draw(st.booleans())
    words = vocabulary(special_frame=special)
    length = data.draw(st.integers(3, 40))
    ranks = sorted(data.draw(st.sets(st.integers(0, length - 1), min_size=1, max_size=8)))
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    genes = draw.permutation(np.array(list(words.tokens.values()), np.int32))
    cell = baseline(genes[:length], words, special_frame=special)
    below = genes[length:].tolist()
    inputs = [apply(ARMS[arm], cell, knock_out(cell, [rank]), words, below) for rank in ranks]
    encoder = encoder_of(load_model(checkpoints[which], device="cpu"))
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(module, "FEWEST_INPUTS", 1)
        patch.setattr(module, "_MOST_OWN", 1.0)
        shared, states = states_of(encoder, inputs)
    assert shared.shared is not None
    # With attention all on one key, two keys may be as good as tied, and rounding decides.
    atol = ATOL if which[2] < 1 else 2e-3
    for changed, of_input in zip(inputs, states.numpy(), strict=True):
        plain = plain_forward(
            checkpoints[which], changed.tokens.tolist(), changed.positions.tolist(), layer=0
        )
        np.testing.assert_allclose(of_input, plain, rtol=0, atol=atol)


def test_a_key_that_holds_nearly_all_attention_is_taken_out_exactly(tmp_path, always):
    """1 − w of the attention is left: a correction by subtraction would lose it all."""
    folder = checkpoint(tmp_path, layers=1, heads=1, width=16, spread=0.3)
    model = load_model(folder, device="cpu")
    words = vocabulary()
    cell = baseline(np.arange(2, 32, dtype=np.int32), words, special_frame=False)
    encoder = encoder_of(model)
    # Every query scores the gene at rank 7 some 60 above all others: 1 − w is 1e-26.
    with torch.inference_mode():
        embedded = encoder.embed(torch.arange(2, 32), torch.arange(30))
        layer = encoder.layers[0]
        keys = layer.project(embedded)[:, 16:32]
        aimed = torch.linalg.lstsq(
            keys - keys.mean(0),
            4 * 60.0 * torch.nn.functional.one_hot(torch.tensor(7), 30)[:, None].float(),
        ).solution[:, 0]
        layer.query_bias.copy_(aimed)
        layer.project_weight[:, :16] = 0.0
        weights = torch.softmax(keys @ aimed / 4, dim=0)
        ranks = [3, 7, 11]
        inputs = [apply(ARMS["hold"], cell, knock_out(cell, [rank]), words) for rank in ranks]
        shared, states = states_of(encoder, inputs)
        assert shared.shared is not None
        for changed, of_input in zip(inputs, states, strict=True):
            embedded = encoder.embed(
                torch.from_numpy(changed.tokens).long(), torch.from_numpy(changed.positions).long()
            )
            plain = run_layers(encoder, embedded, [Stretch(1, 29)], encoder.layers)
            torch.testing.assert_close(of_input, plain, rtol=0, atol=ATOL)
    assert weights[7] > 0.999


def test_what_is_shared_is_what_the_inputs_have_in_common(always, tiny_checkpoint):
    words = vocabulary()
    cell = baseline(np.arange(2, 42, dtype=np.int32), words, special_frame=False)
    encoder = encoder_of(load_model(tiny_checkpoint, device="cpu"))
    ranks = [10, 12, 15, 18]
    for arm, own_keys in (("hold", 3), ("mask", 4), ("delete", 8), ("shift", 8)):
        inputs = [apply(ARMS[arm], cell, knock_out(cell, [rank]), words) for rank in ranks]
        assert first_layer(encoder, inputs).own_keys == own_keys


@pytest.mark.parametrize(
    ("inputs", "own_keys", "length", "pays"),
    [(8, 8, 100, True), (7, 7, 100, False), (64, 25, 100, True), (64, 26, 100, False)],
)
def test_sharing_is_for_many_inputs_that_have_much_in_common(inputs, own_keys, length, pays):
    assert shares(inputs, own_keys, length) is pays
