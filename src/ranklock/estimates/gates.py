"""Gates on genes, and what a number is worth to each of them: the mathematics of estimates.

A gate α multiplies exp(score) of one key in every layer and head, an additive log α on its
attention scores. α = 1 is the unperturbed cell, α = 0 is `hold`: the gene is gone for everyone
else, who keep their positions. So the derivative of a number S with respect to all gates, one
backward pass, says to first order what every knock-out of the cell does to S.

With weights w, values v and output o of one query, removing the key k from that query alone moves
its output by −w/(1 − w) (v − o), which is −w (v − o) to first order in the gate. **Removal** takes
the former at each place where the key is attended to, and only what follows is linear: it stays
right where a key holds nearly all of a query's attention and the derivative vanishes. It leaves
out what the gene's own query sees, since nobody sees that any more.

The two failures of such attributions, saturated attention and cancellation, and the names, are
from Kramár et al. (AtP*, arXiv:2403.00745).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ranklock.engine.forward import Packed, run_layers
from ranklock.estimates.attention import Attended, SiteSums, back_through, recorded
from ranklock.models.encoder import Encoder, Layer

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """What removing each token of an input does to some numbers; float64.

    The first three of shape (numbers, tokens), the others (tokens,).
    """

    removal: Array  # estimated change of each number
    derivative: Array  # −∂S/∂α at α = 1
    gross: Array  # absolute parts of layers and heads, summed; far above the removal, they cancel
    peak: Array  # largest attention that a token gets from another
    # Largest part, in any layer, that a token's removal takes from what another is given by
    # attention, beside the median length of what tokens hold. Where it is not small, what follows
    # (a norm first of all) is no line.
    dominance: Array


def sensitivities(
    encoder: Encoder,
    packed: Packed,
    depth: int,
    cotangents: Callable[[Tensor], Tensor],
    rows: Tensor | None = None,
) -> list[Sensitivities]:
    """What removing each token does to numbers that are read at the end.

    Parameters
    ----------
    encoder, packed, depth
        What is run: at least one layer, and every token visible.
    cotangents
        From the hidden states that are read, shape (rows, width), to ∂S/∂(hidden states) of each
        number S, shape (numbers, rows, width).
    rows
        Rows that are read, all by default; their number is what it was packed with.

    Returns
    -------
    For each input, in the order in which they were packed.
    """
    layers = encoder.layers[:depth]
    reads = [None] * (depth - 1) + [rows]
    entering: list[Tensor] = []
    attended: list[list[Attended]] = []
    with torch.no_grad():
        states = encoder.embed(packed.tokens, packed.positions)
        for layer, read in zip(layers, reads, strict=True):
            entering.append(states)
            attended.append([])
            states = run_layers(
                encoder, states, packed.stretches, [layer], read, recorded(attended[-1])
            )
        back = cotangents(states)
        tokens = len(packed.tokens)
        removal, derivative, gross = torch.zeros(
            (3, len(back), tokens), dtype=torch.float64, device=encoder.device
        )
        peak, dominance = torch.zeros((2, tokens), dtype=back.dtype, device=encoder.device)
        for index in reversed(range(depth)):
            layer, read, states = layers[index], reads[index], entering[index]
            sums = SiteSums.zeros(len(back), tokens, encoder)
            residual, d_attended = _through_finish(
                layer, states if read is None else states[read], attended[index], back
            )
            back = back_through(layer, attended[index], d_attended, read, sums, further=index > 0)
            back[:, slice(None) if read is None else read] += residual
            removal -= sums.removals.sum(-1)
            gross += sums.removals.abs().sum(-1)
            derivative -= sums.gates
            peak = torch.maximum(peak, sums.peak)
            dominance = torch.maximum(dominance, sums.written / states.norm(dim=-1).median())
    lengths = [s.length for s in packed.stretches for _ in range(s.inputs)]
    length_at = dict(zip(np.cumsum([0, *lengths[:-1]]).tolist(), lengths, strict=True))

    def of(tensor: Tensor, start: int) -> Array:
        return tensor[:, start : start + length_at[start]].double().cpu().numpy()

    return [
        Sensitivities(
            removal=of(removal, start),
            derivative=of(derivative, start),
            gross=of(gross, start),
            peak=of(peak[None], start)[0],
            dominance=of(dominance[None], start)[0],
        )
        for start in packed.starts.tolist()
    ]


def _through_finish(
    layer: Layer, residual: Tensor, attended: Sequence[Attended], back: Tensor
) -> tuple[Tensor, Tensor]:
    """Derivatives by what enters the part of a layer that follows attention."""
    out = torch.cat([site.rows for site in attended])
    with torch.enable_grad():
        leaves = residual.detach().requires_grad_(), out.detach().requires_grad_()
        by_residual, by_attended = torch.autograd.grad(
            layer.finish(*leaves), leaves, back, is_grads_batched=True
        )
    return by_residual, by_attended
