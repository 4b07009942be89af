import numpy as np
import pytest
import torch

import ranklock
from ranklock.models.permuted import head_of, permuted
from tests.helpers import checkpoint, classifier


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ranklock.load_model(checkpoint(tmp_path_factory.mktemp("m"), spread=0.2), device="cpu")


def _tensors(model):
    return {name: tensor.flatten().numpy() for name, tensor in model.encoder.named_parameters()}


def test_every_tensor_keeps_its_numbers_and_loses_their_order(model):
    before, after = _tensors(model), _tensors(permuted(model, 3))
    for name, numbers in before.items():
        assert np.array_equal(np.sort(numbers), np.sort(after[name]))
        if len(np.unique(numbers)) > 8:
            assert abs(np.corrcoef(numbers, after[name])[0, 1]) < 0.8


def test_the_checkpoint_itself_is_left_as_it_was(model):
    before = _tensors(model)
    permuted(model)
    assert all(np.array_equal(numbers, before[name]) for name, numbers in _tensors(model).items())


def test_one_seed_is_one_model_and_another_is_another(model):
    first, again, other = permuted(model, 1), permuted(model, 1), permuted(model, 2)
    assert first.sha256 == again.sha256
    assert len({first.sha256, other.sha256, model.sha256}) == 3
    for name, numbers in _tensors(first).items():
        assert np.array_equal(numbers, _tensors(again)[name])
    assert not all(np.array_equal(n, _tensors(other)[k]) for k, n in _tensors(first).items())
    assert "permuted" in repr(first)
    assert "permuted" not in repr(model)


def test_it_is_permuted_once(model):
    with pytest.raises(ValueError, match="already"):
        permuted(permuted(model))


def test_its_classifier_is_permuted_too(tmp_path):
    model = ranklock.load_model(classifier(tmp_path), device="cpu")
    head, shuffled = head_of(model), head_of(permuted(model))
    assert shuffled.labels == head.labels
    torch.testing.assert_close(shuffled.weight.sum(), head.weight.sum())
    assert not torch.equal(shuffled.weight, head.weight)
