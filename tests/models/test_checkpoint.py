import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

from ranklock.engine.batches import hidden_states
from ranklock.errors import InputError
from ranklock.models import load_model
from ranklock.models.checkpoint import check_vocabulary
from tests.helpers import checkpoint, vocabulary
from tests.models.test_encoder import an_input


@pytest.fixture
def folder(tmp_path):
    return checkpoint(tmp_path / "model", spread=0.3)


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def as_binary(folder, content=None):
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(content or weights, folder / "pytorch_model.bin")


def test_what_is_known_of_a_checkpoint(folder):
    model = load_model(folder, device="cpu")
    assert (model.layers, model.width, model.heads) == (2, 16, 2)
    assert (model.input_size, model.vocab_size, model.pad_token) == (64, 64, 0)
    assert model.architecture == "BertForMaskedLM"
    assert "2 layers" in repr(model)


@pytest.mark.parametrize("kind", [BertForSequenceClassification, BertForTokenClassification])
def test_fine_tuned_checkpoints_give_their_encoders_states(tmp_path, kind):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, num_labels=3,
    )  # fmt: skip
    tuned = kind(config).eval()
    tuned.save_pretrained(tmp_path)
    (states,) = hidden_states(load_model(tmp_path, device="cpu"), [an_input()], 2)
    with torch.no_grad():
        plain = (
            tuned.bert(torch.from_numpy(an_input().tokens).long()[None])
            .last_hidden_state[0]
            .numpy()
        )
    assert abs(states - plain).max() < 2e-5
    assert load_model(tmp_path, device="cpu").architecture == kind.__name__


def test_weights_stored_in_half_precision_are_computed_in_float32(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v.half() for k, v in weights.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    model = load_model(folder, device="cpu")
    assert {tensor.dtype for tensor in model.encoder.parameters()} == {torch.float32}


def test_binary_weights_are_read(folder):
    before = hidden_states(load_model(folder, device="cpu"), [an_input()], 2)[0]
    as_binary(folder)
    after = hidden_states(load_model(folder, device="cpu"), [an_input()], 2)[0]
    assert (before == after).all()


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_hostile_binary_weights_do_not_run(folder, tmp_path):
    as_binary(folder, {"bert.embeddings.word_embeddings.weight": Hostile(tmp_path / "ran")})
    with pytest.raises(InputError, match="cannot be read"):
        load_model(folder, device="cpu")
    assert not (tmp_path / "ran").exists()


def test_the_digest_changes_with_weights_and_with_configuration(folder):
    first = load_model(folder, device="cpu").sha256
    assert first == load_model(folder, device="cpu").sha256
    change_config(folder, layer_norm_eps=1e-6)
    assert load_model(folder, device="cpu").sha256 != first


@pytest.mark.parametrize("kept", [0, 7, 200, -1])
def test_truncated_weights(folder, kept):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:kept])
    with pytest.raises(InputError, match="damaged, cut short"):
        load_model(folder, device="cpu")


def test_truncated_binary_weights(folder):
    as_binary(folder)
    content = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged, cut short"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "'roberta' model"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' positions"),
        ({"is_decoder": True}, "decoder"),
        ({"num_hidden_layers": 3}, "lack 16 of the encoder's tensors"),
        ({"hidden_size": 32}, "cannot be read"),
    ],
)
def test_configurations_that_do_not_fit(folder, change, message):
    change_config(folder, **change)
    with pytest.raises(InputError, match=message):
        load_model(folder, device="cpu")


def test_a_nan_in_the_weights(folder):
    weights = load_file(folder / "model.safetensors")
    weights["bert.encoder.layer.1.output.dense.weight"][3, 3] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"layer\.1\.output\.dense\.weight holds NaN"):
        load_model(folder, device="cpu")


def test_missing_pieces(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights"):
        load_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        load_model(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"no readable config\.json"):
        load_model(folder)
    with pytest.raises(InputError, match="There is no folder"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no-such-device"):
        load_model(checkpoint(tmp_path / "other"), device="no-such-device")


def test_a_hub_name_that_is_not_cached_is_refused_offline():
    with pytest.raises(InputError, match="nobody/nothing is neither a folder here"):
        load_model("nobody/nothing")


@pytest.mark.parametrize("subfolder", ["", "Geneformer-V1-10M"])
@pytest.mark.parametrize("revision", ["", "@main"])
def test_a_hub_name_is_loaded_from_the_cache(folder, tmp_path, monkeypatch, subfolder, revision):
    # The layout of the hub's cache: what a download would have left.
    commit = "0" * 40
    repository = tmp_path / "hub" / "models--someone--Geneformer"
    target = repository / "snapshots" / commit / subfolder
    target.parent.mkdir(parents=True)
    shutil.copytree(folder, target)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    name = "/".join(filter(None, ["someone/Geneformer", subfolder])) + revision
    model = load_model(name, device="cpu")
    assert model.name == name
    assert model.sha256 == load_model(folder, device="cpu").sha256


@pytest.mark.parametrize(
    ("genes", "fits"), [(62, True), (61, True), (30, True), (63, False), (200, False)]
)
def test_a_vocabulary_must_have_as_many_tokens_but_for_rounding(folder, genes, fits):
    model, vocab = load_model(folder, device="cpu"), vocabulary(genes)
    if fits:
        check_vocabulary(vocab, model)
    else:
        with pytest.raises(InputError, match=f"has {genes + 2} tokens, the model 64"):
            check_vocabulary(vocab, model)


def test_a_vocabulary_with_another_padding_is_refused(folder):
    change_config(folder, pad_token_id=5)
    with pytest.raises(InputError, match="<pad> is token 0 in the vocabulary and 5 in the model"):
        check_vocabulary(vocabulary(62), load_model(folder, device="cpu"))


def test_v2s_vocabulary_does_not_pass_for_v1s(tmp_path, shared):
    # The smaller vocabulary's tokens are all in the larger model's table, and mean other genes.
    model = load_model(shared / "models" / "geneformer-mini-6L", device="cpu")
    with pytest.raises(InputError, match="20275 tokens, the model 25426"):
        check_vocabulary(vocabulary(20_271, special_frame=True), model)


def test_pickles_are_never_an_alternative(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(InputError, match="no weights"):
        load_model(folder)
