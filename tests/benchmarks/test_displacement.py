"""Benchmarks of the displacement forward run, and count and compare what they say."""

import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

import accuracy  # noqa: E402
import common  # noqa: E402
import knock_outs  # noqa: E402
import precision  # noqa: E402

import ranklock  # noqa: E402
from ranklock.arms import baseline  # noqa: E402
from ranklock.engine.method import EXACT  # noqa: E402
from ranklock.engine.tasks import measure_groups  # noqa: E402
from ranklock.genes.vocabulary import token_vocabulary  # noqa: E402

SMALL = {
    "num_hidden_layers": 3, "vocab_size": 100, "hidden_size": 32, "num_attention_heads": 2,
    "intermediate_size": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    path = common.checkpoint(tmp_path_factory.mktemp("displacement") / "model", **SMALL)
    vocabulary = token_vocabulary(99, special_frame=True)
    tokens = np.random.default_rng(0).permutation(np.arange(4, 100))[:40]
    cell = baseline(tokens, vocabulary, special_frame=True)
    return knock_outs.Case("small", ranklock.load_model(path, device="cpu"), cell, vocabulary)


def test_knock_outs_are_of_ranks_from_the_highest_to_the_lowest(case):
    assert case.genes == 40
    assert case.special_frame
    assert case.ranks(3) == [0, 20, 39]
    group = case.group(case.ranks(3))
    assert set(group.arms) == {"delete", "hold", "mask", "shift"}
    assert [len(cell) for cell in group.arms["delete"]] == [41] * 3
    assert len(case.group([0], genes=False).responders) == 0


def test_errors_are_relative_to_effects(case):
    (exact,) = measure_groups(
        case.model, [case.group([3, 30])], case.reading(cell=True), method=EXACT
    )
    of_itself = accuracy.errors(exact, exact, "hold")
    assert (of_itself.median, of_itself.percentile_95, of_itself.cell) == (0.0, 0.0, 0.0)
    assert of_itself.within("float32")
    assert not accuracy.Errors(0.006, 0.006, 0.0).within("bfloat16")
    assert not accuracy.Errors(0.004, 0.04, 0.0).within("bfloat16")


def test_accuracy_is_printed(case, capsys):
    met = accuracy.table(case, 2)
    lines = capsys.readouterr().out
    assert len(met) == 2
    assert all(f"| {method} |" in lines for method in accuracy.METHODS)


def test_work_is_that_of_a_forward(case):
    reading = case.reading(cell=False)
    work = precision.work_of(case, reading, 40)
    tokens, width, wide = 42, 32, 64
    assert work.attention == 2 * 4 * tokens**2 * width
    assert work.linear == 2 * 2 * tokens * width * (4 * width + 2 * wide)
    # A displacement's products are a forward's, those of attention twice.
    at_one = precision.Rates(1.0, 1.0)
    assert at_one.seconds(work, displacement=True) == work.linear + 2 * work.attention


@pytest.mark.parametrize("genes", [True, False])
def test_times_are_printed(case, genes, capsys):
    best = precision.compare(case, 2, 1, genes=genes)
    lines = capsys.readouterr().out
    assert precision.FORWARDS in best
    assert all(f"| {method} |" in lines for method in best)
