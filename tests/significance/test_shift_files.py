import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.errors import InputError, OptionError
from ranklock.significance.text import describe_shifts


def old_results(cells=12, genes=40, seed=0):
    """A table of cell shifts that was made elsewhere; five genes do thrice as much as others."""
    draw = np.random.default_rng(seed)
    rows = []
    for cell in range(cells):
        for rank, gene in enumerate(draw.permutation(genes)):
            size = -4.5 - rank / genes + draw.normal(0, 0.2)
            rows.append((f"cell{cell}", f"gene{gene}", rank, 10**size * (3 if gene < 5 else 1)))
    return pd.DataFrame(rows, columns=["cell", "gene", "gene_rank", "shift"])


@pytest.fixture
def shifts_of(tmp_path):
    """Test a table, by way of its file."""

    def write_and_test(table, suffix="csv", **options):
        path = tmp_path / f"old.{suffix}"
        if suffix == "parquet":
            table.to_parquet(path)
        else:
            table.to_csv(path, index=False, sep="," if suffix == "csv" else "\t")
        return ranklock.shifts(path, **options)

    return write_and_test


def notes(tested):
    return " ".join(text for texts in tested.manifest["statements"].values() for text in texts)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "parquet"])
def test_every_format_gives_the_same(shifts_of, suffix):
    tested = shifts_of(old_results(), suffix)
    assert {"gene0", "gene4"} <= set(tested.findings()["gene"])
    expected = shifts_of(old_results())
    pd.testing.assert_frame_equal(tested.table, expected.table)
    assert set(tested.table["kind"]) == {"knock-out"}
    assert set(tested.table["arm"]) == {"delete"}


def test_distances_that_are_negative_by_rounding_are_zero(shifts_of):
    table = old_results()
    clean = shifts_of(table)
    table.loc[table["shift"].nsmallest(2).index, "shift"] = [-6e-8, -1e-9]
    rounded = shifts_of(table)
    assert set(rounded.table["quantity"]) == {"cell shift"}
    assert set(rounded.findings()["gene"]) == set(clean.findings()["gene"])
    assert "2 of 480 distances are negative by rounding (-6.0e-08 the lowest)" in notes(rounded)
    assert any("negative by rounding" in line for line in describe_shifts(rounded))


def test_distances_with_a_sign_are_asked_about_and_signed_shifts_are_not(shifts_of):
    table = old_results()
    table.loc[3, "shift"] = -0.01
    with pytest.raises(InputError, match="-0.01 is none. Say in a column 'quantity'"):
        shifts_of(table)
    with pytest.raises(InputError, match="has no sign"):
        shifts_of(table.assign(quantity="cell shift"))
    tested = shifts_of(table.assign(quantity="towards goal"))
    assert set(tested.table["quantity"]) == {"towards goal"}


def test_similarities_are_no_distances(shifts_of):
    table = old_results()
    similar = table.assign(shift=1 - table["shift"].astype(np.float32))
    with pytest.raises(InputError, match="look like cosine similarities"):
        shifts_of(similar)
    with pytest.raises(InputError, match="look like cosine similarities"):
        shifts_of(similar.rename(columns={"shift": "cosine_distance"}))
    with pytest.raises(InputError, match="of similarities to a state, write the change"):
        shifts_of(similar.assign(quantity="towards goal"))
    half = pd.concat([table.assign(arm="hold"), similar.assign(arm="delete")])
    with pytest.raises(InputError, match="of knock-out under delete"):
        shifts_of(half)


def test_a_column_of_similarities_is_turned_into_distances(shifts_of):
    table = old_results()
    similar = table.assign(cosine_similarity=1 - table["shift"]).drop(columns="shift")
    tested = shifts_of(similar)
    np.testing.assert_allclose(
        tested.table["specific"], shifts_of(table).table["specific"], atol=1e-6
    )
    assert "1 − cosine_similarity" in notes(tested)
    # Rounded to above one: a distance of zero, and no error.
    similar.loc[0, "cosine_similarity"] = 1.0000001
    assert "negative by rounding" in notes(shifts_of(similar))


def test_rows_without_a_donor_are_no_donor(shifts_of):
    table = old_results(cells=8)
    donors = {
        f"cell{i}": donor for i, donor in enumerate(["1", "1", "2", "2", "3", "", "nan", "3"])
    }
    table["donor"] = table["cell"].map(donors)
    tested = shifts_of(table, donor="donor", min_cells=3)
    assert tested.manifest["replicates"] == 3
    assert set(tested.in_cells["replicate"]) == {"1", "2", "3"}
    assert "2 of 8 cells have no donor and are left out." in notes(tested)
    with pytest.raises(InputError, match="No row of .* has a donor"):
        shifts_of(table.assign(donor=None), "parquet", donor="donor")


def test_gene_ids_are_ensembl_ids_or_missing(shifts_of):
    table = old_results()
    assert shifts_of(table).table["gene_id"].isna().all()
    ids = table["gene"].str.replace("gene", "ENSG000000000")
    for named in (table.assign(gene=ids), table.assign(gene_id=ids)):
        tested = shifts_of(named)
        assert tested.table["gene_id"].str.startswith("ENSG").all()
        assert tested.in_cells["gene_id"].notna().all()
    some = shifts_of(table.assign(gene_id=ids.where(table["gene"] != "gene7")))
    assert some.table.loc[some.table["gene_id"].isna(), "gene"].tolist() == ["gene7"]


def test_whole_numbers_are_named_without_a_point(shifts_of):
    table = old_results()
    table["cell"] = table["cell"].str.removeprefix("cell").astype(int)
    table["gene"] = table["gene"].str.removeprefix("gene").astype(int)
    table["donor"] = table["cell"] % 4
    with pytest.raises(InputError, match=r": 15 stands twice in cell 7 \(knock-out, delete"):
        shifts_of(pd.concat([table, table[(table["gene"] == 15) & (table["cell"] == 7)]]))
    table = table.astype({"gene": float, "donor": float})
    table.loc[table["cell"] == 3, "donor"] = np.nan
    for suffix in ("csv", "parquet"):
        tested = shifts_of(table, suffix, donor="donor")
        assert set(tested.table["gene"]) == {str(gene) for gene in range(40)}
        assert set(tested.in_cells["cell"]) == {str(cell) for cell in range(12)} - {"3"}
        assert set(tested.in_cells["replicate"]) == {"0", "1", "2", "3"}


def test_kinds_of_a_table_are_tested_apart(shifts_of):
    table = old_results()
    more = old_results(seed=1).assign(kind="overexpress")
    tested = shifts_of(pd.concat([table.assign(kind="knock-out"), more]))
    alone = shifts_of(more)
    rows = tested.table[tested.table["kind"] == "overexpress"].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, alone.table)


def test_marks_of_the_noise_floor_are_read_as_what_they_say(shifts_of):
    table = old_results()
    marked = (table["gene"] == "gene0").map({True: "TRUE", False: "no"})
    with pytest.raises(InputError, match="'no' in column 'under_noise_floor'"):
        shifts_of(table.assign(under_noise_floor=marked))
    tested = shifts_of(table.assign(under_noise_floor=marked.replace("no", None)))
    assert np.isnan(tested.table.set_index("gene").loc["gene0", "p"])
    assert tested.table["p"].notna().sum() == 39


def test_what_cannot_be_read_is_refused(shifts_of, tmp_path):
    table = old_results()
    for wrong, says in (
        (pd.concat([table, table[:1]]), "stands twice in cell cell0"),
        (table.assign(gene_rank=-1), "negative ranks"),
        (table.assign(gene_rank=0.5), "whole numbers"),
        (table.assign(shift=np.nan), "holds no shift"),
        (table.assign(shift=np.inf), "'inf' in column 'shift' is no number"),
        (table.assign(gene_rank="x"), "'x' in column 'gene_rank' is no number"),
        (table.drop(columns="gene_rank"), "no column 'gene_rank'"),
        (table.assign(cell=table["cell"].where(table["cell"] != "cell3")), "rows name no cell"),
    ):
        with pytest.raises(InputError, match=says):
            shifts_of(wrong)
    with pytest.raises(InputError, match="no column 'donor'"):
        shifts_of(table, donor="donor")
    with pytest.raises(OptionError, match="no rows of hold"):
        shifts_of(table, arms=["hold"])
    with pytest.raises(InputError, match="cannot be read as a table"):
        ranklock.shifts(tmp_path / "missing.csv")


def test_rows_without_a_number_are_left_out_and_said(shifts_of):
    table = old_results()
    table.loc[[1, 2], "shift"] = np.nan
    table["gene_rank"] = table["gene_rank"].astype("Int64").where(table.index != 5)
    assert "3 of 480 rows have no rank or no shift" in notes(shifts_of(table))
