from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranklock.arms import KNOCK_OUT_ARMS, MOVE_ARMS, NOT_RANKED, baseline
from ranklock.effects import displacements
from ranklock.engine import batches, displaced, first_layer, tasks, two_forwards
from ranklock.engine.forward import run_layers
from ranklock.engine.groups import Reading
from ranklock.engine.method import EXACT, FLOAT32, Method
from ranklock.engine.tasks import measure_groups
from ranklock.models import load_model
from ranklock.models.head import load_head
from tests.engine.groups import effects, group_of, plain_effects
from tests.helpers import classifier, knock_out, move, plain_logits, vocabulary

LAYERS, WIDTH = 3, 16
TWO_FORWARDS = Method(displacement=False, precision="float32")
METHODS = [FLOAT32, Method(True, "float64"), TWO_FORWARDS, EXACT]
VOCABULARIES = {framed: vocabulary(special_frame=framed) for framed in (False, True)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return classifier(tmp_path_factory.mktemp("three"), layers=LAYERS, bias_spread=0.2)


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def head(folder):
    return load_head(folder)


@st.composite
def unperturbed(draw, *, framed, longest=30):
    length = draw(st.integers(1 if framed else 2, longest))
    words = VOCABULARIES[framed]
    genes = np.random.default_rng(draw(st.integers(0, 99))).permutation(
        np.array(list(words.tokens.values()), dtype=np.int32)
    )
    return baseline(genes[:length], words, special_frame=framed), genes[length:].tolist()


@st.composite
def groups(draw, *, reading, with_states, of_cells, arms_of):
    """Tasks of one kind in one of some cells: sets of genes that are knocked out or moved."""
    framed = reading.special_frame
    cell, below = draw(st.sampled_from(of_cells))
    genes = [int(t) for t, r in zip(cell.tokens, cell.ranks, strict=True) if r != NOT_RANKED]
    number = draw(st.sampled_from([1, 1, 3, 9]))
    most = min(3, len(genes) - (not framed))  # without <cls>, somebody is left to respond
    moves = draw(st.booleans())
    pool = genes + (below[:2] if moves and draw(st.booleans()) else [])
    changes = []
    for _ in range(number):
        size = draw(st.integers(1, most))
        named = draw(st.lists(st.sampled_from(pool), min_size=size, max_size=size, unique=True))
        if moves:
            room = len(genes) + sum(token not in genes for token in named)
            goals = st.lists(st.integers(0, room - 1), min_size=size, max_size=size, unique=True)
            changes.append(move(cell, dict(zip(named, draw(goals), strict=True))))
        else:
            changes.append(knock_out(cell, [genes.index(token) for token in named]))
    responders = range(len(genes))
    if not reading.cell or framed:
        least = 0 if reading.cell or reading.head else 1
        responders = draw(st.sets(st.sampled_from(list(responders)), min_size=least))
    states = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(2, WIDTH))
    return group_of(
        cell, changes, arms_of[moves], VOCABULARIES[framed], responders=responders, below=below,
        states=states if with_states else None,
    )  # fmt: skip


@st.composite
def calls(draw, framed, read, head):
    """Groups of one call, and what is read of them."""
    cell = read != "genes"
    reading = Reading(
        draw(st.integers(0, LAYERS)),
        cell,
        framed,
        totals=cell and not framed and draw(st.booleans()),
        head=draw(st.sampled_from([None, head])),
    )
    with_states = read == "states"
    of_cells = draw(st.lists(unperturbed(framed=framed), min_size=1, max_size=4))
    arms_of = {}
    for moves, arms in ((False, KNOCK_OUT_ARMS), (True, MOVE_ARMS)):
        names = st.lists(st.sampled_from(sorted(arms)), min_size=1, max_size=3, unique=True)
        arms_of[moves] = {name: arms[name] for name in draw(names)}
    group = groups(reading=reading, with_states=with_states, of_cells=of_cells, arms_of=arms_of)
    number = draw(st.sampled_from([1, 5, 8]))
    return draw(st.lists(group, min_size=number, max_size=number)), reading


@st.composite
def ways(draw):
    """Ways of computing that must not matter."""
    return {
        "batch_size": draw(st.sampled_from([None, 1, 2, 5, 100])),
        "tokens": draw(st.sampled_from([4096, 100, 1])),
        "shared": draw(st.booleans()),
        "method": draw(st.sampled_from(METHODS)),
    }


def measured_in(way, model, call, reading):
    """Effects of groups, however few inputs share a first layer, and however small batches are."""
    with (
        patch.object(first_layer, "FEWEST_INPUTS", 2 if way["shared"] else 8),
        patch.object(first_layer, "_MOST_OWN", 1.0 if way["shared"] else 0.25),
        patch.object(tasks, "tokens_at_once", lambda _: way["tokens"]),
        patch.object(batches, "tokens_at_once", lambda _: way["tokens"]),
    ):
        measured = measure_groups(
            model, call, reading, method=way["method"], batch_size=way["batch_size"]
        )
    return [effects(*of_group, reading) for of_group in zip(call, measured, strict=True)]


# States leave a layer norm with a length of about √16 = 4, and effects are of the size of 0.1 to 4.
# Three layers of float32 sums err by some ten roundings of 4 × 6e-8, and 200 examples by 2e-6 at
# most: 1e-5 leaves a factor of five.
ATOL = 1e-5


def assert_alike(values, expected):
    assert set(values) == set(expected)
    for name, array in values.items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=ATOL, err_msg=name)


in_every_way = pytest.mark.parametrize(
    ("framed", "read"), [(f, r) for f in (False, True) for r in ("genes", "cell", "states")]
)


@in_every_way
@settings(max_examples=20)
@given(data=st.data())
def test_effects_are_those_of_plain_forwards(folder, model, head, framed, read, data):
    """Many cells, kinds, lengths, sets and arms in one call, in whatever batches."""
    call, reading = data.draw(calls(framed, read, head))
    way = data.draw(ways())
    for group, values in zip(call, measured_in(way, model, call, reading), strict=True):
        assert_alike(values, plain_effects(folder, LAYERS, group, reading))


def part_of(group, places):
    return replace(
        group,
        perturbed=[group.perturbed[place] for place in places],
        arms={
            arm: [inputs[place] for place in places]
            for arm, inputs in reversed(list(group.arms.items()))
        },
    )


@in_every_way
@settings(max_examples=10)
@given(data=st.data())
def test_neither_grouping_nor_batches_nor_neighbours_nor_threads_change_an_effect(
    model, head, framed, read, data
):
    call, reading = data.draw(calls(framed, read, head))
    expected = measured_in(data.draw(ways()), model, call, reading)
    # Each group's tasks fall into two groups, in any order, and those into two calls.
    parts = []
    for index, group in enumerate(call):
        places = data.draw(st.permutations(range(len(group))))
        cut = data.draw(st.integers(0, len(group)))
        parts += [(index, part) for part in (places[:cut], places[cut:]) if part]
    parts = data.draw(st.permutations(parts))
    cut = data.draw(st.integers(0, len(parts)))
    threads = torch.get_num_threads()
    torch.set_num_threads(data.draw(st.integers(1, 3)))
    try:
        for members in (parts[:cut], parts[cut:]):
            inputs = [part_of(call[index], places) for index, places in members]
            measured = measured_in(data.draw(ways()), model, inputs, reading)
            for (index, places), values in zip(members, measured, strict=True):
                of_tasks = {name: array[places] for name, array in expected[index].items()}
                assert_alike(values, of_tasks)
    finally:
        torch.set_num_threads(threads)


def a_cell(genes, *, framed=False, seed=0):
    words = VOCABULARIES[framed]
    tokens = np.array(list(words.tokens.values()), dtype=np.int32)
    tokens = np.random.default_rng(seed).permutation(tokens)[:genes]
    return baseline(tokens, words, special_frame=framed), words


def knock_outs(cell, words, ranks, arms=("delete", "hold", "mask", "shift"), **options):
    changes = [knock_out(cell, [rank]) for rank in ranks]
    return group_of(cell, changes, {arm: KNOCK_OUT_ARMS[arm] for arm in arms}, words, **options)


@pytest.mark.parametrize("ranks", [[0, 4, 39], range(40)], ids=["few", "all"])
@pytest.mark.parametrize("framed", [False, True])
def test_attention_mask_equals_hold_for_every_other_gene(model, ranks, framed):
    group = knock_outs(*a_cell(40, framed=framed), ranks, ("attention-mask", "hold"))
    reading = Reading(LAYERS, cell=True, special_frame=framed)
    (measured,) = measure_groups(model, [group], reading)
    for moments in (measured.genes, measured.cell):
        hidden, held = (displacements(moments, arm) for arm in ("attention-mask", "hold"))
        assert held.max() > 0.01
        np.testing.assert_allclose(hidden, held, rtol=0, atol=ATOL)


def test_insertion_into_some_of_a_group_is_the_plain_forward(folder, model):
    """Nine inputs of two lengths under the arms that put a gene in: no first layer for all."""
    cell, words = a_cell(20)
    present = cell.tokens[[3, 9, 14, 19]].tolist()
    lacking = sorted(set(words.tokens.values()) - set(cell.tokens.tolist()))[:5]
    changes = [move(cell, {token: 2}) for token in (*present, *lacking)]
    group = group_of(cell, changes, MOVE_ARMS, words)
    assert {len(changed) for changed in group.arms["move"]} == {20, 21}
    reading = Reading(2, cell=True, special_frame=False, totals=True)
    (measured,) = measure_groups(model, [group], reading)
    assert_alike(effects(group, measured, reading), plain_effects(folder, LAYERS, group, reading))


def test_a_lone_gene_is_knocked_out_of_a_cell_with_cls(folder, model, head):
    group = knock_outs(*a_cell(1, framed=True), [0])
    reading = Reading(2, cell=True, special_frame=True, head=head)
    (measured,) = measure_groups(model, [group], reading)
    assert displacements(measured.cell, "hold").min() > 0
    assert displacements(measured.genes, "hold").tolist() == [[0.0]]
    assert_alike(effects(group, measured, reading), plain_effects(folder, LAYERS, group, reading))


def test_a_classifier_reads_the_gene_that_stands_first_after_a_move(folder, model, head):
    """Moved genes stay where they stood among the inputs, but not for the model."""
    cell, words = a_cell(12)
    changes = [move(cell, {int(cell.tokens[7]): 0}), move(cell, {int(cell.tokens[0]): 5})]
    group = group_of(cell, changes, MOVE_ARMS, words, responders=[3])
    reading = Reading(1, cell=False, special_frame=False, head=head)
    (measured,) = measure_groups(model, [group], reading)
    for arm, first in (("move", [7, 1]), ("hold", [7, 1]), ("shift", [0, 1])):
        for task, rank in enumerate(first):
            changed = group.arms[arm][task]
            order = np.argsort(changed.positions, kind="stable")
            order = np.concatenate([np.flatnonzero(changed.ranks == rank),
                                    order[changed.ranks[order] != rank]])  # fmt: skip
            plain = plain_logits(
                folder, *(getattr(changed, name)[order].tolist()
                          for name in ("tokens", "positions", "visible"))
            )  # fmt: skip
            np.testing.assert_allclose(measured.logits[arm][task], plain, rtol=0, atol=ATOL)


def test_a_perturbed_gene_is_no_responder_of_its_own(model):
    cell, words = a_cell(30)
    changes = [knock_out(cell, [2, 5]), knock_out(cell, [7])]
    group = group_of(cell, changes, {"mask": KNOCK_OUT_ARMS["mask"]}, words, responders=[2, 7, 9])
    (measured,) = measure_groups(model, [group], Reading(2, cell=False, special_frame=False))
    moved = displacements(measured.genes, "mask") > 0
    assert moved.tolist() == [[False, True, True], [True, False, True]]


@pytest.fixture
def runs(monkeypatch):
    """What the layers are run on: inputs, rows that are read or None for all."""
    seen = []

    def record(encoder, states, stretches, layers, rows=None):
        seen.append((sum(s.inputs for s in stretches), None if rows is None else len(rows)))
        return run_layers(encoder, states, stretches, layers, rows)

    monkeypatch.setattr(two_forwards, "run_layers", record)
    return seen


def test_the_last_layer_computes_only_the_rows_that_are_read(model, runs):
    group = knock_outs(*a_cell(40, framed=True), [3, 9], ("hold", "mask"), responders=[])
    reading = Reading(LAYERS, cell=True, special_frame=True)
    measure_groups(model, [group], reading, method=TWO_FORWARDS)
    assert runs == [(1, 1), (2, 1 * 2), (2, 1 * 2)]  # <cls> alone


def test_all_layers_of_a_classifier_are_run_once_and_the_last_for_one_row(model, head, runs):
    group = knock_outs(*a_cell(40), [3, 9], ("hold",))
    reading = Reading(2, cell=True, special_frame=False, head=head)
    measure_groups(model, [group], reading, method=TWO_FORWARDS)
    assert runs == [(1, None), (1, 1), (2, None), (2, 2)]


def test_tasks_of_many_cells_go_through_the_model_together(model, runs):
    call = [knock_outs(*a_cell(10 + seed, seed=seed), [1, 5], ("hold",)) for seed in range(6)]
    reading = Reading(2, cell=True, special_frame=False)
    measure_groups(model, call, reading, method=TWO_FORWARDS)
    assert runs == [(6, None), (12, None)]  # all baselines, each once; all tasks


def test_memory_that_runs_out_halves_the_batch(model, monkeypatch):
    sizes = []

    def small_device(encoder, states, stretches, *rest):
        sizes.append(sum(stretch.inputs for stretch in stretches))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError
        return run_layers(encoder, states, stretches, *rest)

    group = knock_outs(*a_cell(20), range(7), ("hold", "mask"))
    reading = Reading(2, cell=True, special_frame=False)
    (expected,) = measure_groups(model, [group], reading, method=TWO_FORWARDS)
    monkeypatch.setattr(two_forwards, "run_layers", small_device)
    (measured,) = measure_groups(model, [group], reading, method=TWO_FORWARDS)
    assert_alike(effects(group, measured, reading), effects(group, expected, reading))
    assert sizes == [1, 7, 3, 1, 1] + [1, 1] * 6


def test_a_task_that_does_not_fit_at_all_is_said_to(model, monkeypatch):
    def no_device(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(two_forwards, "run_layers", no_device)
    group = knock_outs(*a_cell(20), range(3), ("hold",))
    monkeypatch.setattr(displaced, "displaced_layer", no_device)
    for method in (FLOAT32, TWO_FORWARDS):
        with pytest.raises(MemoryError, match="cpu is out of memory"):
            measure_groups(
                model, [group], Reading(2, cell=True, special_frame=False), method=method
            )
