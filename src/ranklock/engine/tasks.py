"""Perturbed cells through the model: many tasks of many cells in packed forwards.

A batch holds tasks of one or of many cells, all with the same arms. The only difference is the
first layer: tasks of one cell that are many enough share theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ranklock.arms import NOT_RANKED, ModelInput
from ranklock.engine.batches import tokens_at_once, usual_batch_size
from ranklock.engine.first_layer import FirstLayer, first_layer, may_share, worth_sharing
from ranklock.engine.forward import Stretch, pack, run_layers
from ranklock.engine.memory import Trimmer, in_batches, memory_errors
from ranklock.engine.moments import Numbers
from ranklock.engine.readout import Baseline, Measured, ReadStates, Segment, join, measure
from ranklock.models import Model
from ranklock.models.encoder import Encoder, encoder_of
from ranklock.models.head import Head
from ranklock.models.precision import computing_in

Ranks = npt.NDArray[np.int64]
FirstLayers = Mapping[str, FirstLayer]
Place = tuple[int, int]  # which group, and which of its tasks

# Where fewer of the rows are read than this part, the last layer computes only those.
WORTH_TRIMMING = 0.75

_TRIMMER = Trimmer()


@dataclass(frozen=True, eq=False)
class TaskGroup:
    """Perturbations of one kind in one cell, under the arms that are computed.

    Attributes
    ----------
    baseline
        Input of the unperturbed cell.
    responders
        Ranks that are read, ascending; all genes where the cell embedding is their mean.
    perturbed
        Ranks of the genes that each task perturbs, as far as the cell has them.
    arms
        Arm → input of each task.
    states
        Embeddings of the states that this cell may move towards, shape (states, width).
    """

    baseline: ModelInput
    responders: Ranks
    perturbed: Sequence[Ranks]
    arms: Mapping[str, Sequence[ModelInput]]
    states: Numbers | None = None

    def __len__(self) -> int:
        return len(self.perturbed)


@dataclass(frozen=True, eq=False)
class Reading:
    """What is read of every input.

    Attributes
    ----------
    depth
        Layers after which embeddings are read.
    cell
        Whether the cell embedding is read.
    special_frame
        Whether that is ``<cls>``, which stands first, and not the mean over genes.
    totals
        Whether the mean over all gene tokens is read too, the perturbed gene's among them.
    head
        A classifier, whose logits are read of the token in the first position after all layers.
    """

    depth: int
    cell: bool
    special_frame: bool
    totals: bool = False
    head: Head | None = None

    @property
    def first_token(self) -> bool:
        """Whether the first token is read at this depth."""
        return self.cell and self.special_frame

    def rows(self, responders: int) -> int:
        """Rows of an input that are read at this depth."""
        return responders + self.first_token


def measure_groups(
    model: Model,
    groups: Sequence[TaskGroup],
    reading: Reading,
    *,
    precision: str = "float32",
    batch_size: int | None = None,
) -> list[Measured]:
    """Run the forwards of all tasks and take the inner products of what moved.

    Parameters
    ----------
    model
        The model.
    groups
        The tasks.
    reading
        What is read.
    precision
        Number format of the forwards.
    batch_size
        Tasks in one forward; by default as many as suit the device. Halved where memory runs out.

    Returns
    -------
    What was measured of each group, in the order given.

    Raises
    ------
    MemoryError
        When a single task does not fit into the device's memory.
    """
    encoder = encoder_of(model, precision)
    measured: list[list[Measured]] = [[] for _ in groups]
    baselines: dict[int, Baseline] = {}
    with computing_in(precision), memory_errors(model.device):
        for places, shared in _batches(model, groups):
            first: FirstLayers = {}
            start = places[0][1]
            if shared and reading.depth:
                part = slice(start, places[-1][1] + 1)
                by_arm = groups[places[0][0]].arms.items()
                first = {
                    arm: first_layer(encoder, inputs[part])
                    for arm, inputs in by_arm
                    if may_share(inputs[part])
                }

            def work(
                batch: Sequence[Place], first: FirstLayers = first, start: int = start
            ) -> list[tuple[int, Measured]]:
                return _measure_batch(encoder, groups, reading, baselines, first, start, batch)

            size = batch_size or (len(places) if not shared else _usual(model, groups, places))
            for _, of_batch in in_batches(places, size, work, model.device):
                for index, of_group in of_batch:
                    measured[index].append(of_group)
                _TRIMMER.after_batch()
            finished = [g for g in baselines if len(groups[g]) == sum(map(len, measured[g]))]
            for index in finished:
                del baselines[index]
    return [join(parts) for parts in measured]


def sharing_slices(model: Model, tasks: int, tokens: int) -> list[slice]:
    """Tasks of one cell that share their first layer.

    A slice of g inputs of n tokens has about g keys of its own in each: it costs g·n + n²/g scores
    an input in place of n², least at g = √n. A GPU's batches are larger than that.
    """
    size = max(round(tokens**0.5), usual_batch_size(model, max(tokens, 1)))
    return [slice(start, min(start + size, tasks)) for start in range(0, tasks, size)]


def _usual(model: Model, groups: Sequence[TaskGroup], places: Sequence[Place]) -> int:
    return usual_batch_size(model, max(1, len(groups[places[0][0]].baseline)))


def _batches(model: Model, groups: Sequence[TaskGroup]) -> Iterator[tuple[list[Place], bool]]:
    """Tasks that go through the model together, and whether they may share a first layer."""
    small_groups = []
    for index, group in enumerate(groups):
        if worth_sharing(len(group)):
            for part in sharing_slices(model, len(group), len(group.baseline)):
                yield [(index, task) for task in range(part.start, part.stop)], True
        else:
            small_groups.append(index)
    # Equal lengths stand together, so that attention takes many inputs at once.
    small_groups.sort(
        key=lambda index: (sorted(groups[index].arms), len(groups[index].baseline), index)
    )
    for _, indices in groupby(small_groups, key=lambda index: sorted(groups[index].arms)):
        batch: list[Place] = []
        tokens = 0
        for index in indices:
            for task in range(len(groups[index])):
                length = max(len(inputs[task]) for inputs in groups[index].arms.values())
                if batch and tokens + length > tokens_at_once(model.device):
                    yield batch, False
                    batch, tokens = [], 0
                batch.append((index, task))
                tokens += length
        if batch:
            yield batch, False


def _measure_batch(
    encoder: Encoder,
    groups: Sequence[TaskGroup],
    reading: Reading,
    baselines: dict[int, Baseline],
    first: FirstLayers,
    start: int,
    batch: Sequence[Place],
) -> list[tuple[int, Measured]]:
    parts = [
        (index, slice(tasks[0][1], tasks[-1][1] + 1))
        for index, tasks in ((i, list(p)) for i, p in groupby(batch, key=lambda place: place[0]))
    ]
    _add_baselines(encoder, groups, reading, baselines, [index for index, _ in parts])
    responders = [groups[index].responders for index, task in batch]
    after = {}
    for arm in groups[parts[0][0]].arms:
        inputs = [groups[index].arms[arm][task] for index, task in batch]
        shared = first.get(arm)
        window = slice(batch[0][1] - start, batch[-1][1] + 1 - start)
        after[arm] = _read(encoder, inputs, responders, reading, shared, window)
    segments = [
        Segment(
            baselines[index],
            len(groups[index].responders),
            [_which(groups[index].responders, ranks) for ranks in groups[index].perturbed[part]],
            groups[index].states,
        )
        for index, part in parts
    ]
    measured = measure(segments, after, mean=reading.cell and not reading.special_frame,
                       cell=reading.cell)  # fmt: skip
    return [(index, of_part) for (index, _), of_part in zip(parts, measured, strict=True)]


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
) -> ReadStates:
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
    places = [starts[i] + _places(inputs[i], responders[i], reading) for i in order.tolist()]
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
            first_rows = starts + np.array([_foremost(cell) for cell in inputs])
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
) -> ReadStates:
    """Rows as they stand → rows in the order in which the inputs were given, first tokens apart."""
    ends = np.cumsum(counts[order])
    begins = np.empty(len(order), dtype=np.int64)
    begins[order] = ends - counts[order]
    as_given = bool((order == np.arange(len(order))).all())
    if as_given and not reading.first_token:
        return ReadStates(read, None, totals, logits)
    before = int(reading.first_token)  # rows of an input before those of its genes
    genes = np.concatenate(
        [np.arange(b + before, b + n) for b, n in zip(begins, counts, strict=True)]
    )
    first = read[torch.from_numpy(begins).to(read.device)].double() if before else None
    return ReadStates(read[torch.from_numpy(genes).to(read.device)], first, totals, logits)


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


def _foremost(cell: ModelInput) -> int:
    """Place of the token that a model takes for the first: moved genes stay where they stood.

    Where an arm puts a gene beside the first, it is the gene that was put there.
    """
    foremost = np.flatnonzero(cell.positions == cell.positions.min())
    return int(foremost[-1])


def _which(responders: Ranks, ranks: Ranks) -> Ranks:
    """Which responders some ranks are; those that are none are left out."""
    return np.flatnonzero(np.isin(responders, ranks))


def _places(cell: ModelInput, ranks: Ranks, reading: Reading) -> Ranks:
    """Places of the rows that are read of an input; 0 for a rank that is not in it."""
    place = np.zeros(max(cell.ranks.max(initial=-1), ranks.max(initial=-1)) + 1, dtype=np.int64)
    ranked = cell.ranks != NOT_RANKED
    place[cell.ranks[ranked]] = np.flatnonzero(ranked)
    return np.concatenate([np.zeros(int(reading.first_token), np.int64), place[ranks]])
