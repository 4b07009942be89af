from dataclasses import replace

import numpy as np
import pytest

import ranklock
from ranklock.run import count_noise_text
from ranklock.run.count_noise_text import describe_count_noise, median_effects
from ranklock.run.text import describe_run
from tests.helpers import cells_of, counted_cells, vocabulary


@pytest.fixture(scope="module")
def cells():
    cells = counted_cells([30, 12, 25, 20], vocabulary(40))
    return replace(cells, obs=cells.obs.assign(state=["a", "a", "b", "a"]))


def perturb(cells, model, **options):
    return ranklock.perturb(cells, model, count_noise=True, progress=False, **options)


@pytest.fixture(scope="module")
def run(model, cells):
    return perturb(
        cells, model, do=["knock-out", "overexpress"], states=ranklock.States("state", "a", "b")
    )


def typical(table, column):
    """Median over cells of their medians, by hand."""
    by_cell = table.assign(size=table[column].abs()).groupby("cell", observed=True)["size"]
    return np.median([np.nanmedian(sizes) for _, sizes in by_cell])


def test_medians_are_those_of_the_tables(run):
    medians = median_effects(run)
    assert [*medians] == ["genes", "cell", "towards goal"]
    assert [*medians.index] == [
        "", *(f"knock-out {arm}" for arm in ("delete", "hold", "mask", "shift")),
        *(f"overexpress {arm}" for arm in ("move", "hold", "shift")),
    ]  # fmt: skip
    noise, effects, shifts = run.count_noise, run.table, run.shifts
    of_cells = noise["token"].isna()
    right = [
        typical(noise[~of_cells], "cosine_distance"), typical(noise[of_cells], "cosine_distance"),
        typical(noise[of_cells], "towards_goal"),
    ]  # fmt: skip
    np.testing.assert_allclose(medians.loc[""], right, rtol=1e-6)
    for name in medians.index[1:]:
        kind, arm = name.rsplit(" ", 1)
        own = [rows[(rows["kind"] == kind) & (rows["arm"] == arm)] for rows in (effects, shifts)]
        right = [
            typical(own[0], "cosine_distance"), typical(own[1], "cosine_distance"),
            typical(own[1], "towards_goal"),
        ]  # fmt: skip
        np.testing.assert_allclose(medians.loc[name], right, rtol=1e-6)


def test_what_is_said_is_the_ratio_of_what_is_shown(run):
    lines = describe_count_noise(run)
    medians = median_effects(run)
    (noise,) = (line for line in lines if line.startswith("  count noise"))
    assert noise.split()[2:] == [f"{number:.1e}" for number in medians.loc[""]]
    (hold,) = (line for line in lines if line.startswith("  knock-out hold"))
    ratio = medians.loc["", "genes"] / medians.loc["knock-out hold", "genes"]
    assert hold.split()[2] == f"{medians.loc['knock-out hold', 'genes']:.1e}"
    said = float(hold.split()[3].strip("(×)").replace(",", ""))
    assert said == pytest.approx(ratio, rel=0.06)
    assert "counts are thinned by 1%" in "\n".join(lines)
    assert (
        lines[-1] == "An effect far below count noise is exact and may still be of no consequence."
    )
    assert [line for line in describe_run(run) if line in lines and line] == lines[1:]


def test_one_kind_needs_no_name(model, cells):
    run = perturb(cells, model, arms=["hold"], read="cell")
    assert [*median_effects(run).index] == ["", "hold"]
    assert [*median_effects(run)] == ["cell"]
    assert [*median_effects(perturb(cells, model, arms=["hold"], read="genes"))] == ["genes"]


def test_genes_are_read_in_some_cells_alone(model, cells, monkeypatch):
    run = perturb(cells, model, arms=["hold"])
    monkeypatch.setattr(count_noise_text, "_CELLS_SAID", 2)
    read, blocks = [], type(run).blocks

    def recorded(run, *options, **named):
        read.extend(named["cells"])
        return blocks(run, *options, **named)

    with monkeypatch.context() as patch:
        patch.setattr(type(run), "blocks", recorded)
        medians = median_effects(run)
    assert read == ["cell0", "cell3"]
    effects, noise = (t[t["cell"].isin(read)] for t in (run.table, run.count_noise))
    assert medians.loc["hold", "genes"] == pytest.approx(typical(effects, "cosine_distance"))
    genes = noise[noise["token"].notna()]
    assert medians.loc["", "genes"] == pytest.approx(typical(genes, "cosine_distance"))


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")
def test_dropped_genes_are_said_to_be_dropped(model):
    run = perturb(cells_of([20, 15], vocabulary(40)), model, arms=["hold"])
    text = "\n".join(describe_count_noise(run))
    assert "each cell, for want of counts, loses one gene in a hundred at random" in text
    assert "thinned" not in text


def test_of_a_run_without_it_nothing_is_said(model, cells):
    run = ranklock.perturb(cells, model, arms=["hold"], progress=False)
    assert describe_count_noise(run) == []
    assert "ount noise" not in "\n".join(describe_run(run))
