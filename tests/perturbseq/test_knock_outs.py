from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ranklock.perturbseq.knock_outs import CHANGED, DISTANCE, knock_outs_of, likeness
from ranklock.perturbseq.measure import SCREEN_MEAN
from tests.perturbseq.planted import planted


def judged(scores, screen, seed=0):
    table, summaries = knock_outs_of(scores, screen, 0.05, 0.0, seed)
    return table, summaries["hold"]


def test_likeness_is_spearman_where_all_is_known():
    draw = np.random.default_rng(0)
    predicted, measured = draw.normal(size=(4, 30)), draw.normal(size=(5, 30))
    alike = likeness(predicted, measured)
    for i in range(4):
        for j in range(5):
            expected = stats.spearmanr(predicted[i], measured[j]).statistic
            assert alike[i, j] == pytest.approx(expected)
    assert np.isnan(likeness(np.ones((1, 30)), measured)).all()


def test_perturbations_that_are_told_apart_are_found():
    """In half of them scores rise at the very genes that change; no score, no discrimination."""
    for seed in range(4):
        table, summary = judged(*planted(seed, specific=2.0, perturbations=40, perturbed=32))
        assert summary.p < 0.001
        place = table["place"].to_numpy()
        assert place[:16].mean() > 0.9
        assert abs(place[16:].mean() - 0.5) < 0.2
        # The mean of the others is nearly the same for all, and leaves each one's own profile out.
        assert summary.baselines[SCREEN_MEAN] < 0.5


def test_responsiveness_alone_tells_no_perturbation_from_another():
    p, place = [], []
    for seed in range(60):
        _, summary = judged(*planted(seed, specific=0.0, responders=150), seed)
        p.append(summary.p)
        place.append(summary.discrimination.value)
    # 60 at 5 %: more than 7 has a probability of 1.4 %.
    assert np.sum(np.array(p) <= 0.05) <= 7
    assert np.mean(place) == pytest.approx(0.5, abs=0.03)


def with_shifts(seed, strength):
    """Cell shifts that follow the number of changed genes, and a screen that has cells."""
    scores, screen = planted(seed, specific=0.0)
    draw = np.random.default_rng(seed)
    changed = screen.changed(0.05, 0).sum(axis=1).astype(float)
    shift = draw.normal(size=len(scores.perturbed))
    shift[: len(changed)] += strength * (changed - changed.mean()) / changed.std()
    screen = replace(screen, distance=changed + draw.normal(size=len(changed)),
                     cells=draw.integers(30, 300, len(changed)).astype(float))  # fmt: skip
    return replace(scores, cell_shifts={"hold": shift}), screen, changed


def test_cell_shifts_that_follow_the_screen_are_found_and_others_are_not():
    scores, screen, changed = with_shifts(0, 3.0)
    table, summary = judged(scores, screen)
    by_truth = {strength.truth: strength for strength in summary.strengths}
    assert set(by_truth) == {CHANGED, DISTANCE}
    np.testing.assert_array_equal(table[CHANGED], changed)
    shift = table["cell_shift"]
    np.testing.assert_array_equal(shift, scores.cell_shifts["hold"][:16])
    for strength in by_truth.values():
        expected = stats.spearmanr(shift, table[strength.truth]).statistic
        assert strength.shift.value == pytest.approx(expected)
        assert strength.shift.low > 0
        assert strength.beyond.low > 0
        assert set(strength.known) == {"expression", "screen_cells"}
        assert strength.shift.replicates == "perturbed genes"
    found = [judged(*with_shifts(seed, 0.0)[:2])[1].strengths[0].shift.low > 0
             for seed in range(40)]  # fmt: skip
    assert sum(found) <= 4


def test_what_a_gene_is_known_for_is_no_finding_of_its_shift():
    """Shifts that are the expression of the perturbed gene, which explains the screen too."""
    scores, screen = planted(1, specific=0.0, perturbed=24)
    expression = scores.in_cells.table["expression"].to_numpy()[:24]
    draw = np.random.default_rng(1)
    shift = expression + 0.5 * draw.normal(size=24)
    screen = replace(screen, distance=expression + 0.1 * draw.normal(size=24),
                     cells=np.arange(24.0))  # fmt: skip
    _, summary = judged(replace(scores, cell_shifts={"hold": shift}), screen)
    distance = summary.strengths[1]
    assert distance.shift.low > 0
    assert distance.known["expression"].value > distance.shift.value
    assert distance.beyond.low < 0 < distance.beyond.high


def test_without_cell_shifts_or_cells_of_a_screen_less_is_said():
    scores, screen = planted(2, specific=0.0)
    table, summary = judged(scores, screen)
    assert summary.strengths == ()
    assert table["cell_shift"].isna().all()
    scores = replace(scores, cell_shifts={"hold": np.arange(24.0)}, in_cells=None)
    _, summary = judged(scores, screen)
    assert [strength.truth for strength in summary.strengths] == [CHANGED]
    assert summary.strengths[0].known == {}
    few = replace(screen, perturbed=screen.perturbed[:2], q=screen.q[:2],
                  log_fold_change=screen.log_fold_change[:2])  # fmt: skip
    _, summary = judged(scores, few)
    assert np.isnan(summary.p)
    assert summary.strengths == ()
