import json

import pandas as pd
import pytest
from typer.testing import CliRunner

import ranklock
from ranklock.cli import app
from ranklock.genes.vocabulary import write_vocabulary
from tests.perturbseq import natural_world as world


def call(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("natural")
    cells = world.cells()
    table = pd.DataFrame({"input_ids": [genes.tolist() for genes in cells.ranked]})
    table.assign(type=cells.obs["type"].to_numpy()).to_parquet(folder / "cells.parquet")
    write_vocabulary(cells.vocabulary, folder / "vocabulary.json")
    (folder / "genes.txt").write_text("\n".join(world.FIRST))
    world.checkpoint(folder / "model")
    result = call("perturb", folder / "cells.parquet", "--model", folder / "model",
                  "--vocabulary", folder / "vocabulary.json", "--genes", folder / "genes.txt",
                  "--cells", "0:20", "--read", "cell", "--arms", "hold,shift", "--device", "cpu",
                  "--out", folder / "run")  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder


def natural(folder, out, *more):
    return call("evaluate", folder / "run", "--natural", "--cells", folder / "cells.parquet",
                "--model", folder / "model", "--vocabulary", folder / "vocabulary.json",
                "--min-cells", 5, "--max-pairs", 12, "--held-out", 30, "--device", "cpu",
                "--out", out, *more)  # fmt: skip


def test_a_run_is_judged_and_shown_again(folder, tmp_path):
    out = tmp_path / "out"
    result = natural(folder, out)
    assert result.exit_code == 0, result.output
    assert "hold: removing a gene moves cells towards cells that truly lack it" in result.stdout
    assert "not matched within anything" in result.stdout
    assert call("show", out).stdout in result.stdout
    assert ranklock.read_natural_knock_outs(out).arms["shift"].verdict == "placebo"
    assert (out / "natural.png").stat().st_size > 10_000
    assert natural(folder, out).exit_code == 4
    with pytest.raises(ranklock.OutputError, match="evaluate-natural"):
        ranklock.read_evaluation(out)


def test_json_matching_and_some_genes(folder, tmp_path):
    result = natural(folder, tmp_path / "out", "--json", "--match", "type", "--layer", "hold",
                     *(part for gene in world.FIRST[:6] for part in ("--gene", gene)))  # fmt: skip
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["asked"]["match"] == ["type"]
    assert content["genes"]["asked"] == 6
    assert list(content["arms"]) == ["hold"]
    assert content["model"]["null"] != content["model"]["sha256"]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--match", "tissue"), 3, "no column 'tissue'"),
        (("--min-cells", 1), 2, "two cells or more"),
        (("--layer", "mask"), 2, "no arm 'mask'"),
        (("--gene", "GENE7"), 3, "does not knock out GENE7"),
        (("--truth", "de.csv"), 2, "one of the two"),
    ],
)
def test_what_cannot_be_judged_is_refused(folder, tmp_path, more, code, words):
    result = natural(folder, tmp_path / "out", *more)
    assert result.exit_code == code, result.output
    assert words in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_cells_and_checkpoint_are_asked_for(folder, tmp_path):
    for more, words in (((), "name --cells"), (("--cells", "x.h5ad"), "name --model")):
        result = call("evaluate", folder / "run", "--natural", "--out", tmp_path / "out", *more)
        assert result.exit_code == 2
        assert words in result.output
    assert call("evaluate", folder / "run", "--out", tmp_path / "out").exit_code == 2
