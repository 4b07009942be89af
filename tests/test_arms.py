import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.arms import (
    ARMS,
    MOVE_ARMS,
    NOT_RANKED,
    apply,
    apply_move,
    baseline,
    find_arms,
    whole_of,
)
from ranklock.errors import InputError
from ranklock.genes.vocabulary import MASK, Vocabulary
from tests.helpers import vocabulary


@st.composite
def perturbed_cells(draw):
    framed = draw(st.booleans())
    length = draw(st.integers(1, 12))
    ranks = draw(st.sets(st.integers(0, length - 1), min_size=1, max_size=length))
    vocab = vocabulary(special_frame=framed)
    genes = np.array(list(vocab.tokens.values())[:length][::-1], dtype=np.int32)
    return baseline(genes, 64, vocab, special_frame=framed), sorted(ranks), vocab


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
    changed = apply(ARMS[name], cell, ranks, vocab)
    tokens, positions = spelt_out(cell, ranks, remove=remove, renumber=renumber)
    assert changed.tokens.tolist() == tokens
    assert changed.positions.tolist() == positions
    assert changed.visible.all()


@given(perturbed_cells())
def test_mask_replaces_and_attention_mask_hides_and_nobody_moves(case):
    cell, ranks, vocab = case
    gone = np.isin(cell.ranks, ranks)
    masked = apply(ARMS["mask"], cell, ranks, vocab)
    hidden = apply(ARMS["attention-mask"], cell, ranks, vocab)
    assert (masked.tokens[gone] == vocab.special[MASK]).all()
    assert (masked.tokens[~gone] == cell.tokens[~gone]).all()
    assert masked.visible.all()
    assert (hidden.visible == ~gone).all()
    assert (hidden.tokens == cell.tokens).all()
    for changed in (masked, hidden):
        assert (changed.positions == cell.positions).all()


@given(perturbed_cells(), st.sampled_from(sorted(ARMS)))
def test_every_remaining_gene_keeps_its_token_and_rank(case, name):
    cell, ranks, vocab = case
    changed = apply(ARMS[name], cell, ranks, vocab, [59])
    token_at = dict(zip(cell.ranks.tolist(), cell.tokens.tolist(), strict=True))
    remaining = [r for r in cell.ranks.tolist() if r not in ranks and r != NOT_RANKED]
    kept = [r for r in changed.ranks.tolist() if r not in ranks and r != NOT_RANKED]
    assert kept == remaining
    for token, rank in zip(changed.tokens, changed.ranks, strict=True):
        if rank in remaining:
            assert token == token_at[rank]


@given(perturbed_cells(), st.sampled_from(sorted(ARMS)))
def test_special_tokens_stay_and_eos_shifts_with_the_positions(case, name):
    cell, ranks, vocab = case
    if cell.ranks[0] != NOT_RANKED:
        return
    changed = apply(ARMS[name], cell, ranks, vocab)
    assert changed.tokens[0] == 2
    assert changed.tokens[-1] == 3
    assert changed.positions[0] == 0
    shift = len(ranks) if name in ("delete", "shift", "delete-backfill") else 0
    assert changed.positions[-1] == cell.positions[-1] - shift


@pytest.mark.parametrize("framed", [False, True])
def test_backfill_lets_the_next_gene_in_at_the_end_of_a_cut_cell(framed):
    vocab = vocabulary(special_frame=framed)
    genes = np.array(list(vocab.tokens.values())[:10], dtype=np.int32)
    shown = 6 if framed else 8
    cell = baseline(genes, 8, vocab, special_frame=framed)
    changed = apply(ARMS["delete-backfill"], cell, [2], vocab, genes[shown:].tolist())
    expected = [*genes[:2], *genes[3 : shown + 1]]
    if framed:
        expected = [2, *expected, 3]
    assert changed.tokens.tolist() == expected
    assert changed.positions.tolist() == list(range(8))


def test_input_is_cut_with_special_tokens_inside_the_cut():
    vocab = vocabulary(special_frame=True)
    genes = np.array(list(vocab.tokens.values())[:10], dtype=np.int32)
    cell = baseline(genes, 8, vocab, special_frame=True)
    assert cell.tokens.tolist() == [2, *genes[:6], 3]
    assert cell.ranks.tolist() == [NOT_RANKED, 0, 1, 2, 3, 4, 5, NOT_RANKED]


@pytest.mark.parametrize("rank", [-1, 5, 99])
def test_a_rank_that_the_cell_does_not_have_is_refused(rank):
    vocab = vocabulary(special_frame=True)
    cell = baseline(np.arange(4, 9, dtype=np.int32), 64, vocab, special_frame=True)
    with pytest.raises(InputError, match="not all ranks"):
        apply(ARMS["delete"], cell, [rank], vocab)


def test_mask_needs_a_mask_token():
    vocab = Vocabulary({"A": 5, "B": 6}, {"<pad>": 0})
    cell = baseline(np.array([5, 6], dtype=np.int32), 8, vocab, special_frame=False)
    with pytest.raises(InputError, match="no <mask>"):
        apply(ARMS["mask"], cell, [0], vocab)


def test_unknown_and_missing_arms_are_refused_with_the_names_there_are():
    with pytest.raises(InputError, match="'deletes'.*attention-mask"):
        find_arms(["deletes"])
    with pytest.raises(InputError, match="No arm"):
        find_arms([])


@st.composite
def moved_cells(draw, *, insert=None):
    """A cell, what goes where, and how many genes fit; full cells among them."""
    framed = draw(st.booleans())
    length = draw(st.integers(1, 12))
    vocab = vocabulary(special_frame=framed)
    genes = np.array(list(vocab.tokens.values())[:length][::-1], dtype=np.int32)
    most = length + draw(st.integers(0, 3))
    insert = draw(st.booleans()) if insert is None else insert
    pool = [*genes.tolist(), *(list(vocab.tokens.values())[20:22] if insert else [])]
    named = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3, unique=True))[:most]
    room = min(length + sum(token not in genes for token in named), most)
    ranks = st.lists(
        st.integers(0, room - 1), min_size=len(named), max_size=len(named), unique=True
    )
    to = dict(zip(named, draw(ranks), strict=True))
    cell = baseline(genes, most + 2 * framed, vocab, special_frame=framed)
    return cell, genes.tolist(), to, most, framed


def moved_list(genes, to):
    """The new ranking, by taking genes out of a list and putting them in, lowest place first."""
    ranking = [token for token in genes if token not in to]
    for token, rank in sorted(to.items(), key=lambda item: item[1]):
        ranking.insert(rank, token)
    return ranking


def positions_of(cell):
    return dict(zip(cell.tokens.tolist(), cell.positions.tolist(), strict=True))


@given(moved_cells())
def test_move_is_the_reordered_cell_cut_at_the_input(case):
    cell, genes, to, most, framed = case
    changed = apply_move(MOVE_ARMS["move"], cell, to, most)
    ranking = moved_list(genes, to)[:most]
    sequence = [2, *ranking, 3] if framed else ranking
    assert positions_of(changed) == {token: place for place, token in enumerate(sequence)}
    assert len(changed) == len(sequence)
    assert changed.visible.all()


@given(moved_cells())
def test_under_hold_everyone_else_keeps_token_and_position(case):
    cell, _, to, most, framed = case
    changed = positions_of(apply_move(MOVE_ARMS["hold"], cell, to, most))
    expected = positions_of(cell) | {token: rank + framed for token, rank in to.items()}
    assert changed == expected


@given(moved_cells())
def test_under_shift_nothing_is_edited_and_the_others_have_the_positions_of_move(case):
    cell, _, to, most, _ = case
    shifted = positions_of(apply_move(MOVE_ARMS["shift"], cell, to, most))
    moved = positions_of(apply_move(MOVE_ARMS["move"], cell, to, most))
    before = positions_of(cell)
    for token, position in before.items():
        if token in to:
            assert shifted[token] == position
        else:
            assert shifted.get(token) == moved.get(token)
    assert set(shifted) == {token for token in before if token in to or token in moved}


@given(moved_cells(), st.sampled_from(sorted(MOVE_ARMS)))
def test_genes_keep_the_ranks_they_had_and_cls_stands_first(case, name):
    cell, _, to, most, framed = case
    changed = apply_move(MOVE_ARMS[name], cell, to, most)
    rank_of = dict(zip(cell.tokens.tolist(), cell.ranks.tolist(), strict=True))
    for token, rank in zip(changed.tokens.tolist(), changed.ranks.tolist(), strict=True):
        assert rank == rank_of.get(token, NOT_RANKED)
    assert not framed or (changed.tokens[0], changed.positions[0]) == (2, 0)
    assert changed.positions.max() < most + 2 * framed


@given(moved_cells(insert=False))
def test_there_and_back_is_the_identity(case):
    cell, genes, to, most, framed = case
    moved = apply_move(MOVE_ARMS["move"], cell, to, most)
    order = np.argsort(moved.positions)
    ranked = moved.tokens[order][framed : len(moved) - framed]
    vocab = vocabulary(special_frame=framed)
    again = baseline(ranked, most + 2 * framed, vocab, special_frame=framed)
    back = apply_move(MOVE_ARMS["move"], again, {t: genes.index(t) for t in to}, most)
    assert positions_of(back) == positions_of(cell)


@given(perturbed_cells())
def test_the_knock_out_is_the_limit_of_moves_to_the_end(case):
    cell, ranks, vocab = case
    genes = int((cell.ranks != NOT_RANKED).sum())
    tokens = cell.tokens[np.isin(cell.ranks, ranks)].tolist()
    to = {token: genes - len(tokens) + place for place, token in enumerate(tokens)}
    moved = apply_move(MOVE_ARMS["move"], cell, to, genes)
    deleted = apply(ARMS["delete"], cell, ranks, vocab)
    shifted = apply_move(MOVE_ARMS["shift"], cell, to, genes)
    placebo = apply(ARMS["shift"], cell, ranks, vocab)

    def others(changed):
        keep = (changed.ranks != NOT_RANKED) & ~np.isin(changed.ranks, ranks)
        return dict(
            zip(changed.ranks[keep].tolist(), changed.positions[keep].tolist(), strict=True)
        )

    assert others(moved) == others(deleted) == others(shifted) == others(placebo)
    if len(ranks) == 1 and cell.ranks[0] == NOT_RANKED:  # but nobody leaves, so <eos> stays
        assert positions_of(moved)[3] == positions_of(cell)[3]


def test_a_move_by_hand():
    vocab = vocabulary(special_frame=True)
    cell = baseline(np.arange(4, 9, dtype=np.int32), 7, vocab, special_frame=True)
    up = {name: positions_of(apply_move(arm, cell, {7: 1}, 5)) for name, arm in MOVE_ARMS.items()}
    assert up["move"] == {2: 0, 4: 1, 7: 2, 5: 3, 6: 4, 8: 5, 3: 6}
    assert up["hold"] == {2: 0, 4: 1, 7: 2, 5: 2, 6: 3, 8: 5, 3: 6}
    assert up["shift"] == {2: 0, 4: 1, 7: 4, 5: 3, 6: 4, 8: 5, 3: 6}
    full = {
        name: positions_of(apply_move(arm, cell, {30: 3}, 5)) for name, arm in MOVE_ARMS.items()
    }
    assert full["move"] == {2: 0, 4: 1, 5: 2, 6: 3, 30: 4, 7: 5, 3: 6}
    assert full["hold"] == {2: 0, 4: 1, 5: 2, 6: 3, 7: 4, 30: 4, 8: 5, 3: 6}
    assert full["shift"] == {2: 0, 4: 1, 5: 2, 6: 3, 7: 5, 3: 6}


@pytest.mark.parametrize("to", [{}, {4: 5}, {4: -1}, {4: 1, 5: 1}, {30: 6}])
def test_destinations_that_a_cell_does_not_have_are_refused(to):
    vocab = vocabulary(special_frame=True)
    cell = baseline(np.arange(4, 9, dtype=np.int32), 64, vocab, special_frame=True)
    with pytest.raises(InputError, match="not ranks of their own"):
        apply_move(MOVE_ARMS["move"], cell, to, 62)


def test_nothing_is_put_beyond_a_full_input():
    vocab = vocabulary(special_frame=True)
    cell = baseline(np.arange(4, 9, dtype=np.int32), 7, vocab, special_frame=True)
    with pytest.raises(InputError, match="within the input of 5 genes"):
        apply_move(MOVE_ARMS["move"], cell, {30: 5}, 5)


def test_arms_of_knock_outs_and_moves_are_told_apart():
    assert [arm.name for arm in find_arms(["hold", "move"], MOVE_ARMS)] == ["hold", "move"]
    with pytest.raises(InputError, match="no arm 'delete'; there are: move, hold, shift"):
        find_arms(["delete"], MOVE_ARMS)
    assert whole_of(["shift", "mask", "delete", "hold"]) == "delete"
    assert whole_of(MOVE_ARMS) == "move"
    assert whole_of(["move", "hold"]) is None
