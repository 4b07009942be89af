import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ranklock.statistics.enrichment import (
    auroc,
    aurocs,
    enrichment,
    matched_permutations,
    permutation_p,
)


def test_auroc_and_average_precision_are_scikit_learns():
    draw = np.random.default_rng(0)
    scores, targets = draw.standard_normal(300), draw.random(300) < 0.1
    permuted = matched_permutations(np.arange(300), 5, 0)
    found = enrichment(scores, np.flatnonzero(targets), permuted)
    assert found.auroc == pytest.approx(roc_auc_score(targets, scores))
    assert found.auroc == auroc(scores, targets)
    assert found.average_precision == pytest.approx(average_precision_score(targets, scores))
    for row, null in zip(permuted, found.null_auroc, strict=True):
        in_their_place = np.isin(np.arange(300), row[targets])
        assert null == pytest.approx(roc_auc_score(in_their_place, scores))


def test_genes_that_do_not_respond_are_left_out():
    draw = np.random.default_rng(4)
    scores, targets = draw.standard_normal(100), draw.random(100) < 0.2
    silent = draw.random(100) < 0.3
    heard = enrichment(
        np.where(silent, np.nan, scores), np.flatnonzero(targets),
        matched_permutations(np.arange(100), 7, 0),
    )  # fmt: skip
    assert heard.auroc == pytest.approx(roc_auc_score(targets[~silent], scores[~silent]))
    expected = average_precision_score(targets[~silent], scores[~silent])
    assert heard.average_precision == pytest.approx(expected)
    nothing = aurocs(np.where(silent, np.nan, scores), np.flatnonzero(silent)[None, :3])
    assert np.isnan(nothing).all()


def test_permutations_keep_each_gene_among_its_like():
    ranks = np.random.default_rng(1).permutation(500)
    permuted = matched_permutations(ranks, 200, 0)
    assert permuted.shape == (200, 500)
    assert (np.sort(permuted, axis=1) == np.arange(500)).all()
    assert np.abs(ranks[permuted] - ranks).max() < 13  # stretches of 12 or 13 genes
    moved = (permuted != np.arange(500)).mean()
    assert moved == pytest.approx(1 - 1 / 12.5, abs=0.01)


def test_one_permutation_keeps_shared_targets_shared():
    permuted = matched_permutations(np.arange(300), 50, 0)
    first, second = np.arange(0, 100, 5), np.arange(0, 100, 10)
    for row in permuted:
        assert set(row[second]) <= set(row[first])


@pytest.mark.parametrize("genes", [200, 400, 1000])
def test_p_is_uniform_where_effects_go_with_rank_and_so_do_targets(genes):
    """A permutation without ranks gets this null wrong: targets are high, and so are effects."""
    draw = np.random.default_rng(2)
    ranks, p, naive = np.arange(genes), [], []
    for trial in range(300):
        targets = np.flatnonzero(draw.random(genes) < 0.4 * np.exp(-ranks / (0.15 * genes)))
        scores = -4 * ranks / genes + draw.standard_normal(genes)
        p.append(enrichment(scores, targets, matched_permutations(ranks, 200, trial)).p)
        anywhere = np.argsort(draw.random((200, genes)), axis=1)
        naive.append(enrichment(scores, targets, anywhere).p)
    # 300 trials: the standard error of 5 % is 1.3 %.
    assert np.mean(np.array(p) <= 0.05) <= 0.09
    assert abs(np.mean(p) - 0.5) < 0.06
    assert np.mean(np.array(naive) <= 0.05) > 0.5


def test_shared_targets_need_one_permutation_for_all_regulators():
    """Regulators share targets and genes respond alike to all of them: no link is true.

    Permuting each regulator's targets on its own takes their mean to be less uncertain than it is.
    """
    draw = np.random.default_rng(5)
    genes, regulators, trials, draws = 200, 12, 300, 200
    joint, apart = [], []
    for trial in range(trials):
        pool = draw.choice(genes, 40, replace=False)  # of which all of them take their targets
        moves = draw.standard_normal(genes)  # under anything
        scores = moves + 0.7 * draw.standard_normal((regulators, genes))
        targets = [draw.choice(pool, 15, replace=False) for _ in range(regulators)]
        together = [matched_permutations(np.arange(genes), draws, trial)] * regulators
        each = [matched_permutations(np.arange(genes), draws, trial * 100 + k + 10**6)
                for k in range(regulators)]  # fmt: skip
        for permutations, p in ((together, joint), (each, apart)):
            found = [enrichment(*of) for of in zip(scores, targets, permutations, strict=True)]
            null = np.mean([part.null_auroc for part in found], axis=0)
            p.append(permutation_p(np.mean([part.auroc for part in found]), null))
    assert np.mean(np.array(apart) <= 0.05) > 0.15
    # 300 trials: the standard error of 5 % is 1.3 %.
    assert np.mean(np.array(joint) <= 0.05) <= 0.05 + 3 * 0.013
    assert abs(np.mean(joint) - 0.5) < 0.06


def test_targets_that_move_are_found():
    draw = np.random.default_rng(3)
    targets = draw.random(400) < 0.05
    found = enrichment(
        targets + draw.standard_normal(400) * 0.1, np.flatnonzero(targets),
        matched_permutations(np.arange(400), 500, 0),
    )  # fmt: skip
    assert found.auroc == pytest.approx(1.0)
    assert found.p == pytest.approx(1 / 501)


def test_a_p_value_counts_what_was_observed_as_one_draw():
    assert permutation_p(1.0, np.array([0.0, 0.5, np.nan, 1.0])) == 2 / 4
    assert permutation_p(2.0, np.array([0.0] * 9)) == 0.1
