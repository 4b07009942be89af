"""The displacement forward: perturbed minus unperturbed, layer by layer (DESIGN.md, section 5).

Every term is proportional to the displacement, so that what a number format rounds is rounded
relative to the effect, not to the embedding. The unperturbed cell's activations of a layer are
computed once, used for all tasks of the cell, and dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from ranklock.engine.activations import DERIVATIVES, relu_displacement_, smooth_displacement
from ranklock.engine.displaced_attention import (
    AddedKeys,
    HeadsBaseline,
    Workspace,
    attend_from_added,
    displaced_attention,
)
from ranklock.models.encoder import Encoder, Layer, Norm

# Added to the variance of a displacement, so that one of zero stays zero.
_NOTHING = 1e-30


@dataclass(frozen=True, eq=False)
class Formats:
    """A checkpoint in the formats that a displacement forward needs.

    Attributes
    ----------
    encoder
        For unperturbed cells, for tokens that are put in, and for displacements between products.
    products
        For products with displacements; the same where these have no format of their own.
    """

    encoder: Encoder
    products: Encoder

    @property
    def exact(self) -> torch.dtype:
        """Format of displacements between products."""
        return self.encoder.tokens.dtype

    @property
    def inner(self) -> torch.dtype:
        """Format of what stays inside attention and the feed-forward part.

        float16 has no room for displacements of all sizes: it is for linear maps, row by row.
        """
        kind = self.products.tokens.dtype
        return self.exact if kind is torch.float16 else kind

    def multiply(self, delta: Tensor, weight: Tensor) -> Tensor:
        """``delta @ weight``, shape (rows, columns), in the inner format."""
        if weight.dtype is not torch.float16:
            return delta.to(weight.dtype) @ weight
        # Powers of two lose nothing, and bring every row to the middle of the format.
        top = delta.abs().amax(-1, keepdim=True)
        scale = torch.where(top > 0, torch.exp2(top.log2().ceil()), 1.0)
        return ((delta / scale).half() @ weight).to(self.exact) * scale


@dataclass(frozen=True, eq=False)
class NormBaseline:
    """What comes into a layer norm of an unperturbed cell.

    Attributes
    ----------
    centred
        x − mean x, times the norm's weight, shape (rows, width).
    along
        x − mean x, divided by the width.
    variance
        var x + ε, shape (rows, 1).
    """

    centred: Tensor
    along: Tensor
    variance: Tensor

    @classmethod
    def of(cls, states: Tensor, norm: Norm) -> NormBaseline:
        """Of states that the norm normalises."""
        centred = states - states.mean(-1, keepdim=True)
        variance = (centred * centred).mean(-1, keepdim=True) + norm.epsilon
        return cls(centred * norm.weight, centred / states.shape[-1], variance)

    def rows(self, rows: Tensor | slice) -> NormBaseline:
        """Of some rows."""
        return NormBaseline(self.centred[rows], self.along[rows], self.variance[rows])


def norm_displacement(delta: Tensor, base: NormBaseline, norm: Norm, out: Tensor) -> Tensor:
    r"""Displacement behind a layer norm.

    With c = x − mean x, δc = δx − mean δx, Δ = mean(δc (2c + δc)), σ and σ' before and after,

    .. math:: δy = g [δc / σ' − c Δ / (σ σ' (σ + σ'))].

    Parameters
    ----------
    delta
        δx, shape (inputs, rows, width).
    base, norm
        The unperturbed cell's, of as many rows, and the norm.
    out
        Where to write δy.
    """
    normal, _, inverse = torch.native_layer_norm(
        delta, delta.shape[-1:], norm.weight, None, _NOTHING
    )
    # Where less is left than a part of it, that is the rounding of it.
    squared = torch.threshold(1.0 / (inverse * inverse) - _NOTHING, 1e-3 * _NOTHING, 0.0)
    change = 2.0 * (delta * base.along).sum(-1, keepdim=True) + squared
    before = base.variance.sqrt()
    after = (base.variance + change).clamp_(min=norm.epsilon).sqrt()
    normal.mul_(1.0 / (inverse * after))
    along = change / (before * after * (before + after))
    return torch.addcmul(normal, base.centred, along, value=-1.0, out=out)


@dataclass(frozen=True, eq=False)
class FeedForwardBaseline:
    """What an unperturbed cell, or several, has behind the attention of a layer.

    Attributes
    ----------
    attention_norm, norm
        What comes into the layer norms.
    widened
        Before the activation, shape (rows, feed-forward width).
    minus_a, negative_part
        Of :func:`relu_displacement_`; None for another activation.
    """

    attention_norm: NormBaseline
    widened: Tensor
    minus_a: Tensor | None
    negative_part: Tensor | None
    norm: NormBaseline

    def rows(self, rows: Tensor | slice) -> FeedForwardBaseline:
        """Of some rows."""
        return FeedForwardBaseline(
            self.attention_norm.rows(rows),
            self.widened[rows],
            None if self.minus_a is None else self.minus_a[rows],
            None if self.negative_part is None else self.negative_part[rows],
            self.norm.rows(rows),
        )


@dataclass(frozen=True, eq=False)
class LayerBaseline:
    """Activations of an unperturbed cell in one layer: of its heads, and of what follows."""

    attention: HeadsBaseline
    feed_forward: FeedForwardBaseline

    def rows(self, rows: Tensor) -> LayerBaseline:
        """What some rows need as queries."""
        return LayerBaseline(self.attention.of_queries(rows), self.feed_forward.rows(rows))


def layer_baselines(
    formats: Formats, index: int, states: Tensor, lengths: Sequence[int]
) -> tuple[list[LayerBaseline], Tensor]:
    """Activations of unperturbed cells in a layer, and their states behind it.

    Parameters
    ----------
    formats
        The checkpoint.
    index
        Which layer.
    states
        What comes in, cells one after another, shape (rows, width).
    lengths
        Rows of each cell.
    """
    layer, heads = formats.encoder.layers[index], formats.encoder.heads
    projected = layer.project(states).view(len(states), 3, heads, -1).permute(1, 2, 0, 3)
    ends = [0, *accumulate(lengths)]
    cells = [slice(start, stop) for start, stop in pairwise(ends)]
    attention = [HeadsBaseline.of(projected[:, :, cell], formats.inner) for cell in cells]
    attended = torch.cat([heads_of_cell.attended() for heads_of_cell in attention])
    before_norm = layer.attention_out.onto(states, attended)
    between = layer.attention_norm(before_norm)
    widened = layer.widen(between)
    behind = layer.narrow.onto(between, layer.activate(widened.clone()))
    minus_a = negative_part = None
    if layer.activation == "relu":
        minus_a = -widened.to(formats.inner)
        negative_part = -minus_a.clamp(min=0.0)
    feed_forward = FeedForwardBaseline(
        NormBaseline.of(before_norm, layer.attention_norm), widened, minus_a, negative_part,
        NormBaseline.of(behind, layer.norm),
    )  # fmt: skip
    baselines = [
        LayerBaseline(of_heads, feed_forward.rows(cell))
        for of_heads, cell in zip(attention, cells, strict=True)
    ]
    return baselines, layer.norm(behind)


@dataclass(frozen=True, eq=False)
class Segment:
    """Inputs of one cell.

    Attributes
    ----------
    cell
        Which of the cells.
    inputs, length
        How many, and rows of each.
    gone
        Rows that are no keys, shape (inputs, most); ``length`` stands for none.
    present
        Which tokens that are put in are there, shape (inputs, added).
    """

    cell: int
    inputs: int
    length: int
    gone: Tensor
    present: Tensor


def displaced_layer(
    formats: Formats,
    index: int,
    baselines: Sequence[LayerBaseline],
    segments: Sequence[Segment],
    delta: Tensor,
    added: Sequence[Tensor],
    rows: Sequence[Tensor] | None,
    workspace: Workspace,
) -> tuple[Sequence[Tensor], list[Tensor]]:
    """Displacements behind a layer, from those before it.

    Parameters
    ----------
    formats, index
        The checkpoint, and which layer.
    baselines
        Of the cells.
    segments
        The inputs, one segment after another.
    delta
        Displacements, inputs one after another, shape (rows, width).
    added
        States of the tokens that are put in, in each segment, shape (inputs, added, width).
    rows
        Rows that are read in each segment's inputs, where no others are computed; all when None.
    workspace
        For what lies between.

    Returns
    -------
    Of each segment, displacements of the rows that are read, inputs one after another, and states
    of the tokens that are put in.
    """
    layer, products = formats.encoder.layers[index], formats.products.layers[index]
    width, heads = formats.encoder.width, formats.encoder.heads
    ends = [0, *accumulate(s.inputs * s.length for s in segments)]
    if rows is None:
        projected = formats.multiply(delta, products.project_weight)
        queries, keys_values = projected[:, :width], projected[:, width:]
        read, query_ends = delta, ends
    else:
        read = torch.cat([
            delta[start:stop].view(s.inputs, s.length, width)[:, which].flatten(0, 1)
            for s, which, (start, stop) in zip(segments, rows, pairwise(ends), strict=True)
        ])  # fmt: skip
        queries = formats.multiply(read, products.project_weight[:, :width])
        keys_values = formats.multiply(delta, products.project_weight[:, width:])
        query_ends = [
            0, *accumulate(s.inputs * len(which) for s, which in zip(segments, rows, strict=True))
        ]  # fmt: skip
    bases = [
        baselines[s.cell] if rows is None else baselines[s.cell].rows(rows[k])
        for k, s in enumerate(segments)
    ]
    attended = torch.empty(query_ends[-1], width, dtype=formats.inner, device=delta.device)
    of_heads = queries.reshape(query_ends[-1], heads, width // heads)
    added_after = []
    for k, segment in enumerate(segments):
        of_queries, of_keys = slice(*query_ends[k : k + 2]), slice(*ends[k : k + 2])
        delta_keys, delta_values = (
            part.reshape(segment.inputs, segment.length, heads, -1)
            for part in torch.split(keys_values[of_keys], width, dim=1)
        )
        tokens = added[k]
        keys_added = None
        if tokens.shape[1]:
            keys_added, queries_added = _project_added(formats, index, segment, tokens)
            of_all = baselines[segment.cell].attention
            added_after.append(
                _finish_added(layer, tokens, attend_from_added(
                    of_all, queries_added, delta_keys, delta_values, segment.gone, keys_added))
            )  # fmt: skip
        else:
            added_after.append(tokens)
        attended[of_queries] = displaced_attention(
            bases[k].attention,
            per_input(of_heads[of_queries], segment.inputs),
            delta_keys, delta_values, segment.gone, keys_added, workspace,
        ).flatten(0, 1)  # fmt: skip
    before_norm = _add_product(formats, read, attended, products.attention_out.weight)

    def views(packed: Tensor) -> list[Tensor]:
        return [
            per_input(packed[start:stop], s.inputs)
            for s, (start, stop) in zip(segments, pairwise(query_ends), strict=True)
        ]

    between = torch.empty_like(before_norm)
    for base, source, target in zip(bases, views(before_norm), views(between), strict=True):
        norm_displacement(source, base.feed_forward.attention_norm, layer.attention_norm, target)
    widened = formats.multiply(between, products.widen.weight)
    for base, view in zip(bases, views(widened), strict=True):
        feed_forward = base.feed_forward
        if feed_forward.minus_a is not None and feed_forward.negative_part is not None:
            relu_displacement_(view, feed_forward.minus_a, feed_forward.negative_part)
        else:
            derivative = DERIVATIVES.get(layer.activation)
            view.copy_(smooth_displacement(view, feed_forward.widened, layer.activate, derivative))
    behind = _add_product(formats, between, widened, products.narrow.weight)
    out = torch.empty_like(behind)
    for base, source, target in zip(bases, views(behind), views(out), strict=True):
        norm_displacement(source, base.feed_forward.norm, layer.norm, target)
    return [out[start:stop] for start, stop in pairwise(query_ends)], added_after


def per_input(packed: Tensor, inputs: int) -> Tensor:
    """Inputs one after another → one of them each, of shape (inputs, rows, ...)."""
    return packed.view(inputs, len(packed) // inputs, *packed.shape[1:])


def _add_product(formats: Formats, delta: Tensor, inner: Tensor, weight: Tensor) -> Tensor:
    """``delta + inner @ weight``."""
    if weight.dtype is formats.exact:
        return torch.addmm(delta, inner, weight)
    return delta + formats.multiply(inner, weight)


def _project_added(
    formats: Formats, index: int, segment: Segment, tokens: Tensor
) -> tuple[AddedKeys, Tensor]:
    """Keys, values and scaled queries of tokens that are put in."""
    layer, heads = formats.encoder.layers[index], formats.encoder.heads
    inputs, number, width = tokens.shape
    projected = layer.project(tokens.reshape(-1, width)).view(inputs, number, 3, heads, -1)
    queries, keys, values = projected.permute(2, 0, 3, 1, 4)
    return AddedKeys(keys, values, segment.present), queries * queries.shape[-1] ** -0.5


def _finish_added(layer: Layer, tokens: Tensor, attended: Tensor) -> Tensor:
    width = tokens.shape[-1]
    return layer.finish(tokens.reshape(-1, width), attended.reshape(-1, width)).view(tokens.shape)


def embedded_displacement(
    encoder: Encoder, rows_before: tuple[Tensor, Tensor], rows_after: tuple[Tensor, Tensor]
) -> Tensor:
    """Displacement of embeddings whose token or position changes, shape (rows, width).

    Parameters
    ----------
    encoder
        The encoder.
    rows_before, rows_after
        Tokens and positions, shape (rows,) each.
    """
    (tokens, positions), (tokens_after, positions_after) = rows_before, rows_after
    delta = encoder.tokens[tokens_after] - encoder.tokens[tokens]
    delta += encoder.positions[positions_after] - encoder.positions[positions]
    base = NormBaseline.of(encoder.tokens[tokens] + encoder.positions[positions], encoder.norm)
    return norm_displacement(delta, base, encoder.norm, torch.empty_like(delta))
