"""Run the encoder up to the layer that is read, and no further."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ranklock.errors import OptionError
from ranklock.models.checkpoint import Model

if TYPE_CHECKING:
    import torch
    from transformers import BertModel


def output_of_layer(model: Model, layer: int) -> int:
    """How many encoder layers to run for a layer in Geneformer's counting.

    Parameters
    ----------
    model
        The model.
    layer
        Geneformer's ``emb_layer``: 0 is the last layer, -1 the second to last, and so on down to
        minus the number of layers, which is the embedding before the first one.

    Raises
    ------
    OptionError
        When the model has no such layer.
    """
    if not -model.layers <= layer <= 0:
        raise OptionError(
            f"{model.name} has {model.layers} layers, so --layer goes from {-model.layers} to 0 "
            f"(last), not {layer}."
        )
    return model.layers + layer


def encode(
    model: Model,
    tokens: npt.NDArray[np.int32],
    positions: npt.NDArray[np.int32],
    visible: npt.NDArray[np.bool_] | None,
    depth: int,
) -> npt.NDArray[np.float32]:
    """Hidden states of a batch of cells after some layers.

    Parameters
    ----------
    model
        The model.
    tokens, positions
        Shape (batch, length).
    visible
        Whether each token can be attended to in every layer, shape (batch, length); None when all
        can.
    depth
        Number of layers to run; later ones are not computed, nor is the head.

    Returns
    -------
    Hidden states, shape (batch, length, width).

    Raises
    ------
    MemoryError
        When the batch does not fit into the device's memory.
    """
    import torch

    def put(array: npt.NDArray[np.int32] | npt.NDArray[np.bool_]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)).to(model.device)

    try:
        with torch.inference_mode():
            states = _cut(model.encoder, depth)(
                input_ids=put(tokens),
                position_ids=put(positions),
                attention_mask=None if visible is None else put(visible),
            ).last_hidden_state
            array: npt.NDArray[np.float32] = states.float().cpu().numpy()
    except torch.OutOfMemoryError as error:
        raise MemoryError(f"{model.device} is out of memory") from error
    return array


def _cut(encoder: BertModel, depth: int) -> BertModel:
    """The same encoder with its first layers only; weights are shared, nothing is copied."""
    stack = copy.copy(encoder.encoder)
    stack._modules = dict(encoder.encoder._modules)
    stack.layer = encoder.encoder.layer[:depth]
    whole = copy.copy(encoder)
    whole._modules = dict(encoder._modules)
    whole.encoder = stack
    return whole
