import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.errors import InputError, OptionError, OutputError
from tests import helpers


@pytest.fixture(scope="module")
def swept(tmp_path_factory, tiny_checkpoint):
    """A sweep of twelve cells in one state towards another, with an alternative."""
    vocabulary = helpers.vocabulary(60)
    cells = helpers.cells_of([45] * 16, vocabulary)
    cells.obs["state"] = ["start"] * 12 + ["end"] * 2 + ["other"] * 2
    cells.obs["donor"] = [f"d{i % 4}" for i in range(16)]
    model = ranklock.load_model(tiny_checkpoint, device="cpu")
    question = ranklock.StateQuestion("state", "start", "end", ("other",))
    out = tmp_path_factory.mktemp("knockouts") / "sweep"
    return ranklock.sweep(
        cells, model, out, arms=["hold", "shift"], states=question, progress=False
    ), cells, model  # fmt: skip


def test_shifts_towards_states_are_those_of_plain_forwards(swept):
    sweep, cells, model = swept
    wide = sweep.knockouts()
    assert wide["cell"].nunique() == 12
    row = wide[(wide["cell"] == "cell3") & (wide["gene_rank"] == 7)].iloc[0]
    with np.errstate(all="ignore"):

        def embedding(tokens, positions):
            import torch

            ids = torch.tensor([tokens.tolist()])
            place = torch.tensor([positions])
            out = model.encoder(ids, position_ids=place, output_hidden_states=True)
            return out.hidden_states[-2][0].numpy().astype(float)

        def towards(state):
            members = np.flatnonzero(cells.obs["state"] == state)
            each = [embedding(cells.ranked[i], range(45)).mean(0) for i in members]
            goal = np.mean(each, axis=0)
            kept = [p for p in range(45) if p != 7]
            after = embedding(cells.ranked[3][kept], kept).mean(0)
            before = np.delete(embedding(cells.ranked[3], range(45)), 7, 0).mean(0)

            def cosine(x):
                return x @ goal / np.linalg.norm(x) / np.linalg.norm(goal)

            return cosine(after) - cosine(before)

        # Differences of cosines of float32 states: their rounding is some 1e-7.
        assert row["hold_towards_goal"] == pytest.approx(towards("end"), abs=1e-6)
        assert row["hold_towards_other"] == pytest.approx(towards("other"), abs=1e-6)


def test_every_quantity_is_tested_and_kept(swept, tmp_path):
    found = ranklock.knockouts(swept[0], donor="donor", min_cells=3)
    assert set(found.table["quantity"]) == {
        "cell shift", "towards goal", "towards other", "goal beyond alternatives"
    }  # fmt: skip
    assert found.manifest["replicates"] == 4
    assert found.table["n_replicates"].max() == 4
    wide = swept[0].knockouts()
    per_gene = (wide["hold_towards_goal"] - wide["hold_towards_other"]).groupby(
        wide["gene"], observed=True
    ).mean()  # fmt: skip
    rows = found.table.query("arm == 'hold' and quantity == 'goal beyond alternatives'")
    shifts = rows.set_index("gene")["shift"]
    np.testing.assert_allclose(shifts, per_gene[shifts.index], rtol=1e-9)
    found.save(tmp_path / "out")
    again = ranklock.read_knockouts(tmp_path / "out")
    pd.testing.assert_frame_equal(again.table, found.table)
    assert again.manifest == found.manifest
    assert (tmp_path / "out" / "shifts.svg").is_file()
    with pytest.raises(OutputError, match="not responders"):
        ranklock.read_responders(tmp_path / "out")


def test_a_table_of_old_results_is_the_same_as_its_sweep(swept, tmp_path):
    sweep = swept[0]
    shifts = sweep.cell_shifts().query("arm == 'hold'")
    shifts[["cell", "gene", "gene_rank", "cosine_distance", "arm"]].rename(
        columns={"cosine_distance": "shift"}
    ).to_csv(tmp_path / "old.csv", index=False)
    old = ranklock.knockouts(tmp_path / "old.csv").table.sort_values("gene")
    new = ranklock.knockouts(sweep, ["hold"]).table.query("quantity == 'cell shift'")
    new = new.sort_values("gene")
    np.testing.assert_allclose(old["specific"], new["specific"], atol=1e-9)
    np.testing.assert_allclose(old["q"], new["q"], rtol=1e-6)


def test_what_cannot_be_told_is_said(swept, tmp_path):
    table = swept[0].cell_shifts().rename(columns={"cosine_distance": "shift"})
    table = table[table["arm"] == "hold"][["cell", "gene", "gene_rank", "shift"]].astype(
        {"cell": str, "gene": str}
    )
    one_gene = table.drop_duplicates("cell")
    one_cell = table[table["cell"] == table["cell"].iloc[0]]
    nothing = table.assign(shift=0.0)
    for rows, says in ((one_gene, "One gene was knocked out of each cell"),
                       (one_cell, "there are 1 replicates"),
                       (nothing, "under the noise floor")):  # fmt: skip
        rows.to_parquet(tmp_path / "rows.parquet")
        found = ranklock.knockouts(tmp_path / "rows.parquet")
        assert found.table["p"].isna().all()
        said = [text for texts in found.manifest["statements"].values() for text in texts]
        assert says in " ".join(said)


def test_wrong_input_is_refused(swept, tmp_path):
    with pytest.raises(OptionError, match="no arm 'mask'"):
        ranklock.knockouts(swept[0], ["mask"])
    with pytest.raises(InputError, match="no column 'batch'"):
        ranklock.knockouts(swept[0], donor="batch")
    with pytest.raises(InputError, match="None of the 1 genes of the null"):
        ranklock.knockouts(swept[0], null=["NOSUCH"])
    pd.DataFrame({"cell": ["a"], "gene": ["b"]}).to_csv(tmp_path / "bad.csv")
    with pytest.raises(InputError, match="no column 'gene_rank'"):
        ranklock.knockouts(tmp_path / "bad.csv")
    pd.DataFrame({"cell": ["a"], "gene": ["b"], "gene_rank": ["x"], "shift": [1.0]}).to_csv(
        tmp_path / "bad.csv"
    )
    with pytest.raises(InputError, match="'x' in column 'gene_rank' is no number"):
        ranklock.knockouts(tmp_path / "bad.csv")


def test_rows_that_stand_twice_or_have_no_rank_are_refused(tmp_path):
    rows = pd.DataFrame({"cell": ["a", "a"], "gene": ["b", "c"], "gene_rank": [0, 1], "shift": 1.0})
    for wrong, says in (
        (pd.concat([rows, rows]), "b stands twice in cell a"),
        (rows.assign(gene_rank=-1), "negative ranks"),
        (rows.assign(shift=np.nan), "holds no shift"),
    ):
        wrong.to_csv(tmp_path / "wrong.csv", index=False)
        with pytest.raises(InputError, match=says):
            ranklock.knockouts(tmp_path / "wrong.csv")


def test_wrong_states_are_refused_before_a_forward(swept, tmp_path):
    _, cells, model = swept
    for question, says in (
        (ranklock.StateQuestion("state", "start", "start"), "are the same"),
        (ranklock.StateQuestion("state", "start", "end", ("end",)), "are the same"),
        (ranklock.StateQuestion("state", "start", "nowhere"), "No cell has state=nowhere"),
        (ranklock.StateQuestion("batch", "start", "end"), "no column 'batch'"),
    ):
        with pytest.raises((InputError, OptionError), match=says):
            ranklock.sweep(cells, model, tmp_path / "x", states=question, progress=False)
    assert not (tmp_path / "x").exists()
