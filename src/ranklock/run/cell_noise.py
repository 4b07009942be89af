"""How far a cell's embeddings are from those of its thinned versions; arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranklock.cells.cells import Tokens
from ranklock.effects import cosine_distance

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Embedded:
    """One cell after a forward.

    Attributes
    ----------
    tokens
        Its genes, highest rank first, shape (genes,).
    genes
        Their embeddings, shape (genes, width).
    cls
        Embedding of ``<cls>``, shape (width,), where that is the cell embedding; otherwise None.
    """

    tokens: Tokens
    genes: npt.NDArray[np.float32]
    cls: npt.NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class CellNoise:
    """Count noise of one cell, mean over draws.

    Attributes
    ----------
    genes
        Cosine distance of each gene, shape (genes,); NaN for a gene that is in no draw.
    draws
        In how many draws each gene is, shape (genes,).
    cell, cell_draws
        Cosine distance of the cell embedding, NaN where no draw shares a gene with the cell, and
        how many do.
    towards
        Size of the change of the cosine with each state's embedding, shape (states,).
    """

    genes: Numbers
    draws: npt.NDArray[np.int64]
    cell: float
    cell_draws: int
    towards: Numbers


def noise_of_draws(
    cell: Embedded, draws: Sequence[Embedded], states: Numbers | None = None
) -> CellNoise:
    """How far thinned versions of a cell are from it.

    Parameters
    ----------
    cell
        The cell as it is.
    draws
        Its thinned versions. One that is the cell itself differs by exactly zero.
    states
        Embeddings of states, shape (states, width).

    Notes
    -----
    Genes are matched by token, wherever they rank. The cell embedding is ``<cls>``, or the mean
    over the genes that are in both, as of a run's cell shifts.
    """
    goals = np.zeros((0, cell.genes.shape[1])) if states is None else states
    sums, times = np.zeros(len(cell.tokens)), np.zeros(len(cell.tokens), np.int64)
    shifts, turns = [], []
    for draw in draws:
        _, before, after = np.intersect1d(
            cell.tokens, draw.tokens, assume_unique=True, return_indices=True
        )
        sums[before] += cosine_distance(cell.genes[before], draw.genes[after])
        times[before] += 1
        if cell.cls is not None and draw.cls is not None:
            ends = cell.cls.astype(np.float64), draw.cls.astype(np.float64)
        elif len(before):
            ends = (
                cell.genes[before].mean(0, dtype=np.float64),
                draw.genes[after].mean(0, dtype=np.float64),
            )
        else:
            continue
        shifts.append(float(cosine_distance(*ends)))
        turns.append(np.abs(_cosines(ends[1], goals) - _cosines(ends[0], goals)))
    with np.errstate(invalid="ignore"):
        genes = np.where(times > 0, sums / np.maximum(times, 1), np.nan)
    return CellNoise(
        genes,
        times,
        float(np.mean(shifts)) if shifts else np.nan,
        len(shifts),
        np.mean(turns, axis=0) if turns else np.full(len(goals), np.nan),
    )


def _cosines(vector: Numbers, goals: Numbers) -> Numbers:
    cosines: Numbers = goals @ vector / np.linalg.norm(goals, axis=1) / np.linalg.norm(vector)
    return cosines
