import numpy as np
import pandas as pd
import pytest

from ranklock.arms import ARMS, MOVE_ARMS
from ranklock.page.rank_shift import rank_shift_figure, similarity_label, zoom_limit
from ranklock.page.style import ARM_COLOURS, draw


def rows(
    arms=("delete", "hold", "mask", "shift"), genes=50, knocked_out=20, symbol="FAM136A",
    kind="knock-out", to_rank=None,
):  # fmt: skip
    ranks = np.delete(np.arange(genes), knocked_out)
    draw = np.random.default_rng(0)
    parts = []
    for arm in arms:
        size = np.where((ranks > knocked_out) & (arm in ("delete", "shift")), 0.05, 1e-7)
        distance = size * draw.lognormal(size=len(ranks))
        parts.append(
            pd.DataFrame(
                {
                    "cell": "cell 0", "gene": symbol, "gene_id": "ENSG1", "gene_rank": knocked_out,
                    "kind": kind, "to_rank": pd.array([to_rank] * len(ranks), "Int32"),
                    "responder_rank": ranks, "arm": arm, "cosine_distance": distance,
                    "displacement": np.sqrt(2 * distance),
                    "artefact_share": 0.9 if arm == "delete" else np.nan,
                }
            )
        )  # fmt: skip
    table = pd.concat(parts, ignore_index=True)
    return table.assign(arm=pd.Categorical(table["arm"], categories=list(arms)))


def test_arms_share_one_scale_and_the_rank_is_marked_in_every_panel():
    figure = rank_shift_figure(rows(), [20])
    panels = figure.get_axes()
    assert len(panels) == 8
    for row in (panels[:4], panels[4:]):
        assert len({panel.get_ylim() for panel in row}) == 1
    assert [panel.get_title().split(":")[0] for panel in panels[:4]] == [
        "delete", "hold", "mask", "shift",
    ]  # fmt: skip
    for panel in panels:
        assert any(list(line.get_xdata()) == [20, 20] for line in panel.get_lines())
    assert "artefact share of delete: 0.900" in figure.get_suptitle()


def test_the_zoom_is_chosen_from_the_data_and_counts_what_it_leaves_out():
    table = rows()
    figure = rank_shift_figure(table, [20])
    zoomed = figure.get_axes()[4:]
    limit = zoomed[0].get_ylim()[0]
    assert 1e-7 < limit < 1e-5
    for panel, arm in zip(zoomed, ("delete", "hold", "mask", "shift"), strict=True):
        outside = int((table.loc[table["arm"] == arm, "cosine_distance"] > limit).sum())
        assert panel.get_title() == f"{outside} of 49 genes are below"


def test_zoom_limits_of_still_and_moving_arms():
    assert zoom_limit([np.zeros(3), np.zeros(0)]) == 1.0
    assert zoom_limit([np.zeros(3), np.full(9, 1e-9), np.full(9, 1.0)]) == pytest.approx(3.24e-9)


def test_the_zoom_is_that_of_an_arm_without_a_step_wherever_the_gene_stands():
    """Near the end of a cell few genes are shifted, and the medians of all arms are alike."""
    near_the_end = np.r_[np.full(40, 1e-7), np.full(9, 0.05)]
    assert zoom_limit([near_the_end, np.full(49, 2e-7)]) == pytest.approx(6.48e-7)


@pytest.mark.parametrize(
    ("limit", "distance", "label"),
    [
        (0.1, 0.0, "1"),
        (0.1, -1e-9, ""),
        (0.1, 0.05, "0.95"),
        (1e-3, 5e-4, "1 − 0.0005"),
        (1e-7, 4e-8, "1 − 4e-8"),
        (2.0, 1.0, "0"),
    ],
)
def test_labels_tell_a_similarity_from_one(limit, distance, label):
    assert similarity_label(limit)(distance, 0) == label


def test_every_arm_has_a_colour_of_its_own():
    assert set(ARM_COLOURS) == set(ARMS)
    assert len(set(ARM_COLOURS.values())) == len(ARM_COLOURS)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_written_figures_are_the_same_every_time_and_escape_names(tmp_path, suffix):
    table = rows(arms=("hold",), symbol="<script>alert(1)</script>")
    for name in ("a", "b"):
        draw(rank_shift_figure(table, [20]), tmp_path / f"{name}{suffix}")
    content = (tmp_path / f"a{suffix}").read_bytes()
    assert content == (tmp_path / f"b{suffix}").read_bytes()
    assert b"<script" not in content


def test_dollar_signs_in_names_are_text_not_mathematics():
    figure = rank_shift_figure(rows(symbol="A$B_{$"), [20])
    figure.canvas.draw()
    assert "A$B_{$" in figure.get_suptitle()


def overexpressed(knocked_out=30):
    genes = max(50, knocked_out + 1)
    table = rows(tuple(MOVE_ARMS), genes, knocked_out, kind="overexpress", to_rank=0)
    passed = table["responder_rank"] < knocked_out
    table["cosine_distance"] = np.where(passed, 0.05, 0.001)
    table.loc[table["arm"] == "move", "artefact_share"] = 0.8
    return table


def heads(panels):
    return [text.get_text() for panel in panels for text in panel.texts]


def test_a_move_is_marked_where_it_goes_and_its_sides_are_those_it_passes():
    figure = rank_shift_figure(overexpressed().assign(kind="activate:1", to_rank=10), [30])
    title = figure.get_suptitle()
    assert title.startswith("FAM136A activated in cell cell 0: rank 30 → 10 of 50")
    assert "artefact share of move: 0.800" in title
    panels = figure.get_axes()
    assert [p.get_title().split(":")[0] for p in panels[:3]] == ["move", "hold", "shift"]
    for panel in panels:
        marked = {float(line.get_xdata()[0]) for line in panel.get_lines()}
        assert marked == {30, 10}
    # It passes ranks 10 to 29; those before 10 make way for nothing.
    assert heads(panels[:3]) == ["median distance passed 0.05 · others 0.001"] * 3


def test_an_insertion_has_no_rank_to_come_from_and_passes_all():
    table = overexpressed(50)
    figure = rank_shift_figure(table, [])
    assert "cell 0: no rank → 0 of 50" in figure.get_suptitle()
    assert heads(figure.get_axes()[:3]) == ["median distance passed 0.05"] * 3


def test_the_ranks_of_a_set_are_all_marked():
    table = overexpressed().assign(gene="A+B", gene_id="ENSG1+ENSG2")
    figure = rank_shift_figure(table, [30, 40])
    for panel in figure.get_axes():
        marked = {float(line.get_xdata()[0]) for line in panel.get_lines()}
        assert marked == {30, 40, 0, 1}


def test_knock_out_and_overexpression_stand_below_each_other_role_by_role():
    table = pd.concat([rows(knocked_out=30), overexpressed()], ignore_index=True)
    arms = ["delete", "hold", "mask", "shift", "move"]
    table["arm"] = pd.Categorical(table["arm"], categories=arms)
    figure = rank_shift_figure(table, [30])
    panels = np.array(figure.get_axes()).reshape(4, 4)
    drawn = [[p.get_title().split(":")[0] if p.axison else "" for p in row] for row in panels[::2]]
    assert drawn == [["delete", "hold", "mask", "shift"], ["move", "hold", "", "shift"]]
    title = figure.get_suptitle()
    assert "FAM136A knocked out of cell cell 0: rank 30 of 50" in title
    assert "FAM136A overexpressed in cell cell 0: rank 30 → 0 of 50" in title
    assert "artefact share of delete: 0.900" in title
    assert "artefact share of move: 0.800" in title
    # One scale for all, and a zoom for each kind: what moves a gene most differs by far.
    for same_scale in (panels[::2].ravel(), panels[1], panels[3]):
        assert len({p.get_ylim() for p in same_scale if p.axison}) == 1
    assert "overexpress" in panels[2, 0].get_ylabel()
    figure.canvas.draw()


def test_a_cell_of_which_some_genes_are_shown_is_not_given_a_size():
    table = rows()
    few = table[table["responder_rank"].isin([3, 25])]
    assert figure_title(few).startswith("FAM136A knocked out of cell cell 0: rank 20\n")
    assert figure_title(table).startswith("FAM136A knocked out of cell cell 0: rank 20 of 50\n")


def figure_title(table):
    return rank_shift_figure(table, [20]).get_suptitle()
