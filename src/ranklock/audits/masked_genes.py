"""How well a checkpoint tells the genes that it is not shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from ranklock.arms import ModelInput
from ranklock.cells import Cells
from ranklock.engine.forward import pack, run_layers
from ranklock.genes.vocabulary import MASK
from ranklock.models import Model
from ranklock.models.encoder import encoder_of
from ranklock.models.masked_head import MaskedHead
from ranklock.models.precision import computing_in
from ranklock.run.plan import unperturbed_cell

MASKED = 0.15  # of a cell's genes, as in pretraining (Devlin et al., NAACL 2019)
_FEWEST = 2  # genes of a cell, one of which is masked


@dataclass(frozen=True, eq=False)
class MaskedInput:
    """A cell some of whose genes are masked.

    ``cell`` is its row; ``rows`` are the masked rows of the input, and ``tokens`` those that were
    there, shape (masked,).
    """

    cell: int
    shown: ModelInput
    rows: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]


def mask_cells(
    cells: Cells, model: Model, rows: Sequence[int], number: int, seed: int
) -> list[MaskedInput]:
    """Mask ``MASKED`` of the genes of some cells at random, at least one; every one by ``<mask>``.

    Parameters
    ----------
    rows
        Rows of the cells, which take turns until there are ``number`` inputs.
    seed
        Of what is masked.
    """
    generator = np.random.default_rng(seed)
    mask = cells.vocabulary.special[MASK]
    able = [row for row in rows if len(cells.ranked[row]) >= _FEWEST]
    masked = []
    for turn in range(number if able else 0):
        row = able[turn % len(able)]
        cell = unperturbed_cell(cells, row, model)
        genes = np.flatnonzero(cell.ranks >= 0)
        chosen = np.sort(generator.permutation(genes)[: max(round(MASKED * len(genes)), 1)])
        tokens = cell.tokens.copy()
        tokens[chosen] = mask
        truth = cell.tokens[chosen].astype(np.int64)
        masked.append(MaskedInput(row, replace(cell, tokens=tokens), chosen, truth))
    return masked


def masked_losses(
    model: Model, head: MaskedHead, inputs: Sequence[MaskedInput]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Cross-entropy of each masked gene in nats, and 1 where the head's first guess is right.

    Both are of shape (masked genes of all inputs,), input by input; forwards in float32.
    """
    losses, right = [], []
    encoder = encoder_of(model)
    with computing_in("float32"):
        for each in inputs:
            packed = pack([each.shown], encoder.device)
            states = run_layers(
                encoder, encoder.embed(packed.tokens, packed.positions), packed.stretches,
                encoder.layers,
            )  # fmt: skip
            logits = head(states[torch.from_numpy(each.rows).to(encoder.device)]).double()
            truth = torch.from_numpy(each.tokens).to(encoder.device)
            losses.append(torch.nn.functional.cross_entropy(logits, truth, reduction="none"))
            right.append((logits.argmax(-1) == truth).double())
    return torch.cat(losses).cpu().numpy(), torch.cat(right).cpu().numpy()
