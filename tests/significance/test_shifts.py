from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.errors import InputError, OptionError, OutputError
from ranklock.run import fields
from ranklock.run.run import Run
from ranklock.significance.text import describe_shifts
from tests import helpers


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return ranklock.load_model(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="module")
def cells():
    cells = helpers.cells_of([45] * 16, helpers.vocabulary(60))
    cells.obs["state"] = ["start"] * 12 + ["end"] * 2 + ["other"] * 2
    cells.obs["donor"] = [f"d{i % 4}" for i in range(16)]
    cells.obs["batch"] = [None if i % 4 == 3 else 1.0 + i % 4 for i in range(16)]
    return cells


@pytest.fixture(scope="module")
def run(cells, model):
    """Twelve cells in one state, perturbed in two ways, towards another, with an alternative."""
    return ranklock.perturb(
        cells, model, do=["knock-out", "overexpress"], arms=["hold", "shift"], read="cell",
        states=ranklock.States("state", "start", "end", ("other",)), progress=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tested(run):
    return ranklock.shifts(run, donor="donor", min_cells=3)


def test_every_quantity_is_tested_and_kept(run, tested, tmp_path):
    assert set(tested.table["quantity"]) == {
        "cell shift", "mean gene shift", "towards goal", "towards other",
        "goal beyond alternatives",
    }  # fmt: skip
    assert tested.manifest["replicates"] == 4
    assert tested.table["n_replicates"].max() == 4
    rows = run.shifts[(run.shifts["arm"] == "hold") & (run.shifts["kind"] == "knock-out")]
    beyond = rows[fields.towards("goal")] - rows[fields.towards("other")]
    table = tested.table.query(
        "arm == 'hold' and kind == 'knock-out' and quantity == 'goal beyond alternatives'"
    ).set_index("gene")
    means = beyond.groupby(rows["gene"].astype(str)).mean()
    np.testing.assert_allclose(table["shift"], means[table.index], rtol=1e-9)
    tested.save(tmp_path / "tested")
    saved = ranklock.read_shifts(tmp_path / "tested")
    pd.testing.assert_frame_equal(saved.table, tested.table)
    assert saved.manifest == tested.manifest
    assert {"shifts.svg", "shifts_towards_goal.png"} <= {
        path.name for path in (tmp_path / "tested").iterdir()
    }
    with pytest.raises(OutputError, match="holds shifts, not responders"):
        ranklock.read_responders(tmp_path / "tested")


def test_kinds_are_tested_apart_and_stand_side_by_side(cells, model, tested):
    alone = ranklock.perturb(
        cells, model, do="overexpress", arms=["hold"], read="cell",
        states=ranklock.States("state", "start", "end", ("other",)), progress=False,
    )  # fmt: skip
    alone = ranklock.shifts(alone, donor="donor", min_cells=3)
    rows = tested.table.query("kind == 'overexpress' and arm == 'hold'")
    pd.testing.assert_frame_equal(rows.reset_index(drop=True), alone.table)
    tests = set(tested.calibration[["kind", "arm"]].itertuples(index=False, name=None))
    assert tests == {(kind, arm) for kind in ("knock-out", "overexpress")
                     for arm in ("hold", "shift")}  # fmt: skip
    axes = tested.figure("towards goal").axes
    titles = [axis.get_title(loc="left").split(":")[0] for axis in axes[:4]]
    assert titles == ["knock-out, hold", "knock-out, shift", "overexpress, hold",
                      "overexpress, shift"]  # fmt: skip


def test_findings_of_distances_are_larger_than_expected_and_of_signed_shifts_either(tested):
    significant = tested.table[tested.table["q"] <= 0.05].assign(
        smaller=lambda table: table["specific"] < 0
    )
    distances = significant["quantity"].isin(["cell shift", "mean gene shift"])
    of_arm = significant["arm"] == "hold"
    # Otherwise this tests nothing.
    assert significant.loc[distances & of_arm, "smaller"].any()
    assert significant.loc[~distances & of_arm, "smaller"].any()
    expected = significant[of_arm & ~(distances & significant["smaller"])]
    assert set(tested.findings("hold").index) == set(expected.index)
    assert tested.calibration["findings"].sum() < tested.calibration["found"].sum()
    lines = "\n".join(describe_shifts(tested, top=100))
    shown = tested.findings("hold", "cell shift", "knock-out")
    assert all(f"{gene} " in lines for gene in shown["gene"])
    assert "×0." not in lines


def test_the_other_kinds_shift_stands_beside_a_finding(tested):
    finding = tested.findings("hold").iloc[0]
    rows = tested.table[(tested.table["gene"] == finding["gene"])
                        & (tested.table["quantity"] == finding["quantity"])
                        & (tested.table["arm"] == "hold")]  # fmt: skip
    beside = rows[rows["kind"] != finding["kind"]].iloc[0]
    (line,) = [
        line
        for line in describe_shifts(tested, top=1)
        if f"{finding['gene']} " in line and f"{finding['shift']:+.2e}" in line
    ]
    assert f"({beside['kind']}: {beside['shift']:+.2e})" in line


def test_cells_without_a_donor_are_no_donor(run):
    by_batch = ranklock.shifts(run, donor="batch", min_cells=3)
    assert by_batch.manifest["replicates"] == 3
    assert set(by_batch.in_cells["replicate"]) == {"1", "2", "3"}
    assert by_batch.manifest["cells"] == 9
    for sentences in by_batch.manifest["statements"].values():
        assert "3 of 12 cells have no batch and are left out." in sentences


def test_gene_ids_are_ensembl_ids_in_every_table_of_a_run(tested):
    for table in (tested.table, tested.in_cells):
        assert table["gene_id"].str.startswith("ENSG").all()
        assert table["gene"].str.startswith("GENE").all()


def test_a_table_of_old_results_is_tested_as_its_run(run, tmp_path):
    rows = run.shifts.query("arm == 'hold' and kind == 'knock-out'")
    rows[["cell", "gene", "gene_rank", "cosine_distance", "arm"]].rename(
        columns={"cosine_distance": "shift"}
    ).to_csv(tmp_path / "old.csv", index=False)
    old = ranklock.shifts(tmp_path / "old.csv").table.sort_values("gene")
    new = ranklock.shifts(run, ["hold"]).table
    new = new.query("quantity == 'cell shift' and kind == 'knock-out'").sort_values("gene")
    np.testing.assert_allclose(old["specific"], new["specific"], atol=1e-9)
    np.testing.assert_allclose(old["q"], new["q"], rtol=1e-6)


def test_the_null_is_named_in_any_way(run):
    null = ["gene3", "ENSG00000000004.1"]
    tested = ranklock.shifts(run, ["hold"], null=null, min_cells=3)
    assert set(tested.table.loc[tested.table["in_null"], "gene"]) == {"GENE3", "GENE4"}


def test_logits_are_tested(cells, model, monkeypatch):
    """A run that read logits alone: no embedding of the cell, and no noise floor of it."""
    run = ranklock.perturb(cells[:6], model, arms=["hold"], read="cell", progress=False)
    after, before = (fields.logit("sick", when) for when in ("after", "before"))
    rows = run.shifts.drop(columns=[*(f.name for f in fields.CELL_SHIFTS), "under_noise_floor"])
    rise = np.random.default_rng(0).normal(size=len(rows))
    rows = rows.assign(**{before: 1.0, after: 1.0 + rise})
    asked = replace(run.manifest.asked, read=("logits",))
    manifest = replace(run.manifest, asked=asked, labels=("sick",))
    monkeypatch.setattr(Run, "shifts", rows)
    tested = ranklock.shifts(Run(run.folder, manifest), min_cells=3)
    assert set(tested.table["quantity"]) == {"logit of sick"}
    means = pd.Series(rise, rows["gene"].astype(str)).groupby(level=0).mean()
    np.testing.assert_allclose(tested.table["shift"], means[tested.table["gene"]])


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")  # of what is left out
def test_inserted_genes_are_left_out_and_said(cells, model):
    genes = [f"GENE{i}" for i in range(20)]
    run = ranklock.perturb(
        cells[:6], model, genes, "overexpress", ["hold"], read="cell", insert=True, progress=False
    )
    ranks = run.shifts["gene_rank"]
    assert ranks.isna().any()
    tested = ranklock.shifts(run, min_cells=3)
    assert len(tested.in_cells) == 2 * ranks.notna().sum()
    assert all("inserted" in texts[0] for texts in tested.manifest["statements"].values())


def test_what_an_estimate_chose_is_refused(run):
    asked = replace(run.manifest.asked, purpose="estimate")
    chosen = Run(run.folder, replace(run.manifest, asked=asked))
    with pytest.raises(InputError, match="holds what an estimate measured"):
        ranklock.shifts(chosen)


def test_what_cannot_be_told_is_said(run, tmp_path):
    table = run.shifts.query("arm == 'hold' and kind == 'knock-out'").rename(
        columns={"cosine_distance": "shift"}
    )
    table = table[["cell", "gene", "gene_rank", "shift"]].astype({"cell": str, "gene": str})
    for rows, says in (
        (table.drop_duplicates("cell"), "One gene was perturbed in each cell"),
        (table[table["cell"] == table["cell"].iloc[0]], "there are 1 replicates"),
        (table.assign(shift=0.0), "under the noise floor"),
    ):
        rows.to_parquet(tmp_path / "rows.parquet")
        tested = ranklock.shifts(tmp_path / "rows.parquet")
        assert tested.table["p"].isna().all()
        sentences = [text for texts in tested.manifest["statements"].values() for text in texts]
        assert says in " ".join(sentences)
        tested.save(tmp_path / "tested", overwrite=True)


def test_wrong_input_is_refused(run, cells, model, tmp_path):
    with pytest.raises(OptionError, match="no arm 'mask'"):
        ranklock.shifts(run, ["mask"])
    for name in ("arms", "null"):
        with pytest.raises(OptionError, match=f"{name} is a list"):
            ranklock.shifts(run, **{name: "hold"})
    with pytest.raises(InputError, match="no column 'plate'"):
        ranklock.shifts(run, donor="plate")
    with pytest.raises(InputError, match="None of the 1 genes of the null"):
        ranklock.shifts(run, null=["NOSUCH"])
    with pytest.raises(OptionError, match="not DataFrame"):
        ranklock.shifts(run.shifts)
    with pytest.raises(OutputError, match="holds no run"):
        ranklock.shifts(tmp_path)
    of_genes = ranklock.perturb(
        cells[:2], model, ["GENE1"], read="genes", arms=["hold"], progress=False
    )
    with pytest.raises(InputError, match="--read cell"):
        ranklock.shifts(of_genes)
