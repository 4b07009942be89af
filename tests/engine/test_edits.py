"""Perturbed inputs as edits of the unperturbed rows: what is edited is the input again."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.arms import KNOCK_OUT_ARMS, MOVE_ARMS, NOT_RANKED, apply, baseline
from ranklock.engine.edits import edits_of
from ranklock.genes.vocabulary import MASK
from tests.helpers import knock_out, move, vocabulary

VOCABULARIES = {framed: vocabulary(special_frame=framed) for framed in (False, True)}


def a_cell(length, *, framed, seed=0):
    """A cell, and the genes that it lacks."""
    words = VOCABULARIES[framed]
    genes = np.array(list(words.tokens.values()), dtype=np.int32)
    genes = np.random.default_rng(seed).permutation(genes)
    return baseline(genes[:length], words, special_frame=framed), genes[length:].tolist()


def genes_of(cell):
    return cell.tokens[cell.ranks != NOT_RANKED].tolist()


@st.composite
def perturbed(draw, cell, below):
    """One input of a cell: any kind of perturbation under any of its arms."""
    genes = genes_of(cell)
    framed = cell.ranks[0] == NOT_RANKED
    words = VOCABULARIES[framed]
    if draw(st.booleans()):
        arm = draw(st.sampled_from(list(KNOCK_OUT_ARMS.values())))
        most = min(4, len(genes) - (not framed))  # no plan leaves an input without a token
        places = st.integers(0, len(genes) - 1)
        ranks = draw(st.lists(places, min_size=1, max_size=most, unique=True))
        change = knock_out(cell, ranks)
    else:
        arm = draw(st.sampled_from(list(MOVE_ARMS.values())))
        pool = st.sampled_from(genes + below[:3])
        named = draw(st.lists(pool, min_size=1, max_size=4, unique=True))
        room = len(genes) + sum(token not in genes for token in named)
        goals = st.lists(
            st.integers(0, room - 1), min_size=len(named), max_size=len(named), unique=True
        )
        change = move(cell, dict(zip(named, draw(goals), strict=True)))
    return apply(arm, cell, change, words, below[: draw(st.integers(0, 3))])


@st.composite
def cells_with_inputs(draw):
    """A cell, and inputs that differ in how many tokens they lose and gain."""
    framed = draw(st.booleans())
    length = draw(st.integers(1 if framed else 2, 12))
    cell, below = a_cell(length, framed=framed, seed=draw(st.integers(0, 9)))
    return cell, draw(st.lists(perturbed(cell, below), min_size=1, max_size=5))


def edited(edits, index):
    """The (token, position, visible) that the edits make of the unperturbed rows of an input."""
    gone = set(edits.gone[index].tolist())
    kept = [
        (int(edits.tokens[index, row]), int(edits.positions[index, row]), row not in gone)
        for row in range(edits.length)
        if not edits.removed[index, row]
    ]
    put_in = zip(edits.added_tokens[index], edits.added_positions[index], strict=True)
    return kept + [
        (int(token), int(position), True)
        for (token, position), there in zip(put_in, edits.added[index], strict=True)
        if there
    ]


def triples(cell):
    return list(
        zip(cell.tokens.tolist(), cell.positions.tolist(), cell.visible.tolist(), strict=True)
    )


@given(cells_with_inputs())
def test_the_edits_of_an_input_give_it_back(case):
    cell, inputs = case
    edits = edits_of(cell, inputs)
    assert edits.length == len(cell)
    for index, changed in enumerate(inputs):
        assert Counter(edited(edits, index)) == Counter(triples(changed))


@given(cells_with_inputs())
def test_a_ranked_gene_keeps_its_own_row(case):
    """Readouts look a responder up where it stood: its row must not be another gene's."""
    cell, inputs = case
    edits = edits_of(cell, inputs)
    row_of = {int(rank): row for row, rank in enumerate(cell.ranks) if rank != NOT_RANKED}
    for index, changed in enumerate(inputs):
        for token, position, rank in zip(
            changed.tokens, changed.positions, changed.ranks, strict=True
        ):
            if rank == NOT_RANKED:
                continue
            row = row_of[int(rank)]
            assert not edits.removed[index, row]
            assert (edits.tokens[index, row], edits.positions[index, row]) == (token, position)
        ranks = set(changed.ranks.tolist())
        for rank, row in row_of.items():
            assert edits.removed[index, row] == (rank not in ranks)


@given(cells_with_inputs())
def test_gone_rows_are_those_that_are_removed_or_hidden_and_then_no_row(case):
    cell, inputs = case
    edits = edits_of(cell, inputs)
    most = 0
    for index, changed in enumerate(inputs):
        visible = set(changed.ranks[changed.visible].tolist())
        rows = [
            row
            for row, rank in enumerate(cell.ranks.tolist())
            if rank != NOT_RANKED and rank not in visible
        ]
        most = max(most, len(rows))
        assert edits.gone[index, : len(rows)].tolist() == rows
        assert (edits.gone[index, len(rows) :] == len(cell)).all()
        removed = np.flatnonzero(edits.removed[index]).tolist()
        assert set(removed) <= set(rows)
        # What is removed is never looked at, and so is left as it was.
        assert (edits.tokens[index, removed] == cell.tokens[removed]).all()
        assert (edits.positions[index, removed] == cell.positions[removed]).all()
    assert edits.gone.shape == (len(inputs), most)


@given(cells_with_inputs())
def test_added_tokens_are_the_genes_that_the_cell_lacks(case):
    cell, inputs = case
    edits = edits_of(cell, inputs)
    own = set(cell.tokens.tolist())
    new = [[t for t in changed.tokens.tolist() if t not in own] for changed in inputs]
    masked = VOCABULARIES[cell.ranks[0] == NOT_RANKED].special[MASK]
    new = [[token for token in tokens if token != masked] for tokens in new]  # a row of its own
    assert edits.added.shape == (len(inputs), max(map(len, new)))
    for index, tokens in enumerate(new):
        assert edits.added[index].tolist() == [k < len(tokens) for k in range(edits.added.shape[1])]
        assert edits.added_tokens[index, : len(tokens)].tolist() == tokens
        assert not edits.added_tokens[index, len(tokens) :].any()
        assert not edits.added_positions[index, len(tokens) :].any()


@given(cells_with_inputs())
def test_the_foremost_row_is_in_the_input_and_has_its_lowest_position(case):
    cell, inputs = case
    edits = edits_of(cell, inputs)
    for index, changed in enumerate(inputs):
        foremost = int(edits.foremost[index])
        if foremost < edits.length:
            assert not edits.removed[index, foremost]
            position = edits.positions[index, foremost]
        else:
            assert edits.added[index, foremost - edits.length]
            position = edits.added_positions[index, foremost - edits.length]
        assert position == changed.positions.min()


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("arm", sorted(MOVE_ARMS))
def test_of_two_genes_at_the_first_position_the_one_put_there_is_foremost(arm, framed):
    """Held moves to rank 0 stand beside the gene that was there; ``<cls>`` stands before both."""
    cell, below = a_cell(8, framed=framed)
    words = VOCABULARIES[framed]
    changes = [move(cell, {genes_of(cell)[5]: 0}), move(cell, {below[0]: 0})]
    edits = edits_of(cell, [apply(MOVE_ARMS[arm], cell, change, words) for change in changes])
    moves = not framed and arm != "shift"  # the placebo of a move puts nothing anywhere
    assert edits.foremost.tolist() == ([5, len(cell)] if moves else [0, 0])


def test_a_hidden_gene_is_no_key_but_stays_in_the_input():
    cell, _ = a_cell(8, framed=True)
    change = knock_out(cell, [2, 6])
    hidden, held = (
        apply(KNOCK_OUT_ARMS[name], cell, change, VOCABULARIES[True])
        for name in ("attention-mask", "hold")
    )
    edits = edits_of(cell, [hidden, held])
    assert edits.gone.tolist() == [[3, 7], [3, 7]]  # behind <cls>
    assert edits.removed.sum(1).tolist() == [0, 2]


def test_an_input_that_nothing_changes_has_no_edits():
    cell, _ = a_cell(8, framed=False)
    edits = edits_of(cell, [cell, cell])
    assert (edits.tokens == cell.tokens).all()
    assert (edits.positions == cell.positions).all()
    assert not edits.removed.any()
    assert edits.gone.shape == edits.added.shape == (2, 0)
    assert edits.foremost.tolist() == [0, 0]
