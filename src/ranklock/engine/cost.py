"""What a run costs: floating-point operations and memory, known before it starts.

Operations are those of matrix products (two for a multiplication and its addition), as they are
done; sums, norms and exponentials are left out, as is usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ranklock.arms import Arm, Edit, Positions
from ranklock.engine.batches import usual_batch_size
from ranklock.engine.first_layer import SCORES_AT_ONCE, shares
from ranklock.engine.tasks import WORTH_TRIMMING, sharing_slices
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
        Perturbed rank of each task, ascending.
    rows
        Rows of an input that are read.
    """

    tokens: int
    ranks: tuple[int, ...]
    rows: int

    @property
    def tasks(self) -> int:
        """How many there are."""
        return len(self.ranks)

    @property
    def span(self) -> int:
        """Ranks from the first to the last."""
        return self.ranks[-1] - self.ranks[0]

    def slices(self, model: Model) -> Iterator[GroupShape]:
        """The parts that share their first layer."""
        for part in sharing_slices(model, self.tasks, self.tokens):
            yield replace(self, ranks=self.ranks[part])


def forward_flop(model: Model, tokens: int, rows: int, depth: int, *, logits: bool = False) -> int:
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
        Whether a classifier reads the first token after all layers.
    """
    if logits:
        beyond = model.layers - depth
        rest = (beyond - 1) * _layer(model, tokens, tokens) + _layer(model, tokens, 1)
        return depth * _layer(model, tokens, tokens) + (rest if beyond else 0)
    if not depth:
        return 0
    return (depth - 1) * _layer(model, tokens, tokens) + _last(model, tokens, rows)


def group_flop(
    model: Model, arms: Iterable[Arm], group: GroupShape, depth: int, *, logits: bool = False
) -> int:
    """Operations of the tasks of one kind in one cell, their baseline included."""
    total = forward_flop(model, group.tokens, group.rows, depth, logits=logits)
    for arm in arms:
        for part in group.slices(model):
            total += _slice_flop(model, arm, part, depth, logits=logits)
    return total


def _slice_flop(model: Model, arm: Arm, group: GroupShape, depth: int, *, logits: bool) -> int:
    removed = arm.edit is Edit.REMOVE
    tokens = group.tokens - (removed and not arm.backfill)
    if not depth or not tokens:
        return group.tasks * forward_flop(model, max(tokens, 1), group.rows, depth, logits=logits)
    own, pairs = _first_layer_sizes(arm, group)
    alone = forward_flop(model, tokens, group.rows, depth, logits=logits)
    if not shares(group.tasks, own, tokens):
        return group.tasks * alone
    d = model.width
    once = pairs * 6 * d * d + 4 * pairs * (tokens - own) * d
    first = 4 * tokens * own * d + _after_attention(model, tokens)
    # What a first layer costs that is not shared, as it is counted in the forward.
    rows = tokens if depth > 1 or logits or group.rows >= WORTH_TRIMMING * tokens else group.rows
    return once + group.tasks * (alone - _layer(model, tokens, rows) + first)


def peak_memory(
    model: Model,
    arms: Iterable[Arm],
    group: GroupShape,
    precision: str,
    batch_size: int | None = None,
) -> int:
    """Bytes that a batch needs on the device, weights and libraries included.

    An estimate from above, of what is held together: a batch's activations, the readout in
    float64, and what the first layer shares. Of the tasks, ``batch_size`` are in a batch, or as
    many as suit the device.
    """
    arms = list(arms)
    size = int(stored_as(precision).itemsize)
    weights: int = size * sum(p.numel() for p in model.encoder.parameters())
    original = 0 if size == 4 else 2 * weights
    usual = batch_size or usual_batch_size(model, max(1, group.tokens))
    tasks = min(group.tasks, usual)
    activations = tasks * group.tokens * (7 * model.width + 2 * model.feed_forward) * size
    readout = tasks * group.rows * model.width * (8 * (len(arms) + 4) + 4 * len(arms))
    shared = 0
    for arm in arms:
        part = next(group.slices(model))
        own, pairs = _first_layer_sizes(arm, part)
        if shares(part.tasks, own, part.tokens):
            shared += 4 * model.width * (7 * pairs + 2 * part.tasks * own)
            activations += 8 * tasks * group.tokens * own * model.heads
    libraries = _LIBRARIES + _HEAP if model.device == "cpu" else 0
    return libraries + weights + original + activations + readout + shared + 12 * SCORES_AT_ONCE


def _first_layer_sizes(arm: Arm, group: GroupShape) -> tuple[int, int]:
    """Keys that each input of a group has for itself, and distinct pairs of token and position."""
    removed = arm.edit is Edit.REMOVE
    if arm.positions is Positions.RENUMBERED:
        return group.span, group.tokens + group.span - removed
    if removed:
        return group.tasks - 1, group.tokens
    return group.tasks, group.tokens + group.tasks


def _layer(model: Model, tokens: int, rows: int) -> int:
    """Operations of a layer that computes only some rows of its output."""
    d = model.width
    projections = 2 * tokens * d * 2 * d + 2 * rows * d * d
    return projections + 4 * rows * tokens * d + _after_attention(model, rows)


def _last(model: Model, tokens: int, rows: int) -> int:
    return _layer(model, tokens, rows if rows < WORTH_TRIMMING * tokens else tokens)


def _after_attention(model: Model, rows: int) -> int:
    return 2 * rows * model.width * (model.width + 2 * model.feed_forward)
