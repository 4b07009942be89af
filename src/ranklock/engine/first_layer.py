"""The first layer of many knock-outs of one cell, with what they share computed once.

Before the first layer a token's state depends on nothing but the token and its position, and the
inputs of one arm differ in few such pairs: for a block of knock-outs, most pairs are keys of every
input. Attention to those common keys is computed once, attention to an input's own keys for each
input, and the two are merged by their normalisers. All terms are added and none is taken away, so
there is no cancellation where one key holds nearly all of a query's attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ranklock.arms import ModelInput
from ranklock.engine.forward import Stretch, run_layers
from ranklock.models.encoder import Encoder

# Fewer inputs than this do not pay for what is computed once for all of them.
FEWEST_INPUTS = 8
# Nor do inputs that have more than this part of their keys for themselves.
_MOST_OWN = 0.25
SCORES_AT_ONCE = 1 << 23  # attention scores held in memory together: 32 MiB of float32


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """Inputs of equal length on their way through the first layer.

    Attributes
    ----------
    encoder
        The encoder.
    embedded
        Embedding of each distinct pair of token and position, shape (pairs, width).
    pairs
        Which pair each token of each input is, shape (inputs, length).
    own_keys
        How many keys each input has for itself; its length where nothing is shared.
    shared
        What they share; None where sharing does not pay.
    """

    encoder: Encoder
    embedded: Tensor
    pairs: Tensor
    own_keys: int
    shared: _Shared | None

    @property
    def length(self) -> int:
        """Tokens of each input."""
        return self.pairs.shape[1]

    def states(self, start: int, stop: int) -> Tensor:
        """States of some of the inputs after the first layer, shape (inputs × length, width)."""
        pairs = self.pairs[start:stop]
        residual = self.embedded[pairs.reshape(-1)]
        layer = self.encoder.layers[0]
        if self.shared is None:
            stretch = Stretch(len(pairs), self.length)
            return run_layers(self.encoder, residual, [stretch], [layer])
        attended = self.shared.attend(pairs, start, stop).to(residual.dtype)
        return layer.finish(residual, attended.reshape(-1, self.encoder.width))


@dataclass(frozen=True, eq=False)
class _Shared:
    """Attention of every pair to the common keys, and the keys that are not common.

    Attributes
    ----------
    queries
        Scaled, shape (pairs, heads, head width).
    mean
        Attention-weighted mean of the common values, shape (pairs, heads, head width).
    log_sum
        Logarithm of the sum of exp(score) over the common keys, shape (pairs, heads).
    keys, values
        Of each input, those of its own, shape (inputs, heads, own, head width).
    """

    queries: Tensor
    mean: Tensor
    log_sum: Tensor
    keys: Tensor
    values: Tensor

    def attend(self, pairs: Tensor, start: int, stop: int) -> Tensor:
        """Attention output of some inputs, shape (inputs, length, heads, head width)."""
        common = self.mean[pairs]
        if not self.keys.shape[2]:
            return common
        queries = self.queries[pairs].transpose(1, 2)
        scores = queries @ self.keys[start:stop].transpose(-1, -2)
        log_sum = self.log_sum[pairs].transpose(1, 2)[..., None]
        top = torch.maximum(log_sum, scores.amax(-1, keepdim=True))
        weights = scores.sub_(top).exp_()
        weight_of_common = log_sum.sub_(top).exp_()
        of_own = (weights @ self.values[start:stop]).transpose(1, 2)
        total = (weights.sum(-1, keepdim=True) + weight_of_common).transpose(1, 2)
        return common.mul_(weight_of_common.transpose(1, 2)).add_(of_own).div_(total)


def first_layer(encoder: Encoder, inputs: Sequence[ModelInput]) -> FirstLayer:
    """Prepare inputs of one arm for the first layer.

    Parameters
    ----------
    encoder
        An encoder of at least one layer.
    inputs
        Inputs that may share theirs (:func:`may_share`).
    """
    token_ids = np.stack([cell.tokens for cell in inputs]).astype(np.int64)
    positions = np.stack([cell.positions for cell in inputs]).astype(np.int64)
    limit = encoder.positions.shape[0]
    distinct, pairs = np.unique(token_ids * limit + positions, return_inverse=True)
    pairs = pairs.reshape(token_ids.shape)
    # No pair stands twice in an input, so one that is in all of them is counted once for each.
    common = np.bincount(pairs.ravel(), minlength=len(distinct)) == len(inputs)
    own_keys = int(token_ids.shape[1] - common.sum())

    def put(array: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Tensor:
        return torch.from_numpy(array).to(encoder.device)

    embedded = encoder.embed(put(distinct // limit), put(distinct % limit))
    shared = None
    if shares(len(inputs), own_keys, token_ids.shape[1]):
        own_pairs = pairs[~common[pairs]].reshape(len(inputs), own_keys)
        shared = _share(encoder, embedded, put(np.flatnonzero(common)), put(own_pairs))
    if shared is None:
        own_keys = token_ids.shape[1]
    return FirstLayer(encoder, embedded, put(pairs), own_keys, shared)


def may_share(inputs: Sequence[ModelInput]) -> bool:
    """Whether inputs are of equal length, with every token visible."""
    return len({len(cell) for cell in inputs}) == 1 and all(cell.visible.all() for cell in inputs)


def worth_sharing(inputs: int) -> bool:
    """Whether so many inputs of one cell may pay for what is computed once for all of them."""
    return inputs >= FEWEST_INPUTS


def shares(inputs: int, own_keys: int, length: int) -> bool:
    """Whether sharing the first layer is faster than computing it for each input."""
    return worth_sharing(inputs) and own_keys <= _MOST_OWN * length


def _share(encoder: Encoder, embedded: Tensor, common: Tensor, own_pairs: Tensor) -> _Shared:
    heads = encoder.heads
    # In float32 whatever the forwards are in: this is once for all, and merging needs it.
    projected = encoder.layers[0].project(embedded).float().view(len(embedded), 3, heads, -1)
    queries, keys, values = projected.unbind(1)
    queries = queries / queries.shape[-1] ** 0.5
    mean, log_sum = _attend_to(queries, keys[common], values[common])
    return _Shared(
        queries, mean, log_sum, keys[own_pairs].transpose(1, 2), values[own_pairs].transpose(1, 2)
    )


def _attend_to(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Attention of scaled queries to keys, and the logarithm of its normaliser.

    Each of shape (rows, heads, head width), and (rows, heads).
    """
    mean = torch.zeros_like(queries)
    log_sum = torch.full(queries.shape[:2], -torch.inf, device=queries.device)
    if not len(keys):
        return mean, log_sum
    keys, values = keys.permute(1, 2, 0).contiguous(), values.transpose(0, 1).contiguous()
    rows = max(1, SCORES_AT_ONCE // (keys.shape[0] * keys.shape[2]))
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        scores = queries[part].transpose(0, 1) @ keys
        weights = torch.softmax(scores, dim=-1)
        mean[part] = (weights @ values).transpose(0, 1)
        # At the largest score, log weight = score − log normaliser.
        log_sum[part] = (scores.amax(-1) - weights.amax(-1).log()).T
    return mean, log_sum
