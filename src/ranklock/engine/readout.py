"""Inner products of embeddings before and after, taken on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ranklock.engine.moments import Moments, Numbers, Pair, StateMoments

Key = TypeVar("Key")


@dataclass(frozen=True, eq=False)
class Baseline:
    """Embeddings of an unperturbed cell, in float64, on the device.

    Attributes
    ----------
    genes
        Of the responders, shape (responders, width).
    first
        Of ``<cls>``, shape (width,), where that is the cell embedding.
    mean
        Mean over all genes, shape (width,), where it is read.
    logits
        Of a classifier, shape (labels,), where there is one.
    """

    genes: Tensor
    first: Tensor | None
    mean: Tensor | None
    logits: Tensor | None


@dataclass(frozen=True, eq=False)
class Displacements:
    """Perturbed minus unperturbed, of inputs under one arm, inputs one after another, in float64.

    As of :class:`Baseline`, but logits are those of the perturbed inputs themselves.
    """

    genes: Tensor
    first: Tensor | None
    totals: Tensor | None
    logits: Tensor | None


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive tasks of a batch that are of one cell.

    Attributes
    ----------
    baseline
        The unperturbed cell.
    responders
        How many there are.
    perturbed
        Of each task, which responders are perturbed genes: they are no responders of it.
    states
        Embeddings of states, shape (states, width); None where none are read.
    crossed
        Pairs of arms whose displacements are multiplied with each other; the same in a batch.
    """

    baseline: Baseline
    responders: int
    perturbed: Sequence[npt.NDArray[np.int64]]
    states: Numbers | None
    crossed: Sequence[Pair]


@dataclass(frozen=True, eq=False)
class Measured:
    """Inner products of some tasks in one cell.

    Attributes
    ----------
    genes
        Of each responder, shape (tasks, responders); the perturbed genes' own are zero.
    cell
        Of the cell embedding without the perturbed genes, shape (tasks,); None when it is not read.
    states
        Of that with the embeddings of states; None when there are none.
    cell_with_all, states_with_all
        The same of the mean over all gene tokens of each input; None when it is not read.
    logits_before, logits
        Of a classifier, shape (labels,), and arm → shape (tasks, labels); None without one.
    """

    genes: Moments
    cell: Moments | None = None
    states: StateMoments | None = None
    cell_with_all: Moments | None = None
    states_with_all: StateMoments | None = None
    logits_before: Numbers | None = None
    logits: Mapping[str, Numbers] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.genes.moved.values())))


def measure(
    segments: Sequence[Segment], after: Mapping[str, Displacements], *, cell: bool, mean: bool
) -> list[Measured]:
    """Inner products of the displacements of responders and of the cell embedding.

    Parameters
    ----------
    segments
        The tasks of a batch, cell by cell.
    after
        Arm → what moved in each task. Displacements of perturbed genes are set to zero.
    cell
        Whether the cell embedding is read.
    mean
        Whether that is the mean over responders.
    """
    index = _Index.of(segments, next(iter(after.values())).genes.device)
    before = torch.cat([segment.baseline.genes for segment in segments])
    spread = before[index.before_of_row]
    deltas = {arm: read.genes for arm, read in after.items()}
    for delta in deltas.values():
        delta[index.perturbed_rows] = 0.0
    squared = (before * before).sum(-1)[index.before_of_row]
    crossed = segments[0].crossed
    genes = _moments(spread, deltas, squared, crossed)
    of_cell: Ends | None = None
    with_all: Ends | None = None
    if mean:
        spread[index.perturbed_rows] = 0.0
        start = index.sums(spread) / index.counts
        of_cell = (start, {arm: index.sums(delta) / index.counts for arm, delta in deltas.items()})
    elif cell:
        of_cell = _ends(segments, index, {arm: read.first for arm, read in after.items()}, "first")
    if all(read.totals is not None for read in after.values()):
        with_all = _ends(segments, index, {arm: read.totals for arm, read in after.items()}, "mean")
    states = _states(segments, index)
    parts = [_cut_genes(genes, index, segments, s) for s in range(len(segments))]
    cells, approaches = _of_cells(of_cell, states, index, crossed)
    cells_with_all, approaches_with_all = _of_cells(with_all, states, index, crossed)
    return [
        Measured(
            parts[s],
            cells[s],
            approaches[s],
            cells_with_all[s],
            approaches_with_all[s],
            _array(segment.baseline.logits),
            _logits(after, index.tasks[s]),
        )
        for s, segment in enumerate(segments)
    ]


@dataclass(frozen=True, eq=False)
class _Index:
    """Where the rows of a batch belong.

    Attributes
    ----------
    before_of_row
        Which row of the baselines each row is compared with, shape (rows,).
    task_of_row
        Which task it is of.
    perturbed_rows
        Rows of perturbed genes.
    counts
        Responders of each task, shape (tasks, 1).
    segment_of_task
        Shape (tasks,).
    tasks, rows
        Of each segment.
    """

    before_of_row: Tensor
    task_of_row: Tensor
    perturbed_rows: Tensor
    counts: Tensor
    segment_of_task: Tensor
    tasks: list[slice]
    rows: list[slice]

    @classmethod
    def of(cls, segments: Sequence[Segment], device: torch.device) -> _Index:
        sizes = np.array([segment.responders for segment in segments])
        numbers = np.array([len(segment.perturbed) for segment in segments])
        starts = np.cumsum(sizes) - sizes
        per_task = np.repeat(sizes, numbers)
        begins = np.cumsum(per_task) - per_task
        perturbed = [ranks for segment in segments for ranks in segment.perturbed]
        before = [
            np.tile(np.arange(start, start + size), number)
            for start, size, number in zip(starts, sizes, numbers, strict=True)
        ]
        task_ends, row_ends = np.cumsum(numbers), np.cumsum(sizes * numbers)

        def put(array: npt.NDArray[np.int_]) -> Tensor:
            return torch.from_numpy(array.astype(np.int64)).to(device)

        rows = [begin + which for begin, which in zip(begins, perturbed, strict=True)]
        return cls(
            put(np.concatenate(before)),
            put(np.repeat(np.arange(len(per_task)), per_task)),
            put(np.concatenate(rows)),
            put(per_task - np.array([len(which) for which in perturbed]))[:, None].double(),
            put(np.repeat(np.arange(len(segments)), numbers)),
            [slice(e - n, e) for e, n in zip(task_ends, numbers, strict=True)],
            [slice(e - n, e) for e, n in zip(row_ends, sizes * numbers, strict=True)],
        )

    def sums(self, rows: Tensor) -> Tensor:
        """Sums over each task's rows, shape (tasks, width)."""
        if len(self.tasks) == 1:
            return rows.view(len(self.counts), -1, rows.shape[-1]).sum(1)
        sums = torch.zeros(len(self.counts), rows.shape[-1], dtype=rows.dtype, device=rows.device)
        return sums.index_add_(0, self.task_of_row, rows)


Ends = tuple[Tensor, Mapping[str, Tensor]]  # baseline and, by arm, displacement of each task


def _ends(
    segments: Sequence[Segment], index: _Index, after: Mapping[str, Tensor | None], name: str
) -> Ends:
    starts = torch.stack([getattr(segment.baseline, name) for segment in segments])
    moved = {arm: read for arm, read in after.items() if read is not None}
    return starts[index.segment_of_task], moved


def _of_cells(
    ends: Ends | None, states: Tensor | None, index: _Index, crossed: Sequence[Pair]
) -> tuple[Sequence[Moments | None], Sequence[StateMoments | None]]:
    unread = [None] * len(index.tasks)
    if ends is None:
        return unread, unread
    start, deltas = ends
    moments = _moments(start, deltas, (start * start).sum(-1), crossed)
    cells = [_cut(moments, tasks) for tasks in index.tasks]
    if states is None:
        return cells, unread
    goals = states[index.segment_of_task]
    squared = _array((states * states).sum(-1))
    before = _array((start[:, None] * goals).sum(-1))
    along = {arm: _array((delta[:, None] * goals).sum(-1)) for arm, delta in deltas.items()}
    return cells, [
        StateMoments(squared[s], before[tasks], {arm: a[tasks] for arm, a in along.items()})
        for s, tasks in enumerate(index.tasks)
    ]


def _states(segments: Sequence[Segment], index: _Index) -> Tensor | None:
    """States of each segment, shape (segments, states, width)."""
    states = [segment.states for segment in segments if segment.states is not None]
    if not states:
        return None
    return torch.from_numpy(np.stack(states)).to(index.counts.device)


def _moments(
    before: Tensor, deltas: Mapping[str, Tensor], squared: Tensor, crossed: Sequence[Pair]
) -> Moments:
    def product(left: Tensor, right: Tensor) -> Numbers:
        return _array((left * right).sum(-1))

    return Moments(
        squared=_array(squared),
        along={arm: product(delta, before) for arm, delta in deltas.items()},
        moved={arm: product(delta, delta) for arm, delta in deltas.items()},
        crossed={(left, right): product(deltas[left], deltas[right]) for left, right in crossed},
    )


def _cut(moments: Moments, part: slice, shape: tuple[int, ...] = (-1,)) -> Moments:
    def cut(numbers: Numbers) -> Numbers:
        return numbers[part].reshape(shape)

    return Moments(
        cut(moments.squared),
        {arm: cut(numbers) for arm, numbers in moments.along.items()},
        {arm: cut(numbers) for arm, numbers in moments.moved.items()},
        {pair: cut(numbers) for pair, numbers in moments.crossed.items()},
    )


def _cut_genes(moments: Moments, index: _Index, segments: Sequence[Segment], s: int) -> Moments:
    shape = (len(segments[s].perturbed), segments[s].responders)
    return _cut(moments, index.rows[s], shape)


def _logits(after: Mapping[str, Displacements], tasks: slice) -> Mapping[str, Numbers] | None:
    logits = {arm: read.logits for arm, read in after.items() if read.logits is not None}
    return {arm: tensor[tasks].cpu().numpy() for arm, tensor in logits.items()} or None


def _array(tensor: Tensor | None) -> Numbers:
    array: Numbers | None = None if tensor is None else tensor.cpu().numpy()
    return array  # type: ignore[return-value]


def join(parts: Sequence[Measured]) -> Measured:
    """What was measured of a group's tasks, from that of its parts in their order."""
    if len(parts) == 1:
        return parts[0]
    logits = [part.logits for part in parts if part.logits is not None]
    return Measured(
        _joined([part.genes for part in parts]),
        _joined_if_read([part.cell for part in parts]),
        _joined_states([part.states for part in parts]),
        _joined_if_read([part.cell_with_all for part in parts]),
        _joined_states([part.states_with_all for part in parts]),
        parts[0].logits_before,
        _joined_values(logits) if logits else None,
    )


def _joined(parts: Sequence[Moments]) -> Moments:
    return Moments(
        np.concatenate([part.squared for part in parts]),
        _joined_values([part.along for part in parts]),
        _joined_values([part.moved for part in parts]),
        _joined_values([part.crossed for part in parts]),
    )


def _joined_if_read(parts: Sequence[Moments | None]) -> Moments | None:
    moments = [part for part in parts if part is not None]
    return _joined(moments) if moments else None


def _joined_states(parts: Sequence[StateMoments | None]) -> StateMoments | None:
    moments = [part for part in parts if part is not None]
    if not moments:
        return None
    return StateMoments(
        moments[0].squared,
        np.concatenate([part.before for part in moments]),
        _joined_values([part.along for part in moments]),
    )


def _joined_values(parts: Sequence[Mapping[Key, Numbers]]) -> dict[Key, Numbers]:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
