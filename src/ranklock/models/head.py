"""The head of a fine-tuned checkpoint: from the first token's state to the logits of its labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranklock.errors import InputError
from ranklock.models.checkpoint import checkpoint_folder, quiet_transformers

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Head:
    """One label of a classifier of cells, in float64.

    Attributes
    ----------
    label
        The label.
    pool_weight, pool_bias
        Of the pooler, a dense layer with tanh, shape (width, width) and (width,).
    weight, bias
        Of the label's logit, shape (width,) and ().
    """

    label: str
    pool_weight: Tensor
    pool_bias: Tensor
    weight: Tensor
    bias: Tensor

    def __call__(self, first: Tensor) -> Tensor:
        """Logits of first tokens' states, shape (...), from shape (..., width)."""
        pooled = (first.double() @ self.pool_weight.T + self.pool_bias).tanh()
        return pooled @ self.weight + self.bias


def load_head(name: str | Path, label: str, *, device: str = "cpu") -> Head:
    """Load the head of a fine-tuned checkpoint that classifies cells.

    Parameters
    ----------
    name
        As :func:`ranklock.load_model` takes it.
    label
        One of its labels.
    device
        Where to.

    Raises
    ------
    InputError
        When the checkpoint is no classifier of cells, is damaged, or has no such label.
    """
    import torch
    from transformers import BertForSequenceClassification

    folder = checkpoint_folder(str(name))
    with quiet_transformers(folder):
        whole, report = BertForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, local_files_only=True,
            weights_only=True,
        )  # fmt: skip
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            f"{name} lacks {missing[0]}: it is no classifier of cells. Fine-tune it "
            "(BertForSequenceClassification), or ask about a state with --goal."
        )
    labels = {str(text): int(index) for index, text in whole.config.id2label.items()}
    if label not in labels:
        raise InputError(f"{name} has no label {label!r}; it has {', '.join(labels)}.")

    def put(tensor: Any) -> Tensor:
        moved: Tensor = tensor.detach().to(device, torch.float64)
        return moved

    pool, out = whole.bert.pooler.dense, whole.classifier
    row = labels[label]
    return Head(label, put(pool.weight), put(pool.bias), put(out.weight[row]), put(out.bias[row]))
