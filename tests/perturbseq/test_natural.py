from dataclasses import replace

import numpy as np
import pytest

import ranklock
from ranklock.models.permuted import permuted
from ranklock.perturbseq import natural
from ranklock.perturbseq.natural_scores import BELOW, BEYOND, NOT_BEYOND, PLACEBO
from tests.perturbseq import natural_world as world


@pytest.fixture(scope="module")
def cells():
    return world.cells()


def made(folder, cells, **options):
    model = ranklock.load_model(world.checkpoint(folder / "model", **options), device="cpu")
    run = ranklock.perturb(cells[:6], model, arms=["delete", "hold", "shift"], read="cell",
                           out=folder / "run", progress=False)  # fmt: skip
    return run, model


@pytest.fixture(scope="module")
def knowing(tmp_path_factory, cells):
    return made(tmp_path_factory.mktemp("knowing"), cells)


def judge(run, cells, model, **options):
    return ranklock.natural_knock_outs(run, cells, model, genes=world.FIRST,
                                       **{"min_cells": 5, "held_out": 30, "max_pairs": 12}
                                       | options)  # fmt: skip


def test_knock_outs_that_truly_point_the_way_are_found(knowing, cells):
    run, model = knowing
    result = judge(run, cells, model)
    assert {name: arm.verdict for name, arm in result.arms.items()} == {
        "delete": BEYOND, "hold": BEYOND, "shift": PLACEBO
    }  # fmt: skip
    hold = result.arms["hold"]
    assert hold.genes == world.MODULES
    assert hold.model.own > 0.6 > 0.2 > abs(hold.model.others)
    assert hold.model.place.value > 0.95 > hold.null.place.value
    assert "more than removing other genes does" in result.text()
    assert "no link between genes in biology" in result.text()
    own = result.table[result.table["arm"] == "hold"]
    assert (own["low"] > 0).all()
    assert (own["low"] < own["difference"]).all()


def test_knock_outs_that_point_elsewhere_are_not(tmp_path, cells):
    run, model = made(tmp_path, cells, mistaken=True)
    result = judge(run, cells, model)
    hold = result.arms["hold"]
    assert hold.verdict in {BELOW, NOT_BEYOND}
    assert hold.model.own < 0.2
    assert hold.model.place.value < 0.8
    assert "than those of a model without knowledge do" in " ".join(result.text().split())


def test_one_null_model_is_not_beyond_another(knowing, cells, monkeypatch):
    """A model without knowledge as the checkpoint, in 10 seeds; 5 % of them may be called."""
    run, model = knowing
    monkeypatch.setattr(natural, "_check_made_from", lambda *_: None)
    monkeypatch.setattr(natural, "permuted", lambda _, seed: permuted(model, seed))
    verdicts = []
    for seed in range(10):
        result = judge(run, cells, permuted(model, 100 + seed), arms=["hold"], seed=seed)
        verdicts.append(result.arms["hold"].verdict)
        assert result.arms["hold"].null.place.value > 0.3
    assert verdicts.count(BEYOND) <= 1
    assert verdicts.count(NOT_BEYOND) >= 8


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(knowing, cells):
    run, model = knowing
    first, again, other = (judge(run, cells, model, arms=["hold"], seed=s) for s in (3, 3, 4))
    numbers = first.table.select_dtypes("number").columns
    np.testing.assert_array_equal(first.table[numbers], again.table[numbers])
    assert not np.array_equal(first.table["cosine"], other.table["cosine"])


def test_donors_are_the_replicates_where_they_are_named(knowing, cells):
    run, model = knowing
    of_donors = judge(run, cells, model, arms=["hold"], donor="donor").table
    of_donors = of_donors[of_donors["why_not"] == ""]
    assert len(of_donors) > 5
    assert (of_donors["replicates"] <= 6).all()
    assert set(of_donors["replicates_are"]) == {"donors"}
    of_cells = judge(run, cells, model, arms=["hold"]).table
    np.testing.assert_array_equal(of_cells["replicates"], of_cells["held_out_cells"])


def test_genes_with_too_few_cells_are_rows_that_say_so(knowing, cells):
    run, model = knowing
    absent = cells.vocabulary.token(world.FIRST[0])
    few = replace(cells, ranked=tuple(
        genes if row < 5 else genes[genes != absent] for row, genes in enumerate(cells.ranked)
    ))  # fmt: skip
    table = judge(run, few, model, arms=["hold"]).table.set_index("gene")
    assert "5 of each needed" in table.loc[world.FIRST[0], "why_not"]
    assert np.isnan(table.loc[world.FIRST[0], "place"])
    assert (table.drop(index=world.FIRST[0])["why_not"] == "").all()


def test_a_folder_is_read_again_and_what_was_changed_refused(knowing, cells, tmp_path):
    run, model = knowing
    result = judge(run, cells, model)
    result.save(tmp_path / "out")
    again = ranklock.read_natural_knock_outs(tmp_path / "out")
    assert again.text() == result.text()
    assert again.arms == result.arms
    with pytest.raises(ranklock.OutputError, match="exists already"):
        result.save(tmp_path / "out")
    (tmp_path / "out" / "natural.json").write_text("{}")
    with pytest.raises(ranklock.OutputError, match="changed or damaged"):
        ranklock.read_natural_knock_outs(tmp_path / "out")


def test_what_does_not_fit_is_refused_before_any_forward(knowing, cells, tmp_path, monkeypatch):
    run, model = knowing
    monkeypatch.setattr(natural, "lack_directions", lambda *_: pytest.fail("a forward"))
    other = ranklock.load_model(world.checkpoint(tmp_path / "other", mistaken=True), device="cpu")
    gene, second = cells.ranked[0][1:3].tolist()
    moves = ranklock.perturb(cells[0], model, [gene], "overexpress", read="cell", progress=False)
    together = ranklock.perturb(cells[0], model, [gene, second], together=True, read="cell",
                                progress=False)  # fmt: skip
    for call, error, words in (
        (lambda: judge(run, cells, other), ranklock.InputError, "name the checkpoint of the run"),
        (lambda: judge(run, cells, permuted(model)), ranklock.InputError, "null model already"),
        (lambda: judge(run, cells, model, match="tissue"), ranklock.InputError, "no column"),
        (lambda: judge(run, cells[:8], model), ranklock.InputError, "genes can be judged"),
        (lambda: judge(run, cells, model, arms=["mask"]), ranklock.InputError, "no arm 'mask'"),
        (lambda: judge(run, cells, model, min_cells=1), ranklock.InputError, "--min-cells"),
        (lambda: judge(run, cells, model, max_apart=2), ranklock.InputError, "--max-apart"),
        (lambda: judge(run, cells, model, max_genes=1), ranklock.InputError, "--max-genes"),
        (
            lambda: ranklock.natural_knock_outs(moves, cells, model),
            ranklock.InputError,
            "no knock-outs",
        ),
        (
            lambda: ranklock.natural_knock_outs(together, cells, model),
            ranklock.InputError,
            "none alone",
        ),
    ):
        with pytest.raises(error, match=words):
            call()
