import pytest
import torch
from transformers import BertForMaskedLM, BertModel

from ranklock.errors import InputError
from ranklock.models.masked_head import load_masked_head
from tests.helpers import checkpoint, classifier


def test_it_is_the_head_that_was_trained(tmp_path):
    folder = checkpoint(tmp_path, spread=0.3)
    states = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    whole = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        torch.testing.assert_close(load_masked_head(folder)(states), whole.cls(states))


def test_a_checkpoint_without_one_has_none(tmp_path):
    assert load_masked_head(classifier(tmp_path)) is None
    BertModel.from_pretrained(tmp_path / "plain").save_pretrained(tmp_path / "bare")
    assert load_masked_head(tmp_path / "bare") is None


def test_a_damaged_checkpoint_is_said(tmp_path):
    checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="cannot be read"):
        load_masked_head(tmp_path)
