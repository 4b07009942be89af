"""Tasks as the engine takes them: perturbations in one cell, and what is read of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import numpy as np
import numpy.typing as npt

from ranklock.arms import NOT_RANKED, ModelInput
from ranklock.engine.moments import Impostor, Numbers, crossed_pairs
from ranklock.engine.readout import Baseline, Segment
from ranklock.models.head import Head

Ranks = npt.NDArray[np.int64]
Place = tuple[int, int]  # which group, and which of its tasks

# Where fewer of the rows are read than this part, the last layer computes only those.
WORTH_TRIMMING = 0.75


@dataclass(frozen=True, eq=False)
class TaskGroup:
    """Perturbations of one kind in one cell, under the arms that are computed.

    Attributes
    ----------
    baseline
        Input of the unperturbed cell.
    responders
        Ranks that are read, ascending; all genes where the cell embedding is their mean.
    perturbed
        Ranks of the genes that each task perturbs, as far as the cell has them.
    arms
        Arm → input of each task.
    states
        Embeddings of the states that this cell may move towards, shape (states, width).
    impostors
        Which of the arms are those of impostors.
    """

    baseline: ModelInput
    responders: Ranks
    perturbed: Sequence[Ranks]
    arms: Mapping[str, Sequence[ModelInput]]
    states: Numbers | None = None
    impostors: Sequence[Impostor] = ()

    def __len__(self) -> int:
        return len(self.perturbed)


@dataclass(frozen=True, eq=False)
class Reading:
    """What is read of every input.

    Attributes
    ----------
    depth
        Layers after which embeddings are read.
    cell
        Whether the cell embedding is read.
    special_frame
        Whether that is ``<cls>``, which stands first, and not the mean over genes.
    totals
        Whether the mean over all gene tokens is read too, the perturbed gene's among them.
    head
        A classifier, whose logits are read of the token in the first position after all layers.
    """

    depth: int
    cell: bool
    special_frame: bool
    totals: bool = False
    head: Head | None = None

    @property
    def first_token(self) -> bool:
        """Whether the first token is read at this depth."""
        return self.cell and self.special_frame

    @property
    def mean(self) -> bool:
        """Whether the cell embedding is the mean over genes."""
        return self.cell and not self.special_frame

    @property
    def needs_all_rows(self) -> bool:
        """Whether more is asked of a cell than some of its rows."""
        return self.totals or self.head is not None

    def rows(self, responders: int) -> int:
        """Rows of an input that are read at this depth."""
        return responders + self.first_token


def parts_of(batch: Sequence[Place]) -> list[tuple[int, slice]]:
    """Which groups a batch is of, and which of their tasks."""
    members = ((index, list(places)) for index, places in groupby(batch, key=lambda p: p[0]))
    return [(index, slice(tasks[0][1], tasks[-1][1] + 1)) for index, tasks in members]


def segment_of(group: TaskGroup, part: slice, baseline: Baseline) -> Segment:
    """Some tasks of a group, as the readout takes them."""
    perturbed = [_which(group.responders, ranks) for ranks in group.perturbed[part]]
    crossed = (*crossed_pairs(group.arms), *chain(*(i.pairs for i in group.impostors)))
    return Segment(baseline, len(group.responders), perturbed, group.states, crossed)


def _which(responders: Ranks, ranks: Ranks) -> Ranks:
    """Which responders some ranks are; those that are none are left out."""
    return np.flatnonzero(np.isin(responders, ranks))


def rows_read(cell: ModelInput, ranks: Ranks, reading: Reading) -> Ranks:
    """Places of the rows that are read of an input; 0 for a rank that is not in it."""
    place = place_of_rank(cell, int(ranks.max(initial=-1)) + 1)
    return np.concatenate([np.zeros(int(reading.first_token), np.int64), place[ranks]])


def place_of_rank(cell: ModelInput, ranks: int) -> Ranks:
    """Where the gene of each rank stands in an input; 0 for one that is not in it.

    Parameters
    ----------
    cell
        The input.
    ranks
        How many ranks are asked about, at least.
    """
    place = np.zeros(max(int(cell.ranks.max(initial=-1)) + 1, ranks), dtype=np.int64)
    ranked = cell.ranks != NOT_RANKED
    place[cell.ranks[ranked]] = np.flatnonzero(ranked)
    return place


def foremost(cell: ModelInput) -> int:
    """Place of the token that a model takes for the first: moved genes stay where they stood.

    Where an arm puts a gene beside the first, the last of them.
    """
    return int(np.flatnonzero(cell.positions == cell.positions.min())[-1])
