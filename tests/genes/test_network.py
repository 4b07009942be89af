import sys
import types

import pandas as pd
import pytest

from ranklock.errors import InputError
from ranklock.genes.network import read_network

EDGES = pd.DataFrame({"source": ["A", "A", "B"], "target": ["B", "C", "C"], "weight": [1, 0, -1]})
TOKENS = {"A": 5, "B": 6, "C": 7}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".parquet"])
def test_a_table_is_read_whatever_it_is_kept_in(tmp_path, suffix):
    path = tmp_path / f"links{suffix}"
    if suffix == ".parquet":
        EDGES.to_parquet(path)
    else:
        EDGES.to_csv(path, sep="," if suffix == ".csv" else "\t", index=False)
    network = read_network(path)
    # The link of weight zero is none; a negative one is.
    assert network.targets(TOKENS.get, "test") == {5: {6}, 6: {7}}
    assert network.sha256 == read_network(path).sha256


def test_without_weights_every_row_is_a_link(tmp_path):
    EDGES[["source", "target"]].to_csv(tmp_path / "links.csv", index=False)
    assert read_network(tmp_path / "links.csv").targets(TOKENS.get, "t") == {5: {6, 7}, 6: {7}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source,to\nA,B\n", "no column 'target'"),
        ("source,target,weight\nA,B,much\n", "row 0 is no number"),
        ("source,target\n", "holds no links"),
        ("", "cannot be read"),
    ],
)
def test_a_table_that_is_no_network_is_refused(tmp_path, text, message):
    (tmp_path / "links.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_network(tmp_path / "links.csv")


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_network(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is no network"):
        read_network(tmp_path / "links.xlsx")


def test_a_network_of_other_genes_is_refused(tmp_path):
    EDGES.to_csv(tmp_path / "links.csv", index=False)
    with pytest.raises(InputError, match="between genes of these cells"):
        read_network(tmp_path / "links.csv").targets({"X": 1}.get, "these cells")


def test_collectri_comes_through_decoupler(monkeypatch):
    asked = {}

    def collectri(**options):
        asked.update(options)
        return EDGES

    module = types.SimpleNamespace(op=types.SimpleNamespace(collectri=collectri))
    monkeypatch.setitem(sys.modules, "decoupler", module)
    assert len(read_network("collectri").edges) == 2
    assert asked == {"organism": "human"}

    def offline(**_):
        raise OSError("no network")

    module.op.collectri = offline
    with pytest.raises(InputError, match="cannot be fetched"):
        read_network("collectri")
    monkeypatch.setitem(sys.modules, "decoupler", None)
    with pytest.raises(InputError, match="needs decoupler"):
        read_network("collectri")
