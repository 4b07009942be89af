"""Which move can be done in which cell, and where it takes the genes: found before any forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranklock.arms import NOT_RANKED, capacity
from ranklock.cells import Cells
from ranklock.errors import OptionError
from ranklock.models import Model
from ranklock.moves import QUARTERS, SAID, Move
from ranklock.run.old_plan import Task, report_left_out, shown_genes

_REASONS = {
    "cells_without_it": "lack it",
    "cells_with_it_below_the_input_size": "have it below the input size",
    "cells_without_quarters": "have fewer than four genes, and so no quarters",
    "cells_without_that_rank": "have no such rank",
    "cells_with_it_there_already": "have it there already",
    "cells_with_nothing_else": "have no other gene to respond",
}


@dataclass(frozen=True)
class MoveTask(Task):
    """One move in one cell.

    Attributes
    ----------
    to_ranks
        Rank that each gene goes to, in the order of the move's genes, as :attr:`ranks` are.
    """

    to_ranks: tuple[int, ...]


def check_move(move: Move, moves: Sequence[tuple[int, ...]], *, insert: bool) -> None:
    """Refuse what a move by quarters cannot do.

    Raises
    ------
    OptionError
        When genes are to be moved together, or inserted, by quarters.
    """
    if move.first is None and any(len(tokens) > 1 for tokens in moves):
        raise OptionError(
            f"Genes are not {SAID[move.perturbation]} together: several may go to one rank. Leave "
            "--together out, or use --overexpress or --to-rank, which put them in the order named."
        )
    if move.first is None and insert:
        raise OptionError(
            f"A gene that a cell lacks stands in no quarter, so it cannot be "
            f"{SAID[move.perturbation]}; insert it with --overexpress or --to-rank."
        )


def plan_moves(
    moves: Sequence[tuple[int, ...]], move: Move, cells: Cells, model: Model, *, insert: bool
) -> tuple[list[MoveTask], list[dict[str, Any]]]:
    """Which move can be done in which cell, and what is left out.

    Parameters
    ----------
    moves
        Tokens of each move's genes.
    move
        Where they go.
    cells, model
        Where they are moved in.
    insert
        Whether genes that the input lacks are put in.

    Returns
    -------
    Tasks in order of cells, and for each move that some cells cannot have, how many and why.

    Raises
    ------
    InputError
        When a move can be done in no cell.
    """
    tasks: list[MoveTask] = []
    reasons = list(_REASONS)
    counts = np.zeros((len(moves), len(reasons)), dtype=int)
    most = capacity(model.input_size, special_frame=cells.special_frame)
    rank_of = np.full(cells.vocabulary.largest_token + 1, NOT_RANKED)
    for cell, ranked in enumerate(cells.ranked):
        rank_of[ranked] = np.arange(len(ranked))
        shown = shown_genes(cells, cell, model)
        for index, tokens in enumerate(moves):
            ranks = tuple(rank_of[list(tokens)].tolist())
            found = _destinations(
                ranks, move, shown, most, insert=insert, framed=cells.special_frame
            )
            if isinstance(found, str):
                counts[index, reasons.index(found)] += 1
            else:
                tasks.append(MoveTask(cell, index, ranks, found))
        rank_of[ranked] = NOT_RANKED
    return tasks, report_left_out(tasks, moves, counts, _REASONS, "moved in", cells)


def _destinations(
    ranks: tuple[int, ...], move: Move, shown: int, most: int, *, insert: bool, framed: bool
) -> tuple[int, ...] | str:
    """Ranks that genes go to, or the reason why this cell is left out."""
    inside = [rank for rank in ranks if 0 <= rank < shown]
    inserted = len(ranks) - len(inside)
    if inserted and not insert:
        lacking = NOT_RANKED in ranks
        return "cells_without_it" if lacking else "cells_with_it_below_the_input_size"
    if move.first is None and shown < QUARTERS:
        return "cells_without_quarters"
    to_ranks = move.destinations(ranks, shown)
    after = min(shown + inserted, most)
    if max(to_ranks) >= after:
        return "cells_without_that_rank"
    if to_ranks == ranks:
        return "cells_with_it_there_already"
    if after == len(ranks) and not framed:
        return "cells_with_nothing_else"
    return to_ranks
