import json

import anndata
import pandas as pd
import pytest
from typer.testing import CliRunner

import ranklock
from ranklock.cli import app
from tests.helpers import cells_of, checkpoint, vocabulary


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    cells = cells_of([12, 20, 9], vocabulary())
    pd.DataFrame({"input_ids": [c.tolist() for c in cells.ranked]}).to_parquet(
        folder / "cells.parquet"
    )
    ranklock.write_vocabulary(vocabulary(), folder / "vocabulary.json")
    checkpoint(folder / "model", spread=0.3)
    return folder


@pytest.fixture
def call(place):
    def run(command, *arguments, code=0):
        inputs = [str(place / "cells.parquet"), "--model", str(place / "model"),
                  "--vocabulary", str(place)] if command != "show" else []  # fmt: skip
        result = CliRunner().invoke(app, [command, *inputs, *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result

    return run


def first_gene():
    return vocabulary().symbol(int(cells_of([12], vocabulary()).ranked[0][0]))


def test_a_run_says_the_plan_and_what_it_found_and_show_says_it_again(call, tmp_path):
    result = call("perturb", "--out", tmp_path / "run")
    assert (
        "Plan: 41 tasks (knock-out) in 3 cells, arms delete, hold, mask, shift: " in result.stderr
    )
    assert "167 forwards of 1 layer" in result.stderr
    assert "41 tasks (knock-out) in 3 cells, arms delete, hold, mask, shift: complete" in (
        result.stdout
    )
    assert "Artefact share of delete: " in result.stdout
    assert "Error of the displacement in float32, median in " in result.stdout
    assert call("show", tmp_path / "run").stdout == result.stdout


def test_shows_one_gene_and_exports(call, tmp_path):
    call("perturb", "--out", tmp_path / "run")
    gene = first_gene()
    result = call("show", tmp_path / "run", "--gene", gene.lower(), "--top", 3)
    assert result.stdout.startswith(f"{gene} (ENSG")
    assert len(result.stdout.splitlines()) == 2 + 2 + 3
    means = tmp_path / "means.h5ad"
    call("show", tmp_path / "run", "--h5ad", means, "--average", "--min-cells", 2)
    assert anndata.read_h5ad(means).obs["n_cells"].min() >= 2
    call("show", tmp_path / "run", "--csv", tmp_path / "shifts.csv")
    assert len(pd.read_csv(tmp_path / "shifts.csv")) == 41 * 4
    call("show", tmp_path / "run", "--gene", gene, "--csv", tmp_path / "effects.parquet")
    assert set(pd.read_parquet(tmp_path / "effects.parquet")["gene"]) == {gene}
    call("show", tmp_path / "run", "--gene", gene, "--figure", tmp_path / "one.svg")
    assert (tmp_path / "one.svg").stat().st_size > 1000
    assert json.loads(call("show", tmp_path / "run", "--json").stdout)["complete"]
    for arguments, code, message in (
        ((tmp_path / "run", "--gene", "TP53"), 3, "no gene TP53"),
        ((tmp_path / "nowhere",), 4, "holds no run"),
    ):
        assert message in call("show", *arguments, code=code).stderr


def test_lists_of_genes_come_from_files(call, tmp_path):
    ranked = cells_of([12], vocabulary()).ranked[0]
    listed = tmp_path / "genes.txt"
    listed.write_text(f"# factors\n{ranked[0]}\n\n{ranked[5]}  # with a remark\n")
    options = ("--cell", 0, "--genes", listed, "--responders", listed, "--read", "genes")
    result = call("perturb", *options, "--gene", ranked[7], "--out", tmp_path / "run")
    assert "3 tasks (knock-out) in 1 cell" in result.stdout
    assert ranklock.read_run(tmp_path / "run").effects().n_vars == 2
    listed.write_text("# nothing\n")
    assert "names no gene" in call("perturb", "--genes", listed, "--dry-run", code=3).stderr
    missing = tmp_path / "missing.txt"
    assert "cannot be read" in call("perturb", "--genes", missing, "--dry-run", code=3).stderr


def test_a_dry_run_writes_nothing(call, tmp_path):
    result = call("perturb", "--cells", "0:2", "--out", tmp_path / "run", "--dry-run")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Plan: 32 tasks (knock-out) in 2 cells")
    assert "130 forwards" in lines[0]
    assert lines[1].startswith("Work: ")
    assert lines[2].startswith("Time: about ")
    assert not (tmp_path / "run").exists()


def test_another_experiment_in_the_folder_is_refused(call, tmp_path):
    call("perturb", "--cell", 0, "--out", tmp_path / "run")
    result = call("perturb", "--cell", 1, "--out", tmp_path / "run", code=4)
    assert "begun with other values of cells" in result.stderr
    call("perturb", "--cell", 1, "--out", tmp_path / "run", "--overwrite")


def test_an_interrupt_says_that_what_was_done_is_kept(call, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ranklock.run.execute.execute", interrupt)
    result = call("perturb", "--out", tmp_path / "run", code=130)
    assert "the same command goes on from there" in result.stderr


def test_options_of_runs_are_refused_of_other_folders(call, tmp_path):
    call("perturb", "--cells", "0:3", "--impostors", 2, "--out", tmp_path / "run")
    tested = ["test", str(tmp_path / "run"), "--out", str(tmp_path / "tested")]
    assert CliRunner().invoke(app, tested).exit_code == 0
    result = call("show", tmp_path / "tested", "--gene", first_gene(), code=2)
    assert "is no run" in result.stderr
    assert call("show", tmp_path / "tested").stdout
