import numpy as np
import pytest
from scipy import stats

import ranklock
from ranklock.audits.measure import measure


@pytest.fixture(scope="module")
def measured(tiny_audit):
    return measure(ranklock.read_sweep(tiny_audit.folder / "sweep"))


def test_every_number_is_that_of_the_cells_own_effects(tiny_audit, measured):
    sweep = ranklock.read_sweep(tiny_audit.folder / "sweep")
    table = measured.knockouts
    for name in sweep.cells.index:
        one, rows = sweep.cell(name), table[table["cell"] == name]
        ranks = one.var["responder_rank"].to_numpy()
        for k, row in enumerate(rows.to_dict("records")):
            hold, delete = (
                np.log10(np.maximum(one.layers[arm][k], measured.floor))
                for arm in ("hold", "delete")
            )
            after, before = ranks > row["gene_rank"], ranks < row["gene_rank"]
            if min(after.sum(), before.sum()) >= 5:
                step = np.median(delete[after]) - np.median(delete[before])
                assert row["delete_step"] == pytest.approx(step, abs=1e-6)
                u = stats.mannwhitneyu(delete[after], delete[before]).statistic
                chance = u / (after.sum() * before.sum())
                assert row["delete_superiority"] == pytest.approx(chance)
            else:
                assert np.isnan(row["delete_step"])
            others = after | before
            rho = stats.spearmanr(delete[others], hold[others]).statistic
            assert row["delete_agreement"] == pytest.approx(rho)
            tops = [set(np.argsort(-x[others])[:10]) for x in (delete, hold)]
            assert row["delete_shared_top"] == len(tops[0] & tops[1])
    assert "hold_agreement" not in table


def test_the_heat_map_holds_every_effect_once(tiny_audit, measured):
    sweep = ranklock.read_sweep(tiny_audit.folder / "sweep")
    heat = measured.heat["delete"]
    row, column = 3, 20
    values = []
    for name in sweep.cells.index:
        one = sweep.cell(name)
        perturbed = np.searchsorted(heat.edges, one.obs["gene_rank"], side="right") - 1
        responding = np.searchsorted(heat.edges, one.var["responder_rank"], side="right") - 1
        part = one.layers["delete"][np.ix_(perturbed == row, responding == column)]
        values += np.log10(np.maximum(part[np.isfinite(part)], measured.floor)).tolist()
    assert len(values)
    assert heat.values[row, column] == pytest.approx(np.mean(values), abs=1e-6)


def test_the_example_is_nearest_the_middle(measured):
    relative = measured.knockouts["relative_rank"]
    assert measured.example.off_centre == pytest.approx((relative - 0.5).abs().min())
    assert len(measured.example.ranks) == len(measured.example.responders)


def test_responses_are_places_averaged_over_cells(tiny_audit):
    sweep = ranklock.read_sweep(tiny_audit.folder / "sweep")
    counts = sweep.knockouts()["gene"].value_counts()
    source = sweep.token(str(counts.index[0]))
    found = measure(sweep, sources=[source]).responses
    expected, cells = np.zeros(len(found.genes)), np.zeros(len(found.genes))
    for name in sweep.cells.index:
        one = sweep.cell(name)
        rows = np.flatnonzero(one.obs["gene"] == counts.index[0])
        for row in rows:
            effects = one.layers["hold"][row]
            there = np.isfinite(effects)
            at = np.searchsorted(found.genes, one.var["token"].to_numpy()[there])
            expected[at] += stats.rankdata(effects[there]) / there.sum()
            cells[at] += 1
    np.testing.assert_allclose(found.places[source][found.arms.index("hold")], expected)
    np.testing.assert_array_equal(found.counts[source], cells)
