"""Which knock-out or move can be done in which cell: found before any forward."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranklock.arms import Arm, ModelInput, baseline, capacity, check_tokens
from ranklock.cells import Cells
from ranklock.errors import InputError, OptionError, RanklockWarning
from ranklock.models import Model
from ranklock.models.checkpoint import check_token_range, check_vocabulary
from ranklock.run.old_tables import knockout_ids, knockout_name

_MOST_ROWS = 50_000_000  # of the table: some 2 GB in memory
_MOST_ENTRIES = 200_000_000  # of effects.h5ad, which has some 13 bytes for each: 2.6 GB

_REASONS = {
    "cells_without_it": "lack it",
    "cells_with_it_below_the_input_size": "have it below the input size",
    "cells_with_nothing_else": "have no other gene to respond",
}


@dataclass(frozen=True)
class Task:
    """One knock-out in one cell."""

    cell: int
    knockout: int
    ranks: tuple[int, ...]


def check_fit(cells: Cells, model: Model, arms: Sequence[Arm]) -> None:
    """Refuse cells, checkpoint and arms that do not fit each other.

    Raises
    ------
    InputError
        When the model has no token for a gene, the vocabulary belongs to another checkpoint, or an
        arm needs a special token that the vocabulary lacks.
    """
    if not isinstance(cells, Cells) or not isinstance(model, Model):
        raise OptionError(
            "This takes cells from ranklock.read_cells() and a model from "
            f"ranklock.load_model(), not {type(cells).__name__} and {type(model).__name__}."
        )
    if cells.vocabulary.stand_in:
        largest = max((int(genes.max()) for genes in cells.ranked if len(genes)), default=0)
        check_token_range(largest, model, cells.source)
    else:  # which holds every token of the cells
        check_vocabulary(cells.vocabulary, model)
    for arm in arms:
        check_tokens(arm, cells.vocabulary)


def find_knockouts(
    genes: Sequence[str | int], cells: Cells, *, together: bool
) -> list[tuple[int, ...]]:
    """Tokens of each knock-out's genes, in the order asked, each gene once.

    Raises
    ------
    InputError
        When a gene is not in the vocabulary, or none is named.
    """
    if isinstance(genes, str):
        raise OptionError(f"genes is a list; write genes=[{genes!r}].")
    tokens = list(dict.fromkeys(cells.vocabulary.token(gene) for gene in genes))
    if not tokens:
        raise OptionError("No gene was named; name at least one with --gene.")
    return [tuple(tokens)] if together else [(token,) for token in tokens]


def shown_genes(cells: Cells, cell: int, model: Model) -> int:
    """Number of genes of a cell that the model is shown."""
    most = capacity(model.input_size, special_frame=cells.special_frame)
    return min(len(cells.ranked[cell]), most)


def plan_knockouts(
    knockouts: Sequence[tuple[int, ...]], cells: Cells, model: Model
) -> tuple[list[Task], list[dict[str, Any]]]:
    """Which knock-out can be done in which cell, and what is left out.

    Returns
    -------
    Tasks in order of cells, and for each knock-out that some cells cannot have, how many and why.

    Raises
    ------
    InputError
        When a gene can be knocked out of no cell.
    """
    tasks: list[Task] = []
    counts = np.zeros((len(knockouts), len(_REASONS)), dtype=int)
    rank_of = np.full(cells.vocabulary.largest_token + 1, -1)
    for cell, ranked in enumerate(cells.ranked):
        rank_of[ranked] = np.arange(len(ranked))
        shown = shown_genes(cells, cell, model)
        for index, tokens in enumerate(knockouts):
            ranks = np.sort(rank_of[list(tokens)])
            if ranks[0] < 0:
                counts[index, 0] += 1
            elif ranks[-1] >= shown:
                counts[index, 1] += 1
            elif len(ranks) == shown and not cells.special_frame:
                counts[index, 2] += 1
            else:
                tasks.append(Task(cell, index, tuple(ranks.tolist())))
        rank_of[ranked] = -1
    return tasks, report_left_out(tasks, knockouts, counts, _REASONS, "knocked out of", cells)


def report_left_out(
    tasks: Sequence[Task],
    knockouts: Sequence[tuple[int, ...]],
    counts: npt.NDArray[np.int_],
    reasons: Mapping[str, str],
    done: str,
    cells: Cells,
) -> list[dict[str, Any]]:
    """Say which cells are left out, and why.

    Parameters
    ----------
    tasks
        What can be done.
    knockouts
        Tokens of each knock-out or move.
    counts
        Of each, the cells that are left out for each reason, shape (knock-outs, reasons).
    reasons
        Key in a manifest → words.
    done
        What is done to genes, in words that cells come after.
    cells
        The cells.

    Returns
    -------
    For each knock-out or move that some cells cannot have, how many and why.

    Raises
    ------
    InputError
        When one can be done in no cell.

    Warns
    -----
    RanklockWarning
        When cells are left out.
    """

    def why(entries: Sequence[dict[str, Any]]) -> str:
        totals = {reason: sum(entry[reason] for entry in entries) for reason in reasons}
        return ", ".join(f"{totals[r]} {text}" for r, text in reasons.items() if totals[r])

    left_out = {
        index: {
            "gene": knockout_name(tokens, cells),
            "gene_id": knockout_ids(tokens, cells),
            **dict(zip(reasons, row.tolist(), strict=True)),
        }
        for index, (tokens, row) in enumerate(zip(knockouts, counts, strict=True))
        if row.any()
    }
    possible = {task.knockout for task in tasks}
    nowhere = [entry for index, entry in left_out.items() if index not in possible]
    if nowhere:
        genes = ", ".join(entry["gene"] for entry in nowhere)
        raise InputError(
            f"{genes} can be {done} none of the {len(cells)} cells chosen from "
            f"{cells.source} ({why(nowhere)}); choose other cells, or leave it out."
        )
    for entry in left_out.values():
        warnings.warn(
            f"{entry['gene']}: of {len(cells)} cells, {why([entry])}; they are left out.",
            RanklockWarning,
            stacklevel=4,  # where the user called knockout() or move()
        )
    return list(left_out.values())


def check_size(tasks: Sequence[Task], cells: Cells, model: Model, arms: int) -> None:
    """Refuse a run whose results would not fit a usual machine.

    Raises
    ------
    InputError
        With what would fit.
    """
    advice = "Take fewer cells (--sample) or genes, or cut the work into several runs."
    rows = sum(shown_genes(cells, task.cell, model) - len(task.ranks) for task in tasks) * arms
    if rows > _MOST_ROWS:
        raise InputError(
            f"The table of effects would have {rows:,} rows (at most {_MOST_ROWS:,}): "
            f"{len(tasks)} knock-outs × {arms} arms × their responders. {advice}"
        )
    responders = set().union(*(cells.ranked[cell].tolist() for cell in {t.cell for t in tasks}))
    entries = len(tasks) * len(responders) * arms
    if entries > _MOST_ENTRIES:
        raise InputError(
            f"effects.h5ad would have {entries:,} entries (at most {_MOST_ENTRIES:,}): "
            f"{len(tasks)} knock-outs × {len(responders)} responders × {arms} arms. {advice}"
        )


def warn_of_backfill(arms: Sequence[Arm], cells: Cells, model: Model, used: Iterable[int]) -> None:
    """Warn of cells that were cut before they came here: their next gene is not known."""
    most = capacity(model.input_size, special_frame=cells.special_frame)
    full = 0 if cells.complete else sum(len(cells.ranked[cell]) == most for cell in used)
    if full and any(arm.backfill for arm in arms):
        warnings.warn(
            f"{full} cells fill the input exactly and {cells.source} does not say which genes "
            "come next, so backfill lets nothing in there.",
            RanklockWarning,
            stacklevel=4,
        )


def baseline_of(cells: Cells, cell: int, model: Model) -> ModelInput:
    """Input of one unperturbed cell."""
    return baseline(
        cells.ranked[cell],
        model.input_size,
        cells.vocabulary,
        special_frame=cells.special_frame,
    )
