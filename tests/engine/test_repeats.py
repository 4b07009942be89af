import numpy as np
import pytest

from ranklock.engine import batches
from ranklock.engine.repeats import repeats_of
from ranklock.models import load_model
from tests.engine.test_batches import ATOL, cells
from tests.helpers import plain_forward


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(tiny_checkpoint, device="cpu")


def test_repeats_are_the_same_but_for_rounding(model, tiny_checkpoint):
    (cell,) = cells([50])
    repeats = repeats_of(model, cell, 2)
    plain = plain_forward(tiny_checkpoint, cell.tokens.tolist(), list(range(50)), layer=0)
    assert repeats.shape == (6, 50, 16)
    np.testing.assert_allclose(repeats, np.broadcast_to(plain, repeats.shape), rtol=0, atol=ATOL)
    assert np.ptp(repeats, axis=0).max() > 0  # or it would measure nothing


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("depth", [0, 1])
def test_the_smallest_cells_and_depths_have_repeats_too(model, length, depth):
    repeats = repeats_of(model, cells([length])[0], depth)
    assert repeats.shape == (6, length, 16)
    assert np.ptp(repeats, axis=0).max() < ATOL


def test_repeats_differ_in_all_that_rounding_depends_on(model, monkeypatch):
    seen, shared = [], []
    pack, first_layer = batches.pack, repeats_of.__globals__["first_layer"]

    def record(inputs, device):
        seen.append(inputs)
        return pack(inputs, device)

    def record_shared(encoder, inputs):
        shared.append(first_layer(encoder, inputs))
        return shared[-1]

    monkeypatch.setattr("ranklock.engine.batches.pack", record)
    monkeypatch.setattr("ranklock.engine.repeats.first_layer", record_shared)
    (cell,) = cells([50])
    repeats_of(model, cell, 2, batch_size=4)
    assert [[len(packed) for packed in inputs] for inputs in seen] == [[50], [50] * 3, [51], [50]]
    hidden, turned = seen[2][0], seen[3][0]
    assert (~hidden.visible).sum() == 1
    assert turned.tokens.tolist() == cell.tokens[::-1].tolist()
    assert turned.positions.tolist() == cell.positions[::-1].tolist()
    (through,) = shared
    assert 0 < through.own_keys < 50  # some keys are shared, some are not
