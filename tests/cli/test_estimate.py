import json

import pandas as pd
import pytest
from typer.testing import CliRunner

import ranklock
from ranklock.cli import app
from tests import helpers


def call(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("estimate")
    vocabulary = helpers.vocabulary()
    cells = helpers.cells_of([40] * 8, vocabulary)
    pd.DataFrame(
        {"input_ids": [genes.tolist() for genes in cells.ranked], "state": list("aaaaaabb")}
    ).to_parquet(folder / "cells.parquet")
    ranklock.write_vocabulary(vocabulary, folder / "vocabulary.json")
    helpers.checkpoint(folder / "model", layers=3, bias_spread=0.1)
    (folder / "set.txt").write_text("GENE3\nGENE8  # two of sixty\n")
    return folder


@pytest.fixture(scope="module")
def inputs(place):
    return ("--model", place / "model", "--vocabulary", place, "--device", "cpu")


GOAL = ("--state-key", "state", "--start", "a", "--goal", "b")


@pytest.fixture(scope="module")
def estimated(place, inputs):
    out = place / "towards-b"
    arms = ("--arms", "delete,hold,mask,shift")
    result = call("estimate", place / "cells.parquet", *inputs, *GOAL, "--out", out, *arms,
                  "--verify", 10, "--recheck", 8)  # fmt: skip
    return out, result


def test_it_says_what_it_found_and_what_it_missed(estimated):
    out, result = estimated
    assert "Plan: 240 knock-outs in 6 cells, one pass back through each" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "240 knock-outs estimated in 6 cells: change of the cosine from a to b"
    assert "10 of the largest estimates" in lines[1]
    assert "8 at random" in lines[1]
    assert "suspicious" in lines[1]
    assert "rank correlation of estimate and exact effect" in result.stdout
    assert "Estimated to be among those measured" in result.stdout
    shown = call("show", out).stdout.splitlines()
    assert shown == lines[:-1]
    assert json.loads(call("show", out, "--json").stdout)["complete"]
    fewer = call("show", out, "--top", 3).stdout.splitlines()
    assert fewer[2] == "The 3 largest:"
    assert fewer[3:6] == shown[3:6]
    call("show", out, "--gene", "GENE3", code=2)


def test_other_commands_read_it(estimated, tmp_path):
    out, said = estimated
    call("show", out / "run")
    result = call("audit", out, "--out", tmp_path / "audit")
    assert "1. Is there a step" in result.stdout
    assert "a large effect is no finding" in " ".join(said.stdout.split())
    refused = call("test", out, "--out", tmp_path / "tested", code=3)
    assert "without impostors" in " ".join(refused.stderr.split())
    assert not (tmp_path / "tested").exists()


def test_each_question(place, inputs, tmp_path):
    cells = place / "cells.parquet"
    few = ("--verify", 3, "--recheck", 2, "--probes", 2, "--min-cells", 2)

    def ask(out, *question):
        return call("estimate", cells, *inputs, *question, *few, "--out", tmp_path / out)

    result = ask("potency", "--potency")
    assert "mean effect on all other genes" in result.stdout
    assert "Too few genes were measured at random" in result.stdout
    assert "mean effect on GENE3, GENE8" in ask("set", "--gene-set", place / "set.txt").stdout
    (tmp_path / "set.csv").write_text("name,score\ngene3,1\nGENE8,2\nNOGENE,3\n")
    result = ask("table", "--gene-set", tmp_path / "set.csv", "--gene-set-column", "name")
    assert "mean effect on GENE3, GENE8" in result.stdout
    assert "NOGENE" in result.stderr
    assert "No genes of the vocabulary, left out: NOGENE" in result.stdout
    result = ask("regulators", "--responder", "GENE3", "--json")
    assert json.loads(result.stdout)["asked"]["genes"] == ["GENE3"]
    assert ranklock.read_estimates(tmp_path / "regulators").complete


def test_a_sample_leaves_no_cell_out_of_the_goal(place, inputs, tmp_path):
    cells = place / "cells.parquet"
    out = tmp_path / "out"
    call("estimate", cells, *inputs, *GOAL, "--sample", 3, "--verify", 3, "--recheck", 2,
         "--out", out)  # fmt: skip
    manifest = ranklock.read_estimates(out).manifest
    assert manifest.planned.cells == 3
    assert [(state.state, state.cells) for state in manifest.states.cells] == [("b", 2)]


def test_what_does_not_fit(place, inputs, tmp_path):
    cells = place / "cells.parquet"
    for arguments, code, message in (
        ((), 2, "one question"),
        (("--potency", "--classifier", "a"), 2, "one question"),
        (("--goal", "b"), 2, "go together"),
        (("--classifier", "a"), 3, "no classifier of cells"),
        (("--potency", "--arms", "mask"), 2, "name hold among the arms"),
        (("--gene-set", place / "cells.parquet"), 3, "cannot be read as a list of genes"),
        (("--potency", "--layer", "-9"), 2, "layer"),
        (("--responder", "TP53"), 3, "TP53"),
    ):
        result = call("estimate", cells, *inputs, "--out", tmp_path / "out", *arguments, code=code)
        assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_cells_that_share_no_gene(place, inputs, tmp_path):
    """Issue 14's case: no gene is in enough cells to be ranked."""
    pd.DataFrame({"input_ids": [[10, 11], [12, 13]]}).to_parquet(tmp_path / "cells.parquet")
    result = call("estimate", tmp_path / "cells.parquet", *inputs, "--potency", "--out",
                  tmp_path / "out")  # fmt: skip
    assert "No gene is in 5 cells (--min-cells): those in 1 or more are ranked." in result.stdout
