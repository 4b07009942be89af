import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.arms import ARMS, NOT_RANKED, apply, baseline, find_arms
from ranklock.errors import InputError
from ranklock.vocabulary import MASK, Vocabulary
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
