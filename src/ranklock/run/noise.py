"""The noise floor of a run, measured on some of its cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranklock.cells import Cells
from ranklock.effects import NoiseFloor, noise_floor
from ranklock.effects.readout import embeddings
from ranklock.engine.repeats import repeats_of
from ranklock.models import Model
from ranklock.run.old_plan import baseline_of

_CELLS_FOR_NOISE = 5


def measure_noise(
    used: Sequence[int],
    cells: Cells,
    model: Model,
    depth: int,
    *,
    batch_size: int | None = None,
    precision: str = "float32",
) -> NoiseFloor:
    """Noise floor on some cells, from the shortest to the longest.

    Parameters
    ----------
    used
        Cells that the run uses.
    cells, model, depth, batch_size, precision
        As the run has them.
    """
    by_length = sorted(used, key=lambda cell: (len(cells.ranked[cell]), cell))
    places = np.linspace(0, len(by_length) - 1, min(len(by_length), _CELLS_FOR_NOISE)).astype(int)
    repeats = []
    for place in places:
        one = baseline_of(cells, by_length[place], model)
        states = repeats_of(model, one, depth, batch_size=batch_size, precision=precision)
        read = [embeddings(one, s, (), special_frame=cells.special_frame) for s in states]
        repeats.append((np.stack([g for g, _ in read]), np.stack([c for _, c in read])))
    return noise_floor(repeats)
