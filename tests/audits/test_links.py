"""Question 5: known targets, under permutations that all regulators share."""

import numpy as np
import pytest

from ranklock.audits.links import answer_links
from ranklock.audits.measure import Measurements
from ranklock.audits.responses import Response, Responses

GENES, REGULATORS = 220, 12


def measured(scores, ranks):
    """Measurements in which regulators (the first genes) move the others by given scores."""
    genes = np.arange(GENES)
    responses = Responses(genes, list(range(REGULATORS)), ("hold",))
    for source in range(REGULATORS):
        counts = np.ones(GENES)
        counts[source] = 0  # the regulator itself does not respond
        responses.of[source] = Response(
            scores[source][None, :] * counts, np.abs(ranks - ranks[source]) * counts,
            ranks * counts, counts, regulator_ranks=float(ranks[source]),
        )  # fmt: skip
    return Measurements(("hold",), None, {}, None, responses, 1e-18)


def answered(draw, *, shared, effect=0.0, seed=0):
    """Question 5 where genes move alike under all regulators, and their own targets further."""
    ranks = draw.permutation(GENES) / (GENES - 1)
    moves = draw.standard_normal(GENES)
    pool = draw.choice(np.arange(REGULATORS, GENES), 40, replace=False)
    targets, scores = {}, []
    for source in range(REGULATORS):
        genes = pool if shared else np.arange(REGULATORS, GENES)
        targets[source] = set(draw.choice(genes, 15, replace=False).tolist())
        of = moves + 0.7 * draw.standard_normal(GENES)
        of[list(targets[source])] += effect
        scores.append(of)
    return answer_links(
        measured(scores, ranks), targets, "made up", {s: f"G{s}" for s in range(GENES)}, seed
    )


@pytest.mark.parametrize("shared", [False, True])
def test_its_level_holds_where_regulators_share_targets(shared, monkeypatch):
    monkeypatch.setattr("ranklock.audits.links.DRAWS", 99)
    draw = np.random.default_rng(int(shared))
    p = [answered(draw, shared=shared, seed=k).scores["hold"] for k in range(150)]
    for name in ("p", "p_under_others"):
        level = np.mean([getattr(of, name) <= 0.05 for of in p])
        # 150 trials: the standard error of 5 % is 1.8 %.
        assert level <= 0.05 + 3 * 0.018, name
        assert abs(np.mean([getattr(of, name) for of in p]) - 0.5) < 0.1


def test_links_that_are_there_are_found_beyond_other_knock_outs(monkeypatch):
    monkeypatch.setattr("ranklock.audits.links.DRAWS", 199)
    found = answered(np.random.default_rng(2), shared=True, effect=1.5).scores["hold"]
    assert found.p == found.p_under_others == pytest.approx(1 / 200)
    assert found.auroc.value > found.under_others + 0.2
    assert found.significant >= 6


def test_genes_that_move_under_anything_are_no_links(monkeypatch):
    """Targets of all regulators move under all of them: more than chance, and not their own."""
    monkeypatch.setattr("ranklock.audits.links.DRAWS", 199)
    draw = np.random.default_rng(3)
    ranks = draw.permutation(GENES) / (GENES - 1)
    movers = draw.choice(np.arange(REGULATORS, GENES), 40, replace=False)
    moves = draw.standard_normal(GENES)
    moves[movers] += 1.5
    scores = [moves + 0.7 * draw.standard_normal(GENES) for _ in range(REGULATORS)]
    targets = {s: set(draw.choice(movers, 15, replace=False).tolist()) for s in range(REGULATORS)}
    found = answer_links(
        measured(scores, ranks), targets, "made up", {s: f"G{s}" for s in range(GENES)}, 0
    ).scores["hold"]  # fmt: skip
    assert found.p == pytest.approx(1 / 200)
    assert found.p_under_others > 0.05
