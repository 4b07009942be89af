"""Which cells are in a start state, and which make up the states that they may move towards."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.cells import Cells
from ranklock.cells.selection import text_of
from ranklock.errors import InputError, RanklockWarning

if TYPE_CHECKING:
    from ranklock.run.states import States

Rows = npt.NDArray[np.int64]

_MOST_SHOWN = 20  # values of a column, in an error


@dataclass(frozen=True)
class StateCells:
    """How many cells an embedding of a state is of.

    Attributes
    ----------
    state, donor
        The state, and the donor where each has embeddings of its own.
    cells, drawn_of
        Cells averaged over, and cells that there are.
    """

    state: str
    donor: str | None
    cells: int
    drawn_of: int


@dataclass(frozen=True)
class DonorLeftOut:
    """A donor whose cells are not perturbed.

    Attributes
    ----------
    donor
        Its name; None for cells without one.
    cells
        Cells in a start state that are left out.
    reason
        Why.
    """

    donor: str | None
    cells: int
    reason: str


@dataclass(frozen=True, eq=False)
class StateMembers:
    """Which cells are perturbed, and which make up the states; found without a forward.

    Attributes
    ----------
    source
        The cells that ``rows`` are of.
    groups
        Groups of cells that have states in common: donors, or None alone.
    group_of_cell
        Group of each cell to be perturbed, shape (cells,); -1 for those that are not.
    rows
        Group → state → rows of the cells that are averaged over; empty where embeddings were given.
    counts
        Their numbers.
    left_out
        Donors that have not all of the states.
    """

    source: Cells
    groups: tuple[str | None, ...]
    group_of_cell: Rows
    rows: tuple[tuple[Rows, ...], ...]
    counts: tuple[StateCells, ...]
    left_out: tuple[DonorLeftOut, ...]


def state_members(states: States, cells: Cells) -> StateMembers:
    """Find the cells in the start states, and those that make up the goal and the alternatives.

    Parameters
    ----------
    states
        The states.
    cells
        The cells that may be perturbed. Where they are a sample, ``states.cells`` must be all.

    Raises
    ------
    InputError
        When there is no such column or state, or no donor has all states.

    Warns
    -----
    RanklockWarning
        When donors, or cells without a donor, are left out.
    """
    source = cells if states.cells is None else states.cells
    _check_fit(source, cells)
    started = np.isin(_values(cells, states.key, "--state-key"), states.start)
    _need_starts(states, source, cells)
    if not started.any():
        raise InputError(
            f"None of the {len(cells)} cells to be perturbed has {states.key}="
            f"{' or '.join(states.start)}; sample from those that do (--where), or sample more."
        )
    if states.embeddings is not None:
        group_of_cell = np.where(started, 0, -1).astype(np.int64)
        return StateMembers(source, (None,), group_of_cell, ((),), (), ())
    known = _known_states(source, states.key)
    for state in states.ends.values():
        if state not in known:
            raise InputError(_no_state(state, states.key, known))
    rows_of = _rows_of_states(states, source)
    donors = _donors(cells, states.within)
    groups, left_out = _complete_donors(states, donors[started], rows_of)
    group_of_cell = np.full(len(cells), -1, dtype=np.int64)
    rows, counts = [], []
    for index, group in enumerate(groups):
        group_of_cell[started & (donors == group)] = index
        members = {state: rows_of[group, state] for state in states.ends.values()}
        drawn = {state: _drawn(all_rows, states) for state, all_rows in members.items()}
        rows.append(tuple(drawn.values()))
        counts += [
            StateCells(state, group or None, len(drawn[state]), len(all_rows))
            for state, all_rows in members.items()
        ]
    names = tuple(group or None for group in groups)
    return StateMembers(source, names, group_of_cell, tuple(rows), tuple(counts), left_out)


def _check_fit(source: Cells, cells: Cells) -> None:
    """Refuse states' cells that were not encoded as the perturbed ones are."""
    if source is cells:
        return
    same = source.special_frame == cells.special_frame and (
        source.vocabulary.stand_in == cells.vocabulary.stand_in
    )
    if not same or not (
        cells.vocabulary.stand_in or source.vocabulary.tokens == cells.vocabulary.tokens
    ):
        raise InputError(
            f"{source.source}, where the states' cells are from, has other tokens than "
            f"{cells.source}; read both with one vocabulary."
        )


def _values(cells: Cells, column: str, option: str) -> npt.NDArray[np.object_]:
    """Values of a column of obs as text; None where they are missing."""
    if column not in cells.obs:
        raise InputError(
            f"{cells.source} has no column {column!r} in obs (it has "
            f"{', '.join(map(str, cells.obs.columns)) or 'none'}); name one with {option}."
        )
    return text_of(cells.obs[column])


def _need_starts(states: States, source: Cells, cells: Cells) -> None:
    """Refuse a start state that no cell is in, unless a sample may have left its cells out."""
    in_source = _known_states(source, states.key)
    known = {**_known_states(cells, states.key), **in_source}
    for state in states.start:
        if state in known:
            continue
        if source is cells or set(states.start) & set(in_source):
            raise InputError(_no_state(state, states.key, known))
        warnings.warn(
            f"No cell to be perturbed has {states.key}={state}.", RanklockWarning, stacklevel=3
        )


def _known_states(cells: Cells, key: str) -> dict[str, None]:
    """Values of a column, the most frequent first."""
    return dict.fromkeys(pd.Series(_values(cells, key, "--state-key")).value_counts().index)


def _no_state(state: str, key: str, known: Iterable[str]) -> str:
    names = list(known)
    more = ", …" if len(names) > _MOST_SHOWN else ""
    return f"No cell has {key}={state}; there are {', '.join(names[:_MOST_SHOWN])}{more}."


def _donors(cells: Cells, within: str | None) -> npt.NDArray[np.object_]:
    """Donor of each cell, None where there is none; one without a name where none are asked for."""
    if within is None:
        return np.full(len(cells), "", dtype=object)
    return _values(cells, within, "--within")


def _rows_of_states(states: States, source: Cells) -> dict[tuple[str, str], Rows]:
    """Donor and state → rows of the cells that have genes; none for cells without a donor."""
    table = pd.DataFrame(
        {
            "donor": _donors(source, states.within),
            "state": _values(source, states.key, "--state-key"),
            "row": np.arange(len(source)),
        }
    )
    table = table[[len(genes) > 0 for genes in source.ranked]]
    rows = table["row"].to_numpy()
    places = table.groupby(["donor", "state"], sort=False).indices
    return {(donor, state): rows[place] for (donor, state), place in places.items()}


def _complete_donors(
    states: States, donors: npt.NDArray[np.object_], rows_of: Mapping[tuple[str, str], Rows]
) -> tuple[list[str], tuple[DonorLeftOut, ...]]:
    """Donors of cells in a start state that have cells of all other states; what of the others."""
    number_of = pd.Series(donors).value_counts(dropna=False)
    missing = {
        donor: [state for state in states.ends.values() if (donor, state) not in rows_of]
        for donor in sorted(donor for donor in number_of.index if donor is not None)
    }
    if states.within is None and missing[""]:
        raise InputError(
            f"The cells with {states.key}={missing[''][0]} have no genes that the model knows."
        )
    left_out = [
        DonorLeftOut(donor, int(number_of[donor]), f"no cell of {', '.join(lacking)}")
        for donor, lacking in missing.items()
        if lacking
    ]
    without = sum(donor is None for donor in donors)
    if without:
        left_out.append(DonorLeftOut(None, without, f"no {states.within}"))
    said = "; ".join(
        f"{'cells without a donor' if d.donor is None else d.donor} ({d.cells} cells, {d.reason})"
        for d in left_out
    )
    groups = [donor for donor, lacking in missing.items() if not lacking]
    if not groups:
        raise InputError(
            f"No donor ({states.within}) has cells of the start, the goal and all alternatives: "
            f"{said}."
        )
    if left_out:
        warnings.warn(f"Left out: {said}.", RanklockWarning, stacklevel=2)
    return groups, tuple(left_out)


def _drawn(rows: Rows, states: States) -> Rows:
    """At most so many of a state's cells, at random, in order."""
    draw = np.random.default_rng(states.seed)
    return np.sort(draw.permutation(rows)[: states.goal_cells])
