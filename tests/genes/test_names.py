from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.errors import InputError, OptionError
from ranklock.genes.names import (
    AMBIGUOUS,
    NO_TOKEN,
    SPECIAL,
    UNKNOWN,
    read_gene_list,
    require,
    resolve,
)
from ranklock.genes.vocabulary import Vocabulary, token_vocabulary
from tests.helpers import vocabulary

VOCABULARY = replace(
    vocabulary(60, special_frame=True),
    symbols={
        **vocabulary(60).symbols,
        "XIST": "ENSG99",
        "Abc1": "ENSG00000000050",
        "ABC1": "ENSG00000000051",
    },
    canonical={"ENSG_OLD": "ENSG00000000005"},
)


@pytest.mark.parametrize(
    "name",
    [
        "GENE7", "gene7", " Gene7 ", "ENSG00000000007", "ENSG00000000007.12", "ensg00000000007",
        "ensg00000000007.3", 11, "11", np.int16(11),
    ],
)  # fmt: skip
def test_a_gene_answers_to_each_of_its_names(name):
    assert resolve([name], VOCABULARY).tokens == (11,)
    assert VOCABULARY.token(name) == 11


def test_each_gene_comes_once_in_the_order_named():
    names = ["GENE9", "gene3", "ENSG00000000009", "ENSG_OLD", "ensg_old", 7]
    assert resolve(names, VOCABULARY).tokens == (13, 7, 9)


def test_the_case_as_it_is_written_goes_first_and_no_other_is_guessed():
    assert resolve(["Abc1", "ABC1"], VOCABULARY).tokens == (54, 55)
    (unusable,) = resolve(["abc1"], VOCABULARY).unusable
    assert unusable.reason == AMBIGUOUS
    assert set(unusable.nearest) == {"Abc1", "ABC1"}


@pytest.mark.parametrize(
    ("name", "reason", "gene_id"),
    [
        ("GENE77", UNKNOWN, ""),
        ("²", UNKNOWN, ""),
        ("4000", UNKNOWN, ""),
        ("ENSG00000999999", UNKNOWN, ""),
        ("", UNKNOWN, ""),
        ("XIST", NO_TOKEN, "ENSG99"),
        ("xist", NO_TOKEN, "ENSG99"),
        ("ENSG99.1", NO_TOKEN, "ENSG99"),
        ("1", SPECIAL, ""),
        ("<mask>", SPECIAL, ""),
        ("<CLS>", SPECIAL, ""),
    ],
)
def test_why_a_name_stands_for_no_gene(name, reason, gene_id):
    resolved = resolve([name, "GENE3"], VOCABULARY)
    (unusable,) = resolved.unusable
    assert (unusable.name, unusable.reason, unusable.gene_id) == (name, reason, gene_id)
    assert resolved.tokens == (7,)


def test_nearest_names_are_offered_for_symbols_and_not_for_ids():
    symbol, ensembl = resolve(["GENE555", "ENSG00000000999"], VOCABULARY).unusable
    assert "GENE55" in symbol.nearest
    assert ensembl.nearest == ()


def test_all_names_that_are_wrong_are_said_at_once():
    names = ["GENE1", "OCT4", "CD20", "XIST", "<mask>"]
    with pytest.raises(InputError) as error:
        require(names, VOCABULARY)
    for name in names[1:]:
        assert name in str(error.value)
    assert "GENE1'" not in str(error.value)
    assert "4 of the names" in str(error.value)


def test_one_text_is_no_list():
    with pytest.raises(OptionError, match=r"genes=\['GENE1'\]"):
        resolve("GENE1", VOCABULARY)


def test_tokens_without_a_vocabulary():
    tokens = token_vocabulary(50, special_frame=False)
    assert resolve(["7", 8], tokens).tokens == (7, 8)
    with pytest.raises(InputError, match="--vocabulary"):
        require(["FTL"], tokens)


def test_thousands_of_unknown_names_are_sorted_out_in_seconds(shared):
    from time import process_time

    from ranklock.genes.vocabulary import read_vocabulary

    published = read_vocabulary(shared / "data")
    started = process_time()
    unusable = resolve([f"NOGENE{i}X" for i in range(20_000)], published).unusable
    assert len(unusable) == 20_000
    assert process_time() - started < 15


@given(st.lists(st.sampled_from([*VOCABULARY.symbols, *VOCABULARY.tokens, "7", "no", "<pad>"])))
def test_names_are_tokens_or_unusable(names):
    resolved = resolve(names, VOCABULARY)
    assert len(set(resolved.tokens)) == len(resolved.tokens)
    assert all(token in VOCABULARY.genes for token in resolved.tokens)
    unusable = {name.name for name in resolved.unusable}
    alone = [resolve([name], VOCABULARY) for name in names]
    assert {t for r in alone for t in r.tokens} == set(resolved.tokens)
    assert {name.name for r in alone for name in r.unusable} == unusable


@pytest.mark.parametrize(
    ("suffix", "text", "genes"),
    [
        (".txt", "GENE1\n# a comment\n\n GENE2 # another\nGENE3\n", ["GENE1", "GENE2", "GENE3"]),
        (".txt", "gene\nGENE1\nGENE2\n", ["GENE1", "GENE2"]),
        (".txt", "GENE1, GENE2, GENE3\n", ["GENE1", "GENE2", "GENE3"]),
        (".txt", "GENE1, GENE2\nGENE3,\n", ["GENE1", "GENE2", "GENE3"]),
        (".txt", "score\tgene\n3\tGENE1\n5\tGENE2\n", ["GENE1", "GENE2"]),
        (".genes", "GENE1\r\nGENE2", ["GENE1", "GENE2"]),
        (".csv", "GENE1\nGENE2\n", ["GENE1", "GENE2"]),
        (".csv", "\ufeffsymbol\nGENE1\nGENE2\n", ["GENE1", "GENE2"]),
        (".csv", '"","x"\n"1","GENE1"\n"2","GENE2"\n', ["GENE1", "GENE2"]),
        (".csv", "rank;Gene Symbol\n7;GENE1\n8;GENE2\n", ["GENE1", "GENE2"]),
        (".csv", "what,p\nGENE1,0.1\nNA,0.2\nGENE2,0.3\n", ["GENE1", "GENE2"]),
        (".csv", "GENE1,0.1\nGENE2,0.2\n", ["GENE1", "GENE2"]),
        (".csv", "gene,other\nfirst,GENE1\nsecond,GENE2\nthird,GENE3\n",
         ["GENE1", "GENE2", "GENE3"]),
        (".tsv", "symbol\tensembl_id\nGENE1\tENSG00000000001\nGENE2\t\nGENE3\t\n",
         ["GENE1", "GENE2", "GENE3"]),
        (".tsv", "ensembl_id\tsymbol\nENSG00000000001.4\tGENE1\n", ["ENSG00000000001.4"]),
        (".tsv", "gene\tnote\nNOGENE\tx\nGENE1\ty\n", ["NOGENE", "GENE1"]),
    ],
)  # fmt: skip
def test_genes_of_a_file(tmp_path, suffix, text, genes):
    (tmp_path / f"list{suffix}").write_text(text, encoding="utf-8", newline="")
    assert read_gene_list(tmp_path / f"list{suffix}", vocabulary=VOCABULARY) == genes


def test_a_column_by_its_heading_or_by_name_without_a_vocabulary(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("rank,gene_name,hit\n1,GENE1,GENE5\n2,GENE2,GENE6\n")
    assert read_gene_list(table) == ["GENE1", "GENE2"]
    assert read_gene_list(table, "hit") == ["GENE5", "GENE6"]
    assert read_gene_list(table, "hit", VOCABULARY) == ["GENE5", "GENE6"]
    with pytest.raises(InputError, match="no column 'symbol'; its first line holds rank, gene"):
        read_gene_list(table, "symbol")


def test_numbers_are_not_taken_for_tokens_where_a_column_holds_names(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("count,best,description\n5,x,GENE1\n6,y,GENE2\n7,z,unknown\n")
    assert read_gene_list(table, vocabulary=VOCABULARY) == ["GENE1", "GENE2", "unknown"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no gene"),
        ("# nothing\n\n", "names no gene"),
        ("gene\n", "names no gene"),
        ("a,b\nc,d\n", "no column is known to hold genes.*--genes-column.*a, b"),
        (b"PK\x03\x04\xff\xfe", "cannot be read"),
    ],
)
def test_files_that_hold_no_genes(tmp_path, text, message):
    path = tmp_path / "list.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        read_gene_list(path, vocabulary=VOCABULARY)
    with pytest.raises(InputError, match="cannot be read"):
        read_gene_list(tmp_path / "nowhere.txt")


def test_symbols_of_a_vocabulary_without_any_are_its_names():
    assert resolve(["ftl"], Vocabulary({"FTL": 2}, {})).tokens == (2,)
    (unusable,) = resolve(["FTLL"], Vocabulary({"FTL": 2}, {})).unusable
    assert unusable.nearest == ("FTL",)
