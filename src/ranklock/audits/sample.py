"""Which knock-outs an audit makes: spread over all ranks, within a budget."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ranklock.cells import Cells
from ranklock.models import Model
from ranklock.run.plan import shown_genes

FEWEST = 24  # knock-outs in a cell, before fewer cells are taken


@dataclass(frozen=True)
class Sample:
    """Knock-outs of an audit: rows of its cells, ascending, and the ranks drawn in each.

    ``by_rank`` were drawn to cover all ranks, ascending; ``for_network`` are those of regulators
    that were added for the network.
    """

    cells: Sequence[int]
    by_rank: Sequence[Sequence[int]]
    for_network: Sequence[Sequence[int]]

    @property
    def ranks(self) -> tuple[tuple[int, ...], ...]:
        """All ranks that are perturbed in each cell, ascending."""
        return tuple(
            tuple(sorted({*by_rank, *for_network}))
            for by_rank, for_network in zip(self.by_rank, self.for_network, strict=True)
        )


def draw_sample(
    cells: Cells,
    model: Model,
    knockouts: int,
    *,
    rows: Collection[int] | None = None,
    sources: Collection[int] = (),
    seed: int = 0,
) -> Sample:
    """Draw knock-outs that cover the ranks of each cell evenly.

    Parameters
    ----------
    model
        Whose input size cuts the cells.
    knockouts
        How many to draw, about. Cells are left out, at random, where each would get fewer than
        ``FEWEST``.
    rows
        Rows of the cells to draw from; all by default.
    sources
        Tokens of a network's regulators: half of a cell's knock-outs are theirs, as far as it has
        them.

    Notes
    -----
    The ranks of a cell are cut into as many stretches as there are knock-outs, and one gene is
    taken of each. Every gene has one random number for all cells, and a stretch gives the gene
    whose number is smallest (coordinated sampling with permanent random numbers: Ohlsson, in
    *Business Survey Methods*, 1995). So each gene of a stretch is as likely as the others, and
    yet the same genes come up in many cells, which is what tells gene from cell.
    """
    generator = np.random.default_rng(seed)
    number_of = generator.random(cells.vocabulary.largest_token + 1)
    candidates = np.arange(len(cells)) if rows is None else np.sort(list(rows))
    lengths = {int(row): shown_genes(cells, int(row), model) for row in candidates}
    able = np.array([row for row, length in lengths.items() if length >= 2], dtype=int)
    wanted = int(np.clip(knockouts // FEWEST, 1, max(len(able), 1)))
    chosen = np.sort(generator.permutation(able)[:wanted]).tolist()
    # What short cells cannot use goes to the longer ones.
    shares, left = {}, max(knockouts, 1)
    for place, row in enumerate(sorted(chosen, key=lambda row: (lengths[row], row))):
        shares[row] = int(min(lengths[row], max(left // (len(chosen) - place), 1)))
        left -= shares[row]
    by_rank, for_network = [], []
    for row in chosen:
        tokens = cells.ranked[row][: lengths[row]]
        numbers = number_of[tokens]
        regulators = np.flatnonzero(np.isin(tokens, list(sources)))
        extra = regulators[np.argsort(numbers[regulators])][: shares[row] // 2]
        stretches = np.array_split(np.arange(len(tokens)), max(shares[row] - len(extra), 1))
        drawn = {int(part[numbers[part].argmin()]) for part in stretches if len(part)}
        by_rank.append(tuple(sorted(drawn)))
        for_network.append(tuple(sorted(set(extra.tolist()) - drawn)))
    return Sample(tuple(chosen), tuple(by_rank), tuple(for_network))
