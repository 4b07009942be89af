import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

import ground_truth  # noqa: E402
import ground_truth_scores  # noqa: E402
from planted_network import Design, draw_cells, draw_network, gene_names  # noqa: E402
from training.train import Recipe  # noqa: E402

SMALL = Design(cells=600, held_out=40, factors=6, targets=18, bystanders=6, others=6, cascades=2)


def test_links_run_from_factors_without_cycles():
    edges = draw_network(SMALL)
    assert edges["source"].str.startswith("FACTOR").all()
    assert set(edges["weight"]) <= {-1.0, 1.0}
    of_factors = edges[edges["target"].str.startswith("FACTOR")]
    number = [frame.str.removeprefix("FACTOR").astype(int) for frame in
              (of_factors["source"], of_factors["target"])]  # fmt: skip
    assert (number[0] < number[1]).all()


def test_cells_are_counts_and_come_out_alike():
    edges = draw_network(SMALL)
    cells, again = draw_cells(SMALL, edges), draw_cells(SMALL, edges)
    assert (cells.X != again.X).nnz == 0
    assert cells.X.dtype == np.int32
    assert cells.X.data.min() > 0
    assert cells.obs["split"].value_counts().to_dict() == {"training": 600, "held-out": 40}


def test_a_target_follows_its_factor_the_way_that_the_link_says():
    design = Design(cells=3000, held_out=0, module_spread=0.01, noise=0.1, dropout=0.0,
                    second_regulator=0.0, cascades=0, depth=30000.0)  # fmt: skip
    edges = draw_network(design)
    counts = draw_cells(design, edges).to_df()
    shares = counts.div(counts.sum(axis=1), axis=0)
    signs = [np.sign(shares[s].corr(shares[t], "spearman")) == w
             for s, t, w in edges.itertuples(index=False)]  # fmt: skip
    assert np.mean(signs) > 0.95


def test_candidates_know_links_and_paths():
    edges = pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"]})
    pairs = ground_truth_scores.candidates(edges, ["A", "B"], ["A", "B", "C"])
    pairs = pairs.set_index(["gene", "responder"])
    assert len(pairs) == 4
    assert pairs.loc[("A", "B")].tolist() == [True, True]
    assert pairs.loc[("A", "C")].tolist() == [False, True]
    assert pairs.loc[("B", "A")].tolist() == [False, False]


def test_measures_are_those_of_scikit_learn_and_of_counting():
    draw = np.random.default_rng(0)
    pairs = pd.DataFrame({"gene": np.repeat(list("abcdef"), 30), "direct": draw.random(180) < 0.2})
    pairs["score"] = draw.normal(size=180) + pairs["direct"]
    pairs.loc[3, "score"] = np.nan
    judged = ground_truth_scores.judge(pairs, "score", "direct")
    known = pairs.dropna()
    assert judged["auroc"] == pytest.approx(roc_auc_score(known["direct"], known["score"]))
    assert judged["auroc_low"] < judged["auroc"] < judged["auroc_high"]
    assert judged["pairs"] == 179
    scores, true = np.array([3, 2, 1, 0]), np.array([1, 0, 1, 0])
    assert ground_truth_scores.early_precision(scores, true) == 0.5


def test_co_expression_finds_what_is_co_expressed():
    draw = np.random.default_rng(0)
    level = draw.gamma(2, 20, 400)
    counts = draw.poisson(np.stack([level, level, *(np.full(400, 40.0),) * 60], axis=1))
    for matrix in ground_truth_scores.co_expression(counts, [f"g{i}" for i in range(62)]):
        assert matrix.loc["g0", "g1"] > 1.5 * matrix.loc["g0", "g2":].max()


def test_findings_are_counted_beside_what_was_tested():
    pairs = pd.DataFrame({"tested": [True, True, True, True, False, np.nan],
                          "finding": [True, True, False, False, False, np.nan],
                          "direct": [1, 0, 0, 0, 1, 1], "any": [1, 1, 0, 0, 1, 1]})  # fmt: skip
    row = ground_truth_scores.precision_of_findings(pairs)
    assert (row["tested"], row["findings"]) == (4, 2)
    assert (row["direct"], row["direct_base"]) == (0.5, 0.25)
    assert (row["any"], row["any_base"]) == (1.0, 0.5)
    none = ground_truth_scores.precision_of_findings(pairs.assign(finding=False))
    assert none["direct"] is None


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")  # of what cells lack
def test_the_whole_benchmark_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(ground_truth_scores, "REDRAWN", 10)
    few = ground_truth.impostors_of
    monkeypatch.setattr(ground_truth, "impostors_of", lambda cells: few(cells, most=3))
    recipe = Recipe(steps=20, cells_per_step=16, learning_rate=2e-3, warm_up=5, weight_decay=0.01,
                    least_kept=0.9, width=16, layers=2, heads=2, feed_forward=32,
                    dropout=0.0)  # fmt: skip
    content = ground_truth.measure(tmp_path, tmp_path / "model", SMALL, recipe, 6, 1, layers=(-1,))
    assert {row["truth"] for row in content["scores"]} == {"direct", "any"}
    by_name = {row["score"]: row for row in content["scores"] if row["truth"] == "direct"}
    assert by_name["Spearman, training cells"]["pairs"] == 6 * (len(gene_names(SMALL)) - 1)
    # 600 cells of a network with 6 factors: co-expression knows the links, 20 steps do not.
    assert by_name["Spearman, training cells"]["auroc"] > 0.7
    assert {"hold, layer -1: effect", "hold, layer -1: fold"} <= set(by_name)
    findings = {row["arm"]: row for row in content["findings"]}
    assert findings["hold"]["tested"] > 0
    assert 0 < findings["hold"]["direct_base"] < 0.5
    text = ground_truth.tables(content)
    assert f"Findings beside {content['impostors']} impostors" in text
    assert f"| delete | -1 | {findings['delete']['tested']} |" in text
    ground_truth.figure(content, tmp_path)
    assert (tmp_path / "ground_truth.png").is_file()
