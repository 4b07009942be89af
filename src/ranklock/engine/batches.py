"""Push inputs through the model in batches without padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ranklock.arms import ModelInput
from ranklock.models import Model, encode

# Tokens in one batch. On a CPU more only costs memory; a GPU needs more to be busy.
_TOKENS_ON_CPU = 4096
_TOKENS_ON_GPU = 131_072


def hidden_states(
    model: Model, inputs: Sequence[ModelInput], depth: int, *, batch_size: int | None = None
) -> list[npt.NDArray[np.float32]]:
    """Hidden states of each input after some layers.

    Parameters
    ----------
    model
        The model.
    inputs
        Inputs of any lengths. Those of equal length share a batch, so none is padded.
    depth
        Number of layers to run.
    batch_size
        Inputs in one batch; by default as many as suit the device. Halved where memory runs out.

    Returns
    -------
    For each input, in the order given, an array of shape (its length, width).

    Raises
    ------
    MemoryError
        When a single input does not fit into the device's memory.
    """
    groups: dict[tuple[int, bool], list[int]] = {}
    for index, one in enumerate(inputs):
        groups.setdefault((len(one), bool(one.visible.all())), []).append(index)
    states: list[npt.NDArray[np.float32]] = [np.zeros((0, model.width), np.float32)] * len(inputs)
    for (length, all_visible), members in groups.items():
        if not length:
            continue
        size = batch_size or usual_batch_size(model, length)
        start = 0
        while start < len(members):
            batch = members[start : start + size]
            try:
                out = encode(
                    model,
                    np.stack([inputs[i].tokens for i in batch]),
                    np.stack([inputs[i].positions for i in batch]),
                    None if all_visible else np.stack([inputs[i].visible for i in batch]),
                    depth,
                )
            except MemoryError:
                if len(batch) == 1:
                    raise
                size = len(batch) // 2
                continue
            for index, state in zip(batch, out, strict=True):
                states[index] = state
            start += len(batch)
    return states


def usual_batch_size(model: Model, length: int) -> int:
    """How many inputs of a length share a forward, unless told otherwise or memory runs out."""
    tokens = _TOKENS_ON_CPU if model.device == "cpu" else _TOKENS_ON_GPU
    return max(1, tokens // length)
