import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ranklock.statistics.enrichment import enrichment, matched_draws


def test_auroc_and_average_precision_are_scikit_learns():
    draw = np.random.default_rng(0)
    scores, targets = draw.standard_normal(300), draw.random(300) < 0.1
    found = enrichment(scores, targets, matched_draws(targets, np.arange(300), 5, 0))
    assert found.auroc == pytest.approx(roc_auc_score(targets, scores))
    assert found.average_precision == pytest.approx(average_precision_score(targets, scores))


def test_draws_have_the_ranks_of_the_targets():
    draw = np.random.default_rng(1)
    targets = np.zeros(500, bool)
    targets[draw.choice(100, 20, replace=False)] = True  # all of them high
    ranks = draw.permutation(500)
    targets = targets[ranks]
    drawn = matched_draws(targets, ranks, 200, 0)
    assert drawn.shape == (200, 20)
    assert ranks[drawn].max() < 100 + 12  # stretches of 12 genes do not end at 100
    assert all(len(set(row)) == 20 for row in drawn.tolist())


@pytest.mark.parametrize("genes", [200, 400, 1000])
def test_p_is_uniform_where_effects_go_with_rank_and_so_do_targets(genes):
    """A permutation without ranks gets this null wrong: targets are high, and so are effects."""
    draw = np.random.default_rng(2)
    ranks, p, naive = np.arange(genes), [], []
    for trial in range(300):
        targets = draw.random(genes) < 0.4 * np.exp(-ranks / (0.15 * genes))
        scores = -4 * ranks / genes + draw.standard_normal(genes)
        p.append(enrichment(scores, targets, matched_draws(targets, ranks, 200, trial)).p)
        anywhere = [draw.choice(genes, targets.sum(), replace=False) for _ in range(200)]
        anywhere = np.array(anywhere)
        naive.append(enrichment(scores, targets, anywhere).p)
    # 300 trials: the standard error of 5 % is 1.3 %.
    assert np.mean(np.array(p) <= 0.05) <= 0.09
    assert abs(np.mean(p) - 0.5) < 0.06
    assert np.mean(np.array(naive) <= 0.05) > 0.5


def test_targets_that_move_are_found():
    draw = np.random.default_rng(3)
    targets = draw.random(400) < 0.05
    found = enrichment(
        targets + draw.standard_normal(400) * 0.1, targets,
        matched_draws(targets, np.arange(400), 500, 0),
    )  # fmt: skip
    assert found.auroc == pytest.approx(1.0)
    assert found.p == pytest.approx(1 / 501)
