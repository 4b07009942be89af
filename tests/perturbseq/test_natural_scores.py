import numpy as np
import pandas as pd
import pytest

from ranklock.perturbseq.natural_scores import (
    BELOW,
    BEYOND,
    NOT_BEYOND,
    PLACEBO,
    own_against_others,
    summarise_arm,
)
from ranklock.statistics.relabelling import relabelling_p


def planted(seed, *, own=0.0, everywhere=0.0, genes=20, cells=30):
    """Cosines in which a gene's knock-out points along its own direction, or along every one."""
    draw = np.random.default_rng(seed)
    of_pair = 0.1 * draw.normal(size=(genes, genes))
    of_pair += everywhere * draw.normal(size=(genes, 1))
    of_pair[np.arange(genes), np.arange(genes)] += own
    cosines = of_pair + 0.05 * draw.normal(size=(cells, genes, genes))
    has = draw.random((cells, genes)) < 0.7
    cosines[~has] = np.nan
    return cosines, has


def score(cosines, judged, replicates=None):
    replicates = np.arange(len(cosines)) if replicates is None else replicates
    return own_against_others(cosines, judged, replicates, "cells")


def test_numbers_are_those_of_a_loop():
    cosines, judged = planted(0, own=0.1, genes=5, cells=8)
    table, place_of = score(cosines, judged)
    for gene in range(5):
        there = np.flatnonzero(judged[:, gene])
        cells = there[np.isfinite(np.delete(cosines[there, :, gene], gene, axis=1)).any(axis=1)]
        own = cosines[cells, gene, gene]
        others = [
            np.nanmean([cosines[c, other, gene] for other in range(5) if other != gene])
            for c in cells
        ]
        row = table.iloc[gene]
        assert row["held_out_cells"] == len(cells)
        assert row["cosine"] == pytest.approx(own.mean())
        assert row["cosine_of_others"] == pytest.approx(np.mean(others))
        assert row["difference"] == pytest.approx(np.mean(own - others))
        means = [np.nanmean(cosines[there, other, gene]) for other in range(5)]
        less = sum(mean < means[gene] for mean in means)
        assert row["place"] == place_of[gene, gene] == pytest.approx(less / 4)
        np.testing.assert_allclose(place_of[gene].mean(), 0.5)


def test_a_gene_of_which_nothing_is_known_in_a_direction_does_not_spoil_the_others():
    cosines, judged = planted(1, genes=6, cells=8)
    cosines[:, 3] = np.nan
    table, place_of = score(cosines, judged)
    assert np.isnan(table.loc[3, ["cosine", "difference", "place"]].to_numpy(float)).all()
    others = np.delete(np.arange(6), 3)
    assert np.isfinite(table.loc[others, "place"]).all()
    assert 0 < relabelling_p(place_of, relabellings=99) <= 1


def test_what_is_planted_is_found_and_another_order_of_genes_changes_nothing():
    cosines, judged = planted(2, own=0.2)
    table, place_of = score(cosines, judged)
    assert relabelling_p(place_of) < 0.001
    order = np.random.default_rng(0).permutation(20)
    again, _ = score(cosines[:, order][:, :, order], judged[:, order])
    numbers = ["cosine", "difference", "low", "place"]
    np.testing.assert_allclose(table[numbers].to_numpy()[order], again[numbers].to_numpy())


def test_p_is_of_the_nominal_size_though_some_genes_point_everywhere():
    p = [
        relabelling_p(score(*planted(seed, everywhere=0.3, genes=12, cells=6))[1], seed, 199)
        for seed in range(200)
    ]
    # 200 at 5 %: more than 17 has a probability of 1.6 %.
    assert np.mean(np.array(p) <= 0.05) <= 17 / 200
    assert 0.4 < np.mean(p) < 0.6


def test_intervals_are_over_donors_where_cells_are_of_donors():
    cosines, judged = planted(3, own=0.2, cells=24)
    donors = np.repeat(np.arange(4), 6)
    cosines += 0.3 * np.random.default_rng(0).normal(size=(4, 20, 1))[donors]
    of_donors, _ = score(cosines, judged, donors)
    of_cells, _ = score(cosines, judged)
    assert (of_donors["replicates"] == 4).all()
    widths = [(table["high"] - table["low"]).mean() for table in (of_donors, of_cells)]
    assert widths[0] > 1.5 * widths[1]


def judged_arm(own, null_own, seed=0, **options):
    table, place_of = score(*planted(seed, own=own))
    null, null_place_of = score(*planted(seed + 1000, own=null_own))
    joined = table.join(null.add_prefix("null_"))
    return summarise_arm(
        "hold", joined, (relabelling_p(place_of, seed), relabelling_p(null_place_of, seed)), 2,
        **options,
    )  # fmt: skip


def test_the_verdict_is_against_the_null_model():
    assert judged_arm(0.3, 0.0).verdict == BEYOND
    assert judged_arm(0.3, 0.3).verdict == NOT_BEYOND  # far above chance, and so is the null model
    assert judged_arm(0.0, 0.3).verdict == BELOW
    assert judged_arm(0.3, 0.0, placebo=True).verdict == PLACEBO
    found = judged_arm(0.3, 0.0)
    assert found.beyond_null.low > 0
    assert found.beyond_null.replicates == "genes"
    called = [judged_arm(0.1, 0.1, seed).verdict for seed in range(40)]
    assert called.count(BEYOND) <= 3


def test_above_the_null_model_is_not_enough_without_being_above_chance():
    genes = 20
    table = pd.DataFrame({"place": np.linspace(0.45, 0.55, genes), "cosine": 0.0,
                          "cosine_of_others": 0.0, "difference": 0.0})  # fmt: skip
    null = table.assign(place=table["place"] - 0.3).add_prefix("null_")
    summary = summarise_arm("hold", table.join(null), (0.5, 1.0), 1)
    assert summary.beyond_null.low > 0
    assert summary.verdict == NOT_BEYOND
