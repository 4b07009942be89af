"""What estimates cost: floating-point operations and memory, known before they start.

Counted as in :mod:`ranklock.engine.cost`: of matrix products alone, as they are done.
"""

from __future__ import annotations

from ranklock.engine.cost import forward_flop
from ranklock.estimates.attention import SCORES_ON_CPU, SCORES_ON_GPU
from ranklock.models import Model
from ranklock.models.precision import stored_as

PROBES_AT_ONCE = 8  # numbers that share a forward when responders are many

# On a CPU: torch, transformers and the rest once imported, and what the C library's heap keeps of
# arrays that were freed.
_LIBRARIES = (600 << 20) + (1 << 30)


def estimate_flop(model: Model, tokens: int, rows: int, depth: int, numbers: int) -> int:
    """Operations of estimating one cell: a forward, and one pass back for all numbers together.

    Parameters
    ----------
    tokens, rows
        Tokens of the cell, and how many of them are read.
    depth
        Layers to run; at least one.
    numbers
        Numbers that are differentiated; eight share a forward.

    Notes
    -----
    What :mod:`ranklock.estimates.attention` multiplies for q queries and n keys of width d: the
    scores once more, 2qnd; of each number the derivatives by values, 2qnd, by scores, queries and
    keys, 6qnd (not in the first layer), the removal, 2qnd, and for both what queries of h heads
    have in common, 4qnh; and what each key writes, 2nd².
    """
    d, h = model.width, model.heads
    shared = -(-numbers // PROBES_AT_ONCE)
    total = shared * forward_flop(model, tokens, rows, depth)
    for layer in range(depth):
        queries = rows if layer == depth - 1 else tokens
        after_attention = 2 * queries * d * (d + 2 * model.feed_forward)
        total += (shared + numbers) * after_attention
        total += (shared * 2 + numbers * 4) * queries * tokens * d
        total += numbers * 4 * queries * tokens * h + shared * 2 * tokens * d * d
        if layer:
            total += numbers * (6 * queries * tokens * d + 2 * (queries + 2 * tokens) * d * d)
    return total


def estimate_memory(model: Model, tokens: int, depth: int, numbers: int, precision: str) -> int:
    """Bytes that estimating a cell needs on the device, weights and libraries included.

    An estimate from above: what is kept of the forward in every layer, and of each number what one
    layer of the pass back holds together.
    """
    on_cpu = model.device == "cpu"
    size = int(stored_as(precision).itemsize)
    weights: int = size * sum(p.numel() for p in model.encoder.parameters())
    original = 0 if size == 4 else 2 * weights
    kept = depth * tokens * 6 * model.width * size
    together = min(numbers, PROBES_AT_ONCE)
    back = together * tokens * (14 * model.width + 4 * model.feed_forward) * size
    finish = tokens * (8 * model.width + 4 * model.feed_forward) * size
    scores = 6 * (SCORES_ON_CPU if on_cpu else SCORES_ON_GPU) * size
    return _LIBRARIES * on_cpu + weights + original + kept + back + finish + scores
