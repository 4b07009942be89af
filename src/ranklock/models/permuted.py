"""The null model: a checkpoint whose weights were permuted, and which has learned nothing."""

from __future__ import annotations

import copy
import hashlib

import torch
from torch import Tensor

from ranklock.models.checkpoint import Model, derived
from ranklock.models.head import Head, load_head


def permuted(model: Model, seed: int = 0) -> Model:
    """The null model of a checkpoint: every tensor keeps its numbers and loses their order.

    What a method finds in it, it finds without knowledge of genes: shape, depth and the
    distribution of every tensor are the checkpoint's, and nothing that was learned is left.

    Parameters
    ----------
    model
        The checkpoint.
    seed
        Of the permutations.

    Returns
    -------
    Model
        On the same device, with a digest of its own. The permutation is the same on every machine.

    Raises
    ------
    ValueError
        When the model is permuted already.
    """
    if model.permutation is not None:
        raise ValueError(f"{model.name} is permuted already.")
    encoder = copy.deepcopy(model.encoder)
    with torch.no_grad():
        for name, tensor in encoder.named_parameters():
            tensor.copy_(_shuffled(tensor, seed, name))
    return derived(model, encoder, f"permuted with seed {seed}", permutation=seed)


def head_of(model: Model) -> Head:
    """The classifier of a checkpoint, its weights permuted where the checkpoint's are.

    Raises
    ------
    InputError
        As of :func:`ranklock.models.head.load_head`.
    """
    head = load_head(model.name, device=model.device)
    if model.permutation is None:
        return head
    names = ("pool_weight", "pool_bias", "weight", "bias")
    tensors = (_shuffled(getattr(head, name), model.permutation, name) for name in names)
    return Head(head.name, head.labels, *tensors)


def _shuffled(tensor: Tensor, seed: int, name: str) -> Tensor:
    """The same numbers in an order that depends on the seed and the tensor's name alone."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    order = torch.randperm(tensor.numel(), generator=generator)
    return tensor.flatten()[order.to(tensor.device)].view(tensor.shape)
