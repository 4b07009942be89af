import json

import pandas as pd
import pytest
from typer.testing import CliRunner

import ranklock
from ranklock import demo
from ranklock.arms import MOVE_ARMS
from ranklock.cli import app
from ranklock.kinds import GRAMMAR

DEMO = [
    str(demo.cells_file()), "--model", str(demo.model_folder()),
    "--vocabulary", str(demo.vocabulary_file()),
]  # fmt: skip
SOME = ("--cells", "0:60")  # of several types: some have PU.1 (SPI1), others lack it


@pytest.fixture
def call(tmp_path):
    def run(*options, gene="SPI1"):
        arguments = ["perturb", *DEMO, "--gene", gene, "--out", str(tmp_path / "run"), *options]
        return CliRunner().invoke(app, arguments)

    return run


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        (["--do", "overexpress", "--insert"], "overexpress", "SPI1 overexpressed in"),
        (["--do", "activate"], "activate:1", "SPI1 activated in"),
        (["--do", "inhibit:2"], "inhibit:2", "SPI1 inhibited in"),
        (["--do", "to-rank:5"], "to-rank:5", "SPI1 moved to rank 5 in"),
        (["--do", "factor:0.5"], "factor:0.5", "SPI1 at 0.5 times its counts in"),
    ],
)
def test_a_move_of_the_demo_is_written_said_and_shown(call, tmp_path, options, kind, says):
    result = call(*SOME, *options)
    assert result.exit_code == 0, result.output
    assert says in result.stdout
    assert "genes shifted" in result.stdout
    assert "Artefact share of move: 0.9" in result.stdout
    run = ranklock.read_run(tmp_path / "run")
    assert run.kinds == (kind,)
    shifts = pd.concat(
        pd.read_parquet(path) for path in (tmp_path / "run/parts").glob("shifts-*.parquet")
    )
    assert shifts["inserted"].any() == ("--insert" in options)
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "run")])
    assert shown.stdout == result.stdout


def test_cells_that_lack_the_gene_are_left_out_unless_it_is_inserted(call):
    without = call(*SOME, "--do", "overexpress", "--json")
    assert "lack it; they are left out" in without.stderr
    lacking = json.loads(without.stdout)["cells_left_out"][0]["reasons"]["lack it"]
    assert lacking > 0
    inserted = call(*SOME, "--do", "overexpress", "--insert", "--overwrite", "--json")
    tasks = [json.loads(result.stdout)["planned"]["tasks"] for result in (without, inserted)]
    there_already = json.loads(inserted.stdout)["cells_left_out"]
    assert tasks[1] - tasks[0] == lacking
    assert not any("lack it" in entry["reasons"] for entry in there_already)


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--do", ""], 2, "Nothing is to be done"),
        (["--do", "silence"], 2, "There is no perturbation 'silence'"),
        (["--do", "to-rank:-1"], 2, "ranks count from 0"),
        (["--do", "to-rank"], 2, "to-rank:100"),
        (["--do", "activate:4"], 2, "1, 2 or 3 quarters"),
        (["--do", "overexpress:2"], 2, "There is no perturbation"),
        (["--do", "inhibit", "--insert"], 2, "stands nowhere"),
        (["--do", "overexpress", "--arms", "delete"], 2, "it has: move, hold, shift"),
        (["--do", "to-rank:5000", "--cell", "0"], 3, "have no such rank"),
    ],
)
def test_wrong_options_say_so_and_leave_nothing(call, tmp_path, options, code, says):
    result = call(*options, gene="FTL")
    assert result.exit_code == code, result.output
    assert says in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "run").exists()


def test_help_teaches():
    text = CliRunner().invoke(app, ["perturb", "--help"], env={"COLUMNS": "300"}).output
    for word in (*MOVE_ARMS, *GRAMMAR, "Examples", "--insert", "Towards a state", "Exit codes"):
        assert word in text
