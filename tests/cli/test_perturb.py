import json
import os
import pickle
import shutil
import stat
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import ranklock
from ranklock.arms import ARMS
from ranklock.cli import app
from ranklock.genes.vocabulary import write_vocabulary
from tests.helpers import checkpoint, vocabulary

VOCABULARY = vocabulary(60)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Cells, checkpoint and vocabulary on disk, as a user has them."""
    folder = tmp_path_factory.mktemp("user")
    checkpoint(folder / "model", tokens=62, spread=0.3)
    write_vocabulary(VOCABULARY, folder / "vocabulary.json")
    counts = np.random.default_rng(0).poisson(0.8, size=(6, 60)).astype(np.float32)
    counts[0, 3], counts[1, 3], counts[0, 5], counts[0, 50] = 4, 0, 2, 0
    adata = anndata.AnnData(
        counts,
        obs=pd.DataFrame({"cell_type": ["NK", "NK", "B", "B", "B", "T"]}, index=list("abcdef")),
        var=pd.DataFrame(index=list(VOCABULARY.tokens)),
    )
    adata.write_h5ad(folder / "cells.h5ad")
    return folder


@pytest.fixture
def call(place, tmp_path):
    def run(*options, cells="cells.h5ad", out=tmp_path / "run", model="model", gene="GENE3"):
        arguments = ["perturb", str(place / cells), "--model", str(place / model),
                     "--out", str(out), *(["--gene", gene] if gene else []), *options]  # fmt: skip
        if "--vocabulary" not in options:
            arguments += ["--vocabulary", str(place / "vocabulary.json")]
        return CliRunner().invoke(app, arguments)

    return run


def test_writes_a_run_and_says_where(call, tmp_path):
    result = call("--cell", "0")
    assert result.exit_code == 0, result.output
    assert "GENE3" in result.stdout
    assert result.stdout.splitlines()[-1] == f"Results: {tmp_path / 'run'}"
    for name in ("manifest.json", "cells.parquet", "genes.parquet", "perturbations.parquet",
                 "rank_shift.png", "rank_shift.svg"):  # fmt: skip
        assert (tmp_path / "run" / name).stat().st_size > 0
    run = ranklock.read_run(tmp_path / "run")
    assert run.complete
    assert run.arms == ("delete", "hold", "mask", "shift")


def test_json_is_all_that_stdout_holds(call):
    result = call("--cells", "0:3", "--json")
    content = json.loads(result.stdout)
    assert content["asked"]["genes"] == ["GENE3"]
    assert content["planned"]["tasks"] == 2
    assert "note: GENE3 (knock-out): of 3 cells, 1 lack it" in result.stderr


@pytest.mark.parametrize(
    ("options", "cells"),
    [
        (["--cell", "2"], ["c"]),
        (["--cells", "2:4"], ["c", "d"]),
        (["--where", "cell_type=B"], ["c", "d", "e"]),
        (["--where", "cell_type=B", "--where", "cell_type=T"], ["c", "d", "e", "f"]),
        (["--where", "cell_type=B", "--sample", "1", "--seed", "3"], None),
    ],
)
def test_selections(call, tmp_path, options, cells):
    assert call(*options, gene="GENE5").exit_code == 0
    names = ranklock.read_run(tmp_path / "run").cells.index.tolist()
    assert names == cells if cells else (len(names) == 1 and names[0] in "cde")


def test_options_reach_the_run(call):
    result = call(
        "--gene", "GENE5", "--together", "--arms", "hold, mask, move", "--layer", "0", "--cell",
        "0", "--do", "knock-out, overexpress", "--read", "cell", "--seed", "7", "--json",
    )  # fmt: skip
    asked = json.loads(result.stdout)["asked"]
    assert asked == {
        "genes": ["GENE3", "GENE5"], "do": ["knock-out", "overexpress"], "together": True,
        "arms": ["hold", "mask", "move"], "read": ["cell"], "responders": [], "impostors": 0,
        "null_model": False, "insert": False, "layer": 0, "precision": "auto", "accuracy": 0.01,
        "donor": None, "min_cells": 1, "strict": False, "seed": 7, "count_noise": False,
        "purpose": "",
    }  # fmt: skip


def one_line_error(result, code, *words):
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


def spoiled(place, name, matrix):
    adata = anndata.read_h5ad(place / "cells.h5ad")
    adata.X = matrix(adata.X).astype(np.float32)
    adata.write_h5ad(place / name)
    return name


def test_bad_input_gives_one_line_and_leaves_nothing(call, place, tmp_path):
    hostile = place / "hostile"
    hostile.mkdir()
    mark = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    (hostile / "token_dictionary_gc30M.pkl").write_bytes(pickle.dumps({"A": Hostile()}))
    shutil.copytree(place / "model", place / "cut")
    weights = (place / "cut" / "model.safetensors").read_bytes()
    (place / "cut" / "model.safetensors").write_bytes(weights[:1000])
    write_vocabulary(vocabulary(300), place / "other.json")
    pd.DataFrame({"input_ids": [[5, 6, 99]]}).to_parquet(place / "range.parquet")
    pd.DataFrame({"input_ids": []}).to_parquet(place / "empty.parquet")
    (place / "empty.h5ad").write_bytes(b"")
    medians = place / "token_dictionary_wrong.pkl"
    medians.write_bytes(pickle.dumps({"ENSG00000000003": 2.5}))
    nan = spoiled(place, "nan.h5ad", lambda x: np.where(x == 4, np.nan, x))
    negative = spoiled(place, "negative.h5ad", lambda x: x - 1)
    logged = spoiled(place, "logged.h5ad", np.log1p)
    cases = [
        (call(gene="GENE333"), "nearest: GENE3"),
        (call("--where", "cell_type=NK", "--cell", "1"), "in the vocabulary and in no cell: GENE3"),
        (call(cells="empty.parquet"), "holds no cells"),
        (call(cells="empty.h5ad"), "not a readable .h5ad"),
        (call(cells="nowhere.h5ad"), "does not exist"),
        (call(cells=nan), "NaN"),
        (call(cells=negative), "negative", "--counts-layer"),
        (call(cells=logged), "log-transformed", "--values log1p"),
        (call(cells="range.parquet"), "token 99", "use the vocabulary"),
        (call("--vocabulary", str(place / "other.json")), "302 tokens, the model 62"),
        (call("--vocabulary", str(hostile)), "nothing in a pickle is executed"),
        (call(model="cut"), "cut short"),
        (call(model="nowhere"), "nowhere"),
        (call("--vocabulary", str(medians)), "not a whole number. Is it the right file?"),
        (call("--gene", "GENE50", "--cell", "0", "--strict"), "in no cell: GENE50"),
    ]
    for result, *words in cases:
        one_line_error(result, 3, *words)
    for result, *words in (
        (call("--arms", "remove"), "no arm 'remove'"),
        (call("--layer", "1"), "--layer goes from -2 to 0"),
        (call("--cells", "five"), "write it as 0:50"),
        (call("--cells", ""), "write it as 0:50"),
        (call("--where", "NK"), "write it as column=value"),
        (call("--sample", "0"), "at least one"),
        (call("--values", "guess"), "use one of counts, normalised, log1p"),
        (call("--device", "abacus"), "abacus"),
    ):
        one_line_error(result, 2, *words)
    assert not mark.exists()
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".*"))


def test_another_run_is_refused_and_the_same_goes_on(call, tmp_path):
    assert call("--cell", "0").exit_code == 0
    run = tmp_path / "run"
    times = {path: path.stat().st_mtime_ns for path in run.rglob("*.parquet")}
    assert call("--cell", "0").exit_code == 0
    one_line_error(call("--cell", "2"), 4, "holds another run", "cells", "--overwrite")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.parquet")} == times
    assert call("--cell", "2", "--gene", "GENE5", "--overwrite", gene=None).exit_code == 0
    assert ranklock.read_run(run).cells.index.tolist() == ["c"]


def test_a_folder_with_something_else_is_left_alone(call, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("mine")
    for options in ([], ["--overwrite"]):
        one_line_error(call("--cell", "0", *options), 4, "something other", "--out")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_written(call):
    one_line_error(call(out="/proc/ranklock/run"), 4, "/proc/ranklock/run")


def test_wrong_options_are_told_apart_from_wrong_input(call):
    assert call("--cell", "0", "--cells", "0:2").exit_code == 2
    assert call("--nonsense").exit_code == 2
    assert CliRunner().invoke(app, ["perturb", "cells.h5ad"]).exit_code == 2


def test_without_vocabulary_tokens_serve_as_names(place, tmp_path):
    pd.DataFrame({"input_ids": [list(range(5, 40))]}).to_parquet(place / "bare.parquet")
    arguments = ["perturb", str(place / "bare.parquet"), "--model", str(place / "model"),
                 "--gene", "12", "--out", str(tmp_path / "run")]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "note:" in result.stderr
    assert "tokens serve as names" in result.stderr
    assert set(ranklock.read_run(tmp_path / "run").table["gene"]) == {"12"}


def test_help_teaches():
    text = CliRunner().invoke(app, ["perturb", "--help"], env={"COLUMNS": "200"}).output
    for word in (*ARMS, "Examples", "--genes all", "Exit codes"):
        assert word in text
    assert CliRunner().invoke(app, ["--version"]).output.startswith("ranklock ")


def test_an_interrupted_run_leaves_nothing(call, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ranklock.models.load_model", interrupt)
    result = call("--cell", "0")
    assert result.exit_code == 130
    assert "what was done is kept" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(call, tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    one_line_error(call(), 4, "Permission denied")


def test_two_processes_give_the_same_files(place, tmp_path):
    for name in ("a", "b"):
        subprocess.run(
            [sys.executable, "-m", "ranklock.cli", "perturb", str(place / "cells.h5ad"),
             "--model", str(place / "model"), "--vocabulary", str(place / "vocabulary.json"),
             "--gene", "GENE5", "--out", str(tmp_path / name)],
            check=True, capture_output=True,
        )  # fmt: skip
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        again = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == again.read_bytes(), path.name


def test_count_noise_is_said_and_beside_every_effect(call, tmp_path):
    result = call("--cells", "0:1", "--count-noise", "--arms", "hold")
    assert result.exit_code == 0, result.output
    assert "Count noise: 5 draws a cell with 1% of the counts taken away" in result.stderr
    assert "An effect far below count noise is exact and may still be of no" in result.stdout
    shown = CliRunner().invoke(
        app, ["show", str(tmp_path / "run"), "--gene", "GENE3", "--csv", str(tmp_path / "gene.csv")]
    )
    assert shown.exit_code == 0, shown.output
    assert (pd.read_csv(tmp_path / "gene.csv")["count_noise"] >= 0).all()
    again = CliRunner().invoke(app, ["show", str(tmp_path / "run")])
    said = [line for line in result.stdout.splitlines() if "ount noise" in line]
    assert len(said) >= 3
    assert [line for line in again.stdout.splitlines() if "ount noise" in line] == said
    plain = call("--cells", "0:1", "--arms", "hold")
    assert plain.exit_code == 4
    assert "begun with other values of count noise" in plain.stderr


def test_a_dry_run_says_what_count_noise_takes(call):
    result = call("--cells", "0:2", "--count-noise", "--dry-run", gene="GENE5")
    assert result.exit_code == 0, result.output
    assert ": 6 forwards more, " in result.stdout
