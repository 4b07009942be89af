import json

import pytest
import torch
from transformers import BertForSequenceClassification

from ranklock.errors import InputError
from ranklock.models.head import load_head
from tests.helpers import checkpoint

LABELS = ("healthy", "failing", "unsure")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    place = tmp_path_factory.mktemp("head")
    checkpoint(place / "plain", spread=0.2)
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(
        place / "plain", num_labels=len(LABELS), id2label=dict(enumerate(LABELS)),
        label2id={label: row for row, label in enumerate(LABELS)},
    ).eval()  # fmt: skip
    with torch.no_grad():
        model.bert.pooler.dense.weight.normal_()
        model.classifier.bias.normal_()
    model.save_pretrained(place / "tuned")
    return place, model


def test_logits_are_those_of_transformers(tuned):
    place, model = tuned
    head = load_head(place / "tuned")
    tokens = torch.arange(3, 43).reshape(2, 20)
    with torch.no_grad():
        out = model(input_ids=tokens, output_hidden_states=True)
    assert head.labels == LABELS
    logits = head(out.hidden_states[-1][:, 0])
    assert logits.shape == (2, len(LABELS))
    torch.testing.assert_close(logits, out.logits.double(), atol=1e-6, rtol=0)  # float32 forward
    assert [head.index(label) for label in LABELS] == [0, 1, 2]


def test_what_is_no_classifier_is_said(tuned, tmp_path):
    place, _ = tuned
    with pytest.raises(InputError, match=r"no label 'ill'; it has healthy, failing, unsure"):
        load_head(place / "tuned").index("ill")
    with pytest.raises(InputError, match="no classifier of cells"):
        load_head(place / "plain")
    broken = checkpoint(tmp_path / "broken")
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(InputError, match="broken"):
        load_head(broken)


def test_classes_of_one_name_are_refused(tuned, tmp_path):
    _, model = tuned
    model.save_pretrained(tmp_path / "twins")
    config = tmp_path / "twins" / "config.json"
    fields = json.loads(config.read_text())
    fields["id2label"]["1"] = "healthy"
    config.write_text(json.dumps(fields))
    with pytest.raises(InputError, match="one name: healthy, healthy, unsure"):
        load_head(tmp_path / "twins")
