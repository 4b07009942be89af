import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import ranklock
from ranklock.errors import InputError, OptionError, OutputError
from ranklock.run.run import Run
from ranklock.significance.text import describe_responders
from tests import helpers


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return ranklock.load_model(str(tiny_checkpoint), device="cpu")


@pytest.fixture(scope="module")
def cells():
    cells = helpers.cells_of([40, 45, 50, 40, 45, 50], helpers.vocabulary(55))
    cells.obs["donor"] = ["a", "a", "b", "b", "c", "c"]
    cells.obs["batch"] = ["a", None, "b", "nan", "c", "c"]
    return cells


@pytest.fixture(scope="module")
def run(cells, model):
    return ranklock.perturb(cells, model, arms=["hold", "shift"], progress=False)


@pytest.fixture(scope="module")
def tested(run):
    return ranklock.responders(run, min_cells=3, progress=False)


def test_effects_are_the_geometric_means_of_the_runs(tested, run):
    rows = tested.table[tested.table["arm"] == "hold"].sample(20, random_state=0)
    effects = run.table[run.table["arm"] == "hold"]
    for row in rows.itertuples(index=False):
        pair = (effects["gene"] == row.gene) & (effects["responder_id"] == row.responder_id)
        distances = effects.loc[pair, "cosine_distance"]
        assert row.n_cells == len(distances)
        assert row.effect == pytest.approx(stats.gmean(distances), rel=1e-5)


def test_the_table_is_sorted_and_complete(tested):
    for arm in ("hold", "shift"):
        rows = tested.table[tested.table["arm"] == arm]
        assert rows["p"].dropna().is_monotonic_increasing
        assert (rows["n_cells"] >= 3).all()
    assert not tested.table.duplicated(["kind", "arm", "gene_id", "responder_id"]).any()
    ids = tested.table[["gene_id", "responder_id"]].astype(str)
    assert (ids["gene_id"] != ids["responder_id"]).all()


def test_findings_are_significant_and_larger_than_expected(tested):
    table = tested.table[tested.table["arm"] == "hold"]
    significant = table[table["q"] <= 0.05]
    findings = tested.findings()
    assert 0 < len(findings) < len(significant)  # some are smaller, and no findings
    assert (findings["specific"] > 0).all()
    assert set(findings.index) == set(significant[significant["specific"] > 0].index)
    counts = tested.calibration.set_index("arm").loc["hold"]
    assert (counts["found"], counts["larger"]) == (len(significant), len(findings))


def test_donors_are_the_replicates_where_they_are_named(run, tested):
    by_donor = ranklock.responders(run, ["hold"], donor="donor", min_cells=3, progress=False)
    assert by_donor.manifest["replicates"] == 3
    assert by_donor.table["n_replicates"].max() == 3
    assert tested.manifest["replicates"] == 6
    with pytest.raises(InputError, match="no column 'plate'"):
        ranklock.responders(run, donor="plate", progress=False)


def test_cells_without_a_donor_are_no_donor(run):
    by_batch = ranklock.responders(run, ["hold"], donor="batch", min_cells=2, progress=False)
    assert by_batch.manifest["replicates"] == 3
    assert by_batch.manifest["cells"] == 4
    assert by_batch.table["n_cells"].max() == 4
    assert by_batch.statements["hold"][0] == "2 of 6 cells have no batch and are left out."


def test_of_an_unfinished_run_it_is_said(run):
    unfinished = Run(run.folder, replace(run.manifest, complete=False))
    tested = ranklock.responders(unfinished, ["hold"], min_cells=3, progress=False)
    (done, tasks) = run.progress()
    sentence = f"The run is unfinished: {done} of {tasks} perturbations are there."
    assert tested.statements["hold"][0] == sentence
    statements = ranklock.shifts(unfinished, ["hold"], min_cells=3).manifest["statements"]
    assert all(sentences[0] == sentence for sentences in statements.values())


def test_the_runs_donor_is_the_default(cells, model, tested):
    run = ranklock.perturb(cells, model, arms=["hold"], donor="donor", read="genes", progress=False)
    by_donor = ranklock.responders(run, min_cells=3, progress=False)
    assert by_donor.manifest["asked"]["donor"] == "donor"
    assert by_donor.manifest["replicates"] == 3


def test_what_was_asked_wrongly_is_said(run, tmp_path):
    with pytest.raises(OptionError, match="no arm 'delete'"):
        ranklock.responders(run, ["delete"], progress=False)
    with pytest.raises(InputError, match="no perturbation of TP53"):
        ranklock.responders(run, genes=["GENE3", "TP53"], progress=False)
    for name in ("genes", "arms"):
        with pytest.raises(OptionError, match=f"{name} is a list"):
            ranklock.responders(run, **{name: "GENE1"}, progress=False)
    with pytest.raises(OptionError, match="not DataFrame"):
        ranklock.responders(run.shifts, progress=False)
    with pytest.raises(OutputError, match="holds no run"):
        ranklock.responders(tmp_path, progress=False)


def test_some_genes_have_the_same_numbers_as_among_all(run, tested):
    some = ranklock.responders(
        run.folder, genes=["gene3", "ENSG00000000005.2"], min_cells=3, progress=False
    )
    assert set(some.table["gene"]) == {"GENE3", "GENE5"}
    joined = some.table.merge(tested.table, on=["arm", "gene_id", "responder_id"])
    assert len(joined) == len(some.table) > 0
    # Running means are rounded to float32.
    np.testing.assert_allclose(joined["specific_x"], joined["specific_y"], rtol=1e-6)


@pytest.mark.parametrize("options", [{"min_cells": 99}, {"min_cells": 1, "cells": 1}])
def test_where_nothing_can_be_tested_it_is_said_and_kept(cells, model, tmp_path, options):
    few = cells[: options.pop("cells", 6)]
    run = ranklock.perturb(few, model, arms=["hold", "shift"], read="genes", progress=False)
    tested = ranklock.responders(run, progress=False, **options)
    assert tested.table["p"].notna().sum() == 0
    assert "othing is tested" in " ".join(tested.statements["hold"])
    assert any("othing is tested" in line for line in describe_responders(tested))
    adata = tested.anndata()
    assert {"hold_t", "shift_t"} <= set(adata.layers)
    tested.save(tmp_path / "tested")
    saved = ranklock.read_responders(tmp_path / "tested")
    pd.testing.assert_frame_equal(saved.calibration, tested.calibration)


def test_of_one_gene_alone_nothing_is_told(cells, model, tmp_path):
    run = ranklock.perturb(
        cells, model, [helpers.gene_of_all(cells)], arms=["hold"], progress=False
    )
    tested = ranklock.responders(run, progress=False)
    assert tested.table.empty
    assert "--controls" in " ".join(tested.statements["hold"])
    tested.save(tmp_path / "tested")
    assert ranklock.read_responders(tmp_path / "tested").anndata().shape == (0, 0)


def test_anndata_opens_in_scanpy_and_has_the_tables_numbers(tested, tmp_path):
    import scanpy as sc

    path = tmp_path / "tested.h5ad"
    tested.anndata().write_h5ad(path)
    adata = sc.read_h5ad(path)
    assert np.isfinite(adata.X).all()
    row = tested.table[tested.table["arm"] == "hold"].iloc[0]
    specific = sc.get.obs_df(adata, [str(row.responder_id)], layer="hold_specific")
    assert specific.loc[row.gene_id].iloc[0] == pytest.approx(row.specific, rel=1e-5)
    assert json.loads(adata.uns["manifest"])["asked"]["arms"] == ["hold", "shift"]
    genes = tested.genes.query("arm == 'hold' and gene == 'GENE3'").iloc[0]
    assert adata.obs.loc[genes.gene_id, "potency_hold"] == pytest.approx(genes.potency)
    assert adata.var.loc[genes.gene_id, "responsiveness_hold"] == pytest.approx(
        genes.responsiveness
    )


def test_two_tests_write_the_same_files_and_they_read_back(run, tested, tmp_path):
    again = ranklock.responders(run, min_cells=3, progress=False)
    folder, second = tested.save(tmp_path / "first"), again.save(tmp_path / "second")
    for path in sorted(folder.iterdir()):
        if path.suffix in (".parquet", ".png", ".svg", ".json"):
            same = path.read_bytes() == (second / path.name).read_bytes()
            assert same or path.name == "manifest.json", path.name  # has the h5ad's digest
    saved = ranklock.read_responders(folder)
    pd.testing.assert_frame_equal(saved.table, tested.table)
    assert saved.manifest == tested.manifest
    with pytest.raises(OutputError, match="exists already"):
        tested.save(folder)
    tested.save(folder, overwrite=True)
    (folder / "responders_genes.parquet").write_bytes(b"")
    with pytest.raises(OutputError, match="not what the run wrote"):
        ranklock.read_responders(folder)


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")  # of what is left out
def test_a_run_of_few_genes_takes_its_controls_from_nearby_ranks(cells, model):
    gene = helpers.gene_of_all(cells)
    run = ranklock.perturb(
        cells, model, [gene.lower(), "GENE999"], arms=["hold"], controls=10, progress=False
    )
    for _, rows in run.shifts.groupby("cell", observed=True):
        rank = rows.loc[rows["gene"] == gene, "gene_rank"].item()
        assert len(rows) == 11
        assert (rows["gene_rank"] - rank).abs().max() <= 10
    tested = ranklock.responders(run, min_cells=3, progress=False)
    assert set(tested.table["gene"]) == {gene}


def test_kinds_are_tested_apart(cells, model, tmp_path):
    options = {"arms": ["hold", "delete", "move"], "read": "genes", "progress": False}
    run = ranklock.perturb(cells, model, do=["knock-out", "overexpress"], **options)
    tested = ranklock.responders(run, min_cells=3, progress=False)
    tests = tested.calibration[["kind", "arm"]].itertuples(index=False, name=None)
    assert set(tests) == {
        ("knock-out", "hold"), ("knock-out", "delete"), ("overexpress", "hold"),
        ("overexpress", "move"),
    }  # fmt: skip
    options["arms"] = ["hold", "move"]
    alone = ranklock.perturb(cells, model, do="overexpress", **options)
    alone = ranklock.responders(alone, ["move"], min_cells=3, progress=False)
    rows = tested.table[(tested.table["kind"] == "overexpress") & (tested.table["arm"] == "move")]
    pd.testing.assert_frame_equal(
        rows.reset_index(drop=True).astype({"kind": str, "arm": str}),
        alone.table.astype({"kind": str, "arm": str}),
        check_categorical=False,
    )
    adata = tested.anndata()
    assert set(adata.obs["kind"]) == {"knock-out", "overexpress"}
    assert adata.obs_names.is_unique
    assert np.isnan(adata[adata.obs["kind"] == "overexpress"].layers["delete_t"]).all()
    assert any("overexpress, hold" in line for line in describe_responders(tested))
    tested.save(tmp_path / "tested")


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")  # of what is left out
def test_inserted_genes_have_no_rank_to_be_compared_at(cells, model):
    run = ranklock.perturb(
        cells, model, [f"GENE{i}" for i in range(30)], "overexpress", ["hold"], insert=True,
        progress=False,
    )  # fmt: skip
    tested = ranklock.responders(run, min_cells=2, progress=False)
    ranked = run.shifts.dropna(subset="gene_rank").groupby("gene", observed=True).size()
    most = tested.table.groupby("gene", observed=True)["n_cells"].max()
    assert (most <= ranked[most.index]).all()
    assert (tested.table["gene_rank"] >= 0).all()


@pytest.mark.slow  # tests/significance/test_pairs.py states it of simulated cells
def test_p_values_are_uniform_on_real_cells_under_both_nulls():
    """The demo's monocytes: knock-outs swapped for rank-matched ones, and the shift placebo."""
    cells = ranklock.read_cells(ranklock.demo.cells_file(), ranklock.demo.vocabulary_file())
    monocytes = np.flatnonzero(cells.obs["cell_type"] == "CD14+ Monocyte")[:10]
    model = ranklock.load_model(ranklock.demo.model_folder())
    run = ranklock.perturb(
        cells[monocytes], model, arms=["hold", "shift"], read="genes", progress=False
    )
    tested = ranklock.responders(run, min_cells=4, progress=False)
    counts = tested.calibration.set_index("arm")
    assert counts.loc["hold", "found"] > 0
    assert counts.loc["hold", "swapped_found"] == 0
    # Of some 30,000 pairs that share cells, and so are no independent draws: a distance of 0.08 is
    # what 400 independent ones would show in one of a hundred cases.
    assert (counts["swapped_distance_from_uniform"] < 0.08).all()
    assert (counts["swapped_p_below_5_percent"] < 0.06).all()
    assert counts.loc["shift", "found"] <= 2
    assert counts.loc["shift", "p_below_5_percent"] < 0.07
    placebo = tested.table.loc[tested.table["arm"] == "shift", "p"].dropna()
    drawn = placebo.sample(400, random_state=0)
    # The test at 0.001, whose power tests/significance/test_pairs.py shows.
    assert stats.kstest(drawn, "uniform").pvalue > 0.001
