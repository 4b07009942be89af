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


def said(result):
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_checkpoint):
    """Runs of all genes towards a goal, of effects on genes alone, and of a pair together."""
    folder = tmp_path_factory.mktemp("test")
    vocabulary = helpers.vocabulary(60)
    cells = helpers.cells_of([45] * 10, vocabulary)
    pd.DataFrame({
        "input_ids": [genes.tolist() for genes in cells.ranked],
        "state": ["a"] * 8 + ["b"] * 2, "donor": list("aabbccddee"),
    }).to_parquet(folder / "cells.parquet")  # fmt: skip
    write_vocabulary(vocabulary, folder / "vocabulary.json")
    of_model = [folder / "cells.parquet", "--model", tiny_checkpoint, "--device", "cpu",
                "--vocabulary", folder / "vocabulary.json", "--arms", "hold"]  # fmt: skip
    in_state = ["--state-key", "state", "--start", "a", "--goal", "b"]
    shared = set.intersection(*(set(genes.tolist()) for genes in cells.ranked))
    pair = [part for token in sorted(shared)[:2] for part in ("--gene", vocabulary.symbol(token))]
    compared = ["--impostors", 4]
    for name, options in (
        ("all", ["--genes", "all", *in_state, *compared, "--null-model", "--donor", "donor"]),
        ("genes", ["--genes", "all", "--read", "genes", *compared]),
        ("pair", [*pair, "--together", "--read", "cell"]),
        ("alone", [*pair, "--read", "cell"]),
    ):
        made = call("perturb", *of_model, *options, "--out", folder / name)
        assert made.exit_code == 0, made.output
    return folder


def test_all_that_a_run_allows_goes_into_one_folder(folder, tmp_path):
    out = tmp_path / "out"
    result = call("test", folder / "all", "--min-cells", 3, "--out", out)
    assert result.exit_code == 0, result.output
    for text in (
        "(8 cells, 4 donor as replicates, 4 impostors, moderated t tests, FDR 5 %)",
        "hold, towards goal",
        "the null model has",
    ):
        assert text in result.stdout
    assert ranklock.read_responders(out).arms == ("hold",)
    tested = ranklock.read_shifts(out)
    assert set(tested.table["quantity"]) == {"cell shift", "mean gene shift", "towards goal"}
    assert {path.name for path in out.iterdir()} >= {
        "responders.parquet", "responders.h5ad", "responders.png", "shifts_directions.parquet",
        "shifts.parquet", "shifts.svg", "manifest.json",
    }  # fmt: skip
    shown = call("show", out)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout in result.stdout
    assert len(shown.stdout) > 500


def test_a_folder_is_replaced_whole_or_not_at_all(folder, tmp_path):
    out = tmp_path / "out"
    assert call("test", folder / "all", "--min-cells", 3, "--out", out).exit_code == 0
    refused = call("test", folder / "genes", "--out", out)
    assert refused.exit_code == 4
    assert "--overwrite" in refused.output
    printed = call("test", folder / "genes", "--arms", "hold", "--out", out, "--overwrite",
                   "--json")  # fmt: skip
    manifest = json.loads(printed.stdout)
    assert manifest["asked"]["command"] == "test"
    assert manifest["responders"]["asked"]["arms"] == ["hold"]
    assert not (out / "shifts.parquet").exists()


def test_exact_tests_and_another_minimum(folder, tmp_path):
    out = tmp_path / "out"
    result = call("test", folder / "all", "--exact", "--minimum", 2, "--min-cells", 3, "--out", out)
    assert result.exit_code == 0, result.output
    assert "more than ×2 " in result.stdout
    assert "exact signed-rank tests, Holm" in result.stdout
    # Four donors and some 45 genes: 2⁻⁴ is not below 0.05 / 45, and that is said.
    assert "4 donors, " in result.stdout
    assert ranklock.read_shifts(out).table["status"].str.contains("needed").all()


def test_a_combination_against_its_singles(folder, tmp_path):
    out = tmp_path / "out"
    result = call("test", folder / "pair", "--singles", folder / "alone", "--out", out)
    assert result.exit_code == 0, result.output
    assert "against" in result.stdout
    table = pd.read_parquet(out / "combinations.parquet")
    assert table["n_cells"].tolist() == [10]
    assert "+" in table["gene"].item()
    assert call("show", out).stdout in result.stdout


@pytest.mark.parametrize(
    ("source", "options", "code", "says"),
    [
        ("nowhere", [], 4, "holds no run"),
        ("alone", [], 3, "without impostors"),
        ("all", ["--minimum", 0.5], 2, "no size"),
        ("all", ["--arms", "mask"], 2, "no arm 'mask'"),
        ("all", ["--donor", "plate"], 3, "no column 'plate'"),
        ("alone", ["--singles", "all"], 3, "no genes perturbed together"),
    ],
)
def test_what_cannot_be_tested_is_said(folder, tmp_path, source, options, code, says):
    named = [folder / part if part == "all" else part for part in options]
    result = call("test", folder / source, *named, "--out", tmp_path / "out")
    assert result.exit_code == code, result.output
    assert says in said(result)
    assert not (tmp_path / "out").exists()
