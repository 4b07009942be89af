from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.errors import InputError
from ranklock.run.run import open_run
from tests.helpers import counted_cells, vocabulary


@pytest.fixture(scope="module")
def cells():
    cells = counted_cells([30, 12, 25, 20], vocabulary(40))
    return replace(cells, obs=cells.obs.assign(state=["a", "a", "b", "a"]))


@pytest.fixture(scope="module")
def run(model, cells):
    return ranklock.perturb(
        cells, model, do=["knock-out", "overexpress"], arms=("hold", "delete", "move"),
        states=ranklock.States("state", "a", "b"), count_noise=True, progress=False,
    )  # fmt: skip


def test_names_are_those_of_the_run(run, cells):
    table = run.count_noise
    genes = table[table["token"].notna()]
    assert [run.genes.loc[token, "symbol"] for token in genes["token"]] == [*genes["responder"]]
    assert [run.genes.loc[token, "gene_id"] for token in genes["token"]] == [*genes["responder_id"]]
    of_cells = table[table["token"].isna()]
    assert of_cells["responder"].isna().all()
    assert of_cells["cell"].tolist() == ["cell0", "cell1", "cell3"]


def test_beside_every_effect_stands_the_noise_of_its_responder_in_its_cell(run):
    table = run.count_noise
    noise = {
        (cell, gene): distance
        for cell, gene, distance in table[table["token"].notna()][
            ["cell", "responder", "cosine_distance"]
        ].itertuples(index=False)
    }
    effects = run.table
    assert len(effects) > 2000
    keys = zip(effects["cell"], effects["responder"], strict=True)
    np.testing.assert_array_equal(effects["count_noise"], [noise[key] for key in keys])
    assert effects.columns.get_loc("count_noise") == effects.columns.get_loc("cosine_distance") + 1
    gene = str(effects["gene"].iloc[0])
    part = run.effects_table(gene, "cell3")
    keys = zip(part["cell"], part["responder"], strict=True)
    np.testing.assert_array_equal(part["count_noise"], [noise[key] for key in keys])


def test_beside_every_shift_stands_the_noise_of_its_cell(run):
    table = run.count_noise
    of_cells = table[table["token"].isna()].set_index("cell")
    shifts = run.shifts
    cells = shifts["cell"].astype(str)
    for column, noise in (
        ("count_noise", "cosine_distance"), ("count_noise_towards_goal", "towards_goal")
    ):  # fmt: skip
        np.testing.assert_array_equal(shifts[column], of_cells[noise].loc[cells])
        assert (shifts[column] > 0).all()
    columns = [*shifts]
    assert columns[columns.index("cosine_distance") + 1] == "count_noise"
    assert columns[columns.index("towards_goal") + 1] == "count_noise_towards_goal"


def test_effects_are_what_they_are_without_it(run, model, cells):
    plain = ranklock.perturb(
        cells, model, do=["knock-out", "overexpress"], arms=("hold", "delete", "move"),
        states=ranklock.States("state", "a", "b"), progress=False,
    )  # fmt: skip
    pd.testing.assert_frame_equal(run.table.drop(columns="count_noise"), plain.table)
    shifts = run.shifts.drop(columns=["count_noise", "count_noise_towards_goal"])
    pd.testing.assert_frame_equal(shifts, plain.shifts)
    with pytest.raises(InputError, match="run without count noise; .* --count-noise"):
        _ = plain.count_noise


def test_what_is_not_read_has_no_noise_beside_it(model, cells):
    genes = ranklock.perturb(
        cells, model, arms=["hold"], read="genes", count_noise=True, progress=False
    )
    assert "count_noise" in genes.table
    assert "count_noise" not in genes.shifts
    cell = ranklock.perturb(
        cells, model, arms=["hold"], read="cell", count_noise=True, progress=False
    )
    assert cell.shifts["count_noise"].notna().all()


def test_a_copy_has_it(run, tmp_path):
    copy = open_run(run.save(tmp_path / "copy"))
    pd.testing.assert_frame_equal(copy.count_noise, run.count_noise)


def test_other_programs_read_the_file(run):
    duckdb = pytest.importorskip("duckdb")
    path = run.folder / "count_noise.parquet"
    rows = duckdb.sql(
        f"SELECT cell, cosine_distance FROM '{path}' WHERE token IS NULL ORDER BY cell"
    ).fetchall()
    table = run.count_noise
    of_cells = table[table["token"].isna()].sort_values("cell")
    assert [distance for _, distance in rows] == of_cells["cosine_distance"].tolist()
