import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, DatasetDict

from ranklock.cells import Selection, read_cells
from ranklock.errors import InputError, RanklockWarning
from tests.helpers import vocabulary

BARE, FRAMED = vocabulary(30), vocabulary(30, special_frame=True)
CELLS = [[5, 9, 7], [9, 6], [11, 12, 13, 8]]


def write(folder, kind, sequences, **columns):
    content = {"input_ids": sequences, **columns}
    if kind == "dataset":
        path = folder / "cells.dataset"
        Dataset.from_dict(content).save_to_disk(path)
    else:
        path = folder / "cells.parquet"
        pd.DataFrame(content).to_parquet(path)
    return path


@pytest.fixture(params=["dataset", "parquet"])
def kind(request):
    return request.param


def test_reads_tokens_and_metadata(tmp_path, kind):
    path = write(tmp_path, kind, CELLS, length=[3, 2, 4], cell_type=["B", "NK", "NK"])
    cells = read_cells(path, BARE)
    assert [genes.tolist() for genes in cells.ranked] == CELLS
    assert not cells.special_frame
    assert cells.names == ["0", "1", "2"]
    assert cells.obs["cell_type"].tolist() == ["B", "NK", "NK"]


def test_a_selection_keeps_the_files_row_numbers(tmp_path, kind):
    path = write(tmp_path, kind, CELLS, cell_type=["B", "NK", "NK"])
    cells = read_cells(path, BARE, select=Selection(where={"cell_type": ("NK",)}))
    assert cells.names == ["1", "2"]
    assert [genes.tolist() for genes in cells.ranked] == CELLS[1:]


def test_special_tokens_are_taken_off_and_remembered(tmp_path, kind):
    path = write(tmp_path, kind, [[2, *genes, 3] for genes in CELLS])
    cells = read_cells(path, FRAMED)
    assert cells.special_frame
    assert [genes.tolist() for genes in cells.ranked] == CELLS


def test_padding_at_the_end_is_taken_off(tmp_path, kind):
    path = write(tmp_path, kind, [[5, 9, 7, 0, 0], [9, 6, 0, 0, 0]])
    assert [genes.tolist() for genes in read_cells(path, BARE).ranked] == [[5, 9, 7], [9, 6]]


def test_without_vocabulary_tokens_serve_as_names(tmp_path, kind):
    path = write(tmp_path, kind, CELLS)
    with pytest.warns(RanklockWarning, match="<mask> is 1 is taken from"):
        cells = read_cells(path)
    assert cells.vocabulary.symbol(9) == "9"
    assert not cells.special_frame
    (tmp_path / "v2").mkdir()
    framed = write(tmp_path / "v2", kind, [[2, *genes, 3] for genes in CELLS])
    with pytest.warns(RanklockWarning, match="<cls> is 2, <eos> is 3"):
        cells = read_cells(framed)
    assert cells.special_frame
    assert [genes.tolist() for genes in cells.ranked] == CELLS


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([[5, 9], [99]], "cell 1: token 99 is not a gene .*largest token 31"),
        ([[5, -9]], "token -9 to 5 is out of range"),
        ([[5, 2**40]], "is out of range"),
        ([[5, 9, 5]], "token 5 stands at several ranks"),
        ([[5, 1, 9]], "token 1 is not a gene"),
        ([[5.5, 9.0]], "must be whole numbers"),
        ([[5], None], "cell 1 has no tokens"),
    ],
)
def test_tokens_that_make_no_cell(tmp_path, sequences, message):
    path = write(tmp_path, "parquet", sequences)
    with pytest.raises(InputError, match=message):
        read_cells(path, BARE)


def test_special_tokens_must_be_on_all_cells_or_on_none(tmp_path, kind):
    path = write(tmp_path, kind, [[2, 5, 9, 3], [5, 9]])
    with pytest.raises(InputError, match="and others, like 1, do not"):
        read_cells(path, FRAMED)


def test_files_that_are_not_what_they_seem(tmp_path):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match="not a readable parquet"):
        read_cells(tmp_path / "broken.parquet", BARE)
    (tmp_path / "broken.dataset").mkdir()
    with pytest.raises(InputError, match="not a Hugging Face dataset folder"):
        read_cells(tmp_path / "broken.dataset", BARE)
    DatasetDict(train=Dataset.from_dict({"input_ids": CELLS})).save_to_disk(tmp_path / "splits")
    with pytest.raises(InputError, match="several splits"):
        read_cells(tmp_path / "splits", BARE)
    pd.DataFrame({"tokens": CELLS}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(InputError, match="no column 'input_ids'; it has: tokens"):
        read_cells(tmp_path / "other.parquet", BARE)
    pd.DataFrame({"input_ids": []}).to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(InputError, match="holds no cells"):
        read_cells(tmp_path / "empty.parquet", BARE)


def test_row_0_of_the_report(shared):
    path = shared / "data" / "genecorpus_500_cells.parquet"
    cells = read_cells(path, shared / "data", select=Selection(rows=(0,)))
    assert len(cells) == 1
    assert cells.ranked[0][1000] == 519
    assert np.asarray(pd.read_parquet(path)["input_ids"][0]).tolist() == cells.ranked[0].tolist()


def test_padded_v2_cells_without_vocabulary(tmp_path, kind):
    path = write(tmp_path, kind, [[2, 10, 11, 12, 3], [2, 12, 14, 3, 0]])
    with pytest.warns(RanklockWarning, match="<cls> is 2"):
        cells = read_cells(path)
    assert cells.special_frame
    assert [genes.tolist() for genes in cells.ranked] == [[10, 11, 12], [12, 14]]


def test_names_of_cells_in_a_parquet_index_are_kept(tmp_path):
    pd.DataFrame({"input_ids": CELLS}, index=["x", "y", "z"]).to_parquet(tmp_path / "c.parquet")
    assert read_cells(tmp_path / "c.parquet", BARE).names == ["x", "y", "z"]
    shared = pd.DataFrame({"input_ids": CELLS}, index=["x", "x", "z"])
    shared.to_parquet(tmp_path / "d.parquet")
    with pytest.raises(InputError, match="two cells share a name"):
        read_cells(tmp_path / "d.parquet", BARE)


def test_rows_of_several_row_groups(tmp_path):
    frame = pd.DataFrame({"input_ids": [[5 + i % 20] for i in range(50)], "n": range(50)})
    frame.to_parquet(tmp_path / "c.parquet", row_group_size=7)
    cells = read_cells(tmp_path / "c.parquet", BARE, select=Selection(rows=(3, 6, 7, 30, 49)))
    assert [genes.tolist() for genes in cells.ranked] == [[8], [11], [12], [15], [14]]
    assert cells.obs["n"].tolist() == [3, 6, 7, 30, 49]
