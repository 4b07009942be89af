"""Two forwards and a subtraction: what every effect is defined as, and is verified against.

In float32 this is the fastest way where the hardware has no fast half format; its error is relative
to the embedding, and so large beside small effects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ranklock.arms import ModelInput
from ranklock.engine.batches import tokens_at_once
from ranklock.engine.first_layer import FirstLayer
from ranklock.engine.forward import Stretch, pack, run_layers
from ranklock.engine.groups import (
    WORTH_TRIMMING,
    Place,
    Ranks,
    Reading,
    TaskGroup,
    foremost,
    parts_of,
    rows_read,
    segment_of,
)
from ranklock.engine.readout import Baseline, Displacements, Measured, measure
from ranklock.models.encoder import Encoder
from ranklock.models.head import Head

FirstLayers = Mapping[str, FirstLayer]


def measure_by_two_forwards(
    encoder: Encoder,
    groups: Sequence[TaskGroup],
    reading: Reading,
    baselines: dict[int, Baseline],
    first: FirstLayers,
    start: int,
    batch: Sequence[Place],
) -> list[tuple[int, Measured]]:
    """Measure a batch of tasks.

    Parameters
    ----------
    encoder
        The encoder, in the format of the forwards.
    groups, reading
        The tasks, and what is read.
    baselines
        Of groups that were embedded already; what is missing is added.
    first, start
        Arm → first layer that the batch's tasks share with others, and the first task of those.
    batch
        Which tasks.

    Returns
    -------
    Index of each group, and what was measured of its part.
    """
    parts = parts_of(batch)
    _add_baselines(encoder, groups, reading, baselines, [index for index, _ in parts])
    responders = [groups[index].responders for index, task in batch]
    after = {}
    for arm in groups[parts[0][0]].arms:
        inputs = [groups[index].arms[arm][task] for index, task in batch]
        shared = first.get(arm)
        window = slice(batch[0][1] - start, batch[-1][1] + 1 - start)
        states = _read(encoder, inputs, responders, reading, shared, window)
        after[arm] = _minus(states, [baselines[index] for index, _ in batch])
    segments = [segment_of(groups[index], part, baselines[index]) for index, part in parts]
    measured = measure(segments, after, mean=reading.mean, cell=reading.cell)
    return [(index, of_part) for (index, _), of_part in zip(parts, measured, strict=True)]


def _minus(after: Displacements, before: Sequence[Baseline]) -> Displacements:
    """States under one arm → displacements, given the baseline of each task."""

    def less(
        states: Tensor | None, of_baseline: Callable[[Baseline], Tensor | None]
    ) -> Tensor | None:
        if states is None:
            return None
        parts = [part for part in map(of_baseline, before) if part is not None]
        return states.double() - torch.stack(parts)

    genes = after.genes.double() - torch.cat([baseline.genes for baseline in before])
    return Displacements(
        genes, less(after.first, lambda b: b.first), less(after.totals, lambda b: b.mean),
        after.logits,
    )  # fmt: skip


def _add_baselines(
    encoder: Encoder,
    groups: Sequence[TaskGroup],
    reading: Reading,
    baselines: dict[int, Baseline],
    indices: Sequence[int],
) -> None:
    """Embed the unperturbed cells of a batch that are not embedded yet."""
    unread = [index for index in indices if index not in baselines]
    at_once = tokens_at_once(str(encoder.device))
    while unread:
        tokens = np.cumsum([len(groups[index].baseline) for index in unread])
        number = max(1, int(np.searchsorted(tokens, at_once, side="right")))
        chosen, unread = unread[:number], unread[number:]
        inputs = [groups[index].baseline for index in chosen]
        responders = [groups[index].responders for index in chosen]
        read = _read(encoder, inputs, responders, reading, None, slice(0, len(inputs)))
        ends = np.cumsum([0, *map(len, responders)])
        for k, index in enumerate(chosen):
            baselines[index] = Baseline(
                read.genes[ends[k] : ends[k + 1]].double(),
                *(None if part is None else part[k] for part in
                  (read.first, read.totals, read.logits)),
            )  # fmt: skip


def _read(
    encoder: Encoder,
    inputs: Sequence[ModelInput],
    responders: Sequence[Ranks],
    reading: Reading,
    shared: FirstLayer | None,
    window: slice,
) -> Displacements:
    """States that are read of inputs under one arm; of a window of what shares a first layer."""
    counts = np.array([reading.rows(len(ranks)) for ranks in responders])
    depth = reading.depth
    if shared is not None:
        length = shared.length
        states, done = shared.states(window.start, window.stop), 1
        stretches: tuple[Stretch, ...] = (Stretch(len(inputs), length, None, int(counts[0])),)
        starts, order = length * np.arange(len(inputs)), np.arange(len(inputs))
    else:
        packed = pack(inputs, encoder.device, counts.tolist())
        states, done = encoder.embed(packed.tokens, packed.positions), 0
        stretches, starts, order = packed.stretches, packed.starts, packed.order
    # Where an arm removed a responder, its place is some other: it is never looked at.
    places = [starts[i] + rows_read(inputs[i], responders[i], reading) for i in order.tolist()]
    rows = torch.from_numpy(np.concatenate(places)).to(encoder.device)
    layers = encoder.layers[done:depth]
    trimmed = len(layers) > 0 and len(rows) < WORTH_TRIMMING * len(states)
    if trimmed and not reading.totals and reading.head is None:
        read = run_layers(encoder, states, stretches, layers, rows)
        totals = logits = None
    else:
        states = run_layers(encoder, states, stretches, layers)
        read = states[rows]
        totals = _means(states, inputs, starts) if reading.totals else None
        logits = None
        if reading.head is not None:
            first_rows = starts + np.array([foremost(cell) for cell in inputs])
            logits = _logits(encoder, states, stretches, first_rows[order], depth, reading.head)
            logits = logits[torch.from_numpy(np.argsort(order)).to(encoder.device)]
    return _in_order(read, counts, order, reading, totals, logits)


def _in_order(
    read: Tensor,
    counts: Ranks,
    order: Ranks,
    reading: Reading,
    totals: Tensor | None,
    logits: Tensor | None,
) -> Displacements:
    """Rows as they stand → rows in the order in which the inputs were given, first tokens apart."""
    ends = np.cumsum(counts[order])
    begins = np.empty(len(order), dtype=np.int64)
    begins[order] = ends - counts[order]
    as_given = bool((order == np.arange(len(order))).all())
    if as_given and not reading.first_token:
        return Displacements(read, None, totals, logits)
    before = int(reading.first_token)  # rows of an input before those of its genes
    genes = np.concatenate(
        [np.arange(b + before, b + n) for b, n in zip(begins, counts, strict=True)]
    )
    first = read[torch.from_numpy(begins).to(read.device)].double() if before else None
    return Displacements(read[torch.from_numpy(genes).to(read.device)], first, totals, logits)


def _means(states: Tensor, inputs: Sequence[ModelInput], starts: Ranks) -> Tensor:
    """Mean over all tokens of each input, in float64, shape (inputs, width)."""
    input_of = np.empty(len(states), dtype=np.int64)
    for index, (start, cell) in enumerate(zip(starts, inputs, strict=True)):
        input_of[start : start + len(cell)] = index
    sums = torch.zeros(len(inputs), states.shape[1], dtype=torch.float64, device=states.device)
    sums.index_add_(0, torch.from_numpy(input_of).to(states.device), states.double())
    lengths = torch.tensor([len(cell) for cell in inputs], device=states.device)
    return sums / lengths[:, None]


def _logits(
    encoder: Encoder,
    states: Tensor,
    stretches: Sequence[Stretch],
    first_rows: Ranks,
    depth: int,
    head: Head,
) -> Tensor:
    """Logits from the first tokens' states after all layers, shape (inputs, labels)."""
    rows = torch.from_numpy(first_rows).to(encoder.device)
    first_token_only = [replace(stretch, read=1) for stretch in stretches]
    return head(run_layers(encoder, states, first_token_only, encoder.layers[depth:], rows))
