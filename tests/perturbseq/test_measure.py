from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ranklock.errors import InputError
from ranklock.perturbseq.measure import MEAN_EFFECT, SCREEN_MEAN, Thresholds, measure
from ranklock.perturbseq.summary import ADDS, NOTHING_FOUND, TOO_FEW, orient_baselines, summarise
from tests.perturbseq.planted import planted


def judged(scores, screen, **thresholds):
    measured = measure(scores, screen, Thresholds(**thresholds))
    table = orient_baselines(measured)
    return table, next(iter(summarise(table, measured.baselines).values()))


def test_a_specific_signal_on_top_of_responsiveness_is_found():
    for seed in range(4):
        table, summary = judged(*planted(seed, specific=2.0, perturbations=40, perturbed=32))
        assert summary.verdict == ADDS
        assert summary.joint.low > 0
        assert summary.under_other_perturbations.low > 0
        # It is in half of the perturbed genes, the first ones.
        gain = table["joint_auroc_with"] - table["joint_auroc_without"]
        assert gain[:16].mean() > 0.08
        assert gain[16:].mean() < 0.02


def test_responsiveness_alone_is_no_increment():
    """Over 40 synthetic screens; at most 5 % should be called, and 2.5 % are on this side."""
    summaries = [judged(*planted(seed, specific=0.0))[1] for seed in range(40)]
    assert all(summary.auroc.low > 0.55 for summary in summaries)  # it does rank what changes
    # 40 screens at 5 %: more than 5 has a probability of 1.4 %.
    assert sum(summary.verdict == ADDS for summary in summaries) <= 5
    assert sum(summary.increment.low > 0 for summary in summaries) == 0
    intervals = [summary.under_other_perturbations for summary in summaries]
    assert sum(interval.low <= 0 <= interval.high for interval in intervals) >= 35


def test_knowing_which_genes_always_change_is_no_increment():
    """A score that is the frequency of change in another such screen, for all alike."""
    scores, screen = planted(3, specific=0.0)
    _, another = planted(3, specific=0.0, perturbations=48, perturbed=40)
    often = another.changed(0.05, 0)[24:].mean(axis=0)  # the first 24 share their targets
    values = np.tile(often, (len(scores.perturbed), 1))
    values[np.isnan(scores.layers["hold"])] = np.nan
    _, summary = judged(replace(scores, layers={"oracle": values}), screen)
    assert summary.auroc.value > 0.62
    assert summary.best in {MEAN_EFFECT, SCREEN_MEAN}
    # The place among a perturbation's responders is that of the mean, to ties broken by one gene.
    assert summary.increment.value < 0.01
    assert abs(summary.under_other_perturbations.value) < 0.01
    assert summary.verdict != ADDS


def test_numbers_are_those_of_scikit_learn_without_the_gene_itself():
    scores, screen = planted(1, specific=1.0)
    table, _ = judged(scores, screen)
    for i, gene in enumerate(screen.perturbed):
        use = np.arange(len(screen.genes)) != i
        truth, score = screen.q[i, use] <= 0.05, scores.layers["hold"][i, use]
        row = table[table["gene_id"] == gene].iloc[0]
        assert row["auroc"] == pytest.approx(roc_auc_score(truth, score), abs=1e-12)
        precision = average_precision_score(truth, score)
        assert row["average_precision"] == pytest.approx(precision, abs=1e-12)
        assert row["chance_average_precision"] == pytest.approx(truth.mean())
        expression = scores.in_cells.table["expression"].to_numpy()[use]
        assert row["auroc of expression"] == pytest.approx(roc_auc_score(truth, expression))
        others = np.abs(np.delete(screen.log_fold_change, i, axis=0)).astype(float)
        # A perturbed gene is not tested under its own perturbation, so it has one less to count.
        rows = np.delete(np.arange(len(screen.perturbed)), i)
        others[rows[:, None] == np.arange(len(screen.genes))] = np.nan
        mean = np.nanmean(others, axis=0)[use]
        assert row[f"auroc of {SCREEN_MEAN}"] == pytest.approx(roc_auc_score(truth, mean))


def test_new_names_change_no_number():
    scores, screen = planted(2, specific=1.0)
    draw = np.random.default_rng(0)
    new = dict(zip(scores.responders, [f"X{i}" for i in draw.permutation(len(scores.responders))],
                   strict=True))  # fmt: skip
    cells = scores.in_cells
    renamed = replace(
        scores,
        perturbed=[new[g] for g in scores.perturbed],
        responders=[new[g] for g in scores.responders],
        symbols={new[g]: s for g, s in scores.symbols.items()},
        in_cells=replace(cells, table=cells.table.rename(index=new)),
    )
    renamed_screen = replace(
        screen, perturbed=[new[g] for g in screen.perturbed], genes=[new[g] for g in screen.genes]
    )
    before, after = judged(scores, screen)[0], judged(renamed, renamed_screen)[0]
    numbers = before.select_dtypes("number").columns
    np.testing.assert_array_equal(before[numbers], after[numbers])
    # Another order of the responders, and of the screen's genes: the same, to rounding of sums.
    order = draw.permutation(len(scores.responders))
    shuffled = replace(
        scores, responders=[scores.responders[i] for i in order],
        layers={"hold": scores.layers["hold"][:, order]},
    )  # fmt: skip
    moved = judged(shuffled, screen)[0]
    np.testing.assert_allclose(before[numbers], moved[numbers], atol=1e-9)


def test_a_baseline_is_read_the_way_that_the_others_say():
    """Genes of low expression change here; a score that is minus expression gains nothing."""
    scores, screen = planted(4, specific=0.0)
    low = scores.in_cells.table.assign(expression=lambda t: -t["expression"])
    scores = replace(scores, in_cells=replace(scores.in_cells, table=low))
    values = np.tile(-low["expression"].to_numpy(), (len(scores.perturbed), 1))
    values += 1e-9 * np.random.default_rng(0).normal(size=values.shape)
    _, summary = judged(replace(scores, layers={"low": values}), screen)
    assert summary.baselines["expression"] > 0.6
    assert summary.increment.value <= 1e-6
    assert summary.verdict != ADDS


def test_excluded_genes_and_the_untested_are_not_scored():
    scores, screen = planted(5, specific=1.0)
    excluded = measure(scores, screen, Thresholds(), excluded=screen.genes[100:150])
    assert (excluded.table["genes"] == 400 - 1 - 50).all()
    q = screen.q.copy()
    q[:, 100:150] = np.nan
    untested = measure(scores, replace(screen, q=q), Thresholds())
    np.testing.assert_array_equal(excluded.table["auroc"], untested.table["auroc"])


def test_coverage_counts_what_the_run_never_sees():
    scores, screen = planted(6, specific=1.0)
    half = replace(scores, responders=scores.responders[:200],
                   layers={"hold": scores.layers["hold"][:, :200]})  # fmt: skip
    measured = measure(half, replace(screen, elsewhere=["FAR"]), Thresholds())
    row = measured.coverage.set_index("gene_id").loc[screen.perturbed[3]]
    changed = screen.changed(0.05, 0)[3]
    assert row["changed_genes"] == changed.sum()
    assert row["changed_that_respond"] == changed[:200].sum()
    assert row["recall_ceiling"] == pytest.approx(changed[:200].sum() / changed.sum())
    far = measured.coverage.set_index("gene_id").loc["FAR"]
    assert (far["why_not"], far["cells_with_gene"]) == ("not perturbed in the run", 0)


def test_nothing_is_said_from_nothing():
    scores, screen = planted(7, specific=1.0)
    strangers = replace(screen, perturbed=[f"Y{i}" for i in range(len(screen.perturbed))])
    with pytest.raises(InputError, match="No perturbed gene of synthetic is perturbed"):
        measure(scores, strangers, Thresholds())
    with pytest.raises(InputError, match="has 300 changed and as many unchanged"):
        measure(scores, screen, Thresholds(fewest_changed=300))
    changed_only = replace(screen, q=np.where(screen.q <= 0.05, screen.q, np.nan))
    with pytest.raises(InputError, match="--unlisted unchanged"):
        measure(scores, changed_only, Thresholds())
    pair = replace(screen, perturbed=screen.perturbed[:2], q=screen.q[:2],
                   log_fold_change=screen.log_fold_change[:2])  # fmt: skip
    _, summary = judged(scores, pair)
    assert summary.verdict == TOO_FEW
    unknown = [summary.auroc.low, summary.increment.low, summary.increment_p, summary.joint.value,
               summary.joint_p]  # fmt: skip
    assert np.isnan(unknown).all()


def test_without_cells_only_the_mean_effect_is_a_baseline():
    scores, screen = planted(8, specific=0.0)
    measured = measure(replace(scores, in_cells=None), screen, Thresholds())
    assert measured.baselines == [MEAN_EFFECT, SCREEN_MEAN]
    single = replace(scores, perturbed=scores.perturbed[:1], in_cells=None,
                     layers={"hold": scores.layers["hold"][:1]})  # fmt: skip
    assert judged(single, screen)[1].best == SCREEN_MEAN
    alone = replace(screen, perturbed=screen.perturbed[:1], q=screen.q[:1],
                    log_fold_change=screen.log_fold_change[:1])  # fmt: skip
    _, summary = judged(single, alone)
    assert summary.best is None
    assert np.isnan(summary.increment.value)
    assert summary.verdict == TOO_FEW
    assert NOTHING_FOUND != TOO_FEW
