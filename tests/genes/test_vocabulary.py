import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from ranklock.errors import InputError
from ranklock.genes.vocabulary import (
    Vocabulary,
    read_vocabulary,
    token_vocabulary,
    write_vocabulary,
)
from tests.helpers import vocabulary

JSON = '{"format": "ranklock-vocabulary", "version": 1, "special": {"<pad>": 0}, "genes": [%s]}'


def write_geneformer(folder, suffix, *, special_frame=False):
    vocab = vocabulary(special_frame=special_frame)
    dictionaries = {
        "token_dictionary": {k: np.int16(v) for k, v in {**vocab.special, **vocab.tokens}.items()},
        "gene_median_dictionary": {k: np.float64(v) for k, v in vocab.medians.items()},
        "gene_name_id_dict": dict(vocab.symbols),
        "ensembl_mapping_dict": {"ENSG_OLD": next(iter(vocab.tokens))},
    }
    folder.mkdir(exist_ok=True)
    for name, content in dictionaries.items():
        (folder / f"{name}{suffix}.pkl").write_bytes(pickle.dumps(content))
    return vocab


@pytest.mark.parametrize("suffix", ["", "_gc30M", "_gc95M", "_gc104M"])
@pytest.mark.parametrize("named", ["folder", "file"])
def test_reads_geneformers_dictionaries_under_each_published_name(tmp_path, suffix, named):
    written = write_geneformer(tmp_path, suffix, special_frame=suffix in ("_gc95M", "_gc104M"))
    path = tmp_path if named == "folder" else tmp_path / f"token_dictionary{suffix}.pkl"
    read = read_vocabulary(path)
    assert (read.tokens, read.special) == (written.tokens, written.special)
    assert (read.medians, read.symbols) == (written.medians, written.symbols)
    assert read.sha256 == written.sha256
    assert read.find("ENSG_OLD") == next(iter(written.tokens))


def test_two_vocabularies_in_one_folder_are_told_apart_by_file(tmp_path):
    write_geneformer(tmp_path, "_gc30M")
    write_geneformer(tmp_path, "_gc104M", special_frame=True)
    with pytest.raises(InputError, match="several vocabularies"):
        read_vocabulary(tmp_path)
    assert "<cls>" in read_vocabulary(tmp_path / "token_dictionary_gc104M.pkl").special


def test_own_json_holds_the_same(tmp_path):
    plain = vocabulary(special_frame=True)
    first = next(iter(plain.tokens))
    symbols = plain.symbols | {"ALIAS": first, "UNTRAINED": "ENSG9"}
    vocab = replace(plain, symbols=symbols, canonical={"ENSG_OLD": first})
    write_vocabulary(vocab, tmp_path / "vocabulary.json")
    json.loads((tmp_path / "vocabulary.json").read_text())
    for path in (tmp_path, tmp_path / "vocabulary.json"):
        read = read_vocabulary(path)
        assert (read.tokens, read.special) == (vocab.tokens, vocab.special)
        assert (read.medians, read.symbols) == (vocab.medians, vocab.symbols)
        assert read.canonical == vocab.canonical


def test_a_gene_is_found_by_symbol_id_version_and_token():
    vocab = vocabulary()
    for name in ("GENE7", "ENSG00000000007", "ENSG00000000007.12", 9, "9"):
        assert vocab.token(name) == 9
    assert vocab.symbol(9) == "GENE7"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("²", r"test vocabulary has no gene .*: '²' \(unknown\)"),
        ("GENE77", r"'GENE77' \(unknown; nearest: .*GENE"),
        ("1", r"'1' \(special token\)"),
        ("4000", r"'4000' \(unknown\)"),
    ],
)
def test_an_unknown_gene_is_refused_and_the_nearest_are_offered(name, message):
    with pytest.raises(InputError, match=message):
        vocabulary().token(name)


def test_a_gene_that_the_model_was_not_trained_on_is_named_as_such():
    vocab = Vocabulary({"ENSG1": 2}, {"<pad>": 0}, symbols={"XIST": "ENSG9"})
    with pytest.raises(InputError, match=r"'XIST' \(ENSG9, not in the vocabulary\)"):
        vocab.token("XIST")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a Ranklock vocabulary"),
        ("[]", "not a Ranklock vocabulary"),
        ('{"format": "ranklock-vocabulary", "version": 9}', "upgrade"),
        ('{"format": "ranklock-vocabulary", "version": 1, "special": {}, "genes": []}', "no gene"),
        (JSON % '{"gene": "A", "token": 0}', "share one token"),
        (JSON % '{"gene": "A", "token": 5.7}', "not a whole number"),
        (JSON % '{"gene": "A", "token": true}', "not a whole number"),
        (JSON % '{"gene": "A", "token": Infinity}', "not a whole number"),
        (JSON % '{"gene": "A", "token": 2}, {"gene": "A", "token": 3}', "names a gene twice"),
    ],
)
def test_broken_json_is_refused(tmp_path, content, message):
    (tmp_path / "v.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_vocabulary(tmp_path / "v.json")


def test_a_folder_without_one_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds neither"):
        read_vocabulary(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_vocabulary(tmp_path / "nowhere")


def test_medians_must_be_positive():
    with pytest.raises(InputError, match="median of A is 0"):
        Vocabulary({"A": 2}, {"<pad>": 0}, medians={"A": 0.0})


def test_tokens_serve_as_names_where_there_is_no_vocabulary():
    vocab = token_vocabulary(519, special_frame=False)
    assert vocab.token(519) == 519
    assert vocab.symbol(519) == "519"


def test_the_published_v1_dictionaries(shared):
    vocab = read_vocabulary(shared / "data")
    assert len(vocab.tokens) == 25_424
    assert vocab.special == {"<pad>": 0, "<mask>": 1}
    assert vocab.token("FAM136A") == vocab.token("ENSG00000035141") == 519


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.5, "2", None, [[]] * 3])
def test_a_token_that_is_no_whole_number(tmp_path, value):
    (tmp_path / "token_dictionary.pkl").write_bytes(pickle.dumps({"ENSG1": value}))
    with pytest.raises(InputError, match="the entry of 'ENSG1' is .*not a whole number"):
        read_vocabulary(tmp_path)


def test_the_largest_token_of_a_single_gene():
    assert Vocabulary({"A": 2}, {}).largest_token == 2
