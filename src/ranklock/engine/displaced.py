"""Tasks through the displacement forward: rows and keys in, inner products of what moved out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ranklock.engine.displaced_attention import Workspace
from ranklock.engine.displacement import (
    Formats,
    Segment,
    displaced_layer,
    embedded_displacement,
    layer_baselines,
    per_input,
)
from ranklock.engine.edits import Edits, edits_of
from ranklock.engine.groups import (
    WORTH_TRIMMING,
    Place,
    Reading,
    TaskGroup,
    parts_of,
    rows_read,
    segment_of,
)
from ranklock.engine.readout import Baseline, Displacements, Measured, measure
from ranklock.models.encoder import Encoder
from ranklock.models.head import Head

# Rows that go through a layer together: on a CPU, what stays in its cache between the passes.
_ROWS_ON_CPU = 8192
_ROWS_ON_GPU = 131_072


# What is read of a cell, and of its inputs under each arm.
Read = tuple[Baseline, list[Displacements]]


@dataclass(eq=False)
class _Part:
    """Tasks of one cell under all arms, by arm in order of name, on their way.

    Attributes
    ----------
    index, group, tasks
        Which group, the group, and which of its tasks.
    edits, segment
        The inputs, and what attention sees of them.
    read
        Rows that are read of every input.
    delta
        Displacements, shape (inputs × rows, width); of the rows that are read alone once the last
        layer computed no others.
    added
        States of tokens that are put in, shape (inputs, added, width).
    """

    index: int
    group: TaskGroup
    tasks: slice
    edits: Edits
    segment: Segment
    read: Tensor
    delta: Tensor
    added: Tensor

    @property
    def arms(self) -> int:
        """How many inputs each task has."""
        return len(self.group.arms)

    def by_arm(self, of_inputs: Tensor) -> Sequence[Tensor]:
        """Something of each input → of each arm's inputs."""
        return per_input(of_inputs, self.arms).unbind(0)


def measure_by_displacement(
    formats: Formats,
    groups: Sequence[TaskGroup],
    reading: Reading,
    workspace: Workspace,
    batch: Sequence[Place],
) -> list[tuple[int, Measured]]:
    """Measure a batch of tasks.

    Parameters
    ----------
    formats
        The checkpoint.
    groups, reading
        The tasks, and what is read.
    workspace
        Memory for what lies between.
    batch
        Which tasks.

    Returns
    -------
    Index of each group, and what was measured of a part of it; parts of a group in order.
    """
    encoder = formats.encoder
    chunks = _chunks(encoder, groups, reading, batch)
    cells = [groups[index].baseline for index, _ in parts_of(batch)]
    ends = [0, *accumulate(map(len, cells))]
    tokens, positions = (
        _put(np.concatenate([getattr(cell, name) for cell in cells]), encoder)
        for name in ("tokens", "positions")
    )
    states = encoder.embed(tokens, positions)
    parts = list(chain.from_iterable(chunks))
    rows_asked = sum(part.segment.inputs * len(part.read) for part in parts)
    few_rows = rows_asked < WORTH_TRIMMING * sum(len(part.delta) for part in parts)
    trimmed = reading.depth > 0 and few_rows and not reading.needs_all_rows
    for layer in range(reading.depth):
        rows = _read_rows if trimmed and layer == reading.depth - 1 else None
        states = _through_layer(formats, layer, states, ends, chunks, workspace, rows)
    of_cells = [states[start:stop].double() for start, stop in pairwise(ends)]
    # Chunk by chunk, for it is in float64.
    read: Iterable[list[Read]] = (
        [_read(part, of_cells[part.segment.cell], reading, trimmed) for part in chunk]
        for chunk in chunks
    )
    if reading.head is not None:
        read = list(read)  # before the displacements go on
        for layer in range(reading.depth, len(encoder.layers)):
            rows = _foremost_rows if layer == len(encoder.layers) - 1 else None
            states = _through_layer(formats, layer, states, ends, chunks, workspace, rows)
        trimmed = reading.depth < len(encoder.layers)
        read = [
            [_with_logits(part, states[slice(*ends[part.segment.cell : part.segment.cell + 2])],
                          reading.head, of_part, trimmed)
             for part, of_part in zip(chunk, read_of_chunk, strict=True)]
            for chunk, read_of_chunk in zip(chunks, read, strict=True)
        ]  # fmt: skip
    measured: list[tuple[int, Measured]] = []
    for chunk, read_of_chunk in zip(chunks, read, strict=True):
        segments = [
            segment_of(part.group, part.tasks, baseline)
            for part, (baseline, _) in zip(chunk, read_of_chunk, strict=True)
        ]
        moved = {
            arm: _joined([displacements[place] for _, displacements in read_of_chunk])
            for place, arm in enumerate(sorted(chunk[0].group.arms))
        }
        of_segments = measure(segments, moved, cell=reading.cell, mean=reading.mean)
        measured += zip((part.index for part in chunk), of_segments, strict=True)
    return measured


def rows_at_once(device: str) -> int:
    """How many rows go through a layer together on a device."""
    return _ROWS_ON_CPU if device == "cpu" else _ROWS_ON_GPU


def _chunks(
    encoder: Encoder, groups: Sequence[TaskGroup], reading: Reading, batch: Sequence[Place]
) -> list[list[_Part]]:
    """A batch in parts that go through a layer together."""
    at_once = rows_at_once(str(encoder.device))
    chunks: list[list[_Part]] = [[]]
    rows = 0
    for cell, (index, tasks) in enumerate(parts_of(batch)):
        group = groups[index]
        of_task = len(group.arms) * len(group.baseline)
        size = max(1, at_once // of_task)
        for start in range(tasks.start, tasks.stop, size):
            few = slice(start, min(start + size, tasks.stop))
            of_part = of_task * (few.stop - few.start)
            if chunks[-1] and rows + of_part > at_once:
                chunks.append([])
                rows = 0
            chunks[-1].append(_part(encoder, cell, index, group, few, reading))
            rows += of_part
    return chunks


def _part(
    encoder: Encoder, cell: int, index: int, group: TaskGroup, tasks: slice, reading: Reading
) -> _Part:
    inputs = [perturbed for arm in sorted(group.arms) for perturbed in group.arms[arm][tasks]]
    edits = edits_of(group.baseline, inputs)
    tokens = _put(group.baseline.tokens, encoder)
    positions = _put(group.baseline.positions, encoder)
    tokens_after, positions_after = _put(edits.tokens, encoder), _put(edits.positions, encoder)
    changed = (tokens_after != tokens) | (positions_after != positions)
    which, row = changed.nonzero(as_tuple=True)
    delta = torch.zeros(
        len(inputs), edits.length, encoder.width, dtype=encoder.tokens.dtype, device=encoder.device
    )
    delta[which, row] = embedded_displacement(
        encoder, (tokens[row], positions[row]),
        (tokens_after[which, row], positions_after[which, row]),
    )  # fmt: skip
    added = encoder.embed(
        _put(edits.added_tokens.ravel(), encoder), _put(edits.added_positions.ravel(), encoder)
    )
    segment = Segment(
        cell, len(inputs), edits.length, _put(edits.gone, encoder),
        torch.from_numpy(edits.added).to(encoder.device),
    )  # fmt: skip
    return _Part(
        index, group, tasks, edits, segment,
        _put(rows_read(group.baseline, group.responders, reading), encoder),
        delta.flatten(0, 1), per_input(added, len(inputs)),
    )  # fmt: skip


def _through_layer(
    formats: Formats,
    layer: int,
    states: Tensor,
    ends: Sequence[int],
    chunks: Sequence[Sequence[_Part]],
    workspace: Workspace,
    rows: Callable[[_Part], Tensor] | None,
) -> Tensor:
    """Take cells and displacements through a layer; rows of a part where it computes no others."""
    baselines, states = layer_baselines(
        formats, layer, states, [stop - start for start, stop in pairwise(ends)]
    )
    for chunk in chunks:
        of_parts = None if rows is None else [rows(part) for part in chunk]
        moved, added = displaced_layer(
            formats, layer, baselines, [part.segment for part in chunk],
            torch.cat([part.delta for part in chunk]), [part.added for part in chunk], of_parts,
            workspace,
        )  # fmt: skip
        for part, delta, tokens in zip(chunk, moved, added, strict=True):
            part.delta, part.added = delta, tokens
    return states


def _read_rows(part: _Part) -> Tensor:
    return part.read


def _foremost_rows(part: _Part) -> Tensor:
    """Rows that the classifier reads, or might: a token that was put in has none."""
    foremost = np.append(part.edits.foremost[part.edits.foremost < part.segment.length], 0)
    return torch.from_numpy(np.unique(foremost)).to(part.delta.device)


def _read(part: _Part, states: Tensor, reading: Reading, trimmed: bool) -> Read:
    """What is read of a part's cell, and of its inputs under each arm."""
    before = states[part.read]
    delta = per_input(part.delta, part.segment.inputs)
    read = (delta if trimmed else delta[:, part.read]).double()
    first_before = None
    firsts: Sequence[Tensor | None] = [None] * part.arms
    if reading.first_token:
        first_before, before = before[0], before[1:]
        firsts, read = part.by_arm(read[:, 0]), read[:, 1:]
    totals: Sequence[Tensor | None] = [None] * part.arms
    mean = None
    if reading.totals:
        mean = states.mean(0)
        totals = part.by_arm(_change_of_mean(part, states, delta.double()))
    baseline = Baseline(before, first_before, mean, None)
    genes = part.by_arm(read)
    return baseline, [
        Displacements(of_arm.flatten(0, 1), first, total, None)
        for of_arm, first, total in zip(genes, firsts, totals, strict=True)
    ]


def _change_of_mean(part: _Part, states: Tensor, delta: Tensor) -> Tensor:
    """How far the mean over all tokens of each input moves, shape (inputs, width)."""
    mean = states.mean(0)
    removed = torch.from_numpy(part.edits.removed).to(delta.device).double()
    present = part.segment.present.double()
    change = ((1.0 - removed)[:, :, None] * delta).sum(1)
    change -= removed @ (states - mean)
    change += (present[:, :, None] * (part.added.double() - mean)).sum(1)
    return change / (part.segment.length - removed.sum(1) + present.sum(1))[:, None]


def _with_logits(part: _Part, states: Tensor, head: Head, read: Read, trimmed: bool) -> Read:
    """Add the logits of the first token, which is another one where an arm moves it."""
    foremost = torch.from_numpy(part.edits.foremost).to(states.device)
    length = part.segment.length
    delta = per_input(part.delta, part.segment.inputs)
    own = torch.clamp(foremost, max=length - 1)
    rows = _foremost_rows(part) if trimmed else torch.arange(length, device=states.device)
    place = torch.searchsorted(rows, own).clamp_(max=len(rows) - 1)
    inputs = torch.arange(part.segment.inputs, device=states.device)
    first = states[own].double() + delta[inputs, place].double()
    is_added = foremost >= length
    first[is_added] = part.added[inputs[is_added], foremost[is_added] - length].double()
    baseline, displacements = read
    logits = part.by_arm(head(first))
    return (
        replace(baseline, logits=head(states[0].double())),
        [replace(d, logits=of_arm) for d, of_arm in zip(displacements, logits, strict=True)],
    )


def _joined(parts: Sequence[Displacements]) -> Displacements:
    """Displacements under one arm, of one part after another."""

    def joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
        read = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(read) if read else None

    return Displacements(
        torch.cat([part.genes for part in parts]),
        joined([part.first for part in parts]),
        joined([part.totals for part in parts]),
        joined([part.logits for part in parts]),
    )


def _put(array: np.ndarray[Any, Any], encoder: Encoder) -> Tensor:
    return torch.from_numpy(array.astype(np.int64)).to(encoder.device)
