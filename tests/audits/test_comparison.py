from dataclasses import replace

import pytest

from ranklock.audits.comparison import ArmCompared, advise, has_proximity, has_step, recommend
from ranklock.audits.step import ArmStep, size_of
from ranklock.statistics.intervals import NOTHING, Estimate


def estimate(value, half=0.01):
    return Estimate(value, value - half, value + half, 100, "cells")


def arm(step, share=NOTHING, agreement=0.95, rho=0.0, explained=0.0, near=0.1):
    """An arm of whose strongest responders ``near`` stand near the gene; one in ten is chance."""
    near = NOTHING if near is None else estimate(near)
    return ArmCompared(
        step, share, NOTHING, estimate(agreement), estimate(9.0), estimate(rho),
        estimate(explained), near, 0.1,
    )  # fmt: skip


STEP = ArmStep(estimate(0.9), estimate(2.0), estimate(1.0), estimate(0.8), 0.8, 0.05, "large")


def test_a_step_is_there_is_not_or_is_not_certain():
    assert has_step(STEP) is True
    # No jump, or no gene further: none, whatever else.
    assert has_step(replace(STEP, jump=estimate(0.02, 0.05))) is False
    assert has_step(replace(STEP, superiority=estimate(0.5, 0.05))) is False
    assert has_step(replace(STEP, superiority=estimate(0.1), jump=estimate(0.0, 0.05))) is False
    # An interval that is wide is no evidence, neither of a step nor of none.
    assert has_step(replace(STEP, jump=estimate(0.9, 1.0))) is None
    assert has_step(replace(STEP, superiority=estimate(0.9, 0.4))) is None
    nan = float("nan")
    assert has_step(replace(STEP, superiority=Estimate(0.9, nan, nan, 1, "none"))) is None


@pytest.mark.parametrize(
    ("low", "high", "size"),
    [(0.72, 0.9, "large"), (0.65, 0.9, "medium"), (0.57, 0.6, "small"), (0.5, 0.99, "none"),
     (0.1, 0.3, "reversed"), (float("nan"), float("nan"), "unknown")],
)  # fmt: skip
def test_a_size_is_that_of_the_nearer_bound(low, high, size):
    assert size_of(Estimate((low + high) / 2, low, high, 10, "cells")) == size


BIASED, CLEAN = arm(True, estimate(0.99)), arm(False)


@pytest.mark.parametrize(
    ("arms", "outcome", "says"),
    [
        ({"hold": CLEAN}, "unknown", "delete was not run"),
        ({"delete": arm(None, estimate(0.01))}, "unknown", "leave open whether delete is biased"),
        ({"delete": arm(False, estimate(0.3, 0.5)), "hold": CLEAN}, "unknown", "leave open"),
        ({"delete": arm(False), "hold": CLEAN}, "unknown", "artefact share was not measured"),
        ({"delete": arm(False, estimate(0.0)), "hold": CLEAN}, "unbiased", "delete may be used"),
        ({"delete": arm(False, estimate(0.3)), "hold": CLEAN}, "cured", "Use hold"),
        ({"delete": arm(None, estimate(0.9)), "hold": CLEAN}, "cured", "Use hold"),
        ({"delete": BIASED}, "unknown", "no arm that holds positions"),
        ({"delete": BIASED, "hold": CLEAN, "mask": CLEAN}, "cured", "orders the genes alike"),
        ({"delete": BIASED, "hold": CLEAN, "mask": arm(False, agreement=0.5)}, "cures differ",
         "report mask beside it"),
        ({"delete": BIASED, "hold": CLEAN, "mask": arm(None)}, "cured", "mask is left open"),
        ({"delete": BIASED, "hold": arm(True), "mask": CLEAN}, "cured", "hold has a step of its"),
        ({"delete": BIASED, "attention-mask": CLEAN}, "cured", "Use attention-mask"),
        ({"delete": BIASED, "hold": arm(None), "mask": arm(None)}, "unknown", "leave open whether"),
        ({"delete": BIASED, "hold": arm(True), "mask": arm(True)}, "not cured", "No arm"),
    ],
)  # fmt: skip
def test_the_rule(arms, outcome, says):
    found, text = recommend(arms)
    assert found == outcome
    assert says in text
    assert "nan" not in text


@pytest.mark.parametrize(
    ("near", "stays"),
    [(0.98, True), (0.1, False), (0.18, False), (0.2, None), (0.22, True), (None, None)],
)
def test_proximity_stays_where_the_interval_is_beyond_twice_chance(near, stays):
    assert has_proximity(arm(False, near=near)) is stays


@pytest.mark.parametrize("beside", [{}, {"mask": CLEAN}, {"mask": arm(False, agreement=0.5)}])
@pytest.mark.parametrize(
    ("near", "outcome", "says"),
    [
        (
            0.98,
            "proximity stays",
            "98% (95% interval 97% to 99%) stand within 10 ranks of the gene",
        ),
        (0.2, "step removed", "Proximity is not certain"),
        (None, "step removed", "was not measured"),
    ],
)
def test_no_arm_is_called_a_cure_where_proximity_may_stay(beside, near, outcome, says):
    arms = {"delete": BIASED, "hold": arm(False, near=near), **beside}
    found, text = recommend(arms)
    assert found == outcome
    assert says in text
    assert "Raw effects under hold are no findings" in text
    assert "ranklock perturb --impostors 12" in text
    advice = advise(arms, found, text)
    assert advice.startswith("With this checkpoint, on these cells: knock genes out with hold in ")
    assert "only beyond impostors" in advice
    assert "cure" not in (text + advice).replace("cured", "cure")


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ({"hold": CLEAN}, "Nothing is recommended"),
        ({"delete": arm(False, estimate(0.0)), "hold": CLEAN}, "delete may be used"),
        ({"delete": BIASED, "hold": arm(True)}, "without impostors"),
        ({"delete": BIASED, "hold": CLEAN, "mask": arm(False, agreement=0.5)},
         "report mask beside it"),
    ],
)  # fmt: skip
def test_there_is_one_sentence_of_advice_whatever_was_found(arms, says):
    outcome, text = recommend(arms)
    advice = advise(arms, outcome, text)
    assert says in advice
    assert advice.endswith(".")
    assert "nan" not in advice


@pytest.mark.parametrize(
    "cure", [arm(False, rho=-0.6), arm(False, rho=0.6), arm(False, explained=0.4)]
)
def test_a_cure_that_still_goes_with_rank_says_so(cure):
    _, text = recommend({"delete": arm(True, estimate(0.99)), "hold": cure})
    assert "still goes with the gene's rank" in text
