"""States of cells, and where they lie: what a perturbed cell may move towards."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import ModelInput, baseline, capacity
from ranklock.cells import Cells
from ranklock.engine.batches import hidden_states, tokens_at_once
from ranklock.errors import OptionError
from ranklock.models import Model
from ranklock.models.checkpoint import check_token_range
from ranklock.progress import progress as show_progress
from ranklock.run.given_states import given_vectors
from ranklock.run.kept_states import key_of, read_states
from ranklock.run.state_cells import DonorLeftOut, Rows, StateCells, StateMembers, state_members

GOAL = "goal"  # what the goal is called in results; alternatives have their own names

Average = Literal["mean", "median"]
Vectors = npt.NDArray[np.float64]
Embeddings = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StatesAsked:
    """What was asked of states, as a manifest holds it; as in :class:`States`.

    Attributes
    ----------
    embeddings
        File that the states' embeddings are from, ``"given"`` where they came as an object.
    """

    key: str
    start: tuple[str, ...]
    goal: str
    alternatives: tuple[str, ...] = ()
    within: str | None = None
    average: str = "mean"
    goal_cells: int = 1000
    embeddings: str | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class States:
    """From which state to which, by a column of ``obs``.

    Attributes
    ----------
    key
        The column.
    start
        State, or states, of the cells that are perturbed: no others are.
    goal
        State that they may move towards.
    alternatives
        Other states that they may move towards.
    within
        Column that names donors: each cell's goal and alternatives are then those of its own
        donor. Cells without a donor, and donors without cells of each of these states, are left
        out.
    average
        How a state's cells are made one embedding: their ``"mean"``, or elementwise ``"median"``.
    goal_cells
        Most cells that a state (of a donor) is averaged over; drawn at random where there are more.
    embeddings
        Embeddings of the goal and the alternatives, instead of those of cells: state → vector, or
        a table, or the file of one (see :func:`ranklock.run.given_states.given_vectors`).
    cells
        Cells that the states are averaged over; by default, those that are perturbed among others.
    seed
        Seed of the draw.

    Raises
    ------
    OptionError
        When two states are the same, or an option has no such value.
    """

    key: str
    start: Sequence[str]
    goal: str
    alternatives: Sequence[str] = ()
    within: str | None = None
    average: Average = "mean"
    goal_cells: int = 1000
    embeddings: Mapping[str, Any] | pd.DataFrame | str | Path | None = None
    cells: Cells | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("start", "alternatives"):
            value = getattr(self, name)
            states = (value,) if isinstance(value, str) else tuple(dict.fromkeys(map(str, value)))
            object.__setattr__(self, name, states)
        object.__setattr__(self, "goal", str(self.goal))
        if not self.start:
            raise OptionError("Name the state of the cells that are perturbed (--start).")
        named = (*self.start, self.goal, *self.alternatives)
        twice = sorted({state for state in named if named.count(state) > 1})
        if twice:
            raise OptionError(
                f"{', '.join(twice)}: two of the start, the goal and the alternatives are the same."
            )
        if GOAL in self.alternatives:
            raise OptionError(
                f"An alternative is named {GOAL!r}, as the goal is in results; rename it."
            )
        if self.average not in get_args(Average):
            raise OptionError(f"A state is the mean or the median of cells, not {self.average!r}.")
        if self.goal_cells < 1:
            raise OptionError("--goal-cells is at least 1.")
        if self.within == self.key:
            raise OptionError(f"{self.key!r} names states and cannot name donors too (--within).")
        if self.within is not None and self.embeddings is not None:
            raise OptionError("Given embeddings are of states, not of each donor's: drop --within.")

    @cached_property
    def ends(self) -> Mapping[str, str]:
        """Name in results → state: ``goal``, and each alternative by its own name."""
        return {GOAL: self.goal} | {state: state for state in self.alternatives}

    @property
    def asked(self) -> StatesAsked:
        """What was asked, for a manifest."""
        given = isinstance(self.embeddings, str | Path)
        source = str(self.embeddings) if given else "given" if self.embeddings is not None else None
        return StatesAsked(
            self.key, tuple(self.start), self.goal, tuple(self.alternatives), self.within,
            self.average, self.goal_cells, source, self.seed,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class StateEmbeddings:
    """Where the states lie.

    Attributes
    ----------
    names
        ``goal``, and the alternatives in the order named.
    groups
        Donor of each group of cells; None alone where there are no donors.
    vectors
        Embedding of each group's states, shape (groups, states, width).
    group_of_cell
        Group of each cell, shape (cells,); -1 for cells that are not perturbed.
    counts, left_out
        As in :class:`StateMembers`.
    sha256
        Digest of what they are: which cells of which group are perturbed, and the cells, or the
        given vectors, that they move towards. Not of vectors that were computed, whose last bits
        depend on the machine.
    """

    names: tuple[str, ...]
    groups: tuple[str | None, ...]
    vectors: Vectors
    group_of_cell: Rows
    counts: tuple[StateCells, ...]
    left_out: tuple[DonorLeftOut, ...]
    sha256: str

    def __post_init__(self) -> None:
        shape = len(self.groups), len(self.names)
        if self.vectors.shape[:2] != shape:
            raise ValueError(f"vectors of shape {self.vectors.shape}, not {shape}")


def embed_states(
    states: States,
    cells: Cells,
    model: Model,
    depth: int,
    *,
    precision: str = "float32",
    batch_size: int | None = None,
    members: StateMembers | None = None,
    kept: Path | None = None,
    progress: bool = False,
) -> StateEmbeddings:
    """Embed the states that cells may move towards.

    Parameters
    ----------
    states, cells
        As in :func:`state_members`.
    model
        The model.
    depth
        Number of its layers to run.
    precision
        Number format of the forwards.
    batch_size
        Cells in one forward; by default as many as suit the device.
    members
        What :func:`state_members` found, where it was asked before.
    kept
        File of embeddings that a run may have kept: taken where they are these.
    progress
        Whether to show progress on stderr.

    Raises
    ------
    InputError
        As :func:`state_members`, or when given embeddings are not those of the model.
    """
    members = state_members(states, cells) if members is None else members
    if states.embeddings is None:
        if members.source.vocabulary.stand_in:
            largest = max(int(genes.max(initial=0)) for genes in members.source.ranked)
            check_token_range(largest, model, members.source.source)
        forward = partial(
            hidden_states, model, depth=depth, batch_size=batch_size, precision=precision
        )
        key = key_of(_digest(states, members, cells, None), model, depth, precision)
        stored = None if kept is None else read_states(kept, key, len(members.groups))
        vectors = (
            _average(states, members, model, forward, progress=progress)
            if stored is None
            else stored
        )
    else:
        wanted = tuple(states.ends.values())
        vectors = given_vectors(states.embeddings, wanted, model.width)[None]
    return StateEmbeddings(
        tuple(states.ends),
        members.groups,
        vectors,
        members.group_of_cell,
        members.counts,
        members.left_out,
        _digest(states, members, cells, None if states.embeddings is None else vectors),
    )


def _average(
    states: States,
    members: StateMembers,
    model: Model,
    forward: Callable[[Sequence[ModelInput]], Sequence[Embeddings]],
    *,
    progress: bool,
) -> Vectors:
    """Mean or median cell embedding of each group's states, shape (groups, states, width)."""
    cells = members.source
    most = capacity(model.input_size, special_frame=cells.special_frame)
    place_of_row = {
        int(row): (group, state)
        for group, of_group in enumerate(members.rows)
        for state, rows in enumerate(of_group)
        for row in rows
    }
    shape = len(members.groups), len(states.ends), model.width
    sums = np.zeros(shape)
    embeddings: defaultdict[tuple[int, int], list[Any]] = defaultdict(list)
    # The longest first: memory that suffices for them suffices for all.
    order = sorted(place_of_row, key=lambda row: (-min(len(cells.ranked[row]), most), row))
    with show_progress(len(order), "cells of the states embedded", shown=progress) as advance:
        for chunk in _chunks(order, cells, most, tokens_at_once(model.device)):
            inputs = [
                baseline(
                    cells.ranked[row][:most], cells.vocabulary, special_frame=cells.special_frame
                )
                for row in chunk
            ]
            for row, genes in zip(chunk, forward(inputs), strict=True):
                framed = cells.special_frame
                embedding = genes[0] if framed else genes.mean(axis=0, dtype=np.float64)
                if states.average == "mean":
                    sums[place_of_row[row]] += embedding
                else:
                    embeddings[place_of_row[row]].append(embedding.astype(np.float32))
            advance(len(chunk))
    if states.average == "median":
        for place, of_state in embeddings.items():
            sums[place] = np.median(of_state, axis=0)
        return sums
    counts = np.array([[len(rows) for rows in of_group] for of_group in members.rows])
    means: Vectors = sums / counts[:, :, None]
    return means


def _chunks(rows: Sequence[int], cells: Cells, most: int, tokens: int) -> Iterator[Sequence[int]]:
    """Cells whose hidden states are in memory together: some number of tokens."""
    lengths = [min(len(cells.ranked[row]), most) for row in rows]
    start = filled = 0
    for index, length in enumerate(lengths):
        if filled and filled + length > tokens:
            yield rows[start:index]
            start, filled = index, 0
        filled += length
    yield rows[start:]


def _digest(states: States, members: StateMembers, cells: Cells, given: Vectors | None) -> str:
    digest = hashlib.sha256(repr((tuple(states.ends.items()), states.average)).encode())
    started = np.flatnonzero(members.group_of_cell >= 0)
    digest.update(cells[started].sha256().encode())
    digest.update(members.group_of_cell[started].astype("<i8").tobytes())
    if given is not None:
        digest.update(given.astype("<f8").tobytes())
    for rows in (rows for of_group in members.rows for rows in of_group):
        digest.update(members.source[rows].sha256().encode())
    return digest.hexdigest()
