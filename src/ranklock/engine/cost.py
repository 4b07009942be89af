"""What a run costs: floating-point operations and memory, known before it starts.

Operations are those of matrix products (two for a multiplication and its addition), as they are
done; sums, norms and exponentials are left out, as is usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ranklock.arms import NOT_RANKED, Arm, Edit, Positions
from ranklock.engine.batches import usual_batch_size
from ranklock.engine.displaced import rows_at_once
from ranklock.engine.displaced_attention import scores_at_once
from ranklock.engine.first_layer import SCORES_AT_ONCE, shares
from ranklock.engine.groups import WORTH_TRIMMING
from ranklock.engine.method import Method, baseline_precision
from ranklock.engine.tasks import rows_in_batch, sharing_slices
from ranklock.models import Model
from ranklock.models.precision import stored_as

# On a CPU: torch, transformers and the rest once imported, and what the C library's heap keeps of
# arrays that were freed. benchmarks/files_and_memory.py prints what is used.
_LIBRARIES = 600 << 20
_HEAP = 1 << 30


@dataclass(frozen=True)
class GroupShape:
    """Sizes of the tasks of one kind in one cell.

    Attributes
    ----------
    tokens
        Tokens of the unperturbed cell, special tokens included.
    ranks
        Perturbed rank of each task, ascending; ``NOT_RANKED`` of a gene that is put in.
    rows
        Rows of an input that are read.
    to_ranks
        Rank that each task moves its gene to; empty for knock-outs.
    inserted
        Genes that a task puts into the input, at most.
    """

    tokens: int
    ranks: tuple[int, ...]
    rows: int
    to_ranks: tuple[int, ...] = ()
    inserted: int = 0

    @property
    def tasks(self) -> int:
        """How many there are."""
        return len(self.ranks)

    def slices(self, model: Model) -> Iterator[GroupShape]:
        """The parts that share their first layer."""
        for part in sharing_slices(model, self.tasks, self.tokens):
            yield replace(self, ranks=self.ranks[part], to_ranks=self.to_ranks[part])

    def length(self, arm: Arm) -> int:
        """Tokens of an input under an arm, at most."""
        removed = arm.edit is Edit.REMOVE and not arm.backfill
        return self.tokens - removed + self.inserted * (arm.edit is Edit.MOVE)

    def differ_in_length(self, arm: Arm) -> bool:
        """Whether only some of the tasks put a gene in."""
        lacking = self.ranks.count(NOT_RANKED)
        return arm.edit is Edit.MOVE and 0 < lacking < self.tasks


def forward_flop(
    model: Model, tokens: int, rows: int, depth: int, *, logits: bool = False, attention: int = 1
) -> int:
    """Operations of one input through its layers.

    Parameters
    ----------
    model
        The model.
    tokens, rows
        Tokens of the input, and how many of them are read.
    depth
        Layers after which they are read.
    logits
        Whether a classifier reads the first token after all layers; its own products are few.
    attention
        Products of attention, in those of a forward: a displacement takes two.
    """
    whole = _layer(model, tokens, tokens, attention)
    if logits:
        beyond = model.layers - depth
        above = (beyond - 1) * whole + _layer(model, tokens, 1, attention)
        return depth * whole + (above if beyond else 0)
    if not depth:
        return 0
    return (depth - 1) * whole + _layer(model, tokens, _computed(tokens, rows), attention)


def group_flop(
    model: Model,
    arms: Iterable[Arm],
    group: GroupShape,
    depth: int,
    *,
    logits: bool = False,
    displacement: bool = False,
) -> int:
    """Operations of the tasks of one kind in one cell, their baseline included.

    As they are done for knock-outs and for moves to one rank; for other moves, backfill and sets of
    genes at most these. Of displacements, or of forwards.
    """
    total = forward_flop(model, group.tokens, group.rows, depth, logits=logits)
    if displacement:
        of_task = forward_flop(model, group.tokens, group.rows, depth, logits=logits, attention=2)
        return total + len(list(arms)) * group.tasks * of_task
    for arm in arms:
        for part in group.slices(model):
            total += _slice_flop(model, arm, part, depth, logits=logits)
    return total


def _slice_flop(model: Model, arm: Arm, group: GroupShape, depth: int, *, logits: bool) -> int:
    tokens = group.length(arm)
    if not depth or not tokens:
        return group.tasks * forward_flop(model, max(tokens, 1), group.rows, depth, logits=logits)
    own_keys, pairs = _first_layer_sizes(arm, group)
    unshared = forward_flop(model, tokens, group.rows, depth, logits=logits)
    if group.differ_in_length(arm) or not shares(group.tasks, own_keys, tokens):
        return group.tasks * unshared
    d = model.width
    once = pairs * 6 * d * d + 4 * pairs * (tokens - own_keys) * d
    first = 4 * tokens * own_keys * d + _after_attention(model, tokens)
    # What a first layer costs that is not shared, as it is counted in the forward.
    rows = tokens if depth > 1 or logits or group.rows >= WORTH_TRIMMING * tokens else group.rows
    return once + group.tasks * (unshared - _layer(model, tokens, rows) + first)


def peak_memory(
    model: Model,
    arms: Iterable[Arm],
    group: GroupShape,
    method: Method,
    batch_size: int | None = None,
    *,
    of_all_cells: int = 0,
) -> int:
    """Bytes that a batch needs on the device, weights and libraries included.

    An estimate from above, of what is held together: a batch's activations or displacements, the
    readout in float64, and what the first layer shares, or the unperturbed cell has in a layer. Of
    the group's tasks, or of those ``of_all_cells`` where these are more, ``batch_size`` are in a
    batch, or as many as suit the device.
    """
    arms = list(arms)
    if method.displacement:
        return _peak_memory_of_displacement(
            model, len(arms), group, method, batch_size, max(group.tasks, of_all_cells)
        )
    size = int(stored_as(method.precision).itemsize)
    weights: int = size * sum(p.numel() for p in model.encoder.parameters())
    original = 0 if size == 4 else 2 * weights
    usual = batch_size or usual_batch_size(model, max(1, group.tokens))
    tasks = min(max(group.tasks, of_all_cells), usual)
    activations = tasks * group.tokens * (7 * model.width + 2 * model.feed_forward) * size
    readout = tasks * group.rows * model.width * (8 * (len(arms) + 4) + 4 * len(arms))
    shared = 0
    for arm in arms:
        part = next(group.slices(model))
        own_keys, pairs = _first_layer_sizes(arm, part)
        if shares(part.tasks, own_keys, part.tokens):
            shared += 4 * model.width * (7 * pairs + 2 * part.tasks * own_keys)
            activations += 8 * tasks * group.tokens * own_keys * model.heads
    libraries = _libraries(model)
    return libraries + weights + original + activations + readout + shared + 12 * SCORES_AT_ONCE


def _libraries(model: Model) -> int:
    return _LIBRARIES + _HEAP if model.device == "cpu" else 0


def _peak_memory_of_displacement(
    model: Model, arms: int, group: GroupShape, method: Method, batch_size: int | None, tasks: int
) -> int:
    exact = int(stored_as(baseline_precision(method.precision)).itemsize)
    inner = int(stored_as(method.precision).itemsize)
    parameters: int = sum(p.numel() for p in model.encoder.parameters())
    weights = parameters * (4 + exact + (inner if inner != exact else 0))
    d, f, tokens = model.width, model.feed_forward, group.tokens
    of_task = arms * (tokens + group.inserted)
    held = min(batch_size or max(1, rows_in_batch(model) // of_task), tasks) * of_task
    rows = min(held, max(rows_at_once(model.device), of_task))
    between = rows * (exact * 6 * d + inner * (8 * d + 2 * f))
    scores = 3 * inner * max(scores_at_once(model.device), model.heads * tokens)
    # Of cells with few tasks, several go through a layer together.
    cells = max(1, rows // (group.tasks * of_task))
    weights_of_heads = cells * model.heads * tokens**2 * (2 * exact + inner)
    baselines = weights_of_heads + cells * tokens * exact * (20 * d + 4 * f)
    readout = rows * d * 8 * (arms + 4)
    return (
        _libraries(model) + weights + 2 * held * d * exact + between + scores + baselines + readout
    )


def _first_layer_sizes(arm: Arm, group: GroupShape) -> tuple[int, int]:
    """Keys that each input of a group has for itself, and distinct pairs of token and position."""
    tasks, tokens = group.tasks, group.tokens
    if arm.positions is Positions.HELD:
        if arm.edit is Edit.REMOVE:
            return tasks - 1, tokens
        return (1 if NOT_RANKED in group.ranks else tasks), tokens + tasks
    # What makes way in each task: a knock-out is the limit of moves to the end, and a gene that is
    # put in comes from there.
    ranks = [tokens if rank == NOT_RANKED else rank for rank in group.ranks]
    moves = list(zip(ranks, group.to_ranks or (tokens,) * tasks, strict=True))
    starts = [min(rank + 1, goal) for rank, goal in moves]
    stops = [max(rank, goal + 1) for rank, goal in moves]
    directions = len({rank < goal for rank, goal in moves})
    common = max(0, min(stops) - max(starts)) if directions == 1 else 0
    own_keys = max(stops) - min(starts) - common
    match arm.edit:
        case Edit.REMOVE:
            return own_keys, tokens + own_keys - 1
        case Edit.MOVE:
            own_keys += directions
            return own_keys, group.length(arm) + own_keys + tasks - 1
        case _:
            return own_keys, tokens + own_keys


def _layer(model: Model, tokens: int, rows: int, attention: int = 1) -> int:
    """Operations of a layer that computes only some rows of its output."""
    d = model.width
    projections = 2 * tokens * d * 2 * d + 2 * rows * d * d
    return projections + attention * 4 * rows * tokens * d + _after_attention(model, rows)


def _computed(tokens: int, rows: int) -> int:
    """Rows that the last layer computes, of those that are read."""
    return rows if rows < WORTH_TRIMMING * tokens else tokens


def _after_attention(model: Model, rows: int) -> int:
    return 2 * rows * model.width * (model.width + 2 * model.feed_forward)
