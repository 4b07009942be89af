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
    """

    inputs: int
    length: int
    visible: Tensor | None = None


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
    """

    tokens: Tensor
    positions: Tensor
    stretches: tuple[Stretch, ...]
    starts: Indices


def pack(inputs: Sequence[ModelInput], device: torch.device) -> Packed:
    """Put inputs one after another, equal lengths together.

    Parameters
    ----------
    inputs
        At least one input; none may be empty.
    device
        Where to.
    """

    def kind(index: int) -> tuple[int, bool]:
        return len(inputs[index]), bool(inputs[index].visible.all())

    order = sorted(range(len(inputs)), key=kind)
    stretches = []
    for (length, all_visible), members in groupby(order, key=kind):
        mine = list(members)
        hidden = None if all_visible else np.stack([inputs[i].visible for i in mine])
        visible = None if hidden is None else torch.from_numpy(hidden)[:, None, None].to(device)
        stretches.append(Stretch(len(mine), length, visible))
    starts = np.zeros(len(inputs), dtype=np.int64)
    starts[order] = np.cumsum([0, *(len(inputs[i]) for i in order[:-1])])

    def put(name: str) -> Tensor:
        whole = np.concatenate([getattr(inputs[i], name) for i in order])
        return torch.from_numpy(whole.astype(np.int64)).to(device)

    return Packed(put("tokens"), put("positions"), tuple(stretches), starts)


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
        Rows of the output that are read, the same number for every input, input by input; the
        last layer computes no others. All when None.
    attend
        What attention is.

    Returns
    -------
    Hidden states, shape (rows, width).
    """
    for index, layer in enumerate(layers[: len(layers) if rows is None else -1]):
        projected = torch.split(layer.project(states), encoder.width, dim=1)
        attended = _attend(encoder, projected, stretches, None, attend, index)
        states = layer.finish(states, attended)
    if rows is None:
        return states
    if not layers:
        return states[rows]
    last, read = layers[-1], states[rows]
    queries = last.project_queries(read)
    keys, values = torch.split(last.project_keys_values(states), encoder.width, dim=1)
    attended = _attend(
        encoder, (queries, keys, values), stretches, len(rows), attend, len(layers) - 1
    )
    return last.finish(read, attended)


def _attend(
    encoder: Encoder,
    projected: Sequence[Tensor],
    stretches: Sequence[Stretch],
    read: int | None,
    attend: Attention,
    layer: int,
) -> Tensor:
    """Attention of each input to itself, shape (query rows, width)."""
    queries, keys, values = projected
    per_input = None if read is None else read // sum(s.inputs for s in stretches)
    out = []
    at_query = at_key = 0
    for index, stretch in enumerate(stretches):
        asked = stretch.length if per_input is None else per_input

        def heads(rows: Tensor, start: int, length: int, inputs: int = stretch.inputs) -> Tensor:
            mine = rows[start : start + inputs * length]
            return mine.view(inputs, length, encoder.heads, -1).transpose(1, 2)

        attended = attend(
            heads(queries, at_query, asked),
            heads(keys, at_key, stretch.length),
            heads(values, at_key, stretch.length),
            stretch.visible,
            layer,
            index,
        )
        out.append(attended.transpose(1, 2).reshape(-1, encoder.width))
        at_query += stretch.inputs * asked
        at_key += stretch.inputs * stretch.length
    return out[0] if len(out) == 1 else torch.cat(out)
