"""What attention makes of a displacement (DESIGN.md, section 5).

With a head's weights P, log-normaliser ℓ and output o of the unperturbed cell, and scores that
move by δs, every sum below is over displacements: nothing is subtracted that was added before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Scores held in memory together: 8 MiB of bfloat16, so that they stay in a CPU's cache between
# the passes over them. A GPU needs more to be busy.
SCORES_ON_CPU = 1 << 22
_SCORES_ON_GPU = 1 << 28
# Where less than this part of the weights is left, or they overflow, a query's attention is
# computed anew: what 1 + Σ P e keeps of its digits is this part.
_LEAST_LEFT = 0.125


@dataclass(frozen=True, eq=False)
class HeadsBaseline:
    """Attention of an unperturbed cell in one layer.

    Attributes
    ----------
    queries, keys, values
        Shape (heads, length, head width). Queries are scaled by 1 / √(head width). Keys and values
        have their mean over the length taken off, which changes no displacement and leaves less
        to cancel.
    weights
        P, in the format of the products, shape (heads, queries, length).
    log_sum
        ℓ of the scores with those keys, shape (heads, queries).
    out
        o of those values, shape (heads, queries, head width).
    key_mean, value_mean
        What was taken off, shape (heads, 1, head width).
    weights_exactly
        P as it was computed.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    weights: Tensor
    log_sum: Tensor
    out: Tensor
    key_mean: Tensor
    value_mean: Tensor
    weights_exactly: Tensor

    @classmethod
    def of(cls, projected: Tensor, products: torch.dtype) -> HeadsBaseline:
        """Attention of a cell to itself, and the format of products with it.

        From its queries, keys and values, shape (3, heads, length, head width).
        """
        queries, keys, values = projected
        queries = queries * queries.shape[-1] ** -0.5
        key_mean, value_mean = keys.mean(1, keepdim=True), values.mean(1, keepdim=True)
        keys, values = keys - key_mean, values - value_mean
        scores = queries @ keys.transpose(1, 2)
        top = scores.amax(-1, keepdim=True)
        weights = scores.sub_(top).exp_()
        total = weights.sum(-1, keepdim=True)
        weights.div_(total)
        log_sum = (top + total.log()).squeeze(-1)
        return cls(
            queries, keys, values, weights.to(products), log_sum, weights @ values, key_mean,
            value_mean, weights,
        )  # fmt: skip

    def of_queries(self, rows: Tensor) -> HeadsBaseline:
        """Of some of the queries."""
        return replace(
            self, queries=self.queries[:, rows], weights=self.weights[:, rows],
            log_sum=self.log_sum[:, rows], out=self.out[:, rows],
            weights_exactly=self.weights_exactly[:, rows],
        )  # fmt: skip

    def attended(self) -> Tensor:
        """Output of attention, heads side by side, shape (queries, heads × head width)."""
        return (self.out + self.value_mean).transpose(0, 1).flatten(1)


@dataclass(frozen=True, eq=False)
class AddedKeys:
    """Tokens that are put into inputs.

    Attributes
    ----------
    keys, values
        Shape (inputs, heads, added, head width), in full: nothing is taken off.
    present
        Which of them are there, shape (inputs, added).
    """

    keys: Tensor
    values: Tensor
    present: Tensor


class Workspace:
    """Memory that is used again: on a CPU, fresh memory costs more than arithmetic."""

    def __init__(self) -> None:
        self._held: dict[torch.dtype, Tensor] = {}

    def take(self, shape: tuple[int, ...], kind: torch.dtype, device: torch.device) -> Tensor:
        """An array of any content, valid until the next one of its format is taken."""
        size = 1
        for length in shape:
            size *= length
        held = self._held.get(kind)
        if held is None or held.numel() < size:
            held = self._held[kind] = torch.empty(size, dtype=kind, device=device)
        return held[:size].view(shape)


def displaced_attention(
    base: HeadsBaseline,
    delta_queries: Tensor,
    delta_keys: Tensor,
    delta_values: Tensor,
    gone: Tensor,
    added: AddedKeys | None,
    workspace: Workspace,
) -> Tensor:
    """Displacement of attention's output.

    Parameters
    ----------
    base
        The unperturbed cell.
    delta_queries
        Shape (inputs, queries, heads, head width), in the format of the products. Not scaled.
    delta_keys, delta_values
        Shape (inputs, length, heads, head width).
    gone
        Rows that are no keys, shape (inputs, most); ``length`` stands for none.
    added
        Keys that are put in.
    workspace
        For the scores.

    Returns
    -------
    Shape (inputs, queries, heads × head width), in the format of the baseline.
    """
    inputs, queries, heads, width = delta_queries.shape
    length = delta_keys.shape[1]
    exact = base.queries.dtype
    products = base.weights.dtype
    if gone.shape[1]:
        # A key that is gone has no displacement of its own; its removal is a term of its own.
        delta_values = delta_values * _keys_left(gone, length)[:, :, None, None]
    # A displacement that all keys share moves no weight; keys that are put in must share it too.
    shared = delta_keys.mean(1, keepdim=True, dtype=exact).to(products)
    delta_keys = delta_keys - shared
    if added is not None:
        added = replace(added, keys=added.keys - shared.transpose(1, 2))
    delta_queries = (delta_queries * width**-0.5).transpose(1, 2)
    delta_keys, delta_values = delta_keys.transpose(1, 2), delta_values.transpose(1, 2)
    out = torch.empty(inputs, queries, heads, width, dtype=exact, device=base.queries.device)
    at_once = scores_at_once(str(base.queries.device))
    block = max(1, at_once // (heads * queries * length))
    rows = min(queries, max(1, at_once // (heads * length)))
    for start in range(0, inputs, block):
        part = slice(start, min(start + block, inputs))
        keys_after = base.keys + delta_keys[part]
        right = torch.cat([delta_keys[part], keys_after.to(products)], -1).transpose(-1, -2)
        values_after = (base.values + delta_values[part]).to(products)
        for first in range(0, queries, rows):
            window = slice(first, min(first + rows, queries))
            out[part, window] = _displaced(
                base, delta_queries[part, :, window], right, delta_keys[part], delta_values[part],
                values_after, gone[part], _part_of(added, part), window, workspace,
            ).transpose(1, 2)  # fmt: skip
    return out.view(inputs, queries, heads * width)


def scores_at_once(device: str) -> int:
    """How many scores are held in memory together on a device."""
    return SCORES_ON_CPU if device == "cpu" else _SCORES_ON_GPU


def _keys_left(gone: Tensor, length: int) -> Tensor:
    """Which keys are not gone, shape (inputs, length)."""
    left = torch.ones(len(gone), length + 1, dtype=torch.bool, device=gone.device)
    return left.scatter_(1, gone, value=False)[:, :length]


def _part_of(added: AddedKeys | None, part: slice) -> AddedKeys | None:
    if added is None:
        return None
    return AddedKeys(added.keys[part], added.values[part], added.present[part])


def _displaced(
    base: HeadsBaseline,
    delta_queries: Tensor,
    right: Tensor,
    delta_keys: Tensor,
    delta_values: Tensor,
    values_after: Tensor,
    gone: Tensor,
    added: AddedKeys | None,
    window: slice,
    workspace: Workspace,
) -> Tensor:
    """The same of some inputs and queries, shape (inputs, heads, queries, head width)."""
    inputs, heads, queries, width = delta_queries.shape
    length = delta_keys.shape[2]
    exact, products = base.queries.dtype, base.weights.dtype
    base_queries = base.queries[:, window]
    left = torch.cat([base_queries.to(products).expand_as(delta_queries), delta_queries], -1)
    scores = workspace.take((inputs, heads, queries, length), products, left.device)
    torch.matmul(left, right, out=scores)
    weighted = scores.expm1_().mul_(base.weights[:, window])
    for column in gone.T:
        there = column < length
        which = torch.arange(inputs, device=column.device)[there]
        weighted[which, :, :, column[there]] = 0.0
    ones = torch.ones(*values_after.shape[:-1], 8, dtype=products, device=left.device)
    sums = torch.matmul(weighted, torch.cat([values_after, ones], -1)).to(exact)
    change = sums[..., width : width + 1]
    out = base.out[:, window]
    # Of all inputs in one product, for they share the weights.
    beside = delta_values.permute(1, 2, 0, 3).reshape(heads, length, inputs * width)
    moved = torch.matmul(base.weights[:, window], beside).to(exact)
    moved = moved.view(heads, queries, inputs, width).permute(2, 0, 1, 3)
    numerator = sums[..., :width] + moved
    if gone.shape[1]:
        places = torch.clamp(gone, max=length - 1)
        there = (gone < length).to(exact)[:, None, None]
        removed = base.weights_exactly[:, window][:, :, places].permute(2, 0, 1, 3) * there
        numerator -= removed @ base.values[:, places].transpose(0, 1)
        change = change - removed.sum(-1, keepdim=True)
    queries_after = base_queries + delta_queries
    if added is not None:
        # Scores of the baseline are with keys that have their mean taken off.
        found = queries_after @ (added.keys - base.key_mean).transpose(-1, -2)
        found = (found - base.log_sum[:, window, None]).exp() * added.present[:, None, None]
        numerator += found @ (added.values - base.value_mean)
        change = change + found.sum(-1, keepdim=True)
    left_over = 1.0 + change
    numerator -= change * out
    numerator /= left_over
    anew = ~((left_over > _LEAST_LEFT) & torch.isfinite(left_over)).squeeze(-1)
    if bool(anew.any()):
        _compute_anew(
            numerator, anew, base, queries_after, delta_keys, delta_values, gone, added, out
        )
    return numerator


def _compute_anew(
    displacement: Tensor,
    anew: Tensor,
    base: HeadsBaseline,
    queries_after: Tensor,
    delta_keys: Tensor,
    delta_values: Tensor,
    gone: Tensor,
    added: AddedKeys | None,
    out: Tensor,
) -> None:
    """Attention whose weights have gone elsewhere: over the keys that are left, in full."""
    left = _keys_left(gone, delta_keys.shape[2])
    for index, head in anew.any(-1).nonzero().tolist():
        which = anew[index, head].nonzero().squeeze(-1)
        keys = base.keys[head] + delta_keys[index, head]
        values = base.values[head] + delta_values[index, head]
        seen = left[index]
        if added is not None:
            keys = torch.cat([keys, added.keys[index, head] - base.key_mean[head]])
            values = torch.cat([values, added.values[index, head] - base.value_mean[head]])
            seen = torch.cat([seen, added.present[index]])
        if not bool(seen.any()):  # the only gene of a cell, removed: nobody looks at its row
            displacement[index, head, which] = 0.0
            continue
        scores = queries_after[index, head, which] @ keys.T
        weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1)
        displacement[index, head, which] = weights @ values - out[head, which]


def attend_from_added(
    base: HeadsBaseline,
    queries: Tensor,
    delta_keys: Tensor,
    delta_values: Tensor,
    gone: Tensor,
    added: AddedKeys,
) -> Tensor:
    """Attention from tokens that are put in, which have no unperturbed selves: in full.

    Parameters
    ----------
    base, gone, added
        As in :func:`displaced_attention`.
    queries
        Scaled, shape (inputs, heads, added, head width).
    delta_keys, delta_values
        Shape (inputs, length, heads, head width).

    Returns
    -------
    Shape (inputs, added, heads × head width).
    """
    keys = base.keys + base.key_mean + delta_keys.transpose(1, 2)
    values = base.values + base.value_mean + delta_values.transpose(1, 2)
    keys, values = torch.cat([keys, added.keys], 2), torch.cat([values, added.values], 2)
    seen = torch.cat([_keys_left(gone, delta_keys.shape[1]), added.present], 1)[:, None, None]
    scores = (queries @ keys.transpose(-1, -2)).masked_fill(~seen, -torch.inf)
    return (torch.softmax(scores, dim=-1) @ values).transpose(1, 2).flatten(2)
