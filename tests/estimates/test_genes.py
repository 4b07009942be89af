import numpy as np
import pandas as pd
import pytest

from ranklock.estimates.choice import RANDOM, gene_means
from ranklock.estimates.genes import as_large, judge_cells, mended, missed


def simulated(seed, cells=60, genes=30, bias=0.4):
    """Exact effects, estimates that err by a part of them, and exact ones in a few cells."""
    draw = np.random.default_rng(seed)
    level = draw.normal(size=genes)
    exact = level + 0.3 * draw.normal(size=(cells, genes))
    estimate = exact * (1 + bias) + 0.1 * draw.normal(size=(cells, genes))
    rows = np.indices(exact.shape).reshape(2, -1)
    table = pd.DataFrame(
        {
            "cell": rows[0], "token": rows[1], "gene_rank": rows[1], "estimate": estimate.ravel(),
            "exact": exact.ravel(), "gross": np.abs(estimate).ravel() + 0.1, "peak": 0.1,
            "dominance": 0.1, "agreement": 0.99, "under_noise_floor": False, "fell_back": False,
            "sampled": True,
        }
    )  # fmt: skip
    chosen = draw.permutation(cells)[:8]
    return table, table[table["cell"].isin(chosen) & (table["token"] < 20)]


def test_what_is_measured_in_some_cells_takes_the_bias_off_all():
    apart, within = [], []
    for seed in range(20):
        table, pairs = simulated(seed)
        genes = mended(*2 * [gene_means([table])], pairs)
        truth = table.groupby("token")["exact"].mean()
        error = (genes["effect"] - truth)[:20]
        apart.append(error)
        within.append(np.abs(error) < 2 * genes["standard_error"][:20])
        np.testing.assert_allclose(genes["effect"][20:], genes["estimate"][20:])
        assert (genes["verified_in"] == [8] * 20 + [0] * 10).all()
    assert abs(np.mean(apart)) < 0.01
    # The standard error is of other cells' mean too, so it covers more than the error here.
    assert np.mean(within) > 0.9


def test_measured_everywhere_it_is_the_mean():
    table, _ = simulated(0)
    genes = mended(*2 * [gene_means([table])], table)
    by = table.groupby("token")["exact"]
    np.testing.assert_allclose(genes["effect"], by.mean())
    np.testing.assert_allclose(genes["standard_error"], by.sem())


def test_cells_that_were_measured_whole_bring_no_bias():
    """A bad cell can only be found if it was drawn, so those that were not stay as they are."""
    apart, within = [], []
    for seed in range(60):
        draw = np.random.default_rng(seed)
        cells = 400
        exact = 1.0 + 0.3 * draw.normal(size=cells)
        bad = draw.random(cells) < 0.1
        estimate = np.where(bad, -exact, exact)
        table = pd.DataFrame(
            {
                "cell": np.arange(cells), "token": 7, "gene_rank": 0, "estimate": estimate,
                "exact": exact, "gross": 1.0, "peak": 0.1, "dominance": 0.1,
                "under_noise_floor": False, "sampled": True,
            }
        )  # fmt: skip
        drawn = draw.permutation(cells)[:40]
        pairs = table[table["cell"].isin(drawn)]
        entire = table["cell"].isin(drawn) & bad
        replaced = table.assign(estimate=table["estimate"].where(~entire, table["exact"]))
        genes = mended(gene_means([table]), gene_means([replaced]), pairs).loc[7]
        apart.append(genes["effect"] - exact.mean())
        within.append(abs(apart[-1]) < 2 * genes["standard_error"])
    assert abs(np.mean(apart)) < 2.5 * np.std(apart) / 60**0.5
    assert np.mean(within) > 0.85  # of skewed differences among forty


def test_a_gene_that_was_not_drawn_has_what_is_known_of_it():
    table, pairs = simulated(1)
    entire = table["cell"] < 10
    pairs = pd.concat([pairs, table[entire & (table["token"] >= 20)].assign(sampled=False)])
    replaced = table.assign(estimate=table["estimate"].where(~entire, table["exact"]))
    genes = mended(gene_means([table]), gene_means([replaced]), pairs)
    expected = replaced.groupby("token")["estimate"].mean()
    np.testing.assert_allclose(genes["effect"][20:], expected[20:])


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_the_error_holds_what_estimates_and_differences_have_in_common(factor):
    """Nearly all of the cells are measured: the error is that of the mean exact effect."""
    draw = np.random.default_rng(0)
    exact = draw.normal(size=21)
    table = pd.DataFrame(
        {
            "cell": np.arange(21), "token": 3, "gene_rank": 0, "estimate": exact * factor,
            "exact": exact, "gross": 1.0, "peak": 0.1, "dominance": 0.1,
            "under_noise_floor": False, "sampled": True,
        }
    )  # fmt: skip
    genes = mended(*2 * [gene_means([table])], table[:20]).loc[3]
    assert genes["standard_error"] == pytest.approx(exact.std(ddof=1) / 21**0.5, rel=0.1)


def test_cells_are_judged_by_what_was_measured_in_them():
    table, _ = simulated(3, cells=4)
    table.loc[table["cell"] == 1, "estimate"] *= 3
    table = table[(table["cell"] != 2) | (table["token"] < 4)]
    checks = judge_cells(table, 0)
    assert checks["bad"].tolist() == [False, True, False, False]
    assert checks["measured"].tolist() == [30, 30, 4, 30]
    of_first = table[table["cell"] == 0]
    apart = np.linalg.norm(of_first["exact"] - of_first["estimate"]) / np.linalg.norm(
        of_first["exact"]
    )
    assert checks.loc[0, "error"] == pytest.approx(apart)
    assert np.isnan(checks.loc[2, "error"])


def test_mean_effects_are_judged_by_factors():
    draw = np.random.default_rng(0)
    exact = np.exp(draw.normal(size=40) - 10)
    table = pd.DataFrame(
        {
            "cell": np.repeat([0, 1], 20), "exact": exact,
            "estimate": exact * np.repeat([1.3, 3.0], 20), "agreement": 0.9,
            "under_noise_floor": False,
        }
    )  # fmt: skip
    checks = judge_cells(table, 32)
    np.testing.assert_allclose(checks["error"], np.log([1.3, 3.0]))
    assert checks["bad"].tolist() == [False, True]
    assert not judge_cells(table, 2)["bad"].any()  # two signs scatter as much


def test_what_was_missed_is_told_from_genes_at_random():
    table, pairs = simulated(4)
    chosen = np.array(["largest"] * 10 + [RANDOM] * 10 + [""] * 10)
    genes = mended(*2 * [gene_means([table])], pairs).assign(chosen=chosen, ranked=True)
    correlation, recalls = missed(genes, pairs, 10, 0)
    assert correlation.value > 0.9
    assert np.isnan(correlation.low)  # of ten in the same order Fisher's z says nothing
    assert [recall.top for recall in recalls] == [10]
    assert 0 < recalls[0].value <= 1
    assert 0 <= as_large(genes, 10) <= 10
