import json

import anndata
import pytest
from typer.testing import CliRunner

import ranklock
from ranklock.cli import app
from tests.helpers import cells_of, checkpoint, vocabulary


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    import pandas as pd

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


def test_sweeps_says_the_plan_and_what_it_found(call, tmp_path):
    result = call("sweep", "--out", tmp_path / "run")
    assert "Plan: 41 knock-outs in 3 cells × 4 arms = 167 forwards of 1 layer" in result.stderr
    assert "41 knock-outs in 3 cells, arms delete, hold, mask, shift: complete" in result.stdout
    assert "Artefact share of delete: " in result.stdout
    assert "Noise floor (float32): " in result.stdout
    again = call("show", tmp_path / "run")
    assert again.stdout == result.stdout


def test_shows_one_knockout_and_exports(call, tmp_path, place):
    call("sweep", "--out", tmp_path / "run")
    gene = vocabulary().symbol(int(cells_of([12], vocabulary()).ranked[0][0]))
    result = call("show", tmp_path / "run", "--gene", gene, "--top", 3)
    assert result.stdout.startswith(f"{gene} (ENSG")
    assert len(result.stdout.splitlines()) == 2 + 2 + 3
    call("show", tmp_path / "run", "--export", tmp_path / "means.h5ad", "--min-cells", 2)
    assert anndata.read_h5ad(tmp_path / "means.h5ad").obs["n_cells"].min() >= 2
    assert json.loads(call("show", tmp_path / "run", "--json").stdout)["complete"]
    for arguments, code, message in (
        ((tmp_path / "run", "--export", "means.csv"), 2, "writes an .h5ad"),
        ((tmp_path / "run", "--gene", "TP53"), 3, "no gene TP53"),
        ((tmp_path / "nowhere",), 4, "holds no run"),
    ):
        assert message in call("show", *arguments, code=code).stderr


def test_shows_a_knockout_run_too(call, tmp_path):
    call("knockout", "--cell", 0, "--gene", cells_of([12], vocabulary()).ranked[0][3],
         "--out", tmp_path / "run")  # fmt: skip
    assert "knocked out of 1 cell, at rank 3" in call("show", tmp_path / "run").stdout
    assert (
        "need the folder of a sweep"
        in call("show", tmp_path / "run", "--gene", "GENE1", code=2).stderr
    )


def test_lists_of_genes_come_from_files(call, tmp_path):
    ranked = cells_of([12], vocabulary()).ranked[0]
    listed = tmp_path / "genes.txt"
    listed.write_text(f"# factors\n{ranked[0]}\n\n{ranked[5]}  # with a remark\n")
    options = ("--cell", 0, "--gene-list", listed, "--responder-list", listed, "--read", "genes")
    result = call("sweep", *options, "--gene", ranked[7], "--out", tmp_path / "run")
    assert "3 knock-outs in 1 cells" in result.stdout
    assert ranklock.read_sweep(tmp_path / "run").cell(0).n_vars == 2
    listed.write_text("# nothing\n")
    assert "names no gene" in call("plan", "--gene-list", listed, code=3).stderr
    missing = tmp_path / "missing.txt"
    assert "cannot be read" in call("plan", "--gene-list", missing, code=3).stderr


def test_plans_without_writing(call, tmp_path):
    result = call("plan", "--cells", "0:2", "--out", tmp_path / "run")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Plan: 32 knock-outs in 2 cells × 4 arms = 130 forwards")
    assert lines[1].startswith("Work: ")
    assert lines[2].startswith("Time: about ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--precision", "tf32"), 2, "cpu does not compute in tf32"),
        (("--read", "all"), 2, "none of genes, cell, both"),
        (("--gene", "GENE999"), 3, "'GENE999' (unknown"),
        (("--arms", "remove"), 2, "no arm 'remove'"),
        (("--threads", "0"), 2, "at least 1"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(call, tmp_path, arguments, code, message):
    result = call("sweep", *arguments, "--out", tmp_path / "run", code=code)
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_another_experiment_in_the_folder_is_refused(call, tmp_path):
    call("sweep", "--cell", 0, "--out", tmp_path / "run")
    result = call("sweep", "--cell", 1, "--out", tmp_path / "run", code=4)
    assert "begun differently (cells" in result.stderr
    call("sweep", "--cell", 1, "--out", tmp_path / "run", "--overwrite")


def test_an_interrupt_says_that_what_was_done_is_kept(call, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ranklock.run.old_sweep", interrupt)
    result = call("sweep", "--out", tmp_path / "run", code=130)
    assert "the same command goes on from there" in result.stderr
