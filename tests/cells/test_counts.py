import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from ranklock.cells import Selection, read_cells
from ranklock.errors import InputError, RanklockWarning
from ranklock.vocabulary import Vocabulary
from tests.cells.test_encoding import obvious
from tests.helpers import vocabulary

VOCABULARY = vocabulary(30)
NAMES = list(VOCABULARY.tokens)


def counts(cells=5, genes=30, seed=0):
    return np.random.default_rng(seed).poisson(1.0, size=(cells, genes))


def adata(matrix=None, names=NAMES, sparse=True):
    matrix = counts(genes=len(names)) if matrix is None else matrix
    obs = pd.DataFrame(
        {"cell_type": ["B", "NK", "NK", "T", "T"][: len(matrix)]},
        index=[f"c{i}" for i in range(len(matrix))],
    )
    return anndata.AnnData(
        sp.csr_matrix(matrix.astype(np.float32)) if sparse else matrix.astype(np.float32),
        obs=obs,
        var=pd.DataFrame(index=list(names)),
    )


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("on_disk", [True, False])
def test_encodes_by_geneformers_rule(tmp_path, sparse, on_disk):
    data = adata(sparse=sparse)
    source = data
    if on_disk:
        source = tmp_path / "cells.h5ad"
        data.write_h5ad(source)
    cells = read_cells(source, VOCABULARY)
    tokens = np.array(list(VOCABULARY.tokens.values()))
    medians = np.array([VOCABULARY.medians[name] for name in NAMES])
    for row, genes in zip(counts(), cells.ranked, strict=True):
        assert genes.tolist() == obvious(row, tokens, medians)
    assert cells.names == [f"c{i}" for i in range(5)]
    assert not cells.special_frame


def test_v2_vocabularies_frame_the_cells():
    vocab = vocabulary(30, special_frame=True)
    assert read_cells(adata(), vocab).special_frame


@pytest.mark.parametrize(
    "names",
    [
        [VOCABULARY.symbol_of_gene[name] for name in NAMES],
        [f"{name}.7" for name in NAMES],
    ],
    ids=["symbols", "versioned IDs"],
)
def test_genes_by_other_names(names):
    there = read_cells(adata(), VOCABULARY)
    again = read_cells(adata(names=names), VOCABULARY)
    for one, other in zip(there.ranked, again.ranked, strict=True):
        assert one.tolist() == other.tolist()


def test_the_column_that_maps_most_genes_is_taken():
    data = adata(names=[f"gene{i}" for i in range(30)])
    data.var["gene_ids"] = NAMES
    data.var["gene_symbols"] = ["GENE1", *["?"] * 29]
    assert len(read_cells(data, VOCABULARY).ranked[0]) == (counts()[0] > 0).sum()
    data.var["mine"] = data.var.pop("gene_ids")
    assert len(read_cells(data, VOCABULARY, gene_column="mine").ranked[0]) > 1
    with pytest.raises(InputError, match="no var column 'theirs'; there are: gene_symbols, mine"):
        read_cells(data, VOCABULARY, gene_column="theirs")


def test_genes_missing_from_the_vocabulary_or_without_median_are_not_ranked():
    medians = {name: value for name, value in VOCABULARY.medians.items() if name != NAMES[3]}
    vocab = Vocabulary(VOCABULARY.tokens, VOCABULARY.special, medians)
    matrix = np.ones((1, 30), dtype=int)
    cells = read_cells(adata(matrix, names=["UNKNOWN", *NAMES[1:]]), vocab)
    missing = {VOCABULARY.tokens[NAMES[0]], VOCABULARY.tokens[NAMES[3]]}
    assert set(cells.ranked[0].tolist()) == set(VOCABULARY.tokens.values()) - missing


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_duplicate_ids_are_summed():
    matrix = counts()
    data = adata(matrix, names=[*NAMES[:29], NAMES[0]])
    summed = matrix[:, :29].copy()
    summed[:, 0] += matrix[:, 29]
    expected = read_cells(adata(summed, names=NAMES[:29]), VOCABULARY)
    for one, other in zip(read_cells(data, VOCABULARY).ranked, expected.ranked, strict=True):
        assert one.tolist() == other.tolist()


def test_counts_elsewhere_than_in_x(tmp_path):
    data = adata()
    data.layers["counts"] = data.X.copy()
    data.raw = data.copy()
    data.X = np.log1p(data.X.toarray())
    data.write_h5ad(tmp_path / "cells.h5ad")
    expected = read_cells(adata(), VOCABULARY)
    for source in (data, tmp_path / "cells.h5ad"):
        with pytest.raises(InputError, match="X does not hold raw counts.*log-transformed"):
            read_cells(source, VOCABULARY)
        with pytest.raises(InputError, match="no layer 'count'; there are: X, raw, counts"):
            read_cells(source, VOCABULARY, counts_layer="count")
        for layer in ("raw", "counts"):
            cells = read_cells(source, VOCABULARY, counts_layer=layer)
            assert [g.tolist() for g in cells.ranked] == [g.tolist() for g in expected.ranked]
        cells = read_cells(source, VOCABULARY, values="log1p")
        assert {len(g) for g in cells.ranked} == {len(g) for g in expected.ranked}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: np.where(x == x.max(), np.nan, x), "NaN"),
        (lambda x: x - 1, "scaled or centred"),
        (lambda x: x * 1.37, "not whole numbers"),
    ],
)
def test_values_that_are_no_counts_are_refused(spoil, message):
    data = adata(sparse=False)
    data.X = spoil(data.X).astype(np.float32)
    with pytest.raises(InputError, match=message):
        read_cells(data, VOCABULARY)


def test_no_known_gene_no_cells_no_vocabulary(tmp_path):
    with pytest.raises(InputError, match=r"none of its 30 genes \(mouse0, mouse1, mouse2"):
        read_cells(adata(names=[f"mouse{i}" for i in range(30)]), VOCABULARY)
    with pytest.raises(InputError, match="holds no cells"):
        read_cells(adata(np.zeros((0, 30))), VOCABULARY)
    with pytest.raises(InputError, match="needs --vocabulary"):
        read_cells(adata())
    bare = Vocabulary(VOCABULARY.tokens, VOCABULARY.special)
    with pytest.raises(InputError, match="has no medians"):
        read_cells(adata(), bare)
    (tmp_path / "broken.h5ad").write_bytes(b"not hdf5")
    with pytest.raises(InputError, match="not a readable .h5ad"):
        read_cells(tmp_path / "broken.h5ad", VOCABULARY)
    (tmp_path / "cells.loom").write_bytes(b"")
    with pytest.raises(InputError, match="read from .h5ad"):
        read_cells(tmp_path / "cells.loom", VOCABULARY)
    with pytest.raises(InputError, match="does not exist"):
        read_cells(tmp_path / "nowhere.h5ad", VOCABULARY)


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_cells_that_share_a_name_are_told_apart():
    data = adata()
    data.obs_names = ["same"] * 5
    with pytest.warns(RanklockWarning, match="share names"):
        cells = read_cells(data, VOCABULARY)
    assert cells.names == [f"same-{i}" for i in range(5)]


def test_only_the_chosen_cells_are_read_in_chunks(tmp_path, monkeypatch):
    adata().write_h5ad(tmp_path / "cells.h5ad")
    whole = read_cells(tmp_path / "cells.h5ad", VOCABULARY)
    monkeypatch.setattr("ranklock.cells.counts._CHUNK", 1)
    chosen = read_cells(
        tmp_path / "cells.h5ad", VOCABULARY, select=Selection(where={"cell_type": ("NK",)})
    )
    assert chosen.names == ["c1", "c2"]
    assert [g.tolist() for g in chosen.ranked] == [g.tolist() for g in whole.ranked[1:3]]
