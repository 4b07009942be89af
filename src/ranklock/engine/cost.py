"""What a sweep costs: floating-point operations and memory, known before it starts.

Operations are those of matrix products (two for a multiplication and its addition), as they are
done; sums, norms and exponentials are left out, as is usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ranklock.arms import Arm, Edit, Positions
from ranklock.engine.batches import usual_batch_size
from ranklock.engine.blocks import WORTH_TRIMMING, sharing_groups
from ranklock.engine.first_layer import SCORES_AT_ONCE, shares
from ranklock.models import Model
from ranklock.models.precision import stored_as

# On a CPU: torch, transformers and the rest once imported, and what the C library's heap keeps of
# arrays that were freed. benchmarks/growth.py prints what is used.
_LIBRARIES = 600 << 20
_HEAP = 1 << 30


@dataclass(frozen=True)
class BlockShape:
    """Sizes of a block of knock-outs of one cell.

    Attributes
    ----------
    tokens
        Tokens of the unperturbed cell, special tokens included.
    ranks
        Perturbed rank of each knock-out, ascending.
    rows
        Rows of an input that are read.
    """

    tokens: int
    ranks: tuple[int, ...]
    rows: int

    @property
    def knockouts(self) -> int:
        """How many there are."""
        return len(self.ranks)

    @property
    def span(self) -> int:
        """Ranks from the first to the last."""
        return self.ranks[-1] - self.ranks[0]

    def groups(self, model: Model) -> Iterator[BlockShape]:
        """The parts that share their first layer."""
        for part in sharing_groups(model, self.knockouts, self.tokens):
            yield replace(self, ranks=self.ranks[part])


def forward_flop(model: Model, tokens: int, rows: int, depth: int) -> int:
    """Operations of one input through its layers."""
    if not depth:
        return 0
    return (depth - 1) * _layer(model, tokens, tokens) + _last(model, tokens, rows)


def block_flop(model: Model, arm: Arm, block: BlockShape, depth: int) -> int:
    """Operations of a block under one arm."""
    return sum(_group_flop(model, arm, group, depth) for group in block.groups(model))


def _group_flop(model: Model, arm: Arm, block: BlockShape, depth: int) -> int:
    removed = arm.edit is Edit.REMOVE
    tokens = block.tokens - (removed and not arm.backfill)
    if not depth or not tokens:
        return 0
    own, pairs = _first_layer_sizes(arm, block)
    if not shares(block.knockouts, own, tokens):
        return block.knockouts * forward_flop(model, tokens, block.rows, depth)
    d = model.width
    once = pairs * 6 * d * d + 4 * pairs * (tokens - own) * d
    first = 4 * tokens * own * d + _after_attention(model, tokens)
    rest = 0
    if depth > 1:
        rest = (depth - 2) * _layer(model, tokens, tokens) + _last(model, tokens, block.rows)
    return once + block.knockouts * (first + rest)


def peak_memory(
    model: Model,
    arms: Iterable[Arm],
    block: BlockShape,
    precision: str,
    batch_size: int | None = None,
) -> int:
    """Bytes that the largest block needs on the device, weights and libraries included.

    An estimate from above, of what is held together: a batch's activations, the readout in
    float64, and what the first layer shares. Of knock-outs, ``batch_size`` are in a batch, or as
    many as suit the device.
    """
    arms = list(arms)
    size = int(stored_as(precision).itemsize)
    weights: int = size * sum(p.numel() for p in model.encoder.parameters())
    original = 0 if size == 4 else 2 * weights
    usual = batch_size or usual_batch_size(model, max(1, block.tokens))
    knockouts = min(block.knockouts, usual)
    activations = knockouts * block.tokens * (7 * model.width + 2 * model.feed_forward) * size
    readout = knockouts * block.rows * model.width * (8 * (len(arms) + 3) + 4 * len(arms))
    shared = 0
    for arm in arms:
        group = next(block.groups(model))
        own, pairs = _first_layer_sizes(arm, group)
        if shares(group.knockouts, own, group.tokens):
            shared += 4 * model.width * (7 * pairs + 2 * group.knockouts * own)
            activations += 8 * knockouts * block.tokens * own * model.heads
    libraries = _LIBRARIES + _HEAP if model.device == "cpu" else 0
    return libraries + weights + original + activations + readout + shared + 12 * SCORES_AT_ONCE


def _first_layer_sizes(arm: Arm, block: BlockShape) -> tuple[int, int]:
    """Keys that each input of a block has for itself, and distinct pairs of token and position."""
    removed = arm.edit is Edit.REMOVE
    if arm.positions is Positions.RENUMBERED:
        return block.span, block.tokens + block.span - removed
    if removed:
        return block.knockouts - 1, block.tokens
    return block.knockouts, block.tokens + block.knockouts


def _layer(model: Model, tokens: int, rows: int) -> int:
    """Operations of a layer that computes only some rows of its output."""
    d = model.width
    projections = 2 * tokens * d * 2 * d + 2 * rows * d * d
    return projections + 4 * rows * tokens * d + _after_attention(model, rows)


def _last(model: Model, tokens: int, rows: int) -> int:
    return _layer(model, tokens, rows if rows < WORTH_TRIMMING * tokens else tokens)


def _after_attention(model: Model, rows: int) -> int:
    return 2 * rows * model.width * (model.width + 2 * model.feed_forward)
