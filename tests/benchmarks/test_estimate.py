import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

import common  # noqa: E402
import estimate  # noqa: E402
import estimate_cost  # noqa: E402
import estimate_moves  # noqa: E402
import estimate_recall  # noqa: E402

from ranklock import load_model  # noqa: E402
from ranklock.effects import cosine_distance  # noqa: E402
from ranklock.run.plan import unperturbed_cell  # noqa: E402
from tests import helpers  # noqa: E402


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("estimate")
    return helpers.checkpoint(folder, layers=3, spread=0.1, bias_spread=0.1)


@pytest.fixture(scope="module")
def model(path):
    return load_model(path, device="cpu")


@pytest.fixture(scope="module")
def cells():
    return helpers.cells_of([30, 24], helpers.vocabulary())


@pytest.fixture
def goal():
    return np.random.default_rng(0).normal(size=16)


def cosine(x, y):
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


def test_exact_effects_are_those_of_plain_forwards(path, model, cells, goal):
    exact = estimate_recall.exact_effects(cells, 0, model, goal)
    tokens = cells.ranked[0].tolist()
    before = helpers.plain_forward(path, tokens, list(range(30)))
    for rank in (0, 13, 29):
        rest = [place for place in range(30) if place != rank]
        after = helpers.plain_forward(path, [tokens[place] for place in rest], rest)
        towards = cosine(after.mean(0), goal) - cosine(before[rest].mean(0), goal)
        # Of float32 forwards, beside float64 ones: cosines are good to some 1e-7.
        assert exact.towards[rank] == pytest.approx(towards, abs=3e-7)
        potency = cosine_distance(before[rest], after).mean()
        assert exact.potency[rank] == pytest.approx(potency, rel=1e-3)


def test_recall_counts_by_size_and_not_by_sign():
    exact = np.array([-5.0, 4.0, 3.0, 0.1, 0.0])
    estimate = np.array([1.0, 0.0, -0.5, 0.4, 0.2])
    assert estimate_recall.recall(exact, estimate, 2, 2) == 0.5
    assert estimate_recall.recall(exact, estimate, 3, 2) == pytest.approx(2 / 3)
    assert estimate_recall.recall(exact, estimate, 3, 5) == 1.0


def test_the_curve_grows_with_what_is_verified_and_with_probes(model, cells, goal, tmp_path):
    points = estimate_recall.curve(
        "tiny", cells, [0, 1], model, [goal] * 2, probes=(1, 64), verified=(10, 20, 24)
    )
    by_k = points.groupby(["cell", "question", "probes", "way", "top"])
    assert by_k["recall"].apply(lambda recall: recall.is_monotonic_increasing).all()
    # All 24 genes of the second cell, verified, are all of its largest.
    assert (points[(points["cell"] == 1) & (points["verified"] == 24)]["recall"] == 1).all()
    known = points.groupby(["question", "way", "probes"])["spearman"].mean()
    assert known["goal", "estimate", 0] > 0.9
    assert known["potency", "estimate", 64] > known["potency", "estimate", 1]
    text = estimate_recall.tables(points)
    assert "tiny, goal: 2 cells" in text
    assert "| estimate | 64 |" in text
    estimate_recall.figure(points, tmp_path / "curve.png", top=10)
    assert (tmp_path / "curve.png").is_file()


def test_speed_prints_every_ratio(path, cells, capsys):
    estimate.speed(cells, 0, path, rounds=1, stretches=1, knockouts=3)
    printed = capsys.readouterr().out
    assert "one cell of 30 genes" in printed
    for row in ("estimate goal", "estimate goal + verify 75", "estimate 32 probes", "exact run"):
        assert f"| {row} |" in printed


def test_ratios_are_of_the_medians_of_rounds():
    took = {"goal": 1.0, "8 probes": 2.0, "32 probes": 4.0, "verify 50": 3.0, "verify 75": 7.0}
    text = estimate.speed_table([took | {"run": 80.0, "today": 400.0}])
    assert "| estimate goal | 1.00 | 80.0 (80.0 to 80.0) | 400.0 (400.0 to 400.0) |" in text
    assert "| estimate goal + verify 50 | 4.00 | 20.0 (20.0 to 20.0) |" in text


def test_arithmetic_counts_hours(monkeypatch, tmp_path, capsys):
    small = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
             "intermediate_size": 32, "max_position_embeddings": 64}  # fmt: skip
    monkeypatch.setitem(common.ARCHITECTURES, "small", small)
    monkeypatch.setattr(estimate_cost, "_CELLS", 3_600_000_000_000)
    estimate_cost.arithmetic(tmp_path, "small", 40, 10, gpu_tflops=1e-3, gpus=4)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[5:]]
    assert len(rows) == 5
    for row in rows:
        tera, on_gpu, on_four = (float(text.strip(" |").replace(",", "")) for text in
                                 (row[1], row[4], row[5]))  # fmt: skip
        # 10⁹ operations a second, 10⁹ hours' worth of seconds: hours are operations of a cell.
        assert on_gpu == pytest.approx(tera * 1e12, rel=0.01)
        assert on_four == pytest.approx(on_gpu / 4, rel=0.01)


def test_a_small_part_of_a_move_is_what_the_derivative_says(model, cells, goal):
    cell = unperturbed_cell(cells, 0, model)
    moved = estimate_moves.moves(model, cell, cells.vocabulary, goal, 2, 7, part=0.05)
    moving = np.arange(30) != 7
    assert np.corrcoef(moved.one_pass[moving], moved.part[moving])[0, 1] > 0.99
    np.testing.assert_allclose(moved.exact[7], 0, atol=1e-7)  # it is at that rank already
    np.testing.assert_allclose(moved.one_pass[7], 0, atol=1e-12)
