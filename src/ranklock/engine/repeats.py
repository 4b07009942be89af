"""One cell in several batch places and sizes: the same in exact arithmetic, not in float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ranklock.arms import ModelInput
from ranklock.engine.batches import hidden_states, usual_batch_size
from ranklock.engine.first_layer import FEWEST_INPUTS, first_layer
from ranklock.engine.forward import Stretch, run_layers
from ranklock.engine.memory import memory_errors
from ranklock.models import Model
from ranklock.models.encoder import encoder_of
from ranklock.models.precision import computing_in

_LARGEST_BATCH = 3  # of one cell: a floor costs some thirty forwards, not some hundred


def repeats_of(
    model: Model,
    cell: ModelInput,
    depth: int,
    *,
    batch_size: int | None = None,
    precision: str = "float32",
) -> npt.NDArray[np.float32]:
    """Hidden states of one input, computed in ways that differ only in rounding.

    Alone; first and last in a batch of the size that the run uses (up to three); behind one more
    token that is hidden from all others, so that the length differs as it does between arms; with
    tokens and positions written down backwards, which an encoder cannot see but which turns every
    sum around; and with the first layer shared with others, as many tasks of a cell do it.

    Parameters
    ----------
    model
        The model.
    cell
        An input of at least one token.
    depth
        Number of layers to run.
    batch_size, precision
        As in :func:`hidden_states`.

    Returns
    -------
    Shape (6, length, width).
    """
    backwards = np.arange(len(cell))[::-1]
    size = min(_LARGEST_BATCH, max(2, batch_size or usual_batch_size(model, len(cell))))

    def states(inputs: list[ModelInput], size: int) -> list[npt.NDArray[np.float32]]:
        return hidden_states(model, inputs, depth, batch_size=size, precision=precision)

    (single,) = states([cell], 1)
    batch = states([cell] * size, size)
    (longer,) = states([_behind_hidden_token(cell)], 1)
    (turned,) = states([cell.take(backwards)], 1)
    shared = _with_first_layer_shared(model, cell, depth, precision)
    return np.stack([single, batch[0], batch[-1], longer[1:], turned[backwards], shared])


def _behind_hidden_token(cell: ModelInput) -> ModelInput:
    longer = cell.take(np.append(0, np.arange(len(cell))))
    return replace(longer, visible=np.append(False, cell.visible))


def _with_first_layer_shared(
    model: Model, cell: ModelInput, depth: int, precision: str
) -> npt.NDArray[np.float32]:
    """States of a cell that goes through the first layer with others that differ in few tokens."""
    encoder = encoder_of(model, precision)
    if not depth:
        return hidden_states(model, [cell], depth, precision=precision)[0]
    different = min(len(cell) // 8, _LARGEST_BATCH)  # tokens, of which each input has its own
    inputs = [
        replace(cell, positions=np.append((cell.positions + k)[:different] % len(cell),
                                          cell.positions[different:]))
        for k in range(FEWEST_INPUTS)
    ]  # fmt: skip
    with computing_in(precision), memory_errors(model.device):
        states = first_layer(encoder, inputs).states(0, 1)
        stretch = Stretch(1, len(cell))
        states = run_layers(encoder, states, [stretch], encoder.layers[1:depth])
        array: npt.NDArray[np.float32] = states.float().cpu().numpy()
    return array
