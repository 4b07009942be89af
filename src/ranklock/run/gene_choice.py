"""Which of the genes that were asked for can be perturbed, and what is said of the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ranklock.cells import Cells
from ranklock.errors import InputError
from ranklock.genes.names import GeneLeftOut, Unusable

IN_NO_CELL = "in the vocabulary and in no cell"
BELOW_THE_INPUT = "below the input size"


def too_few(min_cells: int) -> str:
    """Why a gene that too few cells have is left out."""
    return f"in fewer cells than --min-cells ({min_cells})"


def usable_genes(
    tokens: Sequence[int] | None, cells: Cells, model_input_capacity: int, min_cells: int = 1
) -> tuple[tuple[int, ...], tuple[GeneLeftOut, ...]]:
    """Genes that enough cells have where the model sees them, and the others.

    Parameters
    ----------
    tokens
        Genes asked for; None for every gene of the cells.
    cells
        The cells that are to be perturbed.
    model_input_capacity
        Number of genes that fit into the model's input.
    min_cells
        Fewest cells that a gene must be in.

    Returns
    -------
    tokens
        Genes that can be perturbed, in the order asked; of all, in ascending order.
    left_out
        Of the others, why, and how many cells have them. Where all genes were asked for, those that
        no cell shows were not meant and are not among them.
    """
    seen, below = _cells_of_genes(cells, model_input_capacity)
    asked = np.flatnonzero(seen) if tokens is None else np.asarray(tokens, dtype=np.int64)
    enough = seen[asked] >= max(min_cells, 1)
    left_out = []
    for token in asked[~enough].tolist():
        reason = BELOW_THE_INPUT if below[token] else IN_NO_CELL
        left_out.append(
            GeneLeftOut(
                cells.vocabulary.symbol(token),
                cells.vocabulary.gene(token),
                too_few(min_cells) if seen[token] else reason,
                (),
                len(cells),
                int(seen[token]),
            )
        )
    return tuple(asked[enough].tolist()), tuple(left_out)


def names_left_out(unusable: Iterable[Unusable], cells: Cells) -> tuple[GeneLeftOut, ...]:
    """What the run's table says of names that stand for no gene of the vocabulary."""
    return tuple(
        GeneLeftOut(name.name, name.gene_id, name.reason, name.nearest, len(cells), 0)
        for name in unusable
    )


def refuse(left_out: Sequence[GeneLeftOut]) -> None:
    """Raise one error that names every gene that is left out (``--strict``).

    Raises
    ------
    InputError
        When some are.
    """
    if left_out:
        raise InputError(f"{described(left_out)}; take them off the list.")


def described(left_out: Sequence[GeneLeftOut]) -> str:
    """Say in one sentence which genes are left out and why, reason by reason."""
    names: dict[str, list[str]] = {}
    for gene in left_out:
        nearest = f" (nearest: {', '.join(gene.nearest)})" if gene.nearest else ""
        names.setdefault(gene.reason, []).append(gene.name + nearest)
    reasons = "; ".join(f"{reason}: {', '.join(genes)}" for reason, genes in names.items())
    return f"{len(left_out)} of the genes asked for cannot be perturbed: {reasons}"


def _cells_of_genes(
    cells: Cells, capacity: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each token, in how many cells the model sees the gene, and in how many it stands below.

    A cell holds a gene once, so that a count of tokens is a count of cells.
    """
    size = cells.vocabulary.largest_token + 1
    seen, below = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for start in range(0, len(cells), 1024):  # so that memory does not grow with the cells
        chunk = cells.ranked[start : start + 1024]
        seen += np.bincount(np.concatenate([genes[:capacity] for genes in chunk]), minlength=size)
        below += np.bincount(np.concatenate([genes[capacity:] for genes in chunk]), minlength=size)
    return seen, below
