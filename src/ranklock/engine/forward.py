"""Forwards of packed inputs: no padding, no head, no layer and no row that is not read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ranklock.arms import ModelInput
from ranklock.models.encoder import Encoder, Layer

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Stretch:
    """Inputs of one length that stand one after another: what attention takes at once.

    Attributes
    ----------
    inputs, length
        How many there are, and tokens of each.
    visible
        Which tokens can be attended to, shape (inputs, 1, 1, length); None when all can.
    read
        Rows that are read of each, where the last layer computes no others.
    """

    inputs: int
    length: int
    visible: Tensor | None = None
    read: int = 0


@dataclass(frozen=True, eq=False)
class Packed:
    """Inputs of any lengths, one after another.

    Attributes
    ----------
    tokens, positions
        Shape (tokens of all inputs,).
    stretches
        How they fall into inputs.
    starts
        Row of each input's first token, in the order in which the inputs were given.
    order
        Index of each input, in the order in which they stand.
    """

    tokens: Tensor
    positions: Tensor
    stretches: tuple[Stretch, ...]
    starts: Indices
    order: Indices


def pack(
    inputs: Sequence[ModelInput], device: torch.device, read: Sequence[int] | None = None
) -> Packed:
    """Put inputs one after another, equal lengths together.

    Parameters
    ----------
    inputs
        At least one input; none may be empty.
    device
        Where to.
    read
        Rows that are read of each input; those that read as many stand together.
    """

    def shape(index: int) -> tuple[int, bool, int]:
        rows = 0 if read is None else read[index]
        return len(inputs[index]), bool(inputs[index].visible.all()), rows

    order = sorted(range(len(inputs)), key=shape)
    stretches = []
    for (length, all_visible, rows), members in groupby(order, key=shape):
        indices = list(members)
        visible = None
        if not all_visible:
            hidden = np.stack([inputs[i].visible for i in indices])
            visible = torch.from_numpy(hidden)[:, None, None].to(device)
        stretches.append(Stretch(len(indices), length, visible, rows))
    starts = np.zeros(len(inputs), dtype=np.int64)
    starts[order] = np.cumsum([0, *(len(inputs[i]) for i in order[:-1])])

    def put(name: str) -> Tensor:
        joined = np.concatenate([getattr(inputs[i], name) for i in order])
        return torch.from_numpy(joined.astype(np.int64)).to(device)

    return Packed(put("tokens"), put("positions"), tuple(stretches), starts, np.array(order))


class Attention(Protocol):
    """Attention of the inputs of a stretch to themselves."""

    def __call__(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        visible: Tensor | None,
        layer: int,
        stretch: int,
    ) -> Tensor:
        """Weighted means of the values, shape of the queries.

        Parameters
        ----------
        queries, keys, values
            Shape (inputs, heads, rows, head width).
        visible
            As of the stretch.
        layer, stretch
            Which of the layers that are run, and which of the stretches.
        """


def softmax_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    visible: Tensor | None,
    layer: int,
    stretch: int,
) -> Tensor:
    """Attention as the model was trained with."""
    return torch.nn.functional.scaled_dot_product_attention(
        queries, keys, values, attn_mask=visible
    )


def run_layers(
    encoder: Encoder,
    states: Tensor,
    stretches: Sequence[Stretch],
    layers: Sequence[Layer],
    rows: Tensor | None = None,
    attend: Attention = softmax_attention,
) -> Tensor:
    """Run encoder layers on packed inputs.

    Parameters
    ----------
    encoder
        The encoder.
    states
        What comes into the first of the layers, shape (tokens, width).
    stretches
        How the tokens fall into inputs.
    layers
        The layers to run.
    rows
        Rows of the output that are read, input by input as they stand, as many of each as its
        stretch says; the last layer computes no others. All when None.
    attend
        What attention is.

    Returns
    -------
    Hidden states, shape (rows, width).
    """
    for index, layer in enumerate(layers[: len(layers) if rows is None else -1]):
        projected = torch.split(layer.project(states), encoder.width, dim=1)
        attended = _attend(encoder, projected, stretches, attend, index, trimmed=False)
        states = layer.finish(states, attended)
    if rows is None:
        return states
    if not layers:
        return states[rows]
    last, read = layers[-1], states[rows]
    queries = last.project_queries(read)
    keys, values = torch.split(last.project_keys_values(states), encoder.width, dim=1)
    attended = _attend(
        encoder, (queries, keys, values), stretches, attend, len(layers) - 1, trimmed=True
    )
    return last.finish(read, attended)


def _attend(
    encoder: Encoder,
    projected: Sequence[Tensor],
    stretches: Sequence[Stretch],
    attend: Attention,
    layer: int,
    *,
    trimmed: bool,
) -> Tensor:
    """Attention of each input to itself, shape (query rows, width)."""
    queries, keys, values = projected
    out = []
    at_query = at_key = 0

    def heads(rows: Tensor, start: int, inputs: int, length: int) -> Tensor:
        stretch_rows = rows[start : start + inputs * length]
        return stretch_rows.view(inputs, length, encoder.heads, -1).transpose(1, 2)

    for index, stretch in enumerate(stretches):
        asked = stretch.read if trimmed else stretch.length
        attended = attend(
            heads(queries, at_query, stretch.inputs, asked),
            heads(keys, at_key, stretch.inputs, stretch.length),
            heads(values, at_key, stretch.inputs, stretch.length),
            stretch.visible,
            layer,
            index,
        )
        out.append(attended.transpose(1, 2).reshape(-1, encoder.width))
        at_query += stretch.inputs * asked
        at_key += stretch.inputs * stretch.length
    return out[0] if len(out) == 1 else torch.cat(out)
