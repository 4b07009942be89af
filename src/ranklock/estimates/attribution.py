"""Questions that one backward pass answers for every knock-out of a cell, and their answers.

Two kinds. A **signed** question is about one number: how far a knock-out turns the cell embedding
towards a state, or what it does to a classifier's logit. An **effect** is about responders: their
mean cosine distance, Σᵢ ‖δᵢ⊥‖² / (2 ‖xᵢ‖² m) to first order, over m responders without the
knocked-out gene. Its squares have no single derivative; with random signs z, ⟨z, δ⟩² has the mean
‖δ‖² (Hutchinson, *Communications in Statistics* 18, 1989), one backward pass a probe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ranklock.arms import NOT_RANKED, ModelInput
from ranklock.engine.forward import pack, run_layers
from ranklock.engine.memory import memory_errors
from ranklock.estimates.cost import PROBES_AT_ONCE
from ranklock.estimates.gates import Sensitivities, sensitivities
from ranklock.models import Model
from ranklock.models.encoder import Encoder, encoder_of
from ranklock.models.head import Head
from ranklock.models.precision import multiplying_in

Array = npt.NDArray[np.float64]
Cotangents = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of every knock-out of a cell; one of the three."""

    goal: Array | None = None  # embedding that the cell may move towards, shape (width,)
    head: Head | None = None  # a classifier,
    label: int = 0  # and which of its logits
    probes: int = 0  # for the effect on responders: how many random signs
    responders: npt.NDArray[np.int32] | None = None  # their tokens; all other genes when None
    seed: int = 0  # of the signs

    @property
    def signed(self) -> bool:
        """Whether its answers have a sign."""
        return not self.probes

    @property
    def numbers(self) -> int:
        """Numbers that are differentiated: one, or one a probe."""
        return max(self.probes, 1)

    def reads_first(self, *, special_frame: bool) -> bool:
        """Whether it is about the first token alone."""
        return self.head is not None or (self.signed and special_frame)

    def answer(self, embedding: Tensor) -> Tensor:
        """The number that a signed question is about, of the embedding that it reads."""
        if self.head is not None:
            return self.head(embedding)[..., self.label]
        goal = torch.as_tensor(self.goal, device=embedding.device)
        return torch.nn.functional.cosine_similarity(embedding, goal, dim=0)


@dataclass(frozen=True, eq=False)
class CellEstimates:
    """What every knock-out of a cell does, to first order; each of shape (genes,)."""

    # The change of the number, or the mean effect on the responders; NaN where there is none. Of
    # the first gene of a cell without <cls> a classifier's is exact.
    estimate: Array
    derivative: Array  # by the gates alone; NaN where that means nothing
    gross: Array  # were the parts of all layers and heads to add up
    peak: Array  # largest attention that the gene gets from any other
    dominance: Array  # largest part of what another holds that its removal takes, in any layer

    @property
    def agreement(self) -> float:
        """Correlation of derivative and removal: where it is low, the first order is in doubt."""
        known = np.isfinite(self.estimate) & np.isfinite(self.derivative)
        pairs = np.stack([self.estimate[known], self.derivative[known]])
        if pairs.shape[1] < 3 or not np.ptp(pairs, axis=1).all():
            return float("nan")
        return float(np.corrcoef(*pairs)[0, 1])


def estimate_cell(
    model: Model,
    cell: ModelInput,
    question: Question,
    depth: int,
    *,
    special_frame: bool,
    precision: str = "float32",
) -> CellEstimates:
    """Estimate what every knock-out of a cell does, with all positions held.

    Parameters
    ----------
    model, cell, question
        What is asked of which unperturbed cell.
    depth
        Layers to run; at least one.
    special_frame
        Whether the cell embedding is ``<cls>``, which stands first.
    precision
        Number format.

    Raises
    ------
    MemoryError
        When it does not fit into the device's memory.
    """
    encoder = encoder_of(model, precision)
    genes = np.flatnonzero(cell.ranks != NOT_RANKED)
    with multiplying_in(precision), memory_errors(model.device):
        if question.signed:
            return _signed(encoder, cell, question, depth, genes, special_frame=special_frame)
        return _effects(encoder, cell, question, depth, genes)


def _signed(
    encoder: Encoder,
    cell: ModelInput,
    question: Question,
    depth: int,
    genes: npt.NDArray[np.int_],
    *,
    special_frame: bool,
) -> CellEstimates:
    first = question.reads_first(special_frame=special_frame)
    read = torch.from_numpy(np.zeros(1, np.int64) if first else genes).to(encoder.device)

    def cotangent(states: Tensor) -> Tensor:
        with torch.enable_grad():
            mean = states.detach().double().mean(0).requires_grad_()
            (slope,) = torch.autograd.grad(question.answer(mean), mean)
        return (slope / len(states)).expand(1, len(states), -1).to(states.dtype)

    sums = _run(encoder, cell, depth, cotangent, None if len(read) == len(cell) else read)
    # Without <cls> the mean is over the other genes, one fewer than the derivative's.
    scale = 1.0 if first else len(genes) / max(len(genes) - 1, 1)
    estimate, derivative, gross = (
        scale * part[0, genes] for part in (sums.removal, sums.derivative, sums.gross)
    )
    if question.head is not None and not special_frame:
        # The next gene then stands first, and is what the head reads: no small change of anything.
        estimate[0] = _without_the_first(encoder, cell, question, depth)
        derivative[0] = np.nan
    return CellEstimates(estimate, derivative, gross, sums.peak[genes], sums.dominance[genes])


def _without_the_first(encoder: Encoder, cell: ModelInput, question: Question, depth: int) -> float:
    """Change of a logit once the first token is gone, by two forwards."""
    logits = []
    with torch.no_grad():
        for start in (0, 1):
            packed = pack([cell.take(np.arange(start, len(cell)))], encoder.device, [1])
            states = encoder.embed(packed.tokens, packed.positions)
            first = torch.zeros(1, dtype=torch.int64, device=encoder.device)
            states = run_layers(encoder, states, packed.stretches, encoder.layers[:depth], first)
            logits.append(float(question.answer(states[0])))
    return logits[1] - logits[0]


def _effects(
    encoder: Encoder, cell: ModelInput, question: Question, depth: int, genes: npt.NDArray[np.int_]
) -> CellEstimates:
    tokens = cell.tokens[genes]
    responds = np.ones(len(genes), bool)
    if question.responders is not None:
        responds = np.isin(tokens, question.responders)
    responding = responds.sum() - responds  # of each knock-out, which is none of its own responders
    if not responds.any():
        nothing = np.full(len(genes), np.nan)
        return CellEstimates(nothing, nothing, nothing, nothing, nothing)
    rows = torch.from_numpy(genes[responds]).to(encoder.device)
    signs = torch.Generator().manual_seed(_seed_of(cell, question.seed))
    squares = np.zeros((3, len(genes)))
    peak, dominance = np.zeros((2, len(genes)))
    for start in range(0, question.probes, PROBES_AT_ONCE):
        number = min(PROBES_AT_ONCE, question.probes - start)

        def cotangents(states: Tensor, number: int = number) -> Tensor:
            return _probes(states, number, signs)

        sums = _run(encoder, cell, depth, cotangents, None if len(rows) == len(cell) else rows)
        parts = (sums.removal, sums.derivative, sums.gross)
        squares += np.stack([(part[:, genes] ** 2).sum(0) for part in parts])
        peak, dominance = sums.peak[genes], sums.dominance[genes]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(responding > 0, squares / question.probes / responding, np.nan)
    estimate, derivative, gross = means
    return CellEstimates(estimate, derivative, gross, peak, dominance)


def _probes(states: Tensor, number: int, signs: torch.Generator) -> Tensor:
    """Random signs, made orthogonal to each state and divided by √2 of its length."""
    drawn = torch.randint(0, 2, (number, *states.shape), generator=signs) * 2 - 1
    signed = drawn.to(states.device, states.dtype)
    squared = (states * states).sum(-1, keepdim=True)
    across = signed - (signed * states).sum(-1, keepdim=True) / squared * states
    return across / (2.0 * squared).sqrt()


def _seed_of(cell: ModelInput, seed: int) -> int:
    """A seed of the cell's own: its signs do not depend on which cells come before it."""
    digest = hashlib.sha256(np.ascontiguousarray(cell.tokens, dtype="<i4").tobytes())
    digest.update(str(seed).encode())
    return int.from_bytes(digest.digest()[:7], "little")


def _run(
    encoder: Encoder, cell: ModelInput, depth: int, cotangents: Cotangents, rows: Tensor | None
) -> Sensitivities:
    packed = pack([cell], encoder.device, None if rows is None else [len(rows)])
    return sensitivities(encoder, packed, depth, cotangents, rows)[0]
