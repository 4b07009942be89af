"""The benchmarks run, and both ways that they time find the same numbers."""

import argparse
import re
import sys
from pathlib import Path

import pytest

import ranklock

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

import all_genes  # noqa: E402
import common  # noqa: E402
import few_genes  # noqa: E402
import files_and_memory  # noqa: E402
import today  # noqa: E402

SMALL = {
    "num_hidden_layers": 3, "vocab_size": 300, "hidden_size": 32, "num_attention_heads": 2,
    "intermediate_size": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return common.checkpoint(tmp_path_factory.mktemp("benchmark") / "model", **SMALL)


def test_few_genes_in_many_cells(path, tmp_path, capsys):
    plain, model = today.load(path, None, "cpu"), ranklock.load_model(path, device="cpu")
    few_genes.compare(plain, model, few_genes.Shape(2, 3, 40), 1, str(tmp_path))
    line = capsys.readouterr().out
    assert re.search(r"2 genes × 3 cells × 40 tokens: today .* times faster", line)
    outside = float(re.search(r"([\d.]+)% of ranklock's time outside", line)[1])
    assert 0 < outside < 100


def test_all_genes_of_one_cell(path, tmp_path, capsys):
    plain, model = today.load(path, None, "cpu"), ranklock.load_model(path, device="cpu")
    asked = argparse.Namespace(genes=30, seconds=0.1, rounds=1, release=None)
    all_genes.compare(plain, model, 30, asked, tmp_path / "run", None)
    assert re.search(r"30 tokens, 30 genes: today .* times faster", capsys.readouterr().out)


def test_the_two_ways_are_really_compared(path):
    model = ranklock.load_model(path, device="cpu")
    cells = common.random_cells([30], model)
    run = ranklock.perturb(cells, model, arms=["delete"], read=["genes"], progress=False)
    cell = cells.ranked[0].tolist()
    similarities = today.similarities_of_cell(today.load(path, None, "cpu"), cell, [3, 7], 2)
    all_genes.check(run, similarities)
    similarities[cell[3], cell[9]][0] -= 1e-4
    with pytest.raises(AssertionError, match="between the ways"):
        all_genes.check(run, similarities)


def test_files_and_memory_of_a_run(path):
    point = files_and_memory.point(str(path), 4, **{**files_and_memory.SHORT, "tokens": 20})
    assert point["tasks"] == 4
    assert point["files"] < 20
    assert point["peak"] >= point["before"] > 100
