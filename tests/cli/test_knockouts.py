import json

import pandas as pd
import pytest
from typer.testing import CliRunner

import ranklock
from ranklock.cli import app
from ranklock.genes.vocabulary import write_vocabulary
from tests import helpers


def call(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_checkpoint):
    folder = tmp_path_factory.mktemp("knockouts")
    vocabulary = helpers.vocabulary(60)
    cells = helpers.cells_of([45] * 10, vocabulary)
    pd.DataFrame({"input_ids": [genes.tolist() for genes in cells.ranked],
                  "state": ["a"] * 8 + ["b"] * 2}).to_parquet(folder / "cells.parquet")  # fmt: skip
    write_vocabulary(vocabulary, folder / "vocabulary.json")
    of_model = ["--model", tiny_checkpoint, "--vocabulary", folder / "vocabulary.json",
                "--device", "cpu", "--arms", "hold"]  # fmt: skip
    asked = ["--state-key", "state", "--start", "a", "--goal", "b", "--read", "cell"]
    made = call("sweep", folder / "cells.parquet", *of_model, *asked, "--out", folder / "sweep")
    assert made.exit_code == 0, made.output
    genes = [vocabulary.gene(t) for t in set.intersection(*map(set, map(list, cells.ranked)))][:2]
    pair = [part for gene in genes for part in ("--gene", gene)]
    made = call("knockout", folder / "cells.parquet", *of_model, *pair, "--together",
                "--out", folder / "pair")  # fmt: skip
    assert made.exit_code == 0, made.output
    return folder


def test_a_sweep_towards_a_goal(folder, tmp_path):
    result = call("knockouts", folder / "sweep", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "hold, towards goal" in result.stdout
    found = ranklock.read_knockouts(tmp_path / "out")
    assert set(found.table["quantity"]) == {"cell shift", "towards goal"}
    shown = call("show", tmp_path / "out")
    assert shown.stdout in result.stdout
    refused = call("knockouts", folder / "sweep", "--out", tmp_path / "out")
    assert refused.exit_code == 4
    printed = call("knockouts", folder / "sweep", "--out", tmp_path / "out", "--overwrite",
                   "--json")  # fmt: skip
    assert json.loads(printed.stdout)["asked"]["command"] == "knockouts"


def test_a_combination_against_its_singles(folder, tmp_path):
    out = tmp_path / "pair.csv"
    result = call("knockouts", folder / "pair", "--singles", folder / "sweep", "--out", out)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(out)
    assert table["n_cells"].tolist() == [8]
    assert "against" in result.stdout
    refused = call("knockouts", folder / "pair", "--singles", folder / "sweep", "--out", tmp_path)
    assert refused.exit_code == 2
    nowhere = tmp_path / "nowhere" / "pair.csv"
    refused = call("knockouts", folder / "pair", "--singles", folder / "sweep", "--out", nowhere)
    assert refused.exit_code == 4


def test_what_is_no_source_is_said(folder, tmp_path):
    result = call("knockouts", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "holds no cell_shifts.parquet" in " ".join(result.output.split())
    result = call("knockouts", tmp_path / "missing.csv", "--out", tmp_path / "out")
    assert result.exit_code == 3


def test_states_go_together(folder, tmp_path):
    result = call("sweep", folder / "cells.parquet", "--model", "x", "--goal", "b",
                  "--out", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 2
    assert "go together" in " ".join(result.output.split())
