"""Inner products of embeddings before and after, taken on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ranklock.engine.moments import CROSSED, MASK_AND_HOLD, Moments, StateMoments


@dataclass(frozen=True, eq=False)
class Measured:
    """Inner products of some knock-outs in one cell.

    Attributes
    ----------
    genes
        Of each responder, shape (knock-outs, responders); the knocked-out gene's own are zero.
    cell
        Of the cell embedding, shape (knock-outs,); None when it is not read.
    states
        Of the cell embedding with those of states; None when there are none.
    logits
        Arm → change of a classifier's logit, shape (knock-outs,); None when there is none.
    """

    genes: Moments
    cell: Moments | None
    states: StateMoments | None = None
    logits: Mapping[str, npt.NDArray[np.float64]] | None = None


def measure(
    before: Tensor,
    after: Mapping[str, Tensor],
    knocked_out: npt.NDArray[np.int64],
    cell: tuple[Tensor, Mapping[str, Tensor]] | None,
    *,
    cell_is_mean: bool,
    states: Tensor | None = None,
) -> Measured:
    """Inner products of the displacements of responders and of the cell embedding.

    Parameters
    ----------
    before
        Embeddings of the responders at baseline, in float64, shape (responders, width).
    after
        Arm → the same after each knock-out, shape (knock-outs, responders, width).
    knocked_out
        Which responder each knock-out is; -1 when it is none of them. What stands in its place in
        ``after`` is not looked at.
    cell
        Embedding of ``<cls>`` at baseline, shape (width,), and of each arm's, shape (knock-outs,
        width), when that is the cell embedding.
    cell_is_mean
        Whether the mean over responders is.
    states
        Embeddings of states that the cell embedding may move towards, in float64, shape (states,
        width).
    """
    index = torch.from_numpy(knocked_out).to(before.device)
    itself = torch.nonzero(index >= 0).squeeze(1)
    deltas = {}
    for arm, moved in after.items():
        delta = moved - before
        delta[itself, index[itself]] = 0.0
        deltas[arm] = delta
    genes = _moments(before, deltas)
    start = ends = None
    if cell is not None:
        at_baseline, after_all = cell
        start = at_baseline.expand(len(index), -1)
        ends = {arm: end.double() - at_baseline for arm, end in after_all.items()}
    elif cell_is_mean:
        others = (before.shape[0] - (index >= 0).double())[:, None]
        own = torch.zeros(len(index), before.shape[1], dtype=before.dtype, device=before.device)
        own[itself] = before[index[itself]]
        start = (before.sum(0) - own) / others
        ends = {arm: delta.sum(1) / others for arm, delta in deltas.items()}
    if start is None or ends is None:
        return Measured(genes, None)
    approach = None if states is None else _state_moments(start, ends, states)
    return Measured(genes, _moments(start, ends), approach)


def _moments(before: Tensor, deltas: Mapping[str, Tensor]) -> Moments:
    def product(one: Tensor, other: Tensor) -> npt.NDArray[np.float64]:
        array: npt.NDArray[np.float64] = (one * other).sum(-1).cpu().numpy()
        return array

    complete = all(arm in deltas for pair in CROSSED for arm in pair)
    pairs = (*CROSSED * complete, *(MASK_AND_HOLD,) * (set(MASK_AND_HOLD) <= set(deltas)))
    return Moments(
        squared=product(before, before),
        along={arm: product(delta, before) for arm, delta in deltas.items()},
        moved={arm: product(delta, delta) for arm, delta in deltas.items()},
        crossed={(one, other): product(deltas[one], deltas[other]) for one, other in pairs},
    )


def _state_moments(before: Tensor, deltas: Mapping[str, Tensor], states: Tensor) -> StateMoments:
    return StateMoments(
        squared=(states * states).sum(-1).cpu().numpy(),
        before=(before @ states.T).cpu().numpy(),
        along={arm: (delta @ states.T).cpu().numpy() for arm, delta in deltas.items()},
    )
