"""Thinned cells: what sequencing a little less deeply would have read of them, encoded anew."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from ranklock.cells.cells import Cells, Tokens
from ranklock.cells.encoding import rank_genes
from ranklock.errors import OptionError

Whole = npt.NDArray[np.int64]


def holds_counts(cells: Cells) -> bool:
    """Whether cells came with counts: whole numbers of every ranked gene of every cell.

    Tokenised cells have none. Normalised values are proportional to counts, but what one molecule
    is worth in them is lost, and with it what thinning would do.
    """
    return cells.levels is not None and all(
        np.array_equal(levels, np.rint(levels)) for levels in cells.levels
    )


def thin_counts(counts: Whole, kept: float, draw: np.random.Generator) -> Whole:
    """Keep each molecule with one probability: counts of a library sequenced less deeply.

    Parameters
    ----------
    counts
        Molecules of each gene, shape (genes,).
    kept
        Probability that a molecule is kept.
    draw
        Where chance comes from.

    Returns
    -------
    Binomial(counts, kept), independently of each gene, shape (genes,).
    """
    return draw.binomial(counts, kept).astype(np.int64)


def drop_genes(genes: Tokens, kept: float, draw: np.random.Generator) -> Tokens:
    """Drop a part of the genes of a cell at random; the others keep their order.

    Parameters
    ----------
    genes
        Tokens, highest rank first.
    kept
        Part that is kept. Of what is dropped the number is rounded, and is at least one where the
        part is less than all and another gene is left.
    draw
        Where chance comes from.

    Returns
    -------
    Tokens that are left, in their order.
    """
    dropped = len(genes) - round(kept * len(genes))
    if kept < 1 and len(genes) > 1:
        dropped = max(dropped, 1)
    return np.delete(genes, draw.choice(len(genes), size=dropped, replace=False))


def thinned_genes(
    cells: Cells, row: int, number: int, *, kept: float, by_counts: bool, seed: int = 0
) -> Tokens:
    """Rank the genes of one cell after thinning it.

    Parameters
    ----------
    cells
        The cells.
    row
        Which of them.
    number
        Which draw: each is another one, and the same in every order of the cells, since chance is
        seeded by the cell's name, this number and the seed alone.
    kept
        Probability that a molecule is kept, or the part of the genes that is.
    by_counts
        Whether counts are thinned, as :func:`holds_counts` says that they can be; otherwise genes
        are dropped.
    seed
        Of all draws.

    Returns
    -------
    Tokens of the genes that are left, highest rank first, encoded as the cell was and not yet cut.

    Raises
    ------
    OptionError
        When nothing, or more than all, would be kept.
    """
    if not 0 < kept <= 1:
        raise OptionError(f"A part of the counts is kept, above 0 and at most 1, not {kept}.")
    key = hashlib.sha256(f"{seed}\n{number}\n{cells.names[row]}".encode()).digest()
    draw = np.random.default_rng(int.from_bytes(key, "little"))
    genes = cells.ranked[row]
    if not by_counts or cells.levels is None:
        return drop_genes(genes, kept, draw)
    counts = thin_counts(cells.levels[row].astype(np.int64), kept, draw)
    medians = cells.vocabulary.median_of_token[genes]
    return rank_genes(counts.astype(np.float64), genes, medians)[0]
