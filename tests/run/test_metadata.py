import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranklock.run.metadata import add_metadata, spreadsheet_safe, writable

COLUMNS = {
    "category": pd.Categorical(["a", "b", None], categories=["b", "a", "unused"], ordered=True),
    "category of numbers": pd.Categorical([1, 2, 1]),
    "mixed category": pd.Categorical([1, "b", None]),
    "nullable truth": pd.array([True, None, False], dtype="boolean"),
    "nullable number": pd.array([1, None, 3], dtype="Int64"),
    "truth or None": pd.Series([True, None, False], dtype=object),
    "nothing": pd.Series([None, None, None], dtype=object),
    "text or number": pd.Series(["a", 1, 2.5], dtype=object),
    "text": pd.Series(["a", None, "c"], dtype=object),
    "pandas text": pd.array(["a", None, "c"], dtype="string"),
    "dates": pd.to_datetime(["2026-01-01", None, "2026-01-03"]),
    "lists": pd.Series([[0.1, 0.9], [1], None], dtype=object),
    "half": np.array([1, 2, 3], dtype=np.float16),
    "float": [0.5, np.nan, 2],
    "with / and": [1, 2, 3],
    "_index": [1, 2, 3],
    "gene": ["mine", "mine", "yours"],
    "": [1, 2, 3],
    7: [1, 2, 3],
}


def results():
    return pd.DataFrame({"gene": ["SPI1"] * 3}, index=list("xyz"))


def written_and_read(obs, path):
    anndata.AnnData(obs=obs).write_h5ad(path)
    return anndata.read_h5ad(path).obs


@pytest.mark.parametrize("name", COLUMNS, ids=str)
def test_any_column_can_be_written_and_read(tmp_path, name):
    metadata = pd.DataFrame({name: COLUMNS[name]})
    obs = add_metadata(results(), metadata)
    again = written_and_read(obs, tmp_path / "a.h5ad")
    assert again.shape == (3, 2)
    assert again["gene"].tolist() == ["SPI1"] * 3
    missing = [v is None or (np.ndim(v) == 0 and pd.isna(v)) for v in metadata.iloc[:, 0]]
    assert again.iloc[:, 1].isna().tolist() == missing


def test_categories_keep_their_order_and_numbers_their_kind():
    assert list(writable(pd.Series(COLUMNS["category"])).categories) == ["b", "a"]
    assert writable(pd.Series(COLUMNS["category"])).ordered
    assert writable(pd.Series([1, 2])).dtype.kind == "i"
    assert list(writable(COLUMNS["text or number"])) == ["a", "1", "2.5"]


def test_names_that_are_taken_are_told_apart():
    metadata = pd.DataFrame([[1, 2, 3]] * 3, columns=["gene", "cell_gene", "gene"])
    assert list(add_metadata(results(), metadata)) == [
        "gene", "cell_gene", "cell_cell_gene", "cell_cell_cell_gene",
    ]  # fmt: skip


@settings(max_examples=50)
@given(
    st.lists(
        st.one_of(
            st.none(), st.text(), st.integers(-(2**70), 2**70), st.floats(), st.booleans(),
            st.lists(st.integers()), st.dates(),
        ),
        min_size=3, max_size=3,
    )
)  # fmt: skip
def test_any_objects_can_be_written(tmp_path_factory, values):
    column = pd.DataFrame({"any": pd.Series(values, dtype=object)})
    obs = add_metadata(results(), column)
    again = written_and_read(obs, tmp_path_factory.mktemp("h") / "a.h5ad")
    assert len(again) == 3


def test_no_text_runs_in_a_spreadsheet():
    table = pd.DataFrame(
        {
            "cell": pd.Categorical(["=1+1", "-3", "cell"]),
            "gene": ["@SUM(A1)", "\tx", None],
            "number": [-1.0, 2.0, 3.0],
        }
    )
    safe = spreadsheet_safe(table)
    assert safe["cell"].astype(str).tolist() == ["'=1+1", "-3", "cell"]
    assert safe["gene"].tolist()[:2] == ["'@SUM(A1)", "'\tx"]
    assert safe["number"].tolist() == table["number"].tolist()
    assert table["gene"].tolist()[0] == "@SUM(A1)"
