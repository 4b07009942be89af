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
        Inputs in one batch; by default as many as suit the device.

    Returns
    -------
    For each input, in the order given, an array of shape (its length, width).
    """
    groups: dict[tuple[int, bool], list[int]] = {}
    for index, one in enumerate(inputs):
        groups.setdefault((len(one), bool(one.visible.all())), []).append(index)
    states: list[npt.NDArray[np.float32]] = [np.zeros((0, model.width), np.float32)] * len(inputs)
    for (length, all_visible), members in groups.items():
        if not length:
            continue
        size = batch_size or max(1, _tokens(model) // length)
        for start in range(0, len(members), size):
            batch = members[start : start + size]
            out = encode(
                model,
                np.stack([inputs[i].tokens for i in batch]),
                np.stack([inputs[i].positions for i in batch]),
                None if all_visible else np.stack([inputs[i].visible for i in batch]),
                depth,
            )
            for index, state in zip(batch, out, strict=True):
                states[index] = state
    return states


def _tokens(model: Model) -> int:
    return _TOKENS_ON_CPU if model.device == "cpu" else _TOKENS_ON_GPU
