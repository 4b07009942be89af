"""Which perturbation can be done in which cell: found before any forward, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranklock.arms import NOT_RANKED, Change
from ranklock.cells import Cells
from ranklock.cells.encoding import rank_after_factor
from ranklock.kinds import QUARTERS, Kind, rank_by_quarters
from ranklock.run.fields import TOGETHER

Integers = npt.NDArray[np.int64]

# Why a perturbation cannot be done in a cell, in words that a number of cells comes before.
REASONS = (
    "lack it",
    "have it below the input size",
    "have fewer than four genes, and so no quarters",
    "have no such rank",
    "have it there already",
    "have no other gene to respond",
)
_LACK, _BELOW, _NO_QUARTERS, _NO_RANK, _THERE, _NO_OTHER = range(len(REASONS))
_POSSIBLE = -1


@dataclass(frozen=True)
class Perturbation:
    """What is done to one gene, or to several together.

    Attributes
    ----------
    kind
        What is done.
    tokens
        The genes, in the order named.
    """

    kind: Kind
    tokens: tuple[int, ...]

    def names(self, cells: Cells) -> tuple[str, str]:
        """Symbols and Ensembl IDs, each joined with ``+``."""
        vocabulary = cells.vocabulary
        return (
            TOGETHER.join(vocabulary.symbol(token) for token in self.tokens),
            TOGETHER.join(vocabulary.gene(token) for token in self.tokens),
        )


@dataclass(frozen=True)
class CellsLeftOut:
    """Cells in which a perturbation cannot be done.

    Attributes
    ----------
    gene, gene_id, kind
        The perturbation.
    cells
        How many cells were given.
    reasons
        Why → number of cells.
    """

    gene: str
    gene_id: str
    kind: str
    cells: int
    reasons: dict[str, int]

    @property
    def said(self) -> str:
        """The reasons in words."""
        return ", ".join(f"{number} {reason}" for reason, number in self.reasons.items())


@dataclass(frozen=True, eq=False)
class Tasks:
    """Tasks in order of cells, kinds and ranks; each array of shape (tasks,).

    Attributes
    ----------
    cell
        Row of the cell.
    perturbation
        Index among the perturbations.
    rank
        Where the first gene stands; ``NOT_RANKED`` where the input lacks it.
    to_rank
        Where it goes; ``NOT_RANKED`` for knock-outs.
    shown
        Genes of the unperturbed cell that the model is shown: fewer where genes are put into an
        input that is full, whose baseline is cut by as many.
    """

    cell: Integers
    perturbation: Integers
    rank: Integers
    to_rank: Integers
    shown: Integers

    def __len__(self) -> int:
        return len(self.cell)

    def ordered(self, kinds: Integers) -> Tasks:
        """The same tasks in order of cells, kinds and ranks.

        Parameters
        ----------
        kinds
            Kind of each perturbation, as a number.
        """
        keys = (self.perturbation, self.rank, self.shown, kinds[self.perturbation], self.cell)
        order = np.lexsort(keys)
        return self.at(order)

    def at(self, where: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Tasks:
        """Some of the tasks.

        Parameters
        ----------
        where
            Their indices, in the order wanted, or which of them, shape (tasks,).
        """
        return Tasks(*(getattr(self, name)[where] for name in _ARRAYS))

    @classmethod
    def none(cls) -> Tasks:
        """No tasks at all."""
        return cls(*(np.zeros(0, np.int64) for _ in _ARRAYS))


_ARRAYS = ("cell", "perturbation", "rank", "to_rank", "shown")


@dataclass(frozen=True, eq=False)
class _InCell:
    """What can be done in one cell: of each perturbation, its place or why not."""

    reason: Integers
    rank: Integers
    to_rank: Integers
    shown: Integers


def find_tasks(
    perturbations: Sequence[Perturbation],
    cells: Cells,
    rows: Sequence[int] | Integers,
    capacity: int,
    *,
    insert: bool = False,
) -> tuple[Tasks, list[CellsLeftOut]]:
    """Which of some perturbations can be done in which cells, and what is left out.

    Parameters
    ----------
    perturbations
        The perturbations; those of a kind stand together.
    cells
        The cells.
    rows
        Rows of those that are perturbed.
    capacity
        Genes that fit into the model's input.
    insert
        Whether moves put genes into inputs that lack them.

    Returns
    -------
    The tasks, and for each perturbation that some cells cannot have, how many and why.
    """
    counts = np.zeros((len(perturbations), len(REASONS)), dtype=np.int64)
    possibilities: list[tuple[Integers, ...]] = []
    parts = list(_by_kind(perturbations))
    rank_of = np.full(cells.vocabulary.largest_token + 1, NOT_RANKED)
    for row in rows:
        ranked = cells.ranked[row]
        rank_of[ranked] = np.arange(len(ranked))
        for first, kind, tokens in parts:
            in_cell = _find_in_cell(cells, int(row), kind, tokens, rank_of, capacity, insert=insert)
            impossible = np.flatnonzero(in_cell.reason != _POSSIBLE)
            counts[first + impossible, in_cell.reason[impossible]] += 1
            possible = np.flatnonzero(in_cell.reason == _POSSIBLE)
            possibilities.append(
                (
                    np.full(len(possible), row),
                    first + possible,
                    *(getattr(in_cell, name)[possible] for name in ("rank", "to_rank", "shown")),
                )
            )
        rank_of[ranked] = NOT_RANKED
    left_out = [
        CellsLeftOut(
            *perturbation.names(cells), perturbation.kind.name, len(rows),
            {REASONS[r]: int(n) for r, n in enumerate(row_counts) if n},
        )
        for perturbation, row_counts in zip(perturbations, counts, strict=True)
        if row_counts.any()
    ]  # fmt: skip
    return _joined(possibilities), left_out


def tasks_at_ranks(
    ranks_of: Mapping[int, Sequence[int]],
    first_of_kind: Sequence[int],
    place_of: Integers,
    kinds: Sequence[Kind],
    cells: Cells,
    capacity: int,
) -> Tasks:
    """Tasks of the genes at given ranks of each cell, for every kind.

    Parameters
    ----------
    ranks_of
        Row of a cell → ranks.
    first_of_kind
        Index of the first perturbation of each kind.
    place_of
        Token → its place among the perturbations of a kind.
    kinds, cells, capacity
        As of :func:`find_tasks`.
    """
    columns = []
    for row, wanted in ranks_of.items():
        shown = min(len(cells.ranked[row]), capacity)
        ranks = np.unique(np.asarray(wanted, dtype=np.int64))
        if not len(ranks) or shown < 2 - cells.special_frame:
            continue
        tokens = cells.ranked[row][ranks]
        for first, kind in zip(first_of_kind, kinds, strict=True):
            to_ranks = _destinations(
                cells, row, kind, tokens[:, None].astype(np.int64), ranks[:, None], shown
            )
            to = to_ranks[:, 0] if kind.moves else np.full(len(ranks), NOT_RANKED)
            keep = (to != ranks) & (to < shown) if kind.moves else np.ones(len(ranks), bool)
            if kind.quarters and shown < QUARTERS:
                continue
            of_cell = (np.full(len(ranks), row), first + place_of[tokens], ranks, to,
                       np.full(len(ranks), shown))  # fmt: skip
            columns.append(tuple(column[keep] for column in of_cell))
    return _joined(columns)


def _joined(parts: Sequence[tuple[Integers, ...]]) -> Tasks:
    if not parts:
        return Tasks.none()
    return Tasks(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def change_of(tasks: Tasks, index: int, perturbation: Perturbation, cells: Cells) -> Change:
    """A task as what is done to its cell."""
    tokens = perturbation.tokens
    shown = int(tasks.shown[index])
    if len(tokens) == 1:
        ranks: tuple[int, ...] = (int(tasks.rank[index]),)
    else:
        row = cells.ranked[int(tasks.cell[index])][:shown]
        where = {int(token): rank for rank, token in enumerate(row) if token in set(tokens)}
        ranks = tuple(where.get(token, NOT_RANKED) for token in tokens)
    if not perturbation.kind.moves:
        return Change(tokens, ranks)
    first = int(tasks.to_rank[index])
    return Change(tokens, ranks, tuple(first + place for place in range(len(tokens))))


def _by_kind(perturbations: Sequence[Perturbation]) -> Iterator[tuple[int, Kind, Integers]]:
    """Index of the first perturbation of each kind and size, the kind, and tokens (n, genes)."""
    start = 0
    while start < len(perturbations):
        kind, size = perturbations[start].kind, len(perturbations[start].tokens)
        stop = start
        while stop < len(perturbations) and (
            perturbations[stop].kind == kind and len(perturbations[stop].tokens) == size
        ):
            stop += 1
        yield start, kind, np.array([p.tokens for p in perturbations[start:stop]], dtype=np.int64)
        start = stop


def _find_in_cell(
    cells: Cells,
    row: int,
    kind: Kind,
    tokens: Integers,
    rank_of: Integers,
    capacity: int,
    *,
    insert: bool,
) -> _InCell:
    """What can be done in one cell.

    Parameters
    ----------
    tokens
        Of each perturbation's genes, shape (perturbations, genes).
    rank_of
        Token → rank in this cell, or ``NOT_RANKED``.
    """
    genes = tokens.shape[1]
    shown = np.full(len(tokens), min(len(cells.ranked[row]), capacity))
    ranks = rank_of[tokens]
    inside = (ranks != NOT_RANKED) & (ranks < shown[:, None])
    reason = np.full(len(tokens), _POSSIBLE)
    if insert and kind.moves:
        # The baseline is cut by as many genes as are put in, which may cut one of them off.
        for _ in range(genes + 1):
            over = np.maximum(shown + genes - inside.sum(1) - capacity, 0)
            if not over.any():
                break
            shown = shown - over
            inside &= ranks < shown[:, None]
    else:
        lacking = (ranks == NOT_RANKED).any(1)
        reason[~inside.all(1)] = _BELOW
        reason[lacking] = _LACK
    places = np.where(inside, ranks, NOT_RANKED)
    to_rank = np.full(len(tokens), NOT_RANKED)
    after = shown + genes - inside.sum(1)
    if kind.moves:
        if kind.quarters and shown.max(initial=0) < QUARTERS:
            reason[reason == _POSSIBLE] = _NO_QUARTERS
        else:
            to_ranks = _destinations(cells, row, kind, tokens, places, int(shown.max(initial=1)))
            to_rank = to_ranks[:, 0]
            reason[(reason == _POSSIBLE) & (to_ranks.max(1) >= after)] = _NO_RANK
            reason[(reason == _POSSIBLE) & (to_ranks == places).all(1)] = _THERE
    if not cells.special_frame:
        reason[(reason == _POSSIBLE) & (inside.sum(1) >= shown)] = _NO_OTHER
    first = places[:, 0] if kind.moves else places.min(1, initial=capacity)
    return _InCell(reason, first, to_rank, shown)


def _destinations(
    cells: Cells, row: int, kind: Kind, tokens: Integers, ranks: Integers, shown: int
) -> Integers:
    """Ranks that genes of one cell go to, of the shape of ``ranks``."""
    if kind.first is not None:
        return kind.first + np.broadcast_to(np.arange(ranks.shape[1]), ranks.shape)
    if kind.factor is not None:
        to = np.array(ranks)
        for place in zip(*np.nonzero(ranks != NOT_RANKED), strict=True):
            to[place] = rank_after_factor(cells, row, int(tokens[place]), kind.factor)
        return to
    return rank_by_quarters(ranks, kind.quarters, shown)
