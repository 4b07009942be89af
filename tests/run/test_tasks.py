import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from ranklock.arms import NOT_RANKED
from ranklock.cells import Cells
from ranklock.kinds import KNOCK_OUT, find_kind
from ranklock.run.tasks import Perturbation, change_of, find_tasks, tasks_at_ranks
from tests.helpers import cells_of, vocabulary
from tests.run import plain
from tests.run.test_perturb import KINDS, as_cells, make_cells, medians_of

VOCABULARY = {framed: vocabulary(20, special_frame=framed) for framed in (False, True)}


def found_by_key(tasks, perturbations, cells):
    """(cell, kind, tokens) → where the genes stand, where they go, and genes that are shown."""
    found = {}
    for index in range(len(tasks)):
        perturbation = perturbations[tasks.perturbation[index]]
        change = change_of(tasks, index, perturbation, cells)
        assert change.tokens == perturbation.tokens
        key = (cells.names[tasks.cell[index]], perturbation.kind.name, perturbation.tokens)
        ranks = tuple(None if rank == NOT_RANKED else rank for rank in change.ranks)
        found[key] = ranks, change.to_ranks, tasks.shown[index]
    return found


def expected_by_key(experiment, cells):
    return {
        (task.cell.name, find_kind(task.kind).name, task.tokens): (
            tuple(task.ranks), tuple(task.to[t] for t in task.tokens if task.to), len(task.shown),
        )
        for task in plain.tasks_of(experiment, cells)
    }  # fmt: skip


@settings(max_examples=200)
@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    most=st.sampled_from([4, 7, 20]),
    framed=st.booleans(),
    size=st.integers(1, 4),
    insert=st.booleans(),
)
def test_against_plain_lists(seed, lengths, most, framed, size, insert):
    vocab = VOCABULARY[framed]
    medians = medians_of(vocab)
    drawn = make_cells(lengths, medians, seed)
    cells = as_cells(drawn, vocab, framed, pd.DataFrame(index=range(len(drawn))))
    draw = np.random.default_rng(seed)
    kinds = [kind for kind in KINDS if size == 1 or plain.takes_sets(kind)]
    if insert:
        kinds = [kind for kind in kinds if plain.moves(kind) and plain.takes_sets(kind)]
    sets = [tuple(draw.permutation(sorted(medians))[:size].tolist()) for _ in range(4)]
    sets = list(dict.fromkeys(sets))
    perturbations = [Perturbation(find_kind(kind), genes) for kind in kinds for genes in sets]
    tasks, left_out = find_tasks(perturbations, cells, range(len(cells)), most, insert=insert)
    expected = {}
    for genes in sets:
        experiment = plain.Experiment(
            tuple(kinds), genes, most, framed, together=True, insert=insert, medians=medians
        )
        expected |= expected_by_key(experiment, drawn)
    assert found_by_key(tasks, perturbations, cells) == expected
    # What is not done is counted: each cell once for each perturbation, with a reason.
    missing = {
        perturbation.names(cells)[1] + perturbation.kind.name: sum(
            (name, perturbation.kind.name, perturbation.tokens) not in expected
            for name in cells.names
        )
        for perturbation in perturbations
    }
    counted = {entry.gene_id + entry.kind: sum(entry.reasons.values()) for entry in left_out}
    assert counted == {key: number for key, number in missing.items() if number}
    assert all(entry.cells == len(cells) for entry in left_out)


@settings(max_examples=100)
@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    most=st.sampled_from([4, 7, 20]),
    framed=st.booleans(),
)
def test_all_genes_are_each_gene_by_name(seed, lengths, most, framed):
    vocab = VOCABULARY[framed]
    medians = medians_of(vocab)
    drawn = make_cells(lengths, medians, seed)
    cells = as_cells(drawn, vocab, framed, pd.DataFrame(index=range(len(drawn))))
    kinds = [find_kind(kind) for kind in KINDS]
    tokens = sorted(medians)
    perturbations = [Perturbation(kind, (token,)) for kind in kinds for token in tokens]
    place_of = np.zeros(max(tokens) + 1, dtype=np.int64)
    place_of[tokens] = np.arange(len(tokens))
    ranks_of = {row: range(min(len(cell.genes), most)) for row, cell in enumerate(drawn)}
    firsts = [number * len(tokens) for number in range(len(kinds))]
    tasks = tasks_at_ranks(ranks_of, firsts, place_of, kinds, cells, most)
    experiment = plain.Experiment(KINDS, (), most, framed, medians=medians)
    assert found_by_key(tasks, perturbations, cells) == expected_by_key(experiment, drawn)


def reasons_of(cells, kind, tokens, capacity=64, **how):
    perturbation = Perturbation(find_kind(kind), tuple(tokens))
    _, left_out = find_tasks([perturbation], cells, range(len(cells)), capacity, **how)
    return left_out[0].reasons if left_out else {}


def test_reasons():
    cells = cells_of([30, 12, 3], vocabulary(60), seed=2)
    first = cells.ranked[0].tolist()
    assert reasons_of(cells, "inhibit:1", first[:1]) == {"lack it": 2}
    assert reasons_of(cells[0], "overexpress", first[:1]) == {"have it there already": 1}
    assert reasons_of(cells[0], "overexpress", first[:2]) == {"have it there already": 1}
    assert reasons_of(cells[0], "overexpress", first[1::-1]) == {}
    assert reasons_of(cells[0], "to-rank:30", first[:1]) == {"have no such rank": 1}
    assert reasons_of(cells[0], "to-rank:29", first[:1]) == {}
    assert reasons_of(cells[0], "knock-out", [first[9]], 9) == {"have it below the input size": 1}
    few = cells[2].ranked[0].tolist()
    quarters = {"have fewer than four genes, and so no quarters": 1}
    assert reasons_of(cells[2], "activate:1", few[1:2]) == quarters
    assert reasons_of(cells[2], "knock-out", few) == {"have no other gene to respond": 1}
    framed = cells_of([3], vocabulary(60, special_frame=True), special_frame=True)
    assert reasons_of(framed, "knock-out", framed.ranked[0].tolist()) == {}  # <cls> is read


def test_an_insertion_into_an_empty_input_has_no_responder():
    vocab = vocabulary(60)
    bare = Cells((np.zeros(0, np.int32),), pd.DataFrame(index=["one"]), vocab, False, "empty")
    said = reasons_of(bare, "overexpress", [5], insert=True)
    assert said == {"have no other gene to respond": 1}


def test_a_full_baseline_is_cut_by_as_many_genes_as_are_put_in():
    cells = cells_of([10], vocabulary(20))
    genes = cells.ranked[0].tolist()
    lacking = sorted(set(cells.vocabulary.tokens.values()) - set(genes))
    for tokens, shown in (
        (lacking[:1], 9),
        (lacking[:3], 7),
        ([genes[0], lacking[0]], 9),
        # The cut reaches a gene of the set, which is then put in as well.
        ([genes[9], lacking[0]], 8),
        ([genes[0], genes[9]], 10),
    ):
        perturbation = Perturbation(find_kind("overexpress"), tuple(tokens))
        tasks, _ = find_tasks([perturbation], cells, [0], 10, insert=True)
        assert tasks.shown.tolist() == [shown]
        change = change_of(tasks, 0, perturbation, cells)
        assert shown + change.inserted == 10
    roomy, _ = find_tasks([Perturbation(KNOCK_OUT, (genes[3],))], cells, [0], 12)
    assert roomy.shown.tolist() == [10]


def test_tasks_stand_in_order_of_cells_kinds_and_ranks():
    cells = cells_of([9, 9], vocabulary(9))
    kinds = [find_kind("overexpress"), KNOCK_OUT]
    perturbations = [Perturbation(kind, (token,)) for kind in kinds
                     for token in sorted(cells.vocabulary.tokens.values())]  # fmt: skip
    tasks, _ = find_tasks(perturbations, cells, [1, 0], 9)
    number = np.array([0] * 9 + [1] * 9)
    ordered = tasks.ordered(number)
    keys = list(zip(ordered.cell, number[ordered.perturbation], ordered.rank, strict=True))
    assert keys == sorted(keys)
    assert len(ordered) == len(tasks) == 2 * (8 + 9)
