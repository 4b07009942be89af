import json

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from matplotlib.figure import Figure

import ranklock
from ranklock.errors import InputError, OutputError
from ranklock.models import load_model
from tests.helpers import cells_of, vocabulary


@pytest.fixture(scope="module")
def run(tiny_checkpoint):
    cells = cells_of([40, 50], vocabulary(60))
    cells.obs["cell_type"] = ["NK", "B"]
    both = sorted(set(cells.ranked[0].tolist()) & set(cells.ranked[1].tolist()))
    model = load_model(tiny_checkpoint, device="cpu")
    return ranklock.knockout(cells, model, both[:2], progress=False)


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    return run.save(tmp_path_factory.mktemp("runs") / "run")


def test_the_folder_holds_what_is_promised(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "manifest.json", "effects.h5ad", "effects.parquet", "cell_shifts.parquet",
        "rank_shift.png", "rank_shift.svg",
    }  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text())
    for key in ("asked", "summary", "skipped", "noise_floor", "cells", "vocabulary", "model",
                "machine", "versions", "files"):  # fmt: skip
        assert key in manifest
    for part in ("cells", "vocabulary", "model"):
        assert len(manifest[part]["sha256"]) == 64


def test_scanpy_opens_the_effects(folder):
    effects = sc.read_h5ad(folder / "effects.h5ad")
    assert effects.shape == (4, 60)
    assert {"delete", "hold", "mask", "shift", "artefact_share"} <= set(effects.layers)
    assert effects.obs["cell_type"].tolist() == ["NK", "NK", "B", "B"]
    assert effects.var["symbol"].iloc[0].startswith("GENE")
    assert json.loads(effects.uns["manifest"])["asked"]["layer"] == -1
    frame = sc.get.obs_df(effects, keys=[effects.var_names[5]], layer="hold")
    assert len(frame) == 4


def test_the_table_holds_the_same_numbers(folder):
    effects = sc.read_h5ad(folder / "effects.h5ad")
    table = pd.read_parquet(folder / "effects.parquet")
    assert list(table.columns[:9]) == [
        "cell", "gene", "gene_rank", "responder", "responder_rank", "arm", "cosine_distance",
        "displacement", "artefact_share",
    ]  # fmt: skip
    place = {name: i for i, name in enumerate(effects.obs_names)}
    rows = [place[f"{g} @ {c}"] for g, c in zip(table["gene"], table["cell"], strict=True)]
    columns = effects.var_names.get_indexer(table["responder_id"])
    for arm in ("delete", "hold", "mask", "shift"):
        mine = (table["arm"] == arm).to_numpy()
        r, c = np.array(rows)[mine], columns[mine]
        part = table[mine]
        np.testing.assert_array_equal(effects.layers[arm][r, c], part["cosine_distance"])
        np.testing.assert_array_equal(
            effects.layers[f"{arm}_displacement"][r, c], part["displacement"]
        )
        np.testing.assert_array_equal(
            effects.layers["responder_rank"][r, c], part["responder_rank"]
        )
    deleted = table["arm"] == "delete"
    assert table.loc[deleted, "artefact_share"].notna().all()
    assert table.loc[~deleted, "artefact_share"].isna().all()
    assert len(table) == np.isfinite(effects.layers["hold"]).sum() * 4


def test_a_gene_that_is_not_in_a_cell_and_the_gene_itself_are_missing(run):
    effects = run.effects
    for row in range(effects.n_obs):
        gene = effects.obs["gene_id"].iloc[row]
        missing = np.isnan(effects.layers["hold"][row])
        assert missing[effects.var_names.get_loc(gene)]
        assert missing.sum() == 60 - effects.obs["genes_in_cell"].iloc[row] + 1


def test_cell_shifts(folder):
    shifts = pd.read_parquet(folder / "cell_shifts.parquet")
    assert {"cell", "gene", "gene_rank", "arm", "cosine_distance"} <= set(shifts.columns)
    assert len(shifts) == 2 * 2 * 4


def test_reads_back_what_was_saved(run, folder):
    again = ranklock.read_run(folder)
    pd.testing.assert_frame_equal(again.table, run.table)
    pd.testing.assert_frame_equal(again.cell_shifts, run.cell_shifts)
    assert again.manifest == run.manifest
    assert isinstance(again.figure(), Figure)


def test_two_runs_give_the_same_files(run, folder, tmp_path):
    run.save(tmp_path / "again")
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_damaged_run_is_refused(run, tmp_path):
    run.save(tmp_path / "run")
    content = bytearray((tmp_path / "run" / "effects.parquet").read_bytes())
    content[100] ^= 1
    (tmp_path / "run" / "effects.parquet").write_bytes(content)
    with pytest.raises(OutputError, match="changed or damaged"):
        ranklock.read_run(tmp_path / "run")


def test_the_figure_shows_the_knock_out_that_is_asked_for(run):
    gene = run.cell_shifts["gene"].iloc[-1]
    title = run.figure(gene, "cell1").get_suptitle()
    assert title.startswith(f"{gene} knocked out of cell cell1: rank ")
    with pytest.raises(InputError, match="no knock-out of NONE"):
        run.figure("NONE")
    with pytest.raises(InputError, match="in nowhere"):
        run.figure(gene, "nowhere")


def test_the_default_example_stands_nearest_the_middle(run):
    gene, cell = run.example()
    mine = run.cell_shifts[run.cell_shifts["gene"] == gene].drop_duplicates("cell")
    length = {"cell0": 40, "cell1": 50}
    off = {row.cell: abs(row.gene_rank / length[row.cell] - 0.5) for row in mine.itertuples()}
    assert cell == min(off, key=off.get)
