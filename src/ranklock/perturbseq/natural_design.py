"""Which cells truly lack a gene, which they are held against, and which are knocked out.

Cells are split in two before anything is embedded: one half says which way the lack of a gene
points, in the other half genes are knocked out. No cell is on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from ranklock.cells import Cells
from ranklock.errors import InputError, OptionError

LACKS, UNKNOWN = -1, -2  # in place of a rank
NOT_DRAWN = "not among the genes that were drawn"
FEWEST_GENES = 3  # below which there are no others to compare with

Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class NaturalOptions:
    """How natural knock-outs are matched and compared.

    Attributes
    ----------
    match
        Columns of obs within which cells are matched: a cell type, a batch.
    donor
        Column of obs that names donors: the replicates of intervals then.
    min_cells
        Fewest matched pairs, and fewest held-out cells, that a gene needs.
    max_pairs
        Most pairs of a gene; drawn at random where there are more cells that lack it.
    max_apart
        Largest difference in the number of genes within a pair, as a part of the larger number.
    held_out
        Most cells in which genes are knocked out; drawn at random where there are more.
    max_genes
        Most genes; drawn at random where more could be judged.
    seed
        Of what is drawn at random, the null model's weights among them.

    Raises
    ------
    OptionError
        When an option has no such value.
    """

    match: tuple[str, ...] = ()
    donor: str | None = None
    min_cells: int = 10
    max_pairs: int = 100
    max_apart: float = 0.1
    held_out: int = 60
    max_genes: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.min_cells < 2:
            raise OptionError(
                f"min_cells is {self.min_cells}; a mean needs two cells or more (--min-cells)."
            )
        if self.max_pairs < self.min_cells or self.held_out < self.min_cells:
            raise OptionError(
                f"max_pairs ({self.max_pairs}) and held_out ({self.held_out}) cannot be less than "
                f"min_cells ({self.min_cells}): no gene would have enough cells."
            )
        if not 0 <= self.max_apart < 1:
            raise OptionError(
                f"max_apart is {self.max_apart:g}; it is a part of the number of genes, as 0.1 "
                "(--max-apart)."
            )
        if self.max_genes < FEWEST_GENES:
            raise OptionError(
                f"max_genes is {self.max_genes}; a gene is compared with others, so it is "
                f"{FEWEST_GENES} or more (--max-genes)."
            )


@dataclass(frozen=True, eq=False)
class Candidate:
    """A gene and the cells that it could be judged by.

    Attributes
    ----------
    token
        The gene.
    pairs
        Rows of a cell that lacks it and of one that has it, shape (pairs, 2).
    judged
        Rows of held-out cells that have it, of the strata that the pairs are of.
    lacking, having
        Number of cells, of all, that lack it and that have it.
    why_not
        Why it is not judged, in words; empty where it is.
    """

    token: int
    pairs: Integers
    judged: Integers
    lacking: int
    having: int
    why_not: str


@dataclass(frozen=True, eq=False)
class Design:
    """What is compared with what.

    Attributes
    ----------
    candidates
        All genes that were asked for, judged or not.
    genes
        Those that are judged, in their order.
    held_out
        Rows of the cells in which they are knocked out, ascending.
    ranks
        Rank of each of the judged genes in each cell, shape (cells, genes); ``LACKS`` or
        ``UNKNOWN`` where it has none.
    shown
        Genes that the model is shown of each cell, shape (cells,).
    replicates
        What each cell counts as in intervals: its donor, or itself; shape (cells,).
    """

    candidates: tuple[Candidate, ...]
    genes: tuple[Candidate, ...]
    held_out: Integers
    ranks: Integers
    shown: Integers
    replicates: Integers

    @property
    def judged(self) -> Bools:
        """Which held-out cells each gene is judged in, shape (held-out cells, genes)."""
        return np.stack([np.isin(self.held_out, gene.judged) for gene in self.genes], axis=1)

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """Weight of each cell in the direction of each gene, shape (genes, cells).

        The direction is the mean over pairs of lacking minus having, so that a row sums to zero.
        """
        weights = np.zeros((len(self.genes), len(self.shown)))
        for row, gene in enumerate(self.genes):
            np.add.at(weights[row], gene.pairs[:, 0], 1.0 / len(gene.pairs))
            np.add.at(weights[row], gene.pairs[:, 1], -1.0 / len(gene.pairs))
        return weights


def ranks_of(cells: Cells, tokens: Sequence[int], most: int) -> Integers:
    """Rank of genes in cells, as far as the model is shown them.

    Parameters
    ----------
    cells
        The cells.
    tokens
        The genes.
    most
        Genes that fit into the model's input.

    Returns
    -------
    Shape (cells, genes). ``LACKS`` where the cell truly lacks the gene. ``UNKNOWN`` where it stands
    below the input size, or may: in a cell of a tokenised file that is as long as the longest, and
    so may have been cut.
    """
    lengths = np.array([len(genes) for genes in cells.ranked])
    cut = np.zeros(len(cells), bool) if cells.complete else lengths >= min(most, lengths.max())
    size = max(int(max(genes.max(initial=0) for genes in cells.ranked)), *tokens) + 1
    ranks = np.empty((len(cells), len(tokens)), dtype=np.int64)
    wanted = np.asarray(tokens, dtype=np.int64)
    for row, genes in enumerate(cells.ranked):
        rank_of = np.full(size, UNKNOWN if cut[row] else LACKS)
        rank_of[genes] = np.where(np.arange(len(genes)) < most, np.arange(len(genes)), UNKNOWN)
        ranks[row] = rank_of[wanted]
    return ranks


def strata_of(cells: Cells, columns: Sequence[str]) -> Integers:
    """Number of the stratum of each cell, shape (cells,); -1 where a column has no value.

    Raises
    ------
    InputError
        When there is no such column.
    """
    strata = np.zeros(len(cells), dtype=np.int64)
    for column in columns:
        if column not in cells.obs:
            known = ", ".join(map(str, cells.obs.columns)) or "none"
            raise InputError(
                f"{cells.source} has no column {column!r} in obs; it has: {known} (--match, "
                "--donor)."
            )
        codes, _ = cells.obs[column].factorize(sort=True)
        joined = np.where((strata < 0) | (codes < 0), -1, strata * (codes.max() + 1) + codes)
        known_strata = np.unique(joined[joined >= 0])
        strata = np.where(joined < 0, -1, np.searchsorted(known_strata, joined))
    return strata


def halves(strata: Integers, seed: int) -> Bools:
    """Which cells are held out: every other one of each stratum, in random order; shape (cells,).

    Cells without a stratum are on neither side, and count as not held out.
    """
    held_out = np.zeros(len(strata), bool)
    draw = np.random.default_rng((seed, 0))
    for stratum in np.unique(strata[strata >= 0]):
        held_out[draw.permutation(np.flatnonzero(strata == stratum))[1::2]] = True
    return held_out


def matched_pairs(
    lacking: Integers,
    having: Integers,
    shown: Integers,
    strata: Integers,
    max_pairs: int,
    max_apart: float,
    draw: np.random.Generator,
) -> Integers:
    """Match each cell that lacks a gene to one that has it and shows as many genes, or nearly.

    Parameters
    ----------
    lacking, having
        Rows of cells.
    shown, strata
        Number of genes and stratum of every cell, shape (cells,).
    max_pairs
        Most cells that lack the gene, drawn at random where there are more.
    max_apart
        Largest difference in the number of genes, as a part of the larger number.
    draw
        Source of what is drawn.

    Returns
    -------
    Shape (pairs, 2): a cell that lacks the gene, one that has it. No cell is in two pairs.

    Notes
    -----
    Within each stratum the pairs with the least sum of absolute differences in the logarithm of the
    number of genes (scipy's ``linear_sum_assignment``); then those too far apart are left out.
    """
    if len(lacking) > max_pairs:
        lacking = np.sort(draw.choice(lacking, max_pairs, replace=False))
    logs = np.log(np.maximum(shown, 1))
    pairs = []
    for stratum in np.intersect1d(strata[lacking], strata[having]):
        left, right = (rows[strata[rows] == stratum] for rows in (lacking, having))
        # One of many cells with as many genes is taken at random, not the first of the file.
        right = draw.permutation(right)
        cost = np.abs(logs[left][:, None] - logs[right][None, :])
        first, second = linear_sum_assignment(cost)
        near = cost[first, second] <= -np.log1p(-max_apart)
        pairs.append(np.stack([left[first[near]], right[second[near]]], axis=1))
    return np.concatenate([np.zeros((0, 2), np.int64), *pairs])


def design_of(cells: Cells, tokens: Sequence[int], most: int, options: NaturalOptions) -> Design:
    """Find the cells that each gene can be judged by, before any forward.

    Parameters
    ----------
    cells
        The cells.
    tokens
        The genes.
    most
        Genes that fit into the model's input.
    options
        How.

    Raises
    ------
    InputError
        When a column is missing, or fewer than ``FEWEST_GENES`` genes have enough cells.
    """
    ranks = ranks_of(cells, tokens, most)
    shown = np.array([min(len(genes), most) for genes in cells.ranked])
    strata = strata_of(cells, options.match)
    donors = () if options.donor is None else (options.donor,)
    replicates = strata_of(cells, donors) if donors else np.arange(len(cells))
    strata = np.where(replicates < 0, -1, strata)
    usable = (strata >= 0) & (shown >= 2)
    out = halves(np.where(usable, strata_of(cells, (*options.match, *donors)), -1), options.seed)
    inside = usable & ~out
    draw = np.random.default_rng((options.seed, 1))
    held_out = np.flatnonzero(out)
    if len(held_out) > options.held_out:
        held_out = np.sort(draw.choice(held_out, options.held_out, replace=False))
    candidates = []
    for column, token in enumerate(tokens):
        lacks, has = ranks[:, column] == LACKS, ranks[:, column] >= 0
        pairs = matched_pairs(
            np.flatnonzero(lacks & inside), np.flatnonzero(has & inside), shown, strata,
            options.max_pairs, options.max_apart, np.random.default_rng((options.seed, 2, token)),
        )  # fmt: skip
        judged = held_out[has[held_out] & np.isin(strata[held_out], strata[pairs[:, 0]])]
        few = min(len(pairs), len(judged)) < options.min_cells
        why_not = (
            f"{len(pairs)} matched pairs and {len(judged)} held-out cells, {options.min_cells} of "
            "each needed"
        )
        candidates.append(
            Candidate(token, pairs, judged, int((lacks & usable).sum()),
                      int((has & usable).sum()), why_not if few else "")
        )  # fmt: skip
    enough = [place for place, gene in enumerate(candidates) if not gene.why_not]
    if len(enough) < FEWEST_GENES:
        raise InputError(
            f"{len(enough)} of {len(tokens)} genes can be judged in {cells.source}, and "
            f"{FEWEST_GENES} are needed, each with {options.min_cells} matched pairs and as many "
            "held-out cells: take more cells or genes, coarser --match, or a smaller --min-cells."
        )
    if len(enough) > options.max_genes:
        drawn = np.sort(draw.choice(enough, options.max_genes, replace=False)).tolist()
        for place in set(enough) - set(drawn):
            said = f"{NOT_DRAWN}: {options.max_genes} of {len(enough)}"
            candidates[place] = replace(candidates[place], why_not=said)
        enough = drawn
    genes = tuple(candidates[place] for place in enough)
    return Design(tuple(candidates), genes, held_out, ranks[:, enough], shown, replicates)
