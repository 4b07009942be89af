from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.arms import (
    ARMS,
    KNOCK_OUT_ARMS,
    MOVE_ARMS,
    NOT_RANKED,
    Change,
    Edit,
    Positions,
    Role,
    apply,
    baseline,
    capacity,
    decomposed_arm,
    edit_arm,
    find_arms,
    placebo_arm,
    rank_shift,
    role_of,
    whole_arm,
)
from ranklock.errors import InputError, OptionError
from ranklock.genes.vocabulary import MASK, Vocabulary
from ranklock.kinds import KNOCK_OUT, find_kind
from tests.helpers import knock_out, move, vocabulary

OVEREXPRESS = find_kind("overexpress")


@st.composite
def perturbed_cells(draw):
    framed = draw(st.booleans())
    length = draw(st.integers(1, 12))
    ranks = draw(st.sets(st.integers(0, length - 1), min_size=1, max_size=length))
    vocab = vocabulary(special_frame=framed)
    genes = np.array(list(vocab.tokens.values())[:length][::-1], dtype=np.int32)
    cell = baseline(genes, vocab, special_frame=framed)
    return cell, draw(st.permutations(sorted(ranks))), vocab


def spelt_out(cell, knocked_out, *, remove, renumber):
    """Tokens and positions written as the design's table says them, one token at a time."""
    tokens, positions = [], []
    gone = 0
    for token, position, rank in zip(cell.tokens, cell.positions, cell.ranks, strict=True):
        out = rank in knocked_out
        if not (out and remove):
            tokens.append(token)
            positions.append(position - gone * renumber)
        gone += out
    return tokens, positions


@given(perturbed_cells())
@pytest.mark.parametrize(
    ("name", "remove", "renumber"),
    [("delete", True, True), ("hold", True, False), ("shift", False, True)],
)
def test_tokens_and_positions_are_those_of_the_table(name, remove, renumber, case):
    cell, ranks, vocab = case
    changed = apply(ARMS[name], cell, knock_out(cell, ranks), vocab)
    tokens, positions = spelt_out(cell, ranks, remove=remove, renumber=renumber)
    assert changed.tokens.tolist() == tokens
    assert changed.positions.tolist() == positions
    assert changed.visible.all()


@given(perturbed_cells())
def test_mask_replaces_and_attention_mask_hides_and_nobody_moves(case):
    cell, ranks, vocab = case
    gone = np.isin(cell.ranks, ranks)
    masked = apply(ARMS["mask"], cell, knock_out(cell, ranks), vocab)
    hidden = apply(ARMS["attention-mask"], cell, knock_out(cell, ranks), vocab)
    assert (masked.tokens[gone] == vocab.special[MASK]).all()
    assert (masked.tokens[~gone] == cell.tokens[~gone]).all()
    assert masked.visible.all()
    assert (hidden.visible == ~gone).all()
    assert (hidden.tokens == cell.tokens).all()
    for changed in (masked, hidden):
        assert (changed.positions == cell.positions).all()


@given(perturbed_cells(), st.sampled_from(sorted(KNOCK_OUT_ARMS)))
def test_every_remaining_gene_keeps_its_token_and_rank(case, name):
    cell, ranks, vocab = case
    changed = apply(ARMS[name], cell, knock_out(cell, ranks), vocab, [59])
    token_at = dict(zip(cell.ranks.tolist(), cell.tokens.tolist(), strict=True))
    remaining = [r for r in cell.ranks.tolist() if r not in ranks and r != NOT_RANKED]
    kept = [r for r in changed.ranks.tolist() if r not in ranks and r != NOT_RANKED]
    assert kept == remaining
    for token, rank in zip(changed.tokens, changed.ranks, strict=True):
        if rank in remaining:
            assert token == token_at[rank]


@given(perturbed_cells(), st.sampled_from(sorted(KNOCK_OUT_ARMS)))
def test_special_tokens_stay_and_eos_shifts_with_the_positions(case, name):
    cell, ranks, vocab = case
    if cell.ranks[0] != NOT_RANKED:
        return
    changed = apply(ARMS[name], cell, knock_out(cell, ranks), vocab)
    assert changed.tokens[0] == 2
    assert changed.tokens[-1] == 3
    assert changed.positions[0] == 0
    shift = len(ranks) if ARMS[name].positions is Positions.RENUMBERED else 0
    assert changed.positions[-1] == cell.positions[-1] - shift


@pytest.mark.parametrize("framed", [False, True])
def test_backfill_lets_as_many_genes_in_as_are_knocked_out_if_there_are(framed):
    vocab = vocabulary(special_frame=framed)
    genes = np.array(list(vocab.tokens.values())[:10], dtype=np.int32)
    shown = capacity(8, special_frame=framed)
    cell = baseline(genes[:shown], vocab, special_frame=framed)
    below = genes[shown:].tolist()
    for ranks in ([2], [0, 3]):
        changed = apply(ARMS["delete-backfill"], cell, knock_out(cell, ranks), vocab, below)
        expected = np.delete(genes[: shown + len(ranks)], ranks).tolist()
        assert changed.tokens.tolist() == ([2, *expected, 3] if framed else expected)
        assert changed.positions.tolist() == list(range(8))
    every = knock_out(cell, [2])
    (delete, backfill) = (
        apply(ARMS[name], cell, every, vocab) for name in ("delete", "delete-backfill")
    )
    assert backfill.tokens.tolist() == delete.tokens.tolist()
    assert backfill.positions.tolist() == delete.positions.tolist()


@pytest.mark.parametrize("framed", [False, True])
def test_backfill_of_all_genes_stands_between_the_special_tokens(framed):
    vocab = vocabulary(special_frame=framed)
    cell = baseline(np.array([10, 11], dtype=np.int32), vocab, special_frame=framed)
    changed = apply(ARMS["delete-backfill"], cell, knock_out(cell, [0, 1]), vocab, [20, 21])
    assert changed.tokens.tolist() == ([2, 20, 21, 3] if framed else [20, 21])
    assert changed.positions.tolist() == list(range(len(changed)))


def test_special_tokens_stand_inside_the_cut():
    vocab = vocabulary(special_frame=True)
    genes = np.array(list(vocab.tokens.values())[:6], dtype=np.int32)
    cell = baseline(genes, vocab, special_frame=True)
    assert cell.tokens.tolist() == [2, *genes, 3]
    assert cell.ranks.tolist() == [NOT_RANKED, 0, 1, 2, 3, 4, 5, NOT_RANKED]
    assert len(cell) == 8
    assert capacity(8, special_frame=True) == 6
    assert capacity(8, special_frame=False) == 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (Change((4,), (5,)), "not all ranks"),
        (Change((4,), (99,)), "not all ranks"),
        (Change((4, 4), (0, 0)), "not all ranks"),
        (Change((30,), (NOT_RANKED,)), "1 of the genes are not in this cell"),
        (Change((5,), (0,)), "other genes than"),
    ],
)
def test_a_knock_out_that_is_none_of_the_cell_is_refused(change, says):
    vocab = vocabulary(special_frame=True)
    cell = baseline(np.arange(4, 9, dtype=np.int32), vocab, special_frame=True)
    for arm in KNOCK_OUT_ARMS.values():
        with pytest.raises(InputError, match=says):
            apply(arm, cell, change, vocab)


def test_mask_needs_a_mask_token():
    vocab = Vocabulary({"A": 5, "B": 6}, {"<pad>": 0})
    cell = baseline(np.array([5, 6], dtype=np.int32), vocab, special_frame=False)
    with pytest.raises(InputError, match="no <mask>"):
        apply(ARMS["mask"], cell, knock_out(cell, [0]), vocab)


@st.composite
def moved_cells(draw, *, insert=None):
    """A cell, and which genes go to what ranks."""
    framed = draw(st.booleans())
    length = draw(st.integers(1, 12))
    vocab = vocabulary(special_frame=framed)
    genes = np.array(list(vocab.tokens.values())[:length][::-1], dtype=np.int32)
    insert = draw(st.booleans()) if insert is None else insert
    pool = [*genes.tolist(), *(list(vocab.tokens.values())[20:22] if insert else [])]
    named = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3, unique=True))
    after = length + sum(token not in genes for token in named)
    ranks = st.lists(
        st.integers(0, after - 1), min_size=len(named), max_size=len(named), unique=True
    )
    goals = dict(zip(named, draw(ranks), strict=True))
    return baseline(genes, vocab, special_frame=framed), genes.tolist(), goals, vocab


def framed(cell):
    return cell.ranks[0] == NOT_RANKED


def moved_list(genes, goals):
    """The new ranking, by taking genes out of a list and putting them in, lowest place first."""
    ranking = [token for token in genes if token not in goals]
    for token, rank in sorted(goals.items(), key=lambda item: item[1]):
        ranking.insert(rank, token)
    return ranking


def positions_of(cell):
    return dict(zip(cell.tokens.tolist(), cell.positions.tolist(), strict=True))


def positions_under(name, cell, goals, vocab):
    return positions_of(apply(MOVE_ARMS[name], cell, move(cell, goals), vocab))


@given(moved_cells())
def test_move_is_the_reordered_cell(case):
    cell, genes, goals, vocab = case
    changed = apply(MOVE_ARMS["move"], cell, move(cell, goals), vocab)
    ranking = moved_list(genes, goals)
    sequence = [2, *ranking, 3] if framed(cell) else ranking
    assert positions_of(changed) == {token: place for place, token in enumerate(sequence)}
    assert len(changed) == len(sequence)
    assert changed.visible.all()


@given(moved_cells())
def test_under_hold_everyone_else_keeps_token_and_position(case):
    cell, _, goals, vocab = case
    expected = positions_of(cell) | {token: rank + framed(cell) for token, rank in goals.items()}
    assert positions_under("hold", cell, goals, vocab) == expected


@given(moved_cells())
def test_under_shift_nothing_is_edited_and_the_others_have_the_positions_of_move(case):
    cell, _, goals, vocab = case
    changed = apply(MOVE_ARMS["shift"], cell, move(cell, goals), vocab)
    assert changed.tokens.tolist() == cell.tokens.tolist()
    before = positions_of(cell)
    moved = positions_under("move", cell, goals, vocab)
    for token, position in positions_of(changed).items():
        assert position == (before if token in goals else moved)[token]


@given(moved_cells())
def test_the_rank_shift_is_how_far_the_others_make_way(case):
    cell, genes, goals, _ = case
    shift = dict(zip(cell.tokens.tolist(), rank_shift(cell, move(cell, goals)), strict=True))
    ranking = moved_list(genes, goals)
    for rank, token in enumerate(genes):
        assert shift[token] == (0 if token in goals else ranking.index(token) - rank)
    if framed(cell):
        assert (shift[2], shift[3]) == (0, len(ranking) - len(genes))


@given(perturbed_cells())
def test_knock_outs_lift_what_stands_below(case):
    cell, ranks, _ = case
    for rank, shift in zip(cell.ranks, rank_shift(cell, knock_out(cell, ranks)), strict=True):
        if rank != NOT_RANKED:
            assert shift == -sum(gone < rank for gone in ranks)


@given(moved_cells(), st.sampled_from(sorted(MOVE_ARMS)))
def test_genes_keep_the_ranks_they_had_and_cls_stands_first(case, name):
    cell, genes, goals, vocab = case
    changed = apply(MOVE_ARMS[name], cell, move(cell, goals), vocab)
    rank_of = dict(zip(cell.tokens.tolist(), cell.ranks.tolist(), strict=True))
    for token, rank in zip(changed.tokens.tolist(), changed.ranks.tolist(), strict=True):
        assert rank == rank_of.get(token, NOT_RANKED)
    if framed(cell):
        assert (changed.tokens[0], changed.positions[0]) == (2, 0)
    room = len(cell) + sum(token not in genes for token in goals)
    assert (changed.positions >= 0).all()
    assert changed.positions.max() < room


@given(moved_cells(insert=False))
def test_a_move_and_the_move_back_are_the_identity(case):
    cell, genes, goals, vocab = case
    changed = apply(MOVE_ARMS["move"], cell, move(cell, goals), vocab)
    order = np.argsort(changed.positions)
    special = int(framed(cell))
    ranked = changed.tokens[order][special : len(changed) - special]
    moved = baseline(ranked, vocab, special_frame=bool(special))
    back = {token: genes.index(token) for token in goals}
    assert positions_under("move", moved, back, vocab) == positions_of(cell)


@given(perturbed_cells())
def test_the_knock_out_is_the_limit_of_moves_to_the_end(case):
    cell, ranks, vocab = case
    ranks = sorted(ranks)
    genes = int((cell.ranks != NOT_RANKED).sum())
    tokens = cell.tokens[np.isin(cell.ranks, ranks)].tolist()
    to_end = move(cell, {t: genes - len(tokens) + place for place, t in enumerate(tokens)})
    change = knock_out(cell, ranks)

    def others(changed):
        keep = (changed.ranks != NOT_RANKED) & ~np.isin(changed.ranks, ranks)
        return dict(
            zip(changed.ranks[keep].tolist(), changed.positions[keep].tolist(), strict=True)
        )

    moved, moved_shift = (apply(MOVE_ARMS[n], cell, to_end, vocab) for n in ("move", "shift"))
    deleted, placebo = (apply(KNOCK_OUT_ARMS[n], cell, change, vocab) for n in ("delete", "shift"))
    assert others(moved) == others(deleted) == others(moved_shift) == others(placebo)
    if framed(cell):  # but nobody leaves, so <eos> stays
        assert positions_of(moved)[3] == positions_of(cell)[3]


def test_a_move_by_hand():
    vocab = vocabulary(special_frame=True)
    cell = baseline(np.arange(4, 9, dtype=np.int32), vocab, special_frame=True)
    up = {name: positions_under(name, cell, {7: 1}, vocab) for name in MOVE_ARMS}
    assert up["move"] == {2: 0, 4: 1, 7: 2, 5: 3, 6: 4, 8: 5, 3: 6}
    assert up["hold"] == {2: 0, 4: 1, 7: 2, 5: 2, 6: 3, 8: 5, 3: 6}
    assert up["shift"] == {2: 0, 4: 1, 7: 4, 5: 3, 6: 4, 8: 5, 3: 6}
    put_in = {name: positions_under(name, cell, {30: 3}, vocab) for name in MOVE_ARMS}
    assert put_in["move"] == {2: 0, 4: 1, 5: 2, 6: 3, 30: 4, 7: 5, 8: 6, 3: 7}
    assert put_in["hold"] == {2: 0, 4: 1, 5: 2, 6: 3, 7: 4, 30: 4, 8: 5, 3: 6}
    assert put_in["shift"] == {2: 0, 4: 1, 5: 2, 6: 3, 7: 5, 8: 6, 3: 7}


@pytest.mark.parametrize("goals", [{4: 5}, {4: -1}, {4: 1, 5: 1}, {30: 6}])
@pytest.mark.parametrize("name", ["move", "shift"])
def test_destinations_that_a_cell_does_not_have_are_refused(goals, name):
    vocab = vocabulary(special_frame=True)
    cell = baseline(np.arange(4, 9, dtype=np.int32), vocab, special_frame=True)
    with pytest.raises(InputError, match="not ranks of their own"):
        apply(MOVE_ARMS[name], cell, move(cell, goals), vocab)


def test_arms_of_knock_outs_and_moves_are_told_apart():
    def names(asked, kind):
        return [arm.name for arm in find_arms(asked, kind)]

    everything = ["hold", "move", "delete", "hold"]
    assert names(everything, KNOCK_OUT) == ["hold", "delete"]
    assert names(everything, OVEREXPRESS) == ["hold", "move"]
    assert find_arms(["hold"], KNOCK_OUT)[0].edit is Edit.REMOVE
    assert find_arms(["hold"], OVEREXPRESS)[0].edit is Edit.MOVE
    assert names(None, KNOCK_OUT) == ["delete", "hold", "mask", "shift"]
    assert names(None, OVEREXPRESS) == ["move", "hold", "shift"]


@pytest.mark.parametrize(
    ("asked", "kind", "says"),
    [
        (["deletes"], KNOCK_OUT, "'deletes'.*delete, hold, attention-mask.*move"),
        (["delete"], OVEREXPRESS, r"No arm of overexpress.*\(delete\); it has: move, hold, shift"),
        ([], KNOCK_OUT, "No arm of knock-out was asked for"),
        ("hold", KNOCK_OUT, r"arms is a list; write arms=\['hold'\]"),
    ],
)
def test_unknown_and_missing_arms_are_refused_with_the_names_there_are(asked, kind, says):
    with pytest.raises(OptionError, match=says):
        find_arms(asked, kind)


SUBSETS = list(chain.from_iterable(combinations(ARMS, n) for n in range(len(ARMS) + 1)))


@pytest.mark.parametrize("turned", [False, True])
def test_roles_are_consistent_over_every_subset_of_arms(turned):
    """Which arm has a role follows from which arms there are, in whatever order they are named."""
    for names in SUBSETS:
        arms = names[::-1] if turned else names
        edit, whole, placebo = edit_arm(arms), whole_arm(arms), placebo_arm(arms)
        decomposed = decomposed_arm(arms)
        assert (edit is None) == ({"hold", "attention-mask"}.isdisjoint(arms))
        assert (whole is None) == ({"delete", "move"}.isdisjoint(arms))
        assert (placebo is None) == ("shift" not in arms)
        assert {edit, whole, placebo} <= {None, *arms}
        if edit is not None:
            assert role_of(edit) is Role.EDIT
            assert ARMS[edit].runs_as not in arms  # what is computed goes before its alias
        if whole is not None:
            assert role_of(whole) is Role.WHOLE
            assert not ARMS[whole].backfill  # nothing decomposes what also lets a gene in
        complete = None not in (edit, placebo)
        assert decomposed == (whole if complete else None)


@pytest.mark.parametrize("arms", [KNOCK_OUT_ARMS, MOVE_ARMS])
def test_the_usual_arms_of_a_kind_decompose_and_an_alias_is_one(arms):
    kind = KNOCK_OUT if arms is KNOCK_OUT_ARMS else OVEREXPRESS
    usual = [arm.name for arm in find_arms(None, kind)]
    assert decomposed_arm(usual) in arms
    for name, arm in arms.items():
        assert name == arm.name
        assert role_of(name) is arm.role  # names mean the same for knock-outs and moves
        same = arms[arm.computed_as]
        assert same.runs_as is None
        assert (same.role, same.positions) == (arm.role, arm.positions)
