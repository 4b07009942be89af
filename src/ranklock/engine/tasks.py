"""Perturbed cells through the model: many tasks of many cells, measured by one method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby

from ranklock.engine.batches import tokens_at_once, usual_batch_size
from ranklock.engine.displaced import measure_by_displacement
from ranklock.engine.displaced_attention import Workspace
from ranklock.engine.first_layer import first_layer, may_share, worth_sharing
from ranklock.engine.groups import Place, Reading, TaskGroup
from ranklock.engine.memory import Trimmer, in_batches, memory_errors
from ranklock.engine.method import FLOAT32, Method
from ranklock.engine.readout import Baseline, Measured, join
from ranklock.engine.two_forwards import FirstLayers, measure_by_two_forwards
from ranklock.models import Model
from ranklock.models.encoder import encoder_of
from ranklock.models.precision import computing_in

# Of the displacements of a batch, which are held from layer to layer.
_BYTES_ON_CPU = 256 << 20
_BYTES_ON_GPU = 4 << 30

# Tasks, how many of them suit a batch, and what measures one.
Job = tuple[list[Place], int, Callable[[Sequence[Place]], list[tuple[int, Measured]]]]

_TRIMMER = Trimmer()


def measure_groups(
    model: Model,
    groups: Sequence[TaskGroup],
    reading: Reading,
    *,
    method: Method = FLOAT32,
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
    method
        How.
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
    measured: list[list[Measured]] = [[] for _ in groups]
    jobs = _displacements if method.displacement else _forwards
    with computing_in(method.precision), memory_errors(model.device):
        for places, size, work in jobs(model, groups, reading, method):
            for _, of_batch in in_batches(places, batch_size or size, work, model.device):
                for index, of_part in of_batch:
                    measured[index].append(of_part)
                _TRIMMER.after_batch()
    return [join(parts) for parts in measured]


def _displacements(
    model: Model, groups: Sequence[TaskGroup], reading: Reading, method: Method
) -> Iterator[Job]:
    """The tasks by displacement forwards."""
    work = partial(measure_by_displacement, method.formats(model), groups, reading, Workspace())
    for places in _batches_of_displacements(model, groups):
        yield places, len(places), work


def _forwards(
    model: Model, groups: Sequence[TaskGroup], reading: Reading, method: Method
) -> Iterator[Job]:
    """The tasks by two forwards."""
    encoder = encoder_of(model, method.precision)
    baselines: dict[int, Baseline] = {}
    left = [len(group) for group in groups]
    for places, shared in _batches_of_forwards(model, groups):
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
        work = partial(measure_by_two_forwards, encoder, groups, reading, baselines, first, start)
        yield places, _usual(model, groups, places) if shared else len(places), work
        for index, _ in places:
            left[index] -= 1
            if not left[index]:
                del baselines[index]


def sharing_slices(model: Model, tasks: int, tokens: int) -> list[slice]:
    """Tasks of one cell that share their first layer.

    A slice of g inputs of n tokens has about g keys of its own in each: it costs g·n + n²/g scores
    an input in place of n², least at g = √n. A GPU's batches are larger than that.
    """
    size = max(round(tokens**0.5), usual_batch_size(model, max(tokens, 1)))
    return [slice(start, min(start + size, tasks)) for start in range(0, tasks, size)]


def rows_in_batch(model: Model) -> int:
    """How many displacements a batch holds from layer to layer, of one input at least."""
    return (_BYTES_ON_CPU if model.device == "cpu" else _BYTES_ON_GPU) // (4 * model.width)


def _usual(model: Model, groups: Sequence[TaskGroup], places: Sequence[Place]) -> int:
    return usual_batch_size(model, max(1, len(groups[places[0][0]].baseline)))


def _batches_of_forwards(
    model: Model, groups: Sequence[TaskGroup]
) -> Iterator[tuple[list[Place], bool]]:
    """Tasks that go through the model together, and whether they may share a first layer."""
    small_groups = []
    for index, group in enumerate(groups):
        if worth_sharing(len(group)):
            for part in sharing_slices(model, len(group), len(group.baseline)):
                yield [(index, task) for task in range(part.start, part.stop)], True
        else:
            small_groups.append(index)
    yield from ((batch, False) for batch in _of_small_groups(model, groups, small_groups))


def _batches_of_displacements(model: Model, groups: Sequence[TaskGroup]) -> Iterator[list[Place]]:
    """Tasks that go through the model together: each computes its cells' activations anew."""
    rows = rows_in_batch(model)
    small_groups = []
    for index, group in enumerate(groups):
        if not worth_sharing(len(group)):
            small_groups.append(index)
            continue
        size = max(1, rows // (len(group.arms) * len(group.baseline)))
        for start in range(0, len(group), size):
            yield [(index, task) for task in range(start, min(start + size, len(group)))]
    yield from _of_small_groups(model, groups, small_groups)


def _of_small_groups(
    model: Model, groups: Sequence[TaskGroup], small_groups: list[int]
) -> Iterator[list[Place]]:
    """Tasks of many cells together."""
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
                    yield batch
                    batch, tokens = [], 0
                batch.append((index, task))
                tokens += length
        if batch:
            yield batch
