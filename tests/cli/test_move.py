import json

import pandas as pd
import pytest
from typer.testing import CliRunner

import ranklock
from ranklock import demo
from ranklock.arms import MOVE_ARMS
from ranklock.cli import app

DEMO = [
    str(demo.cells_file()), "--model", str(demo.model_folder()),
    "--vocabulary", str(demo.vocabulary_file()),
]  # fmt: skip
SOME = ("--cells", "0:60")  # of several types: some have PU.1 (SPI1), others lack it


@pytest.fixture
def call(tmp_path):
    def run(*options, gene="SPI1"):
        arguments = ["move", *DEMO, "--gene", gene, "--out", str(tmp_path / "run"), *options]
        return CliRunner().invoke(app, arguments)

    return run


@pytest.mark.parametrize(
    ("options", "perturbation", "says"),
    [
        (["--overexpress", "--insert"], "overexpress", "SPI1 overexpressed in"),
        (["--activate"], "activate", "SPI1 activated in"),
        (["--inhibit", "--quartiles", "2"], "inhibit", "SPI1 inhibited in"),
        (["--to-rank", "5"], "to-rank", "SPI1 moved in"),
    ],
)
def test_a_move_of_the_demo_is_written_said_and_shown(call, tmp_path, options, perturbation, says):
    result = call(*SOME, *options)
    assert result.exit_code == 0, result.output
    assert says in result.stdout
    assert "median passed" in result.stdout
    assert "Artefact share of move: 0.9" in result.stdout
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "manifest.json", "effects.h5ad", "effects.parquet", "cell_shifts.parquet",
        "rank_shift.png", "rank_shift.svg",
    }  # fmt: skip
    run = ranklock.read_run(tmp_path / "run")
    assert run.effects.obs["perturbation"].unique().tolist() == [perturbation]
    assert run.manifest["asked"]["command"] == "move"
    shifts = pd.read_parquet(tmp_path / "run" / "cell_shifts.parquet")
    assert shifts["inserted"].any() == ("--insert" in options)
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "run")])
    assert shown.stdout == result.stdout


def test_cells_that_lack_the_gene_are_left_out_unless_it_is_inserted(call):
    without = call(*SOME, "--overexpress", "--json")
    assert "lack it; they are left out" in without.stderr
    left_out = json.loads(without.stdout)["skipped"][0]["cells_without_it"]
    assert left_out > 0
    inserted = call(*SOME, "--overexpress", "--insert", "--overwrite", "--json")
    entry = json.loads(inserted.stdout)["summary"][0]
    assert entry["inserted"] == left_out


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ([], 2, "name one of"),
        (["--overexpress", "--inhibit"], 2, "name one of"),
        (["--to-rank", "-1"], 2, "ranks count from 0"),
        (["--activate", "--quartiles", "4"], 2, "1, 2 or 3 quartiles"),
        (["--overexpress", "--quartiles", "2"], 2, "leave it out"),
        (["--inhibit", "--insert"], 2, "stands in no quarter"),
        (["--overexpress", "--arms", "delete"], 2, "there are: move, hold, shift"),
        (["--to-rank", "5000", "--cell", "0"], 3, "have no such rank"),
    ],
)
def test_wrong_options_say_so_and_leave_nothing(call, tmp_path, options, code, says):
    result = call(*options, gene="FTL")
    assert result.exit_code == code
    assert says in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


def test_help_teaches():
    text = CliRunner().invoke(app, ["move", "--help"], env={"COLUMNS": "200"}).output
    for word in (*MOVE_ARMS, "Examples", "--insert", "Where to", "Exit codes"):
        assert word in text
