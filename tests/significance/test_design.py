import numpy as np
import pytest
from scipy import stats

import ranklock
from ranklock.run.asked import Asked
from ranklock.run.plan import make_plan
from ranklock.significance.claims import Rule
from ranklock.significance.design import describe_design, smallest_fold
from tests.significance.test_findings import cells_of


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return ranklock.load_model(tiny_checkpoint, device="cpu")


def said(model, cells, rule=None, **asked):
    plan = make_plan(cells, model, Asked(**{"impostors": 4, "arms": ("hold",), **asked}))
    return " ".join(describe_design(plan, rule))


def test_the_smallest_fold_is_found_with_the_power_that_is_said():
    draw, replicates, claims = np.random.default_rng(0), 20, 100
    fold = np.log10(smallest_fold(replicates, claims, spread=0.3))
    values = draw.normal(fold, 0.3, (replicates, 4000))
    t = (values.mean(0) - np.log10(1.5)) / (values.std(0, ddof=1) / np.sqrt(replicates))
    found = (stats.t.sf(t, replicates - 1) <= 0.05 / claims).mean()
    # The formula takes the spread for known; estimating it costs some of the power.
    assert 0.7 < found < 0.87


def test_more_replicates_find_less_and_more_claims_need_more():
    folds = [smallest_fold(n, 1000) for n in (4, 8, 16, 64)]
    assert folds == sorted(folds, reverse=True)
    assert smallest_fold(8, 10) < smallest_fold(8, 10_000)
    assert smallest_fold(2, 10) == np.inf
    assert 1.5 < smallest_fold(100_000, 1) < 1.53


def test_a_plan_says_what_it_can_find(model):
    text = said(model, cells_of(12, genes=60), genes=("GENE1", "GENE2"))
    assert "impostors take about 80% of the work." in text
    assert "as much again" in said(model, cells_of(12, genes=60), null_model=True)
    assert "4 impostors a task, cells as replicates, 12 of them" in text
    assert "up to 120 pairs" in text
    assert "p ≤ 4.2e-04" in text
    assert "responders are found with 80% power from ×" in text


def test_a_design_that_finds_nothing_is_named_before_the_run(model):
    cells = cells_of(12, genes=60, donors=2)
    text = said(model, cells, genes=("GENE1",), donor="donor")
    assert "nothing can be found with 2 donors: a test needs 3" in text
    few = said(model, cells_of(4, genes=60), genes=("GENE1",))
    assert "1 perturbation of 1 in fewer than 5 cells" in few
    assert said(model, cells, Rule(donor="donor"), impostors=0) == ""
