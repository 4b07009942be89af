"""Perturbed inputs as what differs from the unperturbed cell: rows, gone keys, added keys.

The displacement forward keeps the rows of the unperturbed cell for every task, so that tasks of
one cell are one array. A token that an arm removes keeps its row, which nobody looks at; tokens
that an arm puts in are kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranklock.arms import NOT_RANKED, ModelInput
from ranklock.engine.groups import foremost, place_of_rank

Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Edits:
    """Inputs of one cell in terms of its unperturbed rows.

    Attributes
    ----------
    tokens, positions
        Of each row of each input, shape (inputs, length); a removed row's are as they were.
    gone
        Rows that are no keys, shape (inputs, most); ``length`` where an input has fewer.
    removed
        Which of the rows are not in the input, shape (inputs, length).
    added_tokens, added_positions
        Of tokens that are put in, shape (inputs, most); where an input has fewer, the last are 0.
    added
        Which of those are there, shape (inputs, most).
    foremost
        Row with the lowest position, shape (inputs,); ``length`` + k for added token k. Where two
        stand there, the last of them.
    """

    tokens: Integers
    positions: Integers
    gone: Integers
    removed: Bools
    added_tokens: Integers
    added_positions: Integers
    added: Bools
    foremost: Integers

    @property
    def length(self) -> int:
        """Rows of an input."""
        return int(self.tokens.shape[1])


def edits_of(baseline: ModelInput, inputs: Sequence[ModelInput]) -> Edits:
    """What differs between an unperturbed cell and inputs that :func:`ranklock.arms.apply` made.

    Parameters
    ----------
    baseline
        The unperturbed cell, every token visible.
    inputs
        At least one.
    """
    length = len(baseline)
    tokens = np.tile(baseline.tokens.astype(np.int64), (len(inputs), 1))
    positions = np.tile(baseline.positions.astype(np.int64), (len(inputs), 1))
    removed = np.ones(tokens.shape, bool)
    hidden = np.zeros(tokens.shape, bool)
    row_of_rank = place_of_rank(baseline, 1)
    special = np.flatnonzero(baseline.ranks == NOT_RANKED)
    added, first = [], np.empty(len(inputs), np.int64)
    for index, cell in enumerate(inputs):
        unranked = cell.ranks == NOT_RANKED
        rows = np.where(unranked, NOT_RANKED, row_of_rank[cell.ranks])
        for row in special:
            rows[unranked & (cell.tokens == baseline.tokens[row])] = row
        own = rows == NOT_RANKED
        kept = rows[~own]
        removed[index, kept] = False
        hidden[index, kept] = ~cell.visible[~own]
        tokens[index, kept] = cell.tokens[~own]
        positions[index, kept] = cell.positions[~own]
        added.append((cell.tokens[own], cell.positions[own]))
        rows[own] = length + np.arange(own.sum())
        first[index] = rows[foremost(cell)]
    numbers = np.array([len(new_tokens) for new_tokens, _ in added])
    most = int(numbers.max())
    present = np.arange(most) < numbers[:, None]
    added_tokens, added_positions = np.zeros((2, len(inputs), most), np.int64)
    for index, (new_tokens, new_positions) in enumerate(added):
        added_tokens[index, present[index]] = new_tokens
        added_positions[index, present[index]] = new_positions
    return Edits(
        tokens, positions, _places(removed | hidden), removed, added_tokens, added_positions,
        present, first,
    )  # fmt: skip


def _places(marked: Bools) -> Integers:
    """Columns of the marks of each row, filled up with the number of columns: (rows, most)."""
    most = int(marked.sum(1).max(initial=0))
    columns = np.sort(np.where(marked, np.arange(marked.shape[1]), marked.shape[1]), axis=1)
    return columns[:, :most]
