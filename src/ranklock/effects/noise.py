"""The noise floor: how far embeddings move when nothing was done to the cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ranklock.effects.distance import Embeddings, Numbers, cosine_distance, displacement

_MARGIN = 2.0

Measure = Callable[[Embeddings, Embeddings], Numbers]
Pairs = Sequence[tuple[Embeddings, Embeddings]]


@dataclass(frozen=True)
class NoiseFloor:
    """What rounding alone can do: effects up to here are no effects.

    Twice the largest movement seen between computations of one cell that are the same in exact
    arithmetic, because not every cell and every place in a batch can be tried. A cosine distance
    grows with the square of a movement, so its floor is four times the largest seen.

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

    def largest(measure: Measure, pairs: Pairs) -> float:
        return max(float(measure(x, y).max(initial=0.0)) for x, y in pairs)

    return NoiseFloor(
        cosine_distance=_MARGIN**2 * largest(cosine_distance, genes),
        displacement=_MARGIN * largest(displacement, genes),
        cell_shift=_MARGIN**2 * largest(cosine_distance, cells),
        cell_displacement=_MARGIN * largest(displacement, cells),
        comparisons=int(sum(np.prod(after.shape[:-1]) for _, after in genes)),
    )
