import numpy as np
import pytest

import ranklock
from ranklock.models.permuted import permuted
from ranklock.models.smoothed import smoothed
from tests.helpers import checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ranklock.load_model(checkpoint(tmp_path_factory.mktemp("m"), spread=0.2), device="cpu")


def table(model):
    return model.encoder.embeddings.position_embeddings.weight.numpy()


@pytest.mark.parametrize(("window", "first"), [(1, 0), (2, 0), (10, 1), (100, 0)])
def test_each_row_is_the_mean_of_those_around_it(model, window, first):
    before, after = table(model), table(smoothed(model, window, first=first))
    np.testing.assert_array_equal(after[:first], before[:first])
    for place in range(first, len(before)):
        around = before[max(place - window, first) : place + window + 1]
        np.testing.assert_allclose(after[place], around.mean(axis=0), atol=1e-6)


def test_nothing_else_changes_and_the_checkpoint_is_left_as_it_was(model):
    before = table(model).copy()
    other = smoothed(model, 3)
    np.testing.assert_array_equal(table(model), before)
    for name, tensor in model.encoder.named_parameters():
        if "position_embeddings" not in name:
            np.testing.assert_array_equal(tensor, dict(other.encoder.named_parameters())[name])
    assert other.prepared is not model.prepared


def test_a_table_without_differences_stays_as_it_is(model):
    constant = permuted(model)
    constant.encoder.embeddings.position_embeddings.weight[:] = 0.25
    np.testing.assert_array_equal(table(smoothed(constant, 4)), table(constant))


def test_each_window_is_a_model_of_its_own(model):
    digests = [model.sha256, *(smoothed(model, w).sha256 for w in (1, 2)),
               smoothed(model, 1, first=1).sha256, smoothed(permuted(model), 1).sha256]  # fmt: skip
    assert len(set(digests)) == len(digests)
    assert smoothed(model, 2).sha256 == smoothed(model, 2).sha256
    assert "smoothed over ±2" in repr(smoothed(model, 2))
    assert "smoothed" not in repr(model)


def test_what_is_no_smoothing_is_refused(model):
    with pytest.raises(ValueError, match="smoothed already"):
        smoothed(smoothed(model, 1), 2)
    with pytest.raises(ValueError, match="is none"):
        smoothed(model, 0)
