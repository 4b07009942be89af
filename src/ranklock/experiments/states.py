"""States of cells, and where they lie: what a cell may move towards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranklock.cells import Cells
from ranklock.effects.readout import embeddings
from ranklock.engine.batches import hidden_states
from ranklock.errors import InputError
from ranklock.experiments.plan import baseline_of, shown_genes
from ranklock.models import Model

MOST_CELLS = 200  # that a state's embedding is averaged over


@dataclass(frozen=True)
class StateQuestion:
    """From which state to which, by a column of ``obs``."""

    key: str
    start: str
    goal: str

    def rows(self, cells: Cells, state: str) -> npt.NDArray[np.int_]:
        """Cells in a state.

        Raises
        ------
        InputError
            When there is no such column, or no cell is in the state.
        """
        if self.key not in cells.obs:
            raise InputError(
                f"{cells.source} has no column {self.key!r} in obs (it has "
                f"{', '.join(map(str, cells.obs.columns)) or 'none'}); name one with --state-key."
            )
        values = cells.obs[self.key].astype(str).to_numpy()
        found = np.flatnonzero(values == state)
        if not len(found):
            there = ", ".join(sorted(set(values))[:10])
            raise InputError(f"No cell has {self.key}={state}; there are {there}.")
        return found


def state_embedding(
    cells: Cells, rows: npt.NDArray[np.int_], model: Model, depth: int, *, precision: str, seed: int
) -> npt.NDArray[np.float64]:
    """Mean cell embedding of some cells, shape (width,); of 200 at random where there are more.

    Raises
    ------
    InputError
        When none of them has a gene.
    """
    able = np.array([row for row in rows if shown_genes(cells, int(row), model)], dtype=int)
    if not len(able):
        raise InputError("The cells of the goal state have no genes that the model knows.")
    chosen = np.sort(np.random.default_rng(seed).permutation(able)[:MOST_CELLS])
    total = np.zeros(model.width)
    for row in chosen:
        one = baseline_of(cells, int(row), model)
        (states,) = hidden_states(model, [one], depth, precision=precision)
        total += embeddings(one, states, (), special_frame=cells.special_frame)[1]
    return total / len(chosen)
