"""States of cells, and where they lie: what a cell may move towards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranklock.cells import Cells
from ranklock.effects.readout import embeddings
from ranklock.engine.batches import hidden_states
from ranklock.errors import InputError, OptionError
from ranklock.models import Model
from ranklock.run.old_plan import baseline_of, shown_genes

MOST_CELLS = 200  # that a state's embedding is averaged over


@dataclass(frozen=True)
class StateQuestion:
    """From which state to which, by a column of ``obs``.

    Attributes
    ----------
    key
        The column.
    start, goal
        State of the cells that are perturbed, and state that they may move towards.
    alternatives
        Other states that they may move towards.
    """

    key: str
    start: str
    goal: str
    alternatives: tuple[str, ...] = ()

    @property
    def named(self) -> dict[str, str]:
        """The column, the start and the goal, for a manifest."""
        return {"key": self.key, "start": self.start, "goal": self.goal}

    def ends(self) -> dict[str, str]:
        """Name in results → state: ``goal``, and each alternative by its own name.

        Raises
        ------
        OptionError
            When two of the states are one.
        """
        states = (self.start, self.goal, *self.alternatives)
        if len(set(states)) < len(states):
            raise OptionError("Two of the start, the goal and the alternatives are the same.")
        if "goal" in self.alternatives:
            raise OptionError(
                "An alternative is named 'goal', as the goal is in results; rename it."
            )
        return {"goal": self.goal} | {state: state for state in self.alternatives}

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


@dataclass(frozen=True, eq=False)
class Ends:
    """Cells in their start state, and where they may go.

    Attributes
    ----------
    cells
        The cells in the start state.
    embeddings
        Name in results → mean embedding of a state, shape (width,).
    asked
        For the manifest: the states, their numbers of cells, and digests of both.
    """

    cells: Cells
    embeddings: dict[str, npt.NDArray[np.float64]]
    asked: dict[str, object]


def find_ends(
    question: StateQuestion, cells: Cells, model: Model, depth: int, *, precision: str, seed: int
) -> Ends:
    """Choose the cells in the start state, and embed the others.

    Raises
    ------
    InputError
        When there is no such column or state.
    """
    names = question.ends()
    started = cells[question.rows(cells, question.start)]
    rows = {name: question.rows(cells, state) for name, state in names.items()}
    embeddings = {
        name: state_embedding(cells, found, model, depth, precision=precision, seed=seed)
        for name, found in rows.items()
    }
    asked = {
        **question.named, "alternatives": list(question.alternatives), "seed": seed,
        "cells": [started.sha256(), *(cells[found].sha256() for found in rows.values())],
    }  # fmt: skip
    return Ends(started, embeddings, asked)
