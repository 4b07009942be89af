"""Back through attention: derivatives, and what the removal of each key does to the outputs.

Weights are computed again, some queries at a time, so that memory grows with the tokens and not
with their square. What they are and what depends on them alone is shared by all numbers that are
differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ranklock.engine.forward import Attention, softmax_attention
from ranklock.models.encoder import Encoder, Layer

# A float32 weight of 0.999 leaves a remainder good to 1e-4; above it the removal is bounded, and
# the gene is one of those that are looked at exactly.
MOST_WEIGHT = 0.999
# Attention scores that are worked on together: on a CPU what its caches hold.
SCORES_ON_CPU, SCORES_ON_GPU = 1 << 20, 1 << 26


@dataclass(frozen=True, eq=False)
class Attended:
    """Attention of the inputs of a stretch; each of shape (inputs, heads, rows, head width)."""

    queries: Tensor
    keys: Tensor
    values: Tensor
    out: Tensor

    @property
    def rows(self) -> Tensor:
        """The output with heads side by side, shape (inputs × rows, width)."""
        return self.out.transpose(1, 2).flatten(2).flatten(0, 1)


@dataclass(frozen=True, eq=False)
class SiteSums:
    """Sums over the queries of a layer, for each key.

    The first two of numbers and keys, shape (numbers, tokens[, heads]), the others (tokens,).
    """

    removals: Tensor  # what removing a key would do, with its sign turned, by head
    gates: Tensor  # derivative by the logarithm of the key's gate
    peak: Tensor  # largest weight that a query other than the key's own gives it
    # Largest length of what a key's removal takes from what such a query is given: its weight's
    # odds w/(1 − w), times its value less the mean output, through the output's matrix.
    written: Tensor

    @classmethod
    def zeros(cls, numbers: int, tokens: int, encoder: Encoder) -> SiteSums:
        """Before anything is summed."""
        peak, written = encoder.tokens.new_zeros((2, tokens))
        gates = encoder.tokens.new_zeros((numbers, tokens), dtype=torch.float64)
        return cls(gates.new_zeros((numbers, tokens, encoder.heads)), gates, peak, written)


def recorded(sites: list[Attended]) -> Attention:
    """Attention that keeps what went into it, stretch by stretch."""

    def attend(
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        visible: Tensor | None,
        layer: int,
        stretch: int,
    ) -> Tensor:
        out = softmax_attention(queries, keys, values, visible, layer, stretch)
        sites.append(Attended(queries, keys, values, out))
        return out

    return attend


def back_through(
    layer: Layer,
    sites: Sequence[Attended],
    d_out: Tensor,
    rows: Tensor | None,
    sums: SiteSums,
    *,
    further: bool,
) -> Tensor:
    """Take derivatives from the output of attention to what entered the layer.

    Parameters
    ----------
    layer, sites
        The layer, and its attention, stretch by stretch.
    d_out
        Derivatives by the output, heads side by side, shape (numbers, rows, width).
    rows
        Which of the tokens the rows are; all when None.
    sums
        What the sums over queries are added to.
    further
        Whether the derivatives by what entered are needed; zeros are returned if not.

    Returns
    -------
    Shape (numbers, tokens, width).
    """
    numbers, _, width = d_out.shape
    tokens = len(sums.peak)
    back = torch.zeros((numbers, tokens, width), dtype=d_out.dtype, device=d_out.device)
    at_query = at_key = 0
    for site in sites:
        inputs, heads, asked, _ = site.queries.shape
        length = site.keys.shape[2]
        queries = slice(at_query, at_query + inputs * asked)
        keys = slice(at_key, at_key + inputs * length)
        every = torch.arange(tokens, device=d_out.device)
        asking = every[queries] if rows is None else rows[queries]
        diagonal = asking.view(inputs, asked) - at_key - length * every[:inputs, None]
        by_head = d_out[:, queries].reshape(numbers, inputs, asked, heads, -1)
        d_queries, d_keys, d_values, peak = _back_through_site(
            site, by_head.permute(1, 3, 2, 0, 4), diagonal, sums, keys, further=further
        )
        sums.written[keys] = _written(layer, site, peak).flatten()
        if further:
            by_queries = _side_by_side(d_queries) @ layer.project_weight[:, :width].T
            back[:, asking] = by_queries
            by_keys = torch.cat([_side_by_side(d_keys), _side_by_side(d_values)], dim=-1)
            back[:, keys] += by_keys @ layer.project_weight[:, width:].T
        at_query, at_key = queries.stop, keys.stop
    return back


def _side_by_side(by_head: Tensor) -> Tensor:
    """From (inputs, heads, rows, numbers, head width) to (numbers, inputs × rows, width)."""
    return by_head.permute(3, 0, 2, 1, 4).flatten(3).flatten(1, 2)


def _back_through_site(
    site: Attended, d_out: Tensor, diagonal: Tensor, sums: SiteSums, keys: slice, *, further: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Derivatives by queries, keys and values, each (inputs, heads, rows, numbers, head width).

    And the largest weight of each key, shape (inputs, heads, keys). ``diagonal`` says which key
    each query is, shape (inputs, queries), and ``keys`` where the tokens stand in the sums.
    """
    inputs, heads, asked, numbers, wide = d_out.shape
    length = site.keys.shape[2]
    scaled = site.queries * wide**-0.5
    # ⟨d_out, o⟩ of each query: what all of its scores have in common.
    common = (d_out * site.out[:, :, :, None]).sum(-1)

    def empty(rows: int) -> Tensor:
        shape = (inputs, heads, rows, numbers, wide)
        return torch.zeros(shape, dtype=d_out.dtype, device=d_out.device)

    d_queries, d_keys, d_values, removed = (empty(r) for r in (asked, length, length, length))
    seen = d_keys.new_zeros((inputs, heads, length, numbers))
    unseen = torch.zeros_like(seen)
    peak = d_keys.new_zeros((inputs, heads, length))
    at_once = SCORES_ON_CPU if d_out.device.type == "cpu" else SCORES_ON_GPU
    size = max(1, at_once // (inputs * heads * length))
    for start in range(0, asked, size):
        part = slice(start, min(start + size, asked))
        weights = torch.softmax(scaled[:, :, part] @ site.keys.transpose(-1, -2), dim=-1)
        turned = weights.transpose(-1, -2)
        d_part, common_part = d_out[:, :, part], common[:, :, part]
        flat = d_part.flatten(3)
        d_values += (turned @ flat).reshape(d_keys.shape)
        seen += turned @ common_part
        if further:
            for number in range(numbers):
                d_scores = d_part[:, :, :, number] @ site.values.transpose(-1, -2)
                d_scores.sub_(common_part[..., number, None]).mul_(weights)
                d_queries[:, :, part, number] = d_scores @ site.keys
                d_keys[:, :, :, number] += d_scores.transpose(-1, -2) @ scaled[:, :, part]
        # A key's own query sees it, and is seen by nobody once the key is gone.
        of_itself = diagonal[:, None, part, None].expand(-1, heads, -1, 1)
        weights.scatter_(-1, of_itself, 0.0).clamp_(max=MOST_WEIGHT)
        peak = torch.maximum(peak, weights.amax(2))
        weights.div_(1.0 - weights)
        removed += (turned @ flat).reshape(d_keys.shape)
        unseen += turned @ common_part
    values = site.values[:, :, :, None]
    removals = (removed * values).sum(-1) - unseen
    gates = (d_values * values).sum(-1) - seen
    sums.removals[:, keys] = removals.permute(3, 0, 2, 1).flatten(1, 2).double()
    sums.gates[:, keys] = gates.sum(1).permute(2, 0, 1).flatten(1).double()
    sums.peak[keys] = peak.amax(1).flatten()
    return d_queries * wide**-0.5, d_keys, d_values, peak


def _written(layer: Layer, site: Attended, peak: Tensor) -> Tensor:
    """As of :class:`SiteSums`, shape (inputs, keys)."""
    heads, wide = site.values.shape[1], site.values.shape[3]
    onwards = layer.attention_out.weight.view(heads, wide, -1)
    apart = (site.values - site.out.mean(2, keepdim=True)) @ onwards
    written: Tensor = (peak / (1.0 - peak) * apart.norm(dim=-1)).amax(1)
    return written
