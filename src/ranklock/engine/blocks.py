"""Blocks of knock-outs of one cell, the unit that a sweep computes and stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ranklock.arms import NOT_RANKED, ModelInput
from ranklock.engine.batches import usual_batch_size
from ranklock.engine.first_layer import FirstLayer, first_layer
from ranklock.engine.forward import Stretch, pack, run_layers
from ranklock.engine.memory import in_batches, memory_errors
from ranklock.engine.moments import Moments, Numbers, StateMoments
from ranklock.engine.readout import Measured, measure
from ranklock.models import Model
from ranklock.models.encoder import Encoder, encoder_of
from ranklock.models.head import Head
from ranklock.models.precision import computing_in

Ranks = npt.NDArray[np.int64]
FirstLayers = Mapping[str, FirstLayer]

# Where fewer of an input's rows are read than this part, the last layer computes only those.
WORTH_TRIMMING = 0.75


@dataclass(frozen=True, eq=False)
class Block:
    """Some knock-outs of one cell, under every arm.

    Attributes
    ----------
    length
        Tokens of the unperturbed cell.
    knocked_out
        Perturbed rank of each knock-out.
    arms
        Arm → input of each knock-out, all of one length.
    """

    length: int
    knocked_out: Ranks
    arms: Mapping[str, Sequence[ModelInput]]


@dataclass(frozen=True, eq=False)
class Reading:
    """What is read of a cell.

    Attributes
    ----------
    responders
        Ranks of the responders, ascending; all genes of the cell where the cell embedding is
        their mean.
    cell
        Whether the cell embedding is read.
    special_frame
        Whether that is ``<cls>``, which stands first, and not the mean over genes.
    states
        Embeddings of states that it may move towards, shape (states, width); none by default.
    head
        A classifier's label, whose logit is read of the first token; none by default.
    """

    responders: Ranks
    cell: bool
    special_frame: bool
    states: Numbers | None = None
    head: Head | None = None

    @property
    def first_token(self) -> bool:
        """Whether the first token is read: ``<cls>``, or whatever a classifier reads."""
        return (self.cell and self.special_frame) or self.head is not None

    @cached_property
    def rows(self) -> int:
        """Rows of an input that are read."""
        return len(self.responders) + self.first_token


@dataclass(frozen=True, eq=False)
class Baseline:
    """Embeddings of an unperturbed cell, in float64, on the device.

    Attributes
    ----------
    responders
        Shape (responders, width).
    first_token
        Shape (width,).
    """

    responders: Tensor
    first_token: Tensor


def measure_baseline(
    model: Model, cell: ModelInput, reading: Reading, depth: int, *, precision: str = "float32"
) -> Baseline:
    """Run an unperturbed cell's forward, once for all of its blocks."""
    encoder = encoder_of(model, precision)
    with computing_in(precision), memory_errors(model.device):
        packed = pack([cell], encoder.device)
        states = encoder.embed(packed.tokens, packed.positions)
        states = run_layers(encoder, states, packed.stretches, encoder.layers[:depth]).double()
        places = torch.from_numpy(_places(cell, reading.responders)).to(encoder.device)
        return Baseline(states[places], states[0])


def measure_block(
    model: Model,
    block: Block,
    reading: Reading,
    before: Baseline,
    depth: int,
    *,
    precision: str = "float32",
    batch_size: int | None = None,
) -> Measured:
    """Run a block's forwards and take the inner products of what moved.

    Parameters
    ----------
    model
        The model.
    block, reading, before
        What is knocked out, what is read, and what that was before.
    depth
        Number of layers to run.
    precision
        Number format of the forwards.
    batch_size
        Knock-outs in one forward; by default as many as suit the device. Halved where memory runs
        out.

    Raises
    ------
    MemoryError
        When a single knock-out does not fit into the device's memory.
    """
    encoder = encoder_of(model, precision)
    size = batch_size or usual_batch_size(model, block.length)
    measured = []
    with computing_in(precision), memory_errors(model.device):
        for part in sharing_groups(model, len(block.knocked_out), block.length):
            group = replace(
                block,
                knocked_out=block.knocked_out[part],
                arms={arm: inputs[part] for arm, inputs in block.arms.items()},
            )
            first = {arm: first_layer(encoder, one) for arm, one in group.arms.items() if depth}

            def work(
                batch: Sequence[int], group: Block = group, first: FirstLayers = first
            ) -> Measured:
                return _measure_batch(encoder, group, reading, depth, before, first, batch)

            knockouts = range(len(group.knocked_out))
            measured += [out for _, out in in_batches(knockouts, size, work, model.device)]
    return _join(measured)


def sharing_groups(model: Model, knockouts: int, tokens: int) -> list[slice]:
    """Knock-outs of a block that share their first layer.

    A group of g inputs of n tokens has about g keys of its own in each: it costs g·n + n²/g scores
    an input in place of n², least at g = √n. A GPU's batches are larger than that.
    """
    size = max(round(tokens**0.5), usual_batch_size(model, tokens))
    return [slice(start, start + size) for start in range(0, knockouts, size)]


def _measure_batch(
    encoder: Encoder,
    block: Block,
    reading: Reading,
    depth: int,
    before: Baseline,
    first: FirstLayers,
    batch: Sequence[int],
) -> Measured:
    part = slice(batch[0], batch[-1] + 1)
    read = {
        arm: _states_read(encoder, inputs[part], part, reading, depth, first.get(arm))
        for arm, inputs in block.arms.items()
    }
    genes = {arm: states[:, reading.first_token :] for arm, states in read.items()}
    first_tokens = {arm: states[:, 0] for arm, states in read.items() if reading.first_token}
    measured = measure(
        before.responders,
        genes,
        _responder_of(block.knocked_out[part], reading),
        (before.first_token, first_tokens) if reading.cell and reading.special_frame else None,
        cell_is_mean=reading.cell and not reading.special_frame,
        states=_on(encoder, reading.states),
    )
    return replace(measured, logits=_logits(reading.head, before.first_token, first_tokens))


def _logits(
    head: Head | None, before: Tensor, after: Mapping[str, Tensor]
) -> Mapping[str, Numbers] | None:
    """Change of a classifier's logit under each arm."""
    if head is None:
        return None
    start = head(before)
    return {arm: (head(first) - start).cpu().numpy() for arm, first in after.items()}


def _on(encoder: Encoder, array: Numbers | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array).to(encoder.device)


def _states_read(
    encoder: Encoder,
    inputs: Sequence[ModelInput],
    part: slice,
    reading: Reading,
    depth: int,
    first: FirstLayer | None,
) -> Tensor:
    """States that are read of a batch under one arm, shape (inputs, rows, width)."""
    length = len(inputs[0])
    if first is not None:
        states = first.states(part.start, part.stop)
    else:
        packed = pack(inputs, encoder.device)
        states = encoder.embed(packed.tokens, packed.positions)
    # Where an arm removed a responder, its place is some other: it is never looked at.
    places = np.stack([_places(one, reading.responders) for one in inputs])
    if reading.first_token:
        places = np.concatenate([np.zeros((len(inputs), 1), np.int64), places], axis=1)
    places += length * np.arange(len(inputs))[:, None]
    rows = torch.from_numpy(places.ravel()).to(encoder.device)
    stretches, layers = [Stretch(len(inputs), length)], encoder.layers[1:depth]
    if layers and reading.rows < WORTH_TRIMMING * length:
        states = run_layers(encoder, states, stretches, layers, rows)
    else:
        states = run_layers(encoder, states, stretches, layers)[rows]
    return states.view(len(inputs), reading.rows, encoder.width)


def _responder_of(knocked_out: Ranks, reading: Reading) -> Ranks:
    """Which responder each knocked-out gene is; -1 when it is none."""
    if not len(reading.responders):
        return np.full(len(knocked_out), -1)
    nearest = np.searchsorted(reading.responders, knocked_out).clip(max=len(reading.responders) - 1)
    return np.where(reading.responders[nearest] == knocked_out, nearest, -1)


def _places(one: ModelInput, ranks: Ranks) -> Ranks:
    """Place of each rank in an input; 0 where it is not there."""
    place = np.zeros(max(one.ranks.max(initial=-1), ranks.max(initial=-1)) + 1, dtype=np.int64)
    ranked = one.ranks != NOT_RANKED
    place[one.ranks[ranked]] = np.flatnonzero(ranked)
    return place[ranks]


def _join(parts: Sequence[Measured]) -> Measured:
    def joined(moments: Sequence[Moments], *, squared_too: bool) -> Moments:
        one = moments[0]
        return Moments(
            squared=np.concatenate([m.squared for m in moments]) if squared_too else one.squared,
            along={arm: np.concatenate([m.along[arm] for m in moments]) for arm in one.along},
            moved={arm: np.concatenate([m.moved[arm] for m in moments]) for arm in one.moved},
            crossed={
                pair: np.concatenate([m.crossed[pair] for m in moments]) for pair in one.crossed
            },
        )

    cells = [part.cell for part in parts if part.cell is not None]
    states = [part.states for part in parts if part.states is not None]
    logits = [part.logits for part in parts if part.logits is not None]
    return Measured(
        joined([part.genes for part in parts], squared_too=False),
        joined(cells, squared_too=True) if cells else None,
        StateMoments(
            states[0].squared,
            np.concatenate([m.before for m in states]),
            {arm: np.concatenate([m.along[arm] for m in states]) for arm in states[0].along},
        )
        if states
        else None,
        {arm: np.concatenate([m[arm] for m in logits]) for arm in logits[0]} if logits else None,
    )
