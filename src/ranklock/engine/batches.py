"""Push inputs through the encoder in batches without padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ranklock.arms import ModelInput
from ranklock.engine.forward import pack, run_layers
from ranklock.engine.memory import in_batches
from ranklock.models import Model
from ranklock.models.encoder import encoder_of
from ranklock.models.precision import computing_in

# Tokens in one batch. On a CPU more only costs memory; a GPU needs more to be busy.
_TOKENS_ON_CPU = 4096
_TOKENS_ON_GPU = 131_072


def hidden_states(
    model: Model,
    inputs: Sequence[ModelInput],
    depth: int,
    *,
    batch_size: int | None = None,
    precision: str = "float32",
) -> list[npt.NDArray[np.float32]]:
    """Hidden states of each input after some layers.

    Parameters
    ----------
    model
        The model.
    inputs
        Inputs of any lengths; none is padded.
    depth
        Number of layers to run; later ones are not computed, nor is the head.
    batch_size
        Inputs in one batch; by default as many as suit the device. Halved where memory runs out.
    precision
        Number format of the forwards.

    Returns
    -------
    For each input, in the order given, an array of shape (its length, width).

    Raises
    ------
    MemoryError
        When a single input does not fit into the device's memory.
    """
    states: list[npt.NDArray[np.float32]] = [np.zeros((0, model.width), np.float32)] * len(inputs)
    # Equal lengths stand together, so that attention takes many inputs at once.
    order = sorted((i for i in range(len(inputs)) if len(inputs[i])), key=lambda i: len(inputs[i]))
    if not order:
        return states
    encoder = encoder_of(model, precision)

    def forward(batch: Sequence[int]) -> list[npt.NDArray[np.float32]]:
        packed = pack([inputs[i] for i in batch], encoder.device)
        with computing_in(precision):
            embedded = encoder.embed(packed.tokens, packed.positions)
            out = run_layers(encoder, embedded, packed.stretches, encoder.layers[:depth])
            array = out.float().cpu().numpy()
        lengths = [len(inputs[i]) for i in batch]
        return [array[s : s + n] for s, n in zip(packed.starts, lengths, strict=True)]

    size = batch_size or usual_batch_size(model, len(inputs[order[-1]]))
    for batch, arrays in in_batches(order, size, forward, model.device):
        for index, array in zip(batch, arrays, strict=True):
            states[index] = array
    return states


def usual_batch_size(model: Model, length: int) -> int:
    """How many inputs of a length share a forward, unless told otherwise or memory runs out."""
    return max(1, tokens_at_once(model.device) // length)


def tokens_at_once(device: str) -> int:
    """How many tokens a forward is given on a device."""
    return _TOKENS_ON_CPU if device == "cpu" else _TOKENS_ON_GPU
