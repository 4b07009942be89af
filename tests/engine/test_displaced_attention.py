"""What attention makes of displacements, against plain softmax before and after in float64."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranklock.engine import displaced_attention as attention
from ranklock.engine.displaced_attention import (
    AddedKeys,
    HeadsBaseline,
    Workspace,
    attend_from_added,
    displaced_attention,
)

# Of the baseline, and of products with displacements.
FORMATS = {
    "float64": (torch.float64, torch.float64),
    "float32": (torch.float32, torch.float32),
    "bfloat16": (torch.float32, torch.bfloat16),
}
HEADS, WIDTH = 2, 8


@dataclass(frozen=True, eq=False)
class Case:
    """Attention of one cell in one layer, and what its inputs do to it; all in float64.

    Attributes
    ----------
    projected
        Queries, keys and values of the cell, shape (3, heads, length, head width).
    moved
        Their displacements, shape (3, inputs, heads, length, head width).
    gone
        Rows that are no keys, shape (inputs, most); ``length`` stands for none.
    added
        Queries, keys and values of added tokens, shape (3, inputs, heads, added, head width).
    present
        Which of those are there, shape (inputs, added).
    """

    projected: torch.Tensor
    moved: torch.Tensor
    gone: torch.Tensor
    added: torch.Tensor
    present: torch.Tensor

    def rounded(self, form):
        """With numbers that a format holds: it is not to blame for the others."""
        exact, products = FORMATS[form]
        return replace(
            self,
            projected=self.projected.to(exact).double(),
            moved=self.moved.to(products).double(),
            added=self.added.to(exact).double(),
        )

    def after(self):
        """Queries, keys and values of rows and added tokens, and which keys there are."""
        rows = torch.ones(len(self.gone), self.projected.shape[2] + 1, dtype=torch.bool)
        rows.scatter_(1, self.gone, value=False)
        everything = torch.cat([self.projected[:, None] + self.moved, self.added], 3)
        return *everything, torch.cat([rows[:, :-1], self.present], 1)

    def expected(self):
        """After minus before, shape (inputs, queries, heads, head width)."""
        length = self.projected.shape[2]
        after = softmax_attention(*self.after())[:, :, :length]
        return (after - softmax_attention(*self.projected)).transpose(1, 2)

    def computed(self, form, base=None):
        """The same by displacements, in a format."""
        exact, products = FORMATS[form]
        base = base or HeadsBaseline.of(self.projected.to(exact), products)
        _, keys, values = self.added.to(exact)
        found = displaced_attention(
            base,
            *self.moved.to(products).transpose(2, 3),
            self.gone,
            AddedKeys(keys, values, self.present) if self.present.shape[1] else None,
            Workspace(),
        )
        assert found.dtype is exact
        return found.double().unflatten(-1, (HEADS, WIDTH))

    def resolution(self, form):
        """What the format can resolve of a displacement, relative to it.

        A score, and its displacement, are rounded relative to their terms before these cancel, and
        an error of a score is a relative error of its weight. So this is the rounding of the format
        times the terms of a score's displacement, and that of the baseline times those of a score.
        Shape (inputs, queries, heads, 1).
        """
        exact, products = FORMATS[form]
        queries, keys, _ = self.projected.abs()
        delta_queries, delta_keys, _ = self.moved.abs()
        delta_keys = delta_keys + delta_keys.mean(2, keepdim=True)
        keys_after = keys + keys.mean(1, keepdim=True) + delta_keys
        scores = (queries + delta_queries) @ keys_after.transpose(-1, -2)
        of_added = (queries + delta_queries) @ (
            self.added[1].abs() + delta_keys.amax(2, keepdim=True)
        ).transpose(-1, -2)
        scores = torch.cat([scores, of_added], -1).amax(-1)
        moved = queries @ delta_keys.transpose(-1, -2) + delta_queries @ keys_after.transpose(
            -1, -2
        )
        rounding = torch.finfo(products).eps * (1 + moved.amax(-1) * WIDTH**-0.5)
        rounding += torch.finfo(exact).eps * scores * WIDTH**-0.5
        return rounding.transpose(1, 2)[..., None]


def softmax_attention(queries, keys, values, seen=None):
    scores = queries @ keys.transpose(-1, -2) * WIDTH**-0.5
    if seen is not None:
        scores = scores.masked_fill(~seen[:, None, None], -torch.inf)
    return torch.softmax(scores, -1) @ values


def a_case(seed, *, length=9, inputs=3, gone=0, added=0, size=1e-2, added_present=None, spread=1.0):
    """Random attention; scores of about ``spread``, displacements of about ``size``."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    projected = normal(3, HEADS, length, WIDTH)
    projected[0] *= spread
    # Checkpoints have keys and values in common to all tokens: a mean beside the differences.
    projected[1:] += 2 * normal(2, HEADS, 1, WIDTH)
    rows = [torch.randperm(length, generator=draw)[:gone].sort().values for _ in range(inputs)]
    present = torch.ones(inputs, added, dtype=torch.bool)
    if added_present is not None:
        present = added_present
    return Case(
        projected,
        size * normal(3, inputs, HEADS, length, WIDTH),
        torch.stack(rows),
        normal(3, inputs, HEADS, added, WIDTH) + projected.mean(2)[:, None, :, None],
        present,
    )


# How many roundings make up a result: sums over the head's width, over keys, and of the terms.
ROUNDINGS = 32
# The reference is a difference in float64 itself, of values of about 3.
OF_REFERENCE = 1e-14


def assert_resolved(case, form, found=None):
    """Every query's displacement is right to some roundings of itself, not of what it displaces."""
    case = case.rounded(form)
    expected = case.expected()
    found = case.computed(form) if found is None else found
    error = (found - expected).norm(dim=-1, keepdim=True)
    values = max(float(part[2].abs().max()) for part in (case.projected, case.moved))
    allowed = ROUNDINGS * case.resolution(form) * expected.norm(dim=-1, keepdim=True)
    allowed += OF_REFERENCE * max(1.0, values)
    assert torch.isfinite(found).all()
    worst = (error / allowed).max()
    assert worst < 1, f"{float(worst):.3g} of what is allowed"


sizes = st.sampled_from([1e-7, 1e-5, 1e-3, 1e-1, 1.0])


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=60)
@given(data=st.data())
def test_displacements_are_those_of_plain_softmax(form, data):
    """Rows that change, keys that are gone and keys that are added, in any mixture."""
    length = data.draw(st.integers(1, 12))
    inputs, added = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 2))
    case = a_case(
        data.draw(st.integers(0, 10_000)), length=length, inputs=inputs,
        gone=data.draw(st.integers(0, length - 1)), added=added, size=data.draw(sizes),
        spread=data.draw(st.sampled_from([0.1, 1.0, 3.0])),
    )  # fmt: skip
    # Inputs differ in how many keys they lose and gain; the rest of their places stand for none.
    none = torch.tensor(data.draw(st.lists(
        st.integers(0, case.gone.shape[1]), min_size=inputs, max_size=inputs)))  # fmt: skip
    kept = torch.arange(case.gone.shape[1]) < none[:, None]
    gone = torch.where(kept, case.gone, length)
    numbers = data.draw(st.lists(st.integers(0, added), min_size=inputs, max_size=inputs))
    present = torch.arange(added) < torch.tensor(numbers)[:, None]
    assert_resolved(replace(case, gone=gone, present=present), form)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e-6])
def test_small_displacements_are_proportional(form, size):
    """Half a displacement makes half the change: subtracted outputs would be rounding here."""
    case = a_case(3, size=size).rounded(form)
    half = replace(case, moved=case.moved / 2)
    whole = case.computed(form)
    # What is of second order is left, and roundings.
    atol = 20 * size * size + 4 * torch.finfo(FORMATS[form][1]).eps * float(whole.abs().max())
    torch.testing.assert_close(2 * half.computed(form), whole, rtol=0, atol=atol)
    assert whole.abs().max() > size / 10


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("windowed", [False, True])
def test_what_does_not_move_is_not_moved(monkeypatch, form, windowed):
    if windowed:
        monkeypatch.setattr(attention, "SCORES_ON_CPU", 1)
    for spread in (0.1, 3.0, 30.0):  # evenly, and on one key almost alone
        case = a_case(4, size=0.0, spread=spread)
        assert not case.computed(form).any()
        assert not replace(case, gone=torch.full((3, 2), 9)).computed(form).any()
        absent = a_case(4, size=0.0, added=2, added_present=torch.zeros(3, 2, dtype=torch.bool))
        assert not absent.computed(form).any()


@pytest.mark.parametrize("form", FORMATS)
def test_an_input_that_does_not_move_is_not_moved_by_its_neighbours(form):
    case = a_case(5, gone=2, added=1)
    case.moved[:, 1] = 0
    case.gone[1], case.present[1] = 9, False
    found = case.computed(form)
    assert not found[1].any()
    assert found[0].any()
    assert found[2].any()


@pytest.mark.parametrize("form", FORMATS)
def test_a_displacement_that_all_keys_share_moves_nothing(form):
    """Softmax does not see it: scores of a query all move by as much."""
    case = a_case(6, size=0.0)
    direction = torch.randn(3, HEADS, 1, WIDTH, generator=torch.Generator().manual_seed(0))
    case.moved[1] = direction.double()
    # The mean is rounded to the format of products, and so is what it leaves of every key: one
    # rounding of a key's displacement of 1, in scores of some queries of 1 over eight entries.
    allowed = 8 * torch.finfo(FORMATS[form][1]).eps
    assert case.rounded(form).computed(form).abs().max() < allowed


def saturated(rest, *, size, gone=True):
    """Attention in which one key, the fifth, holds all but ``rest`` of each query's weight."""
    case = a_case(7, size=size)
    queries, keys = case.projected[:2]
    # A direction that queries share and one key has: its score is larger than all others by ln.
    queries[..., 0], keys[..., 0] = 1.0, 0.0
    scores = queries @ keys.transpose(-1, -2)
    others = torch.cat([scores[..., :5], scores[..., 6:]], -1)
    lead = others.logsumexp(-1).max() - scores[..., 5].min()
    keys[..., 5, 0] = lead - np.log(rest) * WIDTH**0.5 + 8 * np.log(8)
    weights = torch.softmax(queries @ keys.transpose(-1, -2) * WIDTH**-0.5, -1)
    assert (1 - weights[..., 5]).max() <= rest or rest < 1e-15
    return replace(case, gone=torch.full((3, int(gone)), 5))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [0.0, 1e-6, 1e-1])
@pytest.mark.parametrize("rest", [0.9, 0.5, 1e-2, 1e-9, 1e-14, 1e-30, 1e-60])
def test_a_key_that_holds_nearly_all_the_weight_can_go(form, size, rest):
    """What is left is nothing beside 1, and in float32 nothing at all: weights are made anew."""
    assert_resolved(saturated(rest, size=size), form)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("rest", [1e-2, 1e-9, 1e-14])
def test_beside_a_key_that_holds_nearly_all_the_weight_others_go_unseen(form, rest):
    """Effects as small as the weight that the others have, to some roundings of themselves."""
    case = saturated(rest, size=0.0)
    assert_resolved(replace(case, gone=torch.tensor([[0], [3], [8]])), form)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("rest", [1e-2, 1e-9, 1e-30])
def test_an_added_key_takes_the_place_of_one_that_held_nearly_all_the_weight(form, rest):
    case = saturated(rest, size=1e-3)
    same = a_case(8, added=1)
    added = same.added.clone()
    added[1, ..., 0, :] = case.projected[1, :, 5]
    assert_resolved(replace(case, added=added, present=same.present), form)


@pytest.mark.parametrize("size", [30.0, 1e3, 1e5])
@pytest.mark.parametrize(("gone", "added"), [(0, 0), (2, 0), (2, 1)])
@pytest.mark.parametrize("form", FORMATS)
def test_displacements_that_overflow_exp_are_those_of_plain_softmax(form, size, gone, added):
    """Scores move by up to 1e10, and attention goes over to one key.

    Queries that are nearly undecided between two keys say nothing: a draw of one format is none in
    another. In bfloat16, which resolves such scores to 1e8, none is decided.
    """
    case = a_case(9, size=size, gone=gone, added=added).rounded(form)
    found, expected = case.computed(form), case.expected()
    assert torch.isfinite(found).all()
    queries, keys, values, seen = case.after()
    scores = (queries @ keys.transpose(-1, -2) * WIDTH**-0.5)[:, :, :9]
    best = scores.masked_fill(~seen[:, None, None], -torch.inf).topk(2).values
    lead = (best[..., 0] - best[..., 1]).transpose(1, 2)[..., None]
    decided = (lead > 100 * case.resolution(form)) & (lead > 40)
    if form == "bfloat16":
        assert found.abs().max() < 4 * values.abs().max()
        return
    assert decided.float().mean() > 0.3
    errors = ((found - expected).abs() / values.abs().max())[decided.expand_as(found)]
    assert errors.max() < 8 * torch.finfo(FORMATS[form][1]).eps


def test_weights_that_underflow_may_grow_beyond_all_others():
    """A key without any weight in float32 that all queries look at afterwards: 0 × ∞."""
    case = saturated(1e-60, size=0.0, gone=False)
    case.moved[1, :, :, 2] = 1.5 * case.projected[1, :, 5]
    assert_resolved(case, "float32")


@pytest.mark.parametrize("form", FORMATS)
def test_where_no_key_is_left_nothing_is_said(form):
    """The only gene of a cell, hidden: nobody looks at its row."""
    case = replace(a_case(10, length=2), gone=torch.tensor([[0, 1], [0, 1], [2, 2]]))
    found = case.computed(form)
    assert torch.isfinite(found).all()
    assert not found[:2].any()


@pytest.mark.parametrize("at_once", [1, 9, 40, 200, 400])
@pytest.mark.parametrize("form", FORMATS)
def test_windows_of_queries_change_nothing(monkeypatch, form, at_once):
    """One query of one input at a time, up to some inputs at a time."""
    case = a_case(11, inputs=4, gone=2, added=1)
    whole = case.computed(form)
    monkeypatch.setattr(attention, "SCORES_ON_CPU", at_once)
    found = case.computed(form)
    # Products of other shapes add up in another order.
    allowed = 8 * torch.finfo(FORMATS[form][1]).eps
    torch.testing.assert_close(found, whole, rtol=0, atol=allowed * float(whole.abs().max()))


@pytest.mark.parametrize("form", FORMATS)
def test_some_of_the_queries_are_as_among_all(form):
    case = a_case(12, gone=1, added=1).rounded(form)
    exact, products = FORMATS[form]
    base = HeadsBaseline.of(case.projected.to(exact), products)
    rows = torch.tensor([7, 2, 2])
    _, keys, values = case.added.to(exact)
    queries, delta_keys, delta_values = case.moved.to(products).transpose(2, 3)
    found = displaced_attention(
        base.of_queries(rows), queries[:, rows], delta_keys, delta_values, case.gone,
        AddedKeys(keys, values, case.present), Workspace(),
    )  # fmt: skip
    whole = case.computed(form)
    torch.testing.assert_close(
        found.double().unflatten(-1, (HEADS, WIDTH)), whole[:, rows], rtol=0,
        atol=8 * torch.finfo(products).eps * float(whole.abs().max()),
    )  # fmt: skip


def test_a_workspace_is_used_again():
    """Its content is whatever the last use left."""
    case = a_case(13, gone=1)
    workspace = Workspace()
    first = workspace.take((4, 5), torch.float64, torch.device("cpu"))
    first.fill_(torch.nan)
    again = workspace.take((2, 3), torch.float64, torch.device("cpu"))
    assert again.data_ptr() == first.data_ptr()
    base = HeadsBaseline.of(case.projected, torch.float64)
    larger = displaced_attention(
        base, *case.moved.transpose(2, 3), case.gone, None, workspace
    ).unflatten(-1, (HEADS, WIDTH))
    assert_resolved(case, "float64", larger)


@pytest.mark.parametrize("form", ["float64", "float32"])
@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), gone=st.integers(0, 9), size=sizes)
def test_added_tokens_attend_to_what_is_there(form, seed, gone, size):
    """And to each other."""
    present = torch.tensor([[True, True], [True, False], [True, True]])
    case = a_case(seed, gone=gone, added=2, size=size, added_present=present).rounded(form)
    exact, products = FORMATS[form]
    queries, keys, values = case.added.to(exact)
    found = attend_from_added(
        HeadsBaseline.of(case.projected.to(exact), products), queries * WIDTH**-0.5,
        *case.moved[1:].to(products).transpose(2, 3), case.gone,
        AddedKeys(keys, values, present),
    )  # fmt: skip
    expected = softmax_attention(*case.after())[:, :, 9:].transpose(1, 2).flatten(2)
    # States in full, values and scores of about 10, rounded as states are.
    allowed = 200 * torch.finfo(exact).eps
    torch.testing.assert_close(found.double()[present], expected[present], rtol=0, atol=allowed)


@pytest.mark.parametrize("form", FORMATS)
def test_the_unperturbed_cell_attends_as_ever(form):
    case = a_case(14).rounded(form)
    exact, products = FORMATS[form]
    base = HeadsBaseline.of(case.projected.to(exact), products)
    expected = softmax_attention(*case.projected).transpose(0, 1).flatten(1)
    allowed = 100 * torch.finfo(exact).eps
    torch.testing.assert_close(base.attended().double(), expected, rtol=0, atol=allowed)
