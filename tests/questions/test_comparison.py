from dataclasses import replace

import pytest

from ranklock.questions.comparison import ArmCompared, has_step, recommend
from ranklock.questions.step import ArmStep, size_of
from ranklock.statistics.intervals import NOTHING, Estimate


def estimate(value, half=0.01):
    return Estimate(value, value - half, value + half, 100, "cells")


def arm(step, share=NOTHING, agreement=0.95, rho=0.0, explained=0.0):
    return ArmCompared(
        step, share, estimate(agreement), estimate(9.0), estimate(rho), estimate(explained)
    )


STEP = ArmStep(estimate(0.9), estimate(2.0), estimate(1.0), estimate(0.8), 0.8, 0.05, "large")


def test_a_step_needs_all_three_signs_of_it():
    assert has_step(STEP)
    assert not has_step(replace(STEP, size="none"))
    assert not has_step(replace(STEP, size="reversed"))
    assert not has_step(replace(STEP, jump=estimate(0.005)))
    assert not has_step(replace(STEP, located=estimate(0.05)))
    assert has_step(replace(STEP, size="unknown")) is None


@pytest.mark.parametrize(
    ("low", "high", "size"),
    [(0.72, 0.9, "large"), (0.65, 0.9, "medium"), (0.57, 0.6, "small"), (0.5, 0.99, "none"),
     (0.1, 0.3, "reversed"), (float("nan"), float("nan"), "unknown")],
)  # fmt: skip
def test_a_size_is_that_of_the_nearer_bound(low, high, size):
    assert size_of(Estimate((low + high) / 2, low, high, 10, "cells")) == size


def test_the_rule():
    biased, clean = arm(True, estimate(0.99)), arm(False)
    assert recommend({"hold": clean})[0] == "unknown"
    assert recommend({"delete": arm(None)})[0] == "unknown"
    outcome, text = recommend({"delete": arm(False, estimate(0.0)), "hold": clean})
    assert (outcome, "delete may be used" in text) == ("unbiased", True)
    assert recommend({"delete": arm(False, estimate(0.3)), "hold": clean})[0] == "cured"
    outcome, text = recommend({"delete": biased, "hold": clean, "mask": clean})
    assert (outcome, text.startswith("Use hold")) == ("cured", True)
    outcome, text = recommend({"delete": biased, "hold": clean, "mask": arm(False, agreement=0.5)})
    assert (outcome, "report mask beside it" in text) == ("cures differ", True)
    outcome, text = recommend({"delete": biased, "hold": arm(True), "mask": clean})
    assert (outcome, text.startswith("Use mask")) == ("cured", True)
    assert recommend({"delete": biased, "hold": arm(True), "mask": arm(True)})[0] == "not cured"
    assert recommend({"delete": biased})[0] == "not cured"


@pytest.mark.parametrize(
    "cure", [arm(False, rho=-0.6), arm(False, rho=0.6), arm(False, explained=0.4)]
)
def test_a_cure_that_still_goes_with_rank_says_so(cure):
    _, text = recommend({"delete": arm(True, estimate(0.99)), "hold": cure})
    assert "still goes with the gene's rank" in text
