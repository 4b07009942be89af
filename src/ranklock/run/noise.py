"""The noise floor of a run, measured on some of its cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ranklock.arms import NOT_RANKED, ModelInput
from ranklock.effects import NoiseFloor, noise_floor
from ranklock.engine.repeats import repeats_of
from ranklock.models import Model

_CELLS_FOR_NOISE = 3


def measure_noise(
    inputs: Sequence[ModelInput],
    model: Model,
    depth: int,
    *,
    special_frame: bool,
    batch_size: int | None = None,
    precision: str = "float32",
) -> NoiseFloor:
    """Noise floor on some cells, from the shortest to the longest.

    Parameters
    ----------
    inputs
        Unperturbed cells, in order of length.
    model, depth, batch_size, precision
        As the run has them.
    special_frame
        Whether the cell embedding is ``<cls>``; otherwise it is the mean over genes.
    """
    places = np.linspace(0, len(inputs) - 1, min(len(inputs), _CELLS_FOR_NOISE)).astype(int)
    repeats = []
    for place in places:
        cell = inputs[place]
        states = repeats_of(model, cell, depth, batch_size=batch_size, precision=precision)
        embeddings = [_embeddings(cell, s, special_frame=special_frame) for s in states]
        repeats.append((np.stack([g for g, _ in embeddings]), np.stack([c for _, c in embeddings])))
    return noise_floor(repeats)


def _embeddings(
    cell: ModelInput, states: npt.NDArray[np.float32], *, special_frame: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Embeddings of the genes and of the cell, shape (genes, width) and (width,)."""
    genes = states[cell.ranks != NOT_RANKED]
    if special_frame:
        return genes, states[0].astype(np.float64)
    return genes, genes.mean(axis=0, dtype=np.float64)
