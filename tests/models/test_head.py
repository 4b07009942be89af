import numpy as np
import pytest
import torch
from transformers import BertForSequenceClassification

from ranklock.errors import InputError
from ranklock.models.head import load_head
from tests.helpers import checkpoint


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    place = tmp_path_factory.mktemp("head")
    checkpoint(place / "plain", spread=0.2)
    torch.manual_seed(0)
    names = {0: "healthy", 1: "failing"}
    model = BertForSequenceClassification.from_pretrained(
        place / "plain", num_labels=2, id2label=names, label2id={n: i for i, n in names.items()}
    ).eval()
    with torch.no_grad():
        model.bert.pooler.dense.weight.normal_()
        model.classifier.bias.normal_()
    model.save_pretrained(place / "tuned")
    return place, model


@pytest.mark.parametrize("label", ["healthy", "failing"])
def test_logits_are_those_of_transformers(tuned, label):
    place, model = tuned
    head = load_head(place / "tuned", label)
    tokens = torch.arange(3, 40)[None]
    with torch.no_grad():
        out = model(input_ids=tokens, output_hidden_states=True)
    found = head(out.hidden_states[-1][:, 0]).item()
    expected = out.logits[0, ["healthy", "failing"].index(label)].item()
    assert found == pytest.approx(expected, abs=1e-6)  # a float32 forward


def test_what_is_no_classifier_is_said(tuned, tmp_path):
    place, _ = tuned
    with pytest.raises(InputError, match=r"no label 'ill'; it has healthy, failing"):
        load_head(place / "tuned", "ill")
    with pytest.raises(InputError, match="no classifier of cells"):
        load_head(place / "plain", "healthy")
    broken = checkpoint(tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(InputError, match="broken"):
        load_head(broken, "healthy")
    assert np.isfinite(load_head(place / "tuned", "failing").weight.numpy()).all()
