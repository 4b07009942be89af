"""The head of a fine-tuned checkpoint: from the first token's state to the logits of its labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ranklock.errors import InputError
from ranklock.models.checkpoint import checkpoint_folder, read_weights

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Head:
    """A classifier of cells, in float64.

    Attributes
    ----------
    name
        The checkpoint's.
    labels
        Its classes, in the order of their logits.
    pool_weight, pool_bias
        Of the pooler, a dense layer with tanh, shape (width, width) and (width,).
    weight, bias
        Of the logits, shape (labels, width) and (labels,).
    """

    name: str
    labels: tuple[str, ...]
    pool_weight: Tensor
    pool_bias: Tensor
    weight: Tensor
    bias: Tensor

    def __call__(self, first: Tensor) -> Tensor:
        """Logits of first tokens' states, shape (..., labels), from shape (..., width)."""
        pooled = (first.double() @ self.pool_weight.T + self.pool_bias).tanh()
        return pooled @ self.weight.T + self.bias

    def index(self, label: str) -> int:
        """Place of a label among the logits.

        Raises
        ------
        InputError
            When the classifier has no such label.
        """
        if label not in self.labels:
            raise InputError(
                f"{self.name} has no label {label!r}; it has {', '.join(self.labels)}."
            )
        return self.labels.index(label)


def load_head(name: str | Path, *, device: str = "cpu") -> Head:
    """Load the head of a fine-tuned checkpoint that classifies cells.

    Parameters
    ----------
    name
        As :func:`ranklock.load_model` takes it.
    device
        Where to.

    Raises
    ------
    InputError
        When the checkpoint is no classifier of cells, is damaged, or names two classes alike.
    """
    import torch
    from transformers import BertForSequenceClassification

    folder = checkpoint_folder(str(name))
    classifier, missing = read_weights(BertForSequenceClassification, folder)
    if missing:
        raise InputError(
            f"{name} lacks {missing[0]}: it is no classifier of cells. Fine-tune it "
            "(BertForSequenceClassification), or ask about a state with --goal."
        )
    names = classifier.config.id2label
    labels = tuple(str(names[row]) for row in sorted(names))
    if len(set(labels)) < len(labels):
        raise InputError(f"{name} gives several of its classes one name: {', '.join(labels)}.")

    tensors: list[Tensor] = [
        parameter.detach().to(device, torch.float64)
        for layer in (classifier.bert.pooler.dense, classifier.classifier)
        for parameter in (layer.weight, layer.bias)
    ]
    return Head(str(name), labels, *tensors)
