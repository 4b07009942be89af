"""The noise floor: how far embeddings move when nothing was done to the cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ranklock.effects.distance import Embeddings, cosine_distance, displacement


@dataclass(frozen=True)
class NoiseFloor:
    """Largest effects between computations of one cell that are the same in exact arithmetic.

    Attributes
    ----------
    cosine_distance, displacement
        Of genes.
    cell_shift, cell_displacement
        Of the cell embedding.
    comparisons
        How many gene embeddings were compared.
    """

    cosine_distance: float
    displacement: float
    cell_shift: float
    cell_displacement: float
    comparisons: int


def noise_floor(repeats: Sequence[tuple[Embeddings, Embeddings]]) -> NoiseFloor:
    """Noise floor from repeats of cells.

    Parameters
    ----------
    repeats
        For each cell, embeddings of its genes, shape (repeats, genes, width), and of the cell,
        shape (repeats, width). The first repeat is what the others are compared with.
    """
    genes = [(g[:1].repeat(len(g) - 1, axis=0), g[1:]) for g, _ in repeats]
    cells = [(c[:1].repeat(len(c) - 1, axis=0), c[1:]) for _, c in repeats]

    def largest(measure, pairs) -> float:  # type: ignore[no-untyped-def]
        return max(float(measure(x, y).max(initial=0.0)) for x, y in pairs)

    return NoiseFloor(
        cosine_distance=largest(cosine_distance, genes),
        displacement=largest(displacement, genes),
        cell_shift=largest(cosine_distance, cells),
        cell_displacement=largest(displacement, cells),
        comparisons=int(sum(np.prod(after.shape[:-1]) for _, after in genes)),
    )
