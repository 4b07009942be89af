"""The head that a checkpoint was pretrained with: which gene it makes of a masked one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ranklock.models.checkpoint import checkpoint_folder, read_weights

if TYPE_CHECKING:
    from torch import Tensor

MaskedHead = Callable[["Tensor"], "Tensor"]
"""Logits of all tokens, shape (rows, vocabulary), from last hidden states, shape (rows, width)."""

_PART = "cls."  # of the names of its weights


def load_masked_head(name: str | Path, *, device: str = "cpu") -> MaskedHead | None:
    """Load the masked-gene head of a checkpoint, in float32.

    Parameters
    ----------
    name
        As :func:`ranklock.load_model` takes it.
    device
        Where to.

    Returns
    -------
    The head; None where the checkpoint has none, as one that was fine-tuned to classify cells.

    Raises
    ------
    InputError
        When the checkpoint cannot be read.
    """
    from transformers import BertForMaskedLM

    whole, missing = read_weights(BertForMaskedLM, checkpoint_folder(str(name)))
    if any(key.startswith(_PART) for key in missing):
        return None
    head: MaskedHead = whole.cls.eval().requires_grad_(False).to(device)
    return head
