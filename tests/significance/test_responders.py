import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranklock
from ranklock.errors import InputError, OptionError, OutputError
from ranklock.significance.text import describe_responders
from tests import helpers


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return ranklock.load_model(str(tiny_checkpoint), device="cpu")


@pytest.fixture(scope="module")
def cells():
    cells = helpers.cells_of([40, 45, 50, 40, 45, 50], helpers.vocabulary(55))
    cells.obs["donor"] = ["a", "a", "b", "b", "c", "c"]
    return cells


@pytest.fixture(scope="module")
def sweep(cells, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("claims") / "sweep"
    return ranklock.sweep(cells, model, folder, arms=["hold", "shift"], progress=False)


@pytest.fixture(scope="module")
def found(sweep):
    return ranklock.responders(sweep, min_cells=3, progress=False)


def test_effects_are_the_geometric_means_of_the_sweeps(found, sweep):
    rows = found.table[found.table["arm"] == "hold"].sample(20, random_state=0)
    for row in rows.itertuples(index=False):
        values = []
        for index in sweep.store.cells():
            one = sweep.cell(index)
            where = np.flatnonzero(one.obs["gene"] == row.gene)
            if len(where) and row.responder_id in one.var_names and row.gene != row.responder:
                values.append(one[where].to_df("hold")[row.responder_id].iloc[0])
        assert row.n_cells == len(values)
        assert row.effect == pytest.approx(stats.gmean(values), rel=1e-5)


def test_the_table_is_sorted_and_complete(found):
    for arm in ("hold", "shift"):
        part = found.table[found.table["arm"] == arm]
        assert part["p"].dropna().is_monotonic_increasing
        assert (part["n_cells"] >= 3).all()
    assert not found.table.duplicated(["arm", "gene_id", "responder_id"]).any()
    assert not (found.table["gene_id"].astype(str) == found.table["responder_id"].astype(str)).any()


def test_donors_are_the_replicates_where_they_are_named(sweep, found):
    by_donor = ranklock.responders(sweep, ["hold"], donor="donor", min_cells=3, progress=False)
    assert by_donor.manifest["replicates"] == 3
    assert by_donor.table["n_replicates"].max() == 3
    assert found.manifest["replicates"] == 6
    with pytest.raises(InputError, match="no column 'batch'"):
        ranklock.responders(sweep, donor="batch", progress=False)


def test_what_was_asked_wrongly_is_said(sweep):
    with pytest.raises(OptionError, match="no arm 'delete'"):
        ranklock.responders(sweep, ["delete"], progress=False)
    with pytest.raises(InputError, match="no gene TP53"):
        ranklock.responders(sweep, genes=["TP53"], progress=False)
    with pytest.raises(OptionError, match="genes is a list"):
        ranklock.responders(sweep, genes="GENE1", progress=False)


def test_some_genes_have_the_same_numbers_as_among_all(sweep, found):
    some = ranklock.responders(sweep, genes=["GENE3"], min_cells=3, progress=False)
    key = ["arm", "gene_id", "responder_id"]
    both = some.table.merge(found.table, on=key)
    assert len(both) == len(some.table) > 0
    # Running means are rounded to float32.
    np.testing.assert_allclose(both["specific_x"], both["specific_y"], rtol=1e-6)


def test_too_few_cells_give_a_statement_and_no_p(sweep):
    none = ranklock.responders(sweep, min_cells=99, progress=False)
    assert none.table["p"].notna().sum() == 0
    assert "No pair of genes is in 99 cells" in none.statements["hold"][-1]
    assert any("99 cells" in line for line in describe_responders(none))


def test_anndata_opens_in_scanpy_and_has_the_tables_numbers(found, tmp_path):
    import scanpy as sc

    path = tmp_path / "claims.h5ad"
    found.anndata().write_h5ad(path)
    adata = sc.read_h5ad(path)
    assert np.isfinite(adata.X).all()
    row = found.table[found.table["arm"] == "hold"].iloc[0]
    value = sc.get.obs_df(adata, [str(row.responder_id)], layer="hold_specific").loc[row.gene_id]
    assert value.iloc[0] == pytest.approx(row.specific, rel=1e-5)
    assert json.loads(adata.uns["manifest"])["asked"]["command"] == "responders"


def test_two_runs_write_the_same_files_and_they_read_back(sweep, found, tmp_path):
    again = ranklock.responders(sweep, min_cells=3, progress=False)
    one, other = found.save(tmp_path / "one"), again.save(tmp_path / "other")
    for path in sorted(one.iterdir()):
        if path.suffix in (".parquet", ".png", ".svg", ".json"):
            assert path.read_bytes() == (other / path.name).read_bytes(), path.name
    back = ranklock.read_responders(one)
    pd.testing.assert_frame_equal(back.table, found.table)
    assert back.statements == found.statements
    with pytest.raises(OutputError, match="exists already"):
        found.save(one)
    (one / "sweep").mkdir()
    (one / "sweep" / "mine").write_text("kept")
    found.save(one, overwrite=True)
    assert (one / "sweep" / "mine").read_text() == "kept"
    (one / "genes.parquet").write_bytes(b"")
    with pytest.raises(OutputError, match="not what the run wrote"):
        ranklock.read_responders(one)


def test_a_sweep_of_few_genes_takes_its_controls_from_nearby_ranks(cells, model, tmp_path):
    gene = helpers.gene_of_all(cells)
    run = ranklock.sweep(
        cells, model, tmp_path / "few", [gene], ["hold"], controls=10, progress=False
    )
    table = run.knockouts()
    for _, rows in table.groupby("cell", observed=True):
        own = rows.loc[rows["gene"] == gene, "gene_rank"].item()
        assert len(rows) == 11
        assert (rows["gene_rank"] - own).abs().max() <= 10
    claims = ranklock.responders(run, min_cells=3, progress=False)
    assert set(claims.table["gene"]) == {gene}
    with pytest.raises(OptionError, match="named"):
        ranklock.sweep(cells, model, tmp_path / "all", controls=10, progress=False)


def test_p_values_are_uniform_on_real_cells_under_both_nulls(tmp_path):
    """The demo's monocytes: knock-outs swapped for rank-matched ones, and the shift placebo."""
    monocytes = ranklock.demo.cells_file()
    cells = ranklock.read_cells(monocytes, ranklock.demo.vocabulary_file())
    mine = np.flatnonzero(cells.obs["cell_type"] == "CD14+ Monocyte")[:10]
    model = ranklock.load_model(ranklock.demo.model_folder())
    run = ranklock.sweep(
        cells[mine], model, tmp_path / "sweep", arms=["hold", "shift"], read="genes", progress=False
    )
    claims = ranklock.responders(run, min_cells=4, progress=False)
    found = claims.calibration.set_index("arm")
    assert found.loc["hold", "found"] > 0
    assert found.loc["hold", "swapped_found"] == 0
    # Of some 30,000 pairs that share cells, and so are no independent draws: a distance of 0.08 is
    # what 400 independent ones would show in one of a hundred cases.
    assert (found["swapped_distance_from_uniform"] < 0.08).all()
    assert (found["swapped_p_below_5_percent"] < 0.06).all()
    assert found.loc["shift", "found"] <= 2
    assert found.loc["shift", "p_below_5_percent"] < 0.07
    placebo = claims.table.loc[claims.table["arm"] == "shift", "p"].dropna()
    drawn = placebo.sample(400, random_state=0)
    # The test at 0.001, whose power tests/claims/test_pairs.py shows.
    assert stats.kstest(drawn, "uniform").pvalue > 0.001
