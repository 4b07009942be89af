"""What can be asked, what is left out, and what is refused before the first forward."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.cells import Cells
from ranklock.errors import InputError, OptionError, RanklockWarning
from ranklock.run.asked import Asked
from ranklock.run.fields import GENES
from ranklock.run.gene_choice import BELOW_THE_INPUT, IN_NO_CELL
from ranklock.run.plan import check_fit, make_plan, shown_genes, unperturbed_cell
from tests.helpers import cells_of, checkpoint, vocabulary

IGNORED = pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")


@pytest.fixture
def cells():
    return cells_of([11, 6, 30], vocabulary())


def names(*tokens):
    return tuple(str(int(token)) for token in tokens)


def absent_from(cells):
    present = {token for ranked in cells.ranked for token in ranked.tolist()}
    return next(t for t in sorted(cells.vocabulary.tokens.values()) if t not in present)


def test_a_curated_list_goes_on_without_what_cannot_be_used(model):
    """../shared/cases/curated_gene_list.py: all that is wrong at once, and never more cells than
    there are."""
    cells = cells_of([5, 5, 60], vocabulary(60))
    cells = replace(cells, ranked=(*cells.ranked[:2], cells.ranked[2][:50]))
    present, absent = int(cells.ranked[0][0]), absent_from(cells)
    symbol = cells.vocabulary.symbol
    asked = Asked(genes=(symbol(present), "OCT4", "GEN9", symbol(absent), symbol(present)))
    with pytest.warns(RanklockWarning) as said:
        plan = make_plan(cells, model, asked)
    assert "3 of the genes cannot be perturbed and are left out" in str(said[0].message)
    assert [p.tokens for p in plan.perturbations] == [(present,)]
    left_out = {gene.name: gene for gene in plan.genes_left_out}
    assert left_out["OCT4"].reason == left_out["GEN9"].reason == "unknown"
    assert "GENE9" in left_out["GEN9"].nearest
    assert left_out[symbol(absent)].reason == IN_NO_CELL
    assert {gene.cells for gene in plan.genes_left_out} == {3}
    with pytest.raises(InputError, match="3 of the genes.*OCT4.*GEN9.*GENE") as refused:
        make_plan(cells, model, replace(asked, strict=True))
    assert "off the list" in str(refused.value)


@IGNORED
def test_genes_that_too_few_cells_have(model, cells):
    counts = {}
    for ranked in cells.ranked:
        for token in ranked.tolist():
            counts[token] = counts.get(token, 0) + 1
    plan = make_plan(cells, model, Asked(min_cells=2))
    assert {p.tokens[0] for p in plan.perturbations} == {t for t, n in counts.items() if n > 1}
    assert len(plan.tasks) == sum(n for n in counts.values() if n > 1)
    lone = next(t for t, n in counts.items() if n == 1)
    with pytest.raises(InputError, match=r"in fewer cells than --min-cells \(2\): GENE"):
        make_plan(cells, model, Asked(genes=names(lone), min_cells=2))


def test_a_set_with_a_gene_that_cannot_be_used_is_not_made_a_smaller_one(model, cells):
    present = cells.ranked[0][0]
    with pytest.raises(InputError, match="1 of the genes.*in the vocabulary and in no cell"):
        make_plan(cells, model, Asked(genes=names(present, absent_from(cells)), together=True))


def test_a_gene_below_the_input_size_comes_in_only_where_it_is_inserted(tmp_path):
    small = ranklock.load_model(checkpoint(tmp_path, positions=16), device="cpu")
    cells = cells_of([30], vocabulary())
    gene = names(cells.ranked[0][22])
    with pytest.raises(InputError, match=BELOW_THE_INPUT):
        make_plan(cells, small, Asked(genes=gene, do=("overexpress",)))
    plan = make_plan(cells, small, Asked(genes=gene, do=("overexpress",), insert=True))
    assert plan.tasks.shown.tolist() == [15]
    assert plan.tasks.rank.tolist() == [-1]
    assert shown_genes(cells, 0, small) == 16
    assert unperturbed_cell(cells, 0, small).tokens.tolist() == cells.ranked[0][:16].tolist()


def test_cells_without_the_gene_are_counted_and_said(model):
    cells = cells_of([5, 5, 60], vocabulary(60))
    only = next(t for t in cells.ranked[2].tolist()
                if t not in cells.ranked[0] and t not in cells.ranked[1])  # fmt: skip
    with pytest.warns(RanklockWarning, match="of 3 cells, 2 lack it; they are left out"):
        plan = make_plan(cells, model, Asked(genes=names(only)))
    (entry,) = plan.cells_left_out
    assert (entry.gene, entry.kind) == (cells.vocabulary.symbol(only), "knock-out")
    assert (entry.cells, entry.reasons) == (3, {"lack it": 2})


def test_of_many_perturbations_five_are_said_and_the_others_counted(model, cells):
    genes = names(*[t for t in cells.ranked[2] if t not in cells.ranked[0]][:8])
    with pytest.warns(RanklockWarning) as said:
        plan = make_plan(cells, model, Asked(genes=genes))
    assert len(said) == 6
    more = len(plan.cells_left_out) - 5
    assert str(said[-1].message).startswith(f"{more} more perturbations cannot be done")


def test_cells_of_one_gene(model):
    lone = cells_of([1, 1], vocabulary())
    with pytest.raises(
        InputError, match=r"2 cells chosen from test cells .cells: 2 have no other gene"
    ):
        make_plan(lone, model, Asked())
    with pytest.warns(RanklockWarning, match="Of 2 cells, 1 have no other gene; they are left out"):
        plan = make_plan(cells_of([1, 2], vocabulary()), model, Asked())
    assert plan.cells_used.tolist() == [1]
    framed = cells_of([1], vocabulary(special_frame=True), special_frame=True)
    assert len(make_plan(framed, model, Asked()).tasks) == 1
    with pytest.raises(InputError, match="have no other gene to respond"):
        make_plan(lone[0], model, Asked(genes=names(lone.ranked[0][0])))


def test_special_tokens_are_never_perturbed(model):
    cells = cells_of([20], vocabulary(special_frame=True), special_frame=True)
    for token in ("2", "3", "<cls>"):
        with pytest.raises(InputError, match="special token"):
            make_plan(cells, model, Asked(genes=(token,)))


def test_chosen_ranks_in_place_of_genes(model, cells):
    plan = make_plan(
        cells, model, Asked(do=("knock-out", "overexpress")), ranks_of={2: [7, 0], 0: [3]}
    )
    done = [
        (int(row), plan.kind_of(task).name, int(rank))
        for task, (row, rank) in enumerate(zip(plan.tasks.cell, plan.tasks.rank, strict=True))
    ]
    assert done == [
        (0, "knock-out", 3), (0, "overexpress", 3),
        (2, "knock-out", 0), (2, "knock-out", 7), (2, "overexpress", 7),
    ]  # fmt: skip


def test_genes_read_alone_leave_out_cells_without_a_responder(model, cells):
    only = next(t for t in cells.ranked[2].tolist() if t not in cells.ranked[0])
    holds = [only in ranked for ranked in cells.ranked]
    asked = Asked(responders=names(only), read=(GENES,))
    with pytest.warns(RanklockWarning, match=f"{holds.count(False)} hold none of the responders"):
        plan = make_plan(cells, model, asked)
    assert plan.cells_used.tolist() == np.flatnonzero(holds).tolist()
    both = make_plan(cells, model, replace(asked, read=("genes", "cell")))
    assert both.cells_used.tolist() == [0, 1, 2]


def test_a_responder_below_the_input_size_is_none(tmp_path):
    small = ranklock.load_model(checkpoint(tmp_path, positions=16), device="cpu")
    cells = cells_of([30, 30], vocabulary())
    below = next(t for t in cells.ranked[0][16:].tolist() if t in cells.ranked[1][:16])
    asked = Asked(responders=names(below), read=(GENES,))
    with pytest.warns(RanklockWarning, match="1 hold none of the responders"):
        plan = make_plan(cells, small, asked)
    assert plan.cells_used.tolist() == [1]


def test_backfill_says_where_it_lets_nothing_in(tmp_path):
    small = ranklock.load_model(checkpoint(tmp_path, positions=16), device="cpu")
    genes = cells_of([30], vocabulary()).ranked[0]
    full = Cells((genes[:16],), pd.DataFrame(index=["one"]), vocabulary(), False, "test cells")
    asked = Asked(genes=names(genes[4]), arms=("delete-backfill",))
    with pytest.warns(RanklockWarning, match="backfill lets nothing in"):
        make_plan(full, small, asked)
    make_plan(replace(full, complete=True), small, asked)
    make_plan(replace(full, ranked=(genes,)), small, asked)


REFUSED = [
    ({"genes": ["GENE999"]}, "unknown: GENE999"),
    ({"genes": "GENE1"}, r"write genes=\['GENE1'\]"),
    ({"genes": []}, "genes names nothing"),
    ({"responders": []}, "responders names nothing"),
    ({"responders": ["GENE999"]}, "'GENE999' .unknown"),
    ({"do": "up"}, "no perturbation 'up'"),
    ({"do": ["activate:4"]}, "1, 2 or 3 quarters"),
    ({"do": "to-rank:-1"}, "no rank"),
    ({"do": "factor:0"}, "no factor"),
    ({"arms": ("remove",)}, "no arm 'remove'; there are"),
    ({"arms": "delete"}, r"write arms=\['delete'\]"),
    ({"do": "overexpress", "arms": ("delete",)}, "No arm of overexpress.*has: move, hold"),
    ({"arms": ("hold", "move")}, "arm move is none of knock-out"),
    ({"read": "everything"}, "'everything' is none of genes, cell, logits"),
    ({"layer": 3}, "--layer goes from"),
    ({"precision": "tf32"}, "cpu does not compute in tf32"),
    ({"precision": "float8"}, "no precision 'float8'"),
    ({"together": True}, "A set needs its genes"),
    ({"genes": ["GENE1", "GENE2"], "together": True, "do": "activate:1"}, "not activated together"),
    ({"genes": ["GENE1"], "insert": True}, "cannot be knocked out: it stands nowhere"),
    ({"genes": ["GENE1"], "insert": True, "do": "inhibit:1"}, "cannot be inhibited"),
    ({"insert": True, "do": "overexpress"}, "put into cells are named"),
    ({"impostors": 1}, "--impostors 1: .*several impostors"),
    ({"impostors": -1}, "--impostors -1: "),
    ({"impostors": 999}, "fewer impostors"),
    ({"null_model": True}, "takes impostors"),
    ({"min_cells": 4}, "no gene is in 4 of them"),
    ({"min_cells": 0}, "in one cell at least"),
    ({"read": "logits"}, "no classifier of cells"),
    ({"do": "factor:0.5"}, "holds ranks, and a factor needs counts"),
    ({"donor": "patient"}, "no column 'patient'"),
    ({"states": ranklock.States("state", "a", "b")}, "no column 'state'"),
    ({"model": "a folder"}, "takes cells from .* not Cells and str"),
    ({"cells": "a file"}, "not str and Model"),
    ({"cells": cells_of([5], vocabulary(300))}, "302 tokens, the model 64|holds token"),
    ({"select": ranklock.Selection(where={"x": ("1",)})}, "no obs column 'x'"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_does_not_fit_is_refused_before_the_first_forward(
    model, cells, tmp_path, monkeypatch, asked, message
):
    def forward(*_, **__):
        raise AssertionError("a forward was run")

    monkeypatch.setattr("ranklock.engine.forward._attend", forward)
    given = {"cells": cells, "model": model, "out": tmp_path / "run", "progress": False} | asked
    with pytest.raises(InputError, match=message):
        ranklock.perturb(given.pop("cells"), given.pop("model"), **given)
    assert not (tmp_path / "run").exists()


def test_towards_states_the_cell_is_read(model, cells):
    cells = replace(cells, obs=cells.obs.assign(state=["a", "a", "b"]))
    with pytest.raises(OptionError, match="read it .--read cell"):
        ranklock.perturb(
            cells, model, states=ranklock.States("state", "a", "b"), read="genes", progress=False
        )


def test_a_vocabulary_without_a_mask_has_no_arm_of_that_name(model):
    vocab = vocabulary()
    bare = replace(vocab, special={"<pad>": 0})
    cells = replace(cells_of([9], vocab), vocabulary=bare)
    with pytest.raises(InputError, match="no <mask>, so the arm 'mask' cannot be run"):
        make_plan(cells, model, Asked())
    make_plan(cells, model, Asked(arms=("delete", "hold", "shift")))
    check_fit(cells, model, [])
