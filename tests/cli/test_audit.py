import json
import shutil

import jsonschema
import pandas as pd
import pytest
from typer.testing import CliRunner

import ranklock
from ranklock.audits.content import schema
from ranklock.cli import app
from ranklock.genes.vocabulary import write_vocabulary
from tests import helpers


@pytest.fixture
def run(tmp_path, tiny_checkpoint):
    vocabulary = helpers.vocabulary(60)
    cells = helpers.cells_of([50, 40, 45], vocabulary)
    pd.DataFrame({"input_ids": [genes.tolist() for genes in cells.ranked],
                  "state": ["a", "a", "b"]}).to_parquet(tmp_path / "cells.parquet")  # fmt: skip
    write_vocabulary(vocabulary, tmp_path / "vocabulary.json")

    def call(*arguments):
        return CliRunner().invoke(
            app,
            ["audit", str(tmp_path / "cells.parquet"), "--model", str(tiny_checkpoint),
             "--vocabulary", str(tmp_path / "vocabulary.json"), "--out", str(tmp_path / "out"),
             "--device", "cpu", *arguments],
        )  # fmt: skip

    return call


def test_the_five_answers_are_printed_and_written(run, tmp_path):
    result = run("--budget", "200")
    assert result.exit_code == 0, result.output
    for number, question in enumerate(ranklock.read_audit(tmp_path / "out").verdict["asks"], 1):
        assert f"{number}. {question}" in result.output
    assert (tmp_path / "out" / "report.html").stat().st_size < 6e6


def test_an_audit_can_be_shown_again(run, tmp_path):
    printed = run("--budget", "100").stdout
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "out")])
    assert shown.stdout == printed
    shown = CliRunner().invoke(app, ["show", str(tmp_path / "out"), "--json"])
    assert json.loads(shown.stdout)["format"] == "ranklock-audit"
    refused = CliRunner().invoke(app, ["show", str(tmp_path / "out"), "--gene", "GENE1"])
    assert refused.exit_code == 2
    assert "is no run" in refused.stderr


def test_json_is_json_alone(run):
    result = run("--budget", "100", "--json")
    jsonschema.validate(json.loads(result.stdout), schema())


def test_states_and_network(run, tmp_path):
    symbols = [f"GENE{i}" for i in range(60)]
    pd.DataFrame({"source": symbols[:10] * 6, "target": symbols}).to_csv(tmp_path / "links.csv")
    result = run("--budget", "200", "--state-key", "state", "--start", "a", "--goal", "b",
                 "--network", str(tmp_path / "links.csv"))  # fmt: skip
    assert result.exit_code == 0, result.output
    content = ranklock.read_audit(tmp_path / "out").content
    assert content["rankings"]["goal"] is not None
    assert content["links"]["regulators"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--state-key", "state"], 2, "--state-key, --start and --goal go together"),
        (["--budget", "soon"], 2, "neither a number of forwards"),
        (["--figures", "pdf"], 2, "none of png, svg"),
        (["--network", "none.csv"], 3, "cannot be read"),
        (["--arms", "delete,nothing"], 2, "nothing"),
        (["--state-key", "x", "--start", "a", "--goal", "b"], 3, "no column 'x'"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(run, tmp_path, arguments, code, message):
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()


def test_a_run_needs_no_model(run, tmp_path, tiny_checkpoint):
    cells = helpers.cells_of([30, 20], helpers.vocabulary(60))
    model = ranklock.load_model(str(tiny_checkpoint), device="cpu")
    ranklock.perturb(cells, model, out=tmp_path / "run", progress=False)
    call = ["audit", str(tmp_path / "run"), "--out", str(tmp_path / "audit")]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    assert ranklock.read_audit(tmp_path / "audit").content["sample"]["knockouts"] == 50
    for option in (["--model", str(tiny_checkpoint)], ["--budget", "10"], ["--arms", "hold"],
                   ["--cells", "0:1"], ["--layer", "0"], ["--where", "x=y"],
                   ["--goal", "x"]):  # fmt: skip
        result = CliRunner().invoke(app, [*call, *option])
        assert result.exit_code == 2
        assert "is a run, whose cells, model and options are what they were" in result.stderr
        assert f"leave out {option[0]}" in result.stderr
    result = CliRunner().invoke(
        app, ["audit", str(tmp_path / "cells.parquet"), "--out", str(tmp_path / "x")]
    )
    assert result.exit_code == 2
    assert "Name a checkpoint" in result.stderr
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(
        app, ["audit", str(tmp_path / "empty"), "--out", str(tmp_path / "x")]
    )
    assert result.exit_code == 4
    assert "holds no run of Ranklock" in result.stderr


def test_a_run_without_knock_outs_is_refused(tmp_path, tiny_checkpoint):
    cells = helpers.cells_of([30, 20], helpers.vocabulary(60))
    model = ranklock.load_model(str(tiny_checkpoint), device="cpu")
    ranklock.perturb(cells, model, do="overexpress", out=tmp_path / "run", progress=False)
    call = ["audit", str(tmp_path / "run"), "--out", str(tmp_path / "audit")]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 2
    assert "holds overexpress and no knock-outs" in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert not (tmp_path / "audit").exists()


def test_tokenised_cells_are_no_run(tmp_path, tiny_checkpoint):
    datasets = pytest.importorskip("datasets")
    vocabulary = helpers.vocabulary(60)
    ranked = [genes.tolist() for genes in helpers.cells_of([50, 40], vocabulary).ranked]
    datasets.Dataset.from_dict({"input_ids": ranked}).save_to_disk(tmp_path / "cells")
    write_vocabulary(vocabulary, tmp_path / "vocabulary.json")
    result = CliRunner().invoke(
        app,
        ["audit", str(tmp_path / "cells"), "--model", str(tiny_checkpoint), "--vocabulary",
         str(tmp_path / "vocabulary.json"), "--budget", "40", "--device", "cpu",
         "--out", str(tmp_path / "audit")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output


def test_a_sample_leaves_no_cell_out_of_the_goal(run, tmp_path):
    result = run("--budget", "100", "--sample", "1", "--state-key", "state", "--start", "a",
                 "--goal", "b")  # fmt: skip
    assert result.exit_code == 0, result.output
    audited = ranklock.read_audit(tmp_path / "out")
    assert audited.content["sample"]["cells_given"] == 1
    assert [state.cells for state in audited.run.manifest.states.cells] == [1]


def test_figures_are_written_where_a_browser_is(run, tmp_path):
    pytest.importorskip("kaleido", reason="kaleido draws figures as files")
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no Chrome or Chromium here")
    result = run("--budget", "100", "--figures", "svg")
    assert result.exit_code == 0, result.output
    svg = (tmp_path / "out" / "figures" / "heat.svg").read_text()
    assert svg.startswith("<svg")
    assert "perturbed rank" in svg
