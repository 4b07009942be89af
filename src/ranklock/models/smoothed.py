"""A checkpoint whose position table was smoothed: what of the rank shift is noise of the table."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ranklock.models.checkpoint import Model, derived


def smoothed(model: Model, window: int, *, first: int = 0) -> Model:
    """The checkpoint with each position embedding replaced by the mean of those around it.

    All else is the checkpoint's. What a rank shift does in it, and does no longer once the table
    is smoothed, was the difference between neighbouring positions.

    Parameters
    ----------
    model
        The checkpoint.
    window
        Positions on either side that a mean is taken over, at least 1; fewer at the table's ends.
    first
        First position that is smoothed: 1 where position 0 is that of ``<cls>``.

    Returns
    -------
    Model
        On the same device, with a digest of its own.

    Raises
    ------
    ValueError
        When the table is smoothed already, or the window is none.
    """
    if model.smoothing is not None:
        raise ValueError(f"The position table of {model.name} is smoothed already.")
    if window < 1:
        raise ValueError(f"A mean over ±{window} positions is none; take ±1 or more.")
    encoder = copy.deepcopy(model.encoder)
    table = encoder.embeddings.position_embeddings.weight
    with torch.no_grad():
        table[first:] = _moving_mean(table[first:].double(), window).to(table.dtype)
    how = f"positions from {first} smoothed over {window} on either side"
    return derived(model, encoder, how, smoothing=window)


def _moving_mean(rows: Tensor, window: int) -> Tensor:
    """Mean of each row and the ``window`` rows on either side, as far as there are."""
    sums = torch.cat([rows.new_zeros(1, rows.shape[1]), rows.cumsum(0)])
    places = torch.arange(len(rows), device=rows.device)
    low, high = (places - window).clamp(min=0), (places + window + 1).clamp(max=len(rows))
    return (sums[high] - sums[low]) / (high - low)[:, None]
