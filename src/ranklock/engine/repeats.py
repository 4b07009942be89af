"""One cell in several batch places and sizes: the same in exact arithmetic, not in float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ranklock.arms import ModelInput
from ranklock.engine.batches import hidden_states, usual_batch_size
from ranklock.models import Model

_LARGEST_BATCH = 8  # of one cell: the cost of a floor is some forwards, not some hundred


def repeats_of(
    model: Model, cell: ModelInput, depth: int, *, batch_size: int | None = None
) -> npt.NDArray[np.float32]:
    """Hidden states of one input, computed in ways that differ only in rounding.

    Alone; first and last in a batch of the size that the run uses (up to eight); behind one more
    token that is hidden from all others, so that the length differs as it does between arms; and
    with tokens and positions written down backwards, which an encoder cannot see but which turns
    every sum around.

    Parameters
    ----------
    model
        The model.
    cell
        An input of at least one token.
    depth
        Number of layers to run.
    batch_size
        As in :func:`hidden_states`.

    Returns
    -------
    Shape (5, length, width).
    """
    backwards = np.arange(len(cell))[::-1]
    size = min(_LARGEST_BATCH, max(2, batch_size or usual_batch_size(model, len(cell))))
    alone = hidden_states(model, [cell], depth, batch_size=1)
    batch = hidden_states(model, [cell] * size, depth, batch_size=size)
    longer = hidden_states(model, [_behind_hidden_token(cell)], depth)
    turned = hidden_states(model, [cell.take(backwards)], depth)
    return np.stack([alone[0], batch[0], batch[-1], longer[0][1:], turned[0][backwards]])


def _behind_hidden_token(cell: ModelInput) -> ModelInput:
    longer = cell.take(np.append(0, np.arange(len(cell))))
    return replace(longer, visible=np.append(False, cell.visible))
