import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ranklock.significance.shift_tests import shifts_tested, specific_shifts, with_specific
from ranklock.statistics.significance import false_discovery_rates

NO_NULL = frozenset()


def shifts(cells=20, genes=80, *, planted=None, noise=0.3, donors=None, seed=0):
    """Cells whose log shifts fall with rank, steeply at the end, plus genes' own part and noise."""
    draw = np.random.default_rng(seed)
    place = draw.permutation(genes)
    of_gene = np.zeros(genes)
    for gene, value in (planted or {}).items():
        of_gene[gene] = value
    parts = []
    for cell in range(cells):
        rank = np.argsort(np.argsort(place + draw.normal(0, 8, genes)))
        curve = -4 + 2 * np.log10((genes - rank) / genes) - 0.3 * np.sin(rank / genes * 6)
        scaled = curve + of_gene + noise * draw.standard_t(6, genes)
        parts.append(pd.DataFrame({
            "cell": f"c{cell}", "replicate": f"c{cell}" if donors is None else f"d{cell % donors}",
            "gene": [f"G{i}" for i in range(genes)], "gene_id": [f"E{i:03d}" for i in range(genes)],
            "gene_rank": rank, "shift": 10**scaled, "scaled": scaled, "under_noise_floor": False,
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def results_of(table, min_cells=5, null=NO_NULL):
    return shifts_tested([with_specific(table, min_cells, 0)], min_cells, null)


def test_p_values_are_uniform_where_nothing_is_planted():
    p, swapped = [], []
    for seed in range(6):
        table, null = results_of(shifts(seed=seed))
        p += table["p"].tolist()
        swapped += null.tolist()
    # 480 p-values: a distance of 0.074 is found with a probability of 90% at the level of 1%.
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert stats.kstest(swapped, "uniform").pvalue > 0.01


def test_planted_shifts_are_found_at_the_nominal_rate():
    false = true = 0
    for seed in range(5):
        planted = dict.fromkeys(range(0, 80, 8), 0.6)
        table, _ = results_of(shifts(planted=planted, seed=seed))
        significant = set(table[table["q"] <= 0.05]["gene"])
        genes = {f"G{gene}" for gene in planted}
        true += len(significant & genes)
        false += len(significant - genes)
    assert true >= 45  # of 50
    # Expected at 5%: 2.6 of some 52; above 8 with a probability of 0.2%.
    assert false <= 8


def test_relabelling_genes_permutes_the_results():
    table = shifts(seed=3)
    relabelled = table.assign(gene_id=[f"X{999 - int(g[1:])}" for g in table["gene_id"]])
    columns = ["gene", "specific", "t", "p", "percentile"]
    by_gene = [
        results_of(t)[0][columns].sort_values("gene", ignore_index=True)
        for t in (table, relabelled)
    ]
    pd.testing.assert_frame_equal(*by_gene)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000), st.floats(-3, 3), st.floats(-2, 2),
)  # fmt: skip
def test_a_constant_and_the_slope_along_ranks_change_nothing(seed, constant, slope):
    draw = np.random.default_rng(seed)
    ranks = draw.permutation(60)
    values = draw.normal(size=60)
    along = np.log((ranks + 0.5) / (60 - ranks - 0.5))
    plain = specific_shifts(values, ranks, 60)
    sloped = specific_shifts(values + constant + slope * along, ranks, 60)
    np.testing.assert_allclose(plain[0], sloped[0], atol=1e-9)


def test_order_of_rows_does_not_matter():
    table = shifts(seed=4)
    mixed = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(results_of(table)[0], results_of(mixed)[0])


def test_percentiles_are_shares_of_the_nearest_others():
    ranks = np.arange(30)
    values = np.zeros(30)
    values[15] = 1.0
    noise = 1e-3 * np.random.default_rng(0).normal(size=30)
    _, _, percentile = specific_shifts(values + noise, ranks, 30)
    assert percentile[15] == 1.0
    assert percentile.min() >= 0


def test_ten_copies_of_every_cell_do_not_shrink_p_values_of_donors():
    table = shifts(cells=6, donors=6, seed=5)
    copies = [table.assign(cell=table["cell"] + f"-{i}") for i in range(10)]
    once, often = results_of(table)[0], results_of(pd.concat(copies, ignore_index=True))[0]
    by_gene = [t.sort_values("gene", ignore_index=True)["p"] for t in (once, often)]
    np.testing.assert_allclose(*by_gene, rtol=1e-9)
    cells = pd.concat([c.assign(replicate=c["cell"]) for c in copies], ignore_index=True)
    assert results_of(cells)[0]["p"].median() < once["p"].median() / 3


@pytest.mark.parametrize("cells", [1, 2])
def test_nothing_is_tested_with_few_replicates(cells):
    table, swapped = results_of(shifts(cells=cells), min_cells=1)
    assert table[["p", "q"]].isna().all(axis=None)
    assert np.isnan(swapped).all()


def test_shifts_under_the_floor_are_never_significant():
    table = shifts(planted={7: 3.0}, seed=6)
    assert results_of(table)[0].iloc[0]["gene"] == "G7"
    table["under_noise_floor"] = table["gene"] == "G7"
    assert np.isnan(results_of(table)[0].set_index("gene").loc["G7", "p"])


def test_against_a_list_of_genes():
    table = shifts(planted={7: 1.0, **dict.fromkeys(range(40, 48), 1.0)}, seed=1)
    null = frozenset(f"E{gene:03d}" for gene in range(40, 48))
    genes = results_of(table, null=null)[0].set_index("gene")
    assert genes.loc["G7", "q"] < 0.05
    assert genes.loc["G7", "q_null"] > 0.05  # as far as those of the list
    assert genes.loc["G8", "q_null"] < 0.05
    assert genes["in_null"].sum() == 8


def test_rates_are_of_the_genes_that_were_tested():
    table, _ = results_of(shifts(seed=8))
    np.testing.assert_allclose(table["q"], false_discovery_rates(table["p"]))
