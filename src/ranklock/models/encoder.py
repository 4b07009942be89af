"""The encoder as plain matrix products on packed tokens, one function for each part of a layer.

Tokens of all inputs of a batch stand one after another, without padding: only attention needs to
know where an input ends (:mod:`ranklock.engine.forward`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ranklock.errors import OptionError
from ranklock.models.checkpoint import Model
from ranklock.models.precision import stored_as

if TYPE_CHECKING:
    from transformers import BertModel


@dataclass(frozen=True, eq=False)
class Dense:
    """A linear map: ``x @ weight + bias``, weight of shape (in, out)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, states: Tensor) -> Tensor:
        """``x @ weight + bias``."""
        return torch.addmm(self.bias, states, self.weight)

    def onto(self, residual: Tensor, states: Tensor) -> Tensor:
        """``residual + x @ weight + bias``, with one pass over memory less than two sums."""
        return torch.add(residual, self.bias).addmm_(states, self.weight)


@dataclass(frozen=True, eq=False)
class Norm:
    """Layer normalisation."""

    weight: Tensor
    bias: Tensor
    epsilon: float

    def __call__(self, states: Tensor) -> Tensor:
        """Normalise each row."""
        return torch.nn.functional.layer_norm(
            states, self.weight.shape, self.weight, self.bias, self.epsilon
        )


@dataclass(frozen=True, eq=False)
class Layer:
    """One encoder layer.

    Attributes
    ----------
    project
        Weight of queries, keys and values, in this order, shape (width, 3 × width).
    query_bias
        Bias of the queries. That of the keys adds the same to all scores of a query, which softmax
        does not see; that of the values is added to every weighted mean of values as it stands, so
        it is in the bias of ``attention_out``.
    activation, activate
        Its name, as transformers has it, and the function.
    """

    project_weight: Tensor
    query_bias: Tensor
    attention_out: Dense
    attention_norm: Norm
    widen: Dense
    activation: str
    activate: Callable[[Tensor], Tensor]
    narrow: Dense
    norm: Norm

    def project(self, states: Tensor) -> Tensor:
        """Queries, keys and values, side by side, shape (rows, 3 × width)."""
        projected = states @ self.project_weight
        projected[:, : len(self.query_bias)] += self.query_bias
        return projected

    def project_queries(self, states: Tensor) -> Tensor:
        """Queries alone, shape (rows, width)."""
        width = len(self.query_bias)
        return torch.addmm(self.query_bias, states, self.project_weight[:, :width])

    def project_keys_values(self, states: Tensor) -> Tensor:
        """Keys and values, side by side, shape (rows, 2 × width)."""
        return states @ self.project_weight[:, len(self.query_bias) :]

    def finish(self, residual: Tensor, attended: Tensor) -> Tensor:
        """What follows attention: output projection, feed-forward part, both with residuals.

        Parameters
        ----------
        residual
            What came into the layer, shape (rows, width).
        attended
            What attention made of it, heads side by side, shape (rows, width).
        """
        states = self.attention_norm(self.attention_out.onto(residual, attended))
        return self.norm(self.narrow.onto(states, self.activate(self.widen(states))))


@dataclass(frozen=True, eq=False)
class Encoder:
    """A checkpoint's encoder on its device, in one number format.

    Attributes
    ----------
    tokens
        Token embeddings, shape (vocabulary, width).
    positions
        Position embeddings, with that of the only token type added, shape (input size, width).
    norm
        What follows their sum.
    layers
        The layers, first to last.
    heads
        Number of attention heads.
    """

    tokens: Tensor
    positions: Tensor
    norm: Norm
    layers: tuple[Layer, ...]
    heads: int

    @property
    def width(self) -> int:
        """Width of the hidden states."""
        return self.tokens.shape[1]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.tokens.device

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Embedding of each token at its position, shape (tokens, width)."""
        return self.norm(self.tokens[tokens].add_(self.positions[positions]))


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


def encoder_of(model: Model, precision: str = "float32") -> Encoder:
    """The encoder of a checkpoint, laid out for fast products.

    Parameters
    ----------
    model
        The model.
    precision
        One of :data:`ranklock.models.precision.PRECISIONS`.
    """
    if precision not in model.prepared:
        # Whoever asks first: later ones may want to differentiate by what goes through it.
        with torch.inference_mode(mode=False):
            model.prepared[precision] = _lay_out(model, stored_as(precision))
    prepared: Encoder = model.prepared[precision]
    return prepared


def _lay_out(model: Model, kind: torch.dtype) -> Encoder:
    bert: BertModel = model.encoder

    # What is made of several weights is made of them exactly.
    def wide(tensor: Tensor) -> Tensor:
        return tensor.detach().double()

    def put(tensor: Tensor) -> Tensor:
        return tensor.detach().to(model.device, kind)

    def dense(part: Any, more_bias: Tensor | float = 0.0) -> Dense:
        return Dense(put(part.weight.T.contiguous()), put(wide(part.bias) + more_bias))

    def norm(part: Any) -> Norm:
        return Norm(put(part.weight), put(part.bias), part.eps)

    def layer(part: Any) -> Layer:
        attention = part.attention.self
        query, key, value = attention.query, attention.key, attention.value
        out = part.attention.output.dense
        return Layer(
            project_weight=put(torch.cat([query.weight, key.weight, value.weight]).T.contiguous()),
            query_bias=put(query.bias),
            attention_out=dense(out, wide(out.weight) @ wide(value.bias)),
            attention_norm=norm(part.attention.output.LayerNorm),
            widen=dense(part.intermediate.dense),
            activation=model.encoder.config.hidden_act,
            activate=_in_place(part.intermediate.intermediate_act_fn),
            narrow=dense(part.output.dense),
            norm=norm(part.output.LayerNorm),
        )

    embeddings = bert.embeddings
    types = embeddings.token_type_embeddings.weight[0]
    return Encoder(
        tokens=put(embeddings.word_embeddings.weight),
        positions=put(wide(embeddings.position_embeddings.weight) + wide(types)),
        norm=norm(embeddings.LayerNorm),
        layers=tuple(layer(part) for part in bert.encoder.layer),
        heads=model.heads,
    )


def _in_place(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Save a copy of the widest array there is, where the activation allows it."""
    if isinstance(activation, torch.nn.ReLU):
        return torch.relu_
    return activation
