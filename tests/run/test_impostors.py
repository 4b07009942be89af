"""Impostors: how they are drawn, and what perturbing them does, against plain forwards."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ranklock
from ranklock.arms import KNOCK_OUT_ARMS, Change, apply, baseline, with_impostors
from ranklock.errors import InputError, OptionError, RanklockWarning
from ranklock.run.asked import Asked
from ranklock.run.impostors import WINDOW, Impostors
from ranklock.run.plan import make_plan
from tests.helpers import cells_of, vocabulary
from tests.run import plain
from tests.run.test_perturb import (
    GENES,
    STATE,
    as_cells,
    case_of,
    checkpoints,
    gene_id,
    make_cells,
    with_states,
)

__all__ = ["checkpoints"]  # the fixture
NUMBER = 3


# How they are drawn


def pool(lengths=(30, 40, 25, 33, 38), number=4, seed=0, **options):
    cells = cells_of(list(lengths), vocabulary(), **options)
    return Impostors(cells, 30, number, seed)


def change(impostors, row, rank):
    return Change((int(impostors.cells.ranked[row][rank]),), (rank,))


@given(row=st.integers(0, 4), rank=st.integers(0, 24), number=st.integers(2, 9))
def test_impostors_are_genes_that_the_cell_lacks_and_others_show(row, rank, number):
    impostors = pool(number=number)
    drawn = impostors.draw(row, change(impostors, row, rank))
    assert drawn.shape == (number, 1)
    assert len(np.unique(drawn)) == number
    assert not np.isin(drawn, impostors.cells.ranked[row]).any()
    shown = np.concatenate([genes[:30] for genes in impostors.cells.ranked])
    assert np.isin(drawn, shown).all()


def test_they_stand_near_the_rank_in_other_cells():
    draw = np.random.default_rng(0)
    vocab = vocabulary(400)
    genes = np.array(sorted(vocab.tokens.values()), np.int32)
    # Cells of 60 genes each, of which 300 keep to their rank and cells lack four in five.
    ranked = tuple(np.sort(draw.permutation(300)[:60]) for _ in range(200))
    obs = pd.DataFrame(index=[f"c{i}" for i in range(200)])
    cells = ranklock.Cells(tuple(genes[r] for r in ranked), obs, vocab, False)
    impostors = Impostors(cells, 60, 12, 0)
    for rank in (0, 20, 59):
        drawn = impostors.draw(7, change(impostors, 7, rank)).ravel()
        near = np.unique(np.concatenate([g[max(rank - WINDOW, 0) : rank + WINDOW + 1]
                                         for g in cells.ranked]))  # fmt: skip
        assert np.isin(drawn, near).all()


def test_they_are_drawn_as_often_as_others_show_them():
    vocab = vocabulary(60)
    genes = np.array(sorted(vocab.tokens.values()), np.int32)
    common, rare, own = genes[0], genes[1], genes[2:8]
    # Of 40 cells, 36 show one gene at the rank and 4 another; the first cell has neither.
    ranked = [own] + [np.append([common if i < 36 else rare], genes[8:12]) for i in range(40)]
    obs = pd.DataFrame(index=[f"c{i}" for i in range(41)])
    cells = ranklock.Cells(tuple(ranked), obs, vocab, False)
    first = []
    for seed in range(400):
        impostors = Impostors(cells, 8, 2, seed)
        drawn = impostors.draw(0, Change((int(own[0]),), (0,)))
        first.append(np.isin([common, rare], drawn))
    often = np.mean(first, axis=0)
    # Two of six genes are drawn, five of which are shown in 36 or 40 cells and one in 4.
    assert 0.25 < often[0] < 0.5
    assert often[1] < 0.1


def test_a_draw_depends_on_the_task_and_the_seed_alone():
    impostors, few = pool(), pool()
    task = change(impostors, 2, 5)
    before = impostors.draw(2, task)
    few.draw(1, change(few, 1, 3))
    np.testing.assert_array_equal(few.draw(2, task), before)
    moved = Change(task.tokens, task.ranks, (0,))
    np.testing.assert_array_equal(impostors.draw(2, moved), before)  # whatever is done to it
    assert not np.array_equal(pool(seed=1).draw(2, task), before)
    assert not np.array_equal(impostors.draw(2, change(impostors, 2, 6)), before)


def test_a_set_has_an_impostor_for_each_gene():
    impostors = pool()
    tokens = impostors.cells.ranked[0][[3, 9, 4]]
    drawn = impostors.draw(0, Change(tuple(tokens.tolist()), (3, 9, 4)))
    assert drawn.shape == (4, 3)
    assert len(np.unique(drawn)) == 12


def test_too_few_genes_are_an_error_before_any_forward(tiny_checkpoint):
    model = ranklock.load_model(tiny_checkpoint, device="cpu")
    cells = cells_of([20], vocabulary())
    with pytest.raises(InputError, match="there are 0, and 12 are needed: choose more cells"):
        make_plan(cells, model, Asked(impostors=12))
    with pytest.raises(OptionError, match="several impostors"):
        Asked(impostors=1)
    with pytest.raises(OptionError, match="takes impostors"):
        Asked(null_model=True)


# What they are


@given(st.data())
def test_removing_an_impostor_leaves_the_input_that_removing_the_gene_leaves(data):
    framed = data.draw(st.booleans())
    cells = cells_of([20, 25], vocabulary(special_frame=framed), special_frame=framed)
    cell = baseline(cells.ranked[0], cells.vocabulary, special_frame=framed)
    ranks = data.draw(st.lists(st.integers(0, 19), min_size=1, max_size=3, unique=True))
    tokens = tuple(int(cells.ranked[0][rank]) for rank in ranks)
    task = Change(tokens, tuple(ranks))
    lacking = np.setdiff1d(cells.ranked[1], cells.ranked[0])[: len(ranks)].tolist()
    standing = with_impostors(cell, task, lacking)
    np.testing.assert_array_equal(standing.positions, cell.positions)
    np.testing.assert_array_equal(standing.ranks, cell.ranks)
    assert (standing.tokens != cell.tokens).sum() == len(ranks)
    for name in ("delete", "hold", "mask"):
        arm = KNOCK_OUT_ARMS[name]
        own = apply(arm, cell, task, cells.vocabulary)
        of_impostor = apply(arm, standing, replace(task, tokens=tuple(lacking)), cells.vocabulary)
        for part in ("tokens", "positions", "visible", "ranks"):
            np.testing.assert_array_equal(getattr(own, part), getattr(of_impostor, part))


# What perturbing them does


def with_impostor(task, impostors):
    """The same task with other genes in the place of those that are perturbed."""
    other = dict(zip(task.tokens, impostors, strict=True))
    return replace(
        task, tokens=tuple(impostors), shown=[other.get(gene, gene) for gene in task.shown],
        to={other[gene]: rank for gene, rank in task.to.items()},
    )  # fmt: skip


def compared(task):
    """Arms in which impostors are perturbed."""
    if plain.moves(task.kind):
        return [arm for arm in ("hold", "move") if arm in task.arms][:1]
    return [arm for arm in task.arms if arm != "shift"]


# A distance of two embeddings that err by STATE each; and how far its logarithm is off by that.
def off(before, after, distance):
    error = STATE / np.linalg.norm(before)
    return 2 * error * (np.sqrt(2 * distance) + error)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9))
def test_impostors_and_folds_equal_plain_forwards(checkpoints, seed):
    case = case_of(seed)
    experiment, perturbed, framed = case.experiment, case.cells, case.experiment.framed
    vocab = vocabulary(GENES, special_frame=framed)
    model, forwards = checkpoints(
        experiment.most + 2 * framed, case.layer, classifies=case.classifies
    )
    others = [
        replace(cell, name=f"other{number}")
        for number, cell in enumerate(make_cells([11, 7, 20, 9, 5, 12], experiment.medians, seed))
    ]
    donors = ["p", "q", "p"][: len(perturbed)]
    obs = pd.DataFrame({"state": ["start"] * len(perturbed) + ["end"] * 3 + ["side"] * 3,
                        "donor": [*donors, *"pqpqpq"]})  # fmt: skip
    states = None
    if case.average:
        states = ranklock.States(
            "state", "start", "end", ("side",), within="donor" if case.within else None,
            average=case.average,
        )  # fmt: skip
        experiment, perturbed = with_states(
            experiment, perturbed, others, forwards, donors, case.average, within=case.within
        )
    cells = as_cells([*perturbed, *others], vocab, framed, obs)
    tasks = plain.tasks_of(experiment, [*perturbed, *others] if states is None else perturbed)
    arguments = {
        "genes": list(experiment.genes) or "all", "do": list(experiment.kinds),
        "arms": list(experiment.arms) or None, "read": list(experiment.read),
        "together": experiment.together, "insert": experiment.insert,
        "responders": list(experiment.responders) or "all", "layer": case.layer,
        "states": states, "progress": False, "impostors": NUMBER,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RanklockWarning)
        try:
            run = ranklock.perturb(cells, model, **arguments)
        except InputError:
            return  # nothing can be done, or a cell lacks too few genes
    tasks = {(task.cell.name, gene_id(task, vocab), task.kind): task for task in tasks}
    folds = run.shifts.set_index(["cell", "gene_id", "kind", "arm"])
    keys = ["cell", "gene_id", "kind", "arm"]
    for key, rows in run.impostors.groupby(keys, observed=True, sort=False):
        task = tasks[key[0], key[1], key[2].replace("factor:4", "factor:4")]
        assert key[3] in compared(task)
        assert len(rows) == NUMBER
        check_task(run, experiment, task, key[3], rows, folds.loc[key], forwards, vocab)
    expected = sum(NUMBER * len(compared(task)) for task in tasks.values())
    assert len(run.impostors) == expected


def check_task(run, experiment, task, arm, rows, own, forwards, vocab):
    framed = experiment.framed
    of_gene = plain.moved(forwards, task, arm, framed=framed)
    imposing = []
    for row in rows.to_dict("records"):
        tokens = [vocab.tokens[gene] for gene in row["impostor_id"].split("+")]
        assert not set(tokens) & set(task.cell.genes)
        moved = plain.moved(forwards, with_impostor(task, tokens), arm, framed=framed)
        imposing.append(moved)
        if "cell" not in experiment.read:
            continue
        distance = plain.cosine_distance(moved.cell_before, moved.cell_after)
        limit = off(moved.cell_before, moved.cell_after, distance)
        assert row["cosine_distance"] == pytest.approx(distance, rel=1e-5, abs=limit)
        if experiment.states is not None:
            goal = experiment.states[task.cell.group][0]
            turned = plain.cosine(moved.cell_after, goal) - plain.cosine(moved.cell_before, goal)
            assert row["towards_goal"] == pytest.approx(turned, abs=10 * STATE)
    if "cell" in experiment.read:
        check_fold(
            own["cosine_distance_fold"],
            plain.cosine_distance(of_gene.cell_before, of_gene.cell_after),
            [plain.cosine_distance(m.cell_before, m.cell_after) for m in imposing],
        )
        if experiment.states is not None:
            usual = np.sqrt(np.mean(rows["towards_goal"].astype(float) ** 2))
            assert own["towards_goal_fold"] == pytest.approx(own["towards_goal"] / usual, rel=1e-9)
    if "genes" in experiment.read:
        table = run.table
        mine = table[(table["cell"] == task.cell.name) & (table["gene_id"] == gene_id(task, vocab))
                     & (table["kind"] == rows["kind"].iloc[0]) & (table["arm"] == arm)]  # fmt: skip
        fold_of = dict(zip(mine["responder_id"], mine["fold"], strict=True))
        for place, gene in enumerate(task.kept):
            if vocab.gene(gene) in fold_of:
                check_fold(
                    fold_of[vocab.gene(gene)],
                    of_gene.distances[place],
                    [moved.distances[place] for moved in imposing],
                )


def check_fold(fold, distance, of_impostors):
    distances = np.array([distance, *of_impostors])
    if (distances < 1e-7).any():  # where two float32 states say nothing of the distance
        return
    expected = np.log10(distance) - np.log10(of_impostors).mean()
    # Displacements are exact to 1e-5 of themselves, and distances to twice that.
    assert fold == pytest.approx(expected, abs=1e-3)
