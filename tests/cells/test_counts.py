import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from ranklock.cells import Selection, read_cells
from ranklock.errors import InputError, RanklockWarning
from ranklock.genes.vocabulary import Vocabulary
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
    matrix = np.full((1, 30), 2)
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


def test_a_file_without_x_names_what_it_has(tmp_path):
    data = adata()
    data.layers["counts"] = data.X
    data.X = None
    data.write_h5ad(tmp_path / "cells.h5ad")
    for source in (data, tmp_path / "cells.h5ad"):
        with pytest.raises(InputError, match=r"has no X; name the layer .*: counts\.$"):
            read_cells(source, VOCABULARY)
        assert len(read_cells(source, VOCABULARY, counts_layer="counts")) == 5


@pytest.mark.parametrize("layout", [sp.csr_matrix, sp.csc_matrix, np.asarray])
@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int64", "float16", "float64"])
def test_any_number_and_any_layout_gives_the_same_cells(tmp_path, layout, kind):
    if kind == "float16" and layout is not np.asarray:
        pytest.skip("scipy has no sparse float16")
    data = adata()
    data.X = layout(counts().astype(kind))
    data.write_h5ad(tmp_path / "cells.h5ad")
    expected = [g.tolist() for g in read_cells(adata(), VOCABULARY).ranked]
    for source in (data, tmp_path / "cells.h5ad"):
        assert [g.tolist() for g in read_cells(source, VOCABULARY).ranked] == expected


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_sums_of_duplicates_do_not_overflow():
    matrix = np.full((1, 30), 200, dtype=np.uint8)
    data = anndata.AnnData(matrix, var=pd.DataFrame(index=[*NAMES[:2], *[NAMES[2]] * 28]))
    medians = {NAMES[0]: 1.0, NAMES[1]: 1.0, NAMES[2]: 1.0}
    vocab = Vocabulary(VOCABULARY.tokens, VOCABULARY.special, medians)
    cells = read_cells(data, vocab)
    assert cells.ranked[0][0] == VOCABULARY.tokens[NAMES[2]]


def test_only_one_matrix_of_a_file_is_read(tmp_path, monkeypatch):
    data = adata()
    data.layers["huge"] = data.X.copy()
    data.write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "a") as file:
        del file["layers/huge/data"]  # reading it would fail
        del file["obsm"]
    assert len(read_cells(tmp_path / "cells.h5ad", VOCABULARY)) == 5


def test_damage_inside_a_file_is_one_line(tmp_path):
    data = adata(sparse=False)
    data.write_h5ad(tmp_path / "cells.h5ad", compression="gzip")
    with h5py.File(tmp_path / "cells.h5ad") as file:
        offset = file["X"].id.get_chunk_info(0).byte_offset
    content = bytearray((tmp_path / "cells.h5ad").read_bytes())
    content[offset : offset + 20] = b"\xff" * 20
    (tmp_path / "cells.h5ad").write_bytes(content)
    with pytest.raises(InputError, match="not a readable .h5ad"):
        read_cells(tmp_path / "cells.h5ad", VOCABULARY)


def test_what_was_used_of_the_file_is_told_and_too_little_warned_of():
    strangers = [*NAMES[:2], *[f"mouse{i}" for i in range(28)]]
    with pytest.warns(RanklockWarning, match="of 30 genes, 2 are in test vocabulary and 2 have"):
        cells = read_cells(adata(np.full((2, 30), 2), names=strangers), VOCABULARY)
    assert cells.reading["genes_in_file"] == 30
    assert cells.reading["genes_in_vocabulary"] == 2
    assert cells.reading["layer"] == "X"
    assert cells.reading["values"] == "counts"


def test_binarised_and_empty_cells_are_warned_of():
    with pytest.warns(RanklockWarning, match="nothing but zeros and ones"):
        read_cells(adata((counts() > 0).astype(int)), VOCABULARY)
    matrix = counts()
    matrix[1] = 0
    with pytest.warns(RanklockWarning, match="1 of 5 cells have no count"):
        assert len(read_cells(adata(matrix), VOCABULARY).ranked[1]) == 0
