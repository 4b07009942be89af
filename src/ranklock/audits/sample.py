"""Which knock-outs an audit makes: spread over all ranks, within a budget."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ranklock.cells import Cells
from ranklock.models import Model
from ranklock.run.old_plan import shown_genes

FEWEST = 24  # knock-outs in a cell, before fewer cells are taken


@dataclass(frozen=True)
class Sample:
    """Knock-outs of an audit.

    Attributes
    ----------
    cells
        Rows of the cells that are audited, ascending.
    by_rank
        For each of them, the ranks drawn to cover all ranks, ascending.
    for_network
        For each, the ranks of regulators that were added for the network.
    """

    cells: tuple[int, ...]
    by_rank: tuple[tuple[int, ...], ...]
    for_network: tuple[tuple[int, ...], ...]

    @property
    def knockouts(self) -> int:
        """How many knock-outs there are."""
        return sum(len(ranks) for ranks in self.ranks)

    @property
    def ranks(self) -> tuple[tuple[int, ...], ...]:
        """All ranks that are perturbed in each cell, ascending."""
        return tuple(
            tuple(sorted({*one, *other}))
            for one, other in zip(self.by_rank, self.for_network, strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Sample:
        """The sample that was written."""
        return cls(
            tuple(content["cells"]),
            tuple(tuple(ranks) for ranks in content["by_rank"]),
            tuple(tuple(ranks) for ranks in content["for_network"]),
        )


def draw_sample(
    cells: Cells, model: Model, knockouts: int, *, sources: Collection[int] = (), seed: int = 0
) -> Sample:
    """Draw knock-outs that cover the ranks of each cell evenly.

    Parameters
    ----------
    cells
        Cells to draw from.
    model
        Whose input size cuts them.
    knockouts
        How many to draw, about. Cells are left out, at random, where each would get fewer than
        ``FEWEST``.
    sources
        Tokens of a network's regulators: half of a cell's knock-outs are theirs, as far as it has
        them.
    seed
        Of the draw.

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
    lengths = np.array([shown_genes(cells, cell, model) for cell in range(len(cells))])
    able = np.flatnonzero(lengths >= 2)
    wanted = int(np.clip(knockouts // FEWEST, 1, max(len(able), 1)))
    chosen = np.sort(generator.permutation(able)[:wanted])
    # What short cells cannot use goes to the longer ones.
    shares, left = {}, max(knockouts, 1)
    for place, cell in enumerate(sorted(chosen.tolist(), key=lambda cell: (lengths[cell], cell))):
        shares[cell] = int(min(lengths[cell], max(left // (len(chosen) - place), 1)))
        left -= shares[cell]
    by_rank, for_network = [], []
    for cell in chosen.tolist():
        tokens = cells.ranked[cell][: lengths[cell]]
        numbers = number_of[tokens]
        regulators = np.flatnonzero(np.isin(tokens, list(sources)))
        extra = regulators[np.argsort(numbers[regulators])][: shares[cell] // 2]
        stretches = np.array_split(np.arange(len(tokens)), max(shares[cell] - len(extra), 1))
        drawn = {int(part[numbers[part].argmin()]) for part in stretches if len(part)}
        by_rank.append(tuple(sorted(drawn)))
        for_network.append(tuple(sorted(set(extra.tolist()) - drawn)))
    return Sample(tuple(chosen.tolist()), tuple(by_rank), tuple(for_network))
