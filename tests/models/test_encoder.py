import numpy as np
import pytest

from ranklock.errors import InputError
from ranklock.models import encode, load_model, output_of_layer
from tests.helpers import checkpoint, plain_forward

ATOL = 2e-5  # see tests/engine/test_batches.py
TOKENS = np.arange(2, 22, dtype=np.int32)[None]
POSITIONS = np.arange(20, dtype=np.int32)[None]


@pytest.mark.parametrize("layer", [0, -1, -2, -3])
def test_layers_have_geneformers_meaning(tmp_path, layer):
    folder = checkpoint(tmp_path, layers=3, spread=0.3)
    model = load_model(folder, device="cpu")
    states = encode(model, TOKENS, POSITIONS, None, output_of_layer(model, layer))
    plain = plain_forward(folder, TOKENS[0].tolist(), POSITIONS[0].tolist(), layer=layer)
    np.testing.assert_allclose(states[0], plain, rtol=0, atol=ATOL)


@pytest.mark.parametrize("layer", [1, -3])
def test_a_layer_that_is_not_there_is_refused(tiny_checkpoint, layer):
    with pytest.raises(InputError, match="has 2 layers, so --layer goes from -2 to 0"):
        output_of_layer(load_model(tiny_checkpoint, device="cpu"), layer)


def test_later_layers_and_the_head_are_never_computed(tmp_path):
    folder = checkpoint(tmp_path, layers=3)
    model = load_model(folder, device="cpu")
    ran = []
    for index, layer in enumerate(model.encoder.encoder.layer):
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
    encode(model, TOKENS, POSITIONS, None, output_of_layer(model, -1))
    assert ran == [0, 1]
    assert len(model.encoder.encoder.layer) == 3
    assert not any("cls" in name or "pooler" in name for name, _ in model.encoder.named_modules())


def test_a_hidden_key_is_hidden_in_every_layer(tmp_path):
    folder = checkpoint(tmp_path, layers=3, spread=0.3)
    model = load_model(folder, device="cpu")
    visible = np.ones((1, 20), dtype=bool)
    visible[0, 7] = False
    states = encode(model, TOKENS, POSITIONS, visible, 3)
    plain = plain_forward(
        folder, TOKENS[0].tolist(), POSITIONS[0].tolist(), visible[0].tolist(), layer=0
    )
    np.testing.assert_allclose(states[0], plain, rtol=0, atol=ATOL)
