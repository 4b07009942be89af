"""A laboratory screen: which genes truly changed when a gene was perturbed in cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.genes.names import without_version
from ranklock.perturbseq.labels import Labels

Floats = npt.NDArray[np.float32]


class GeneNames:
    """Names of genes → one name for each: what the run calls it, where it knows the gene."""

    def __init__(self, genes: Mapping[str, str]) -> None:  # the run's name → symbol
        self.symbols = dict(genes)
        self._of: dict[str, str] = {gene: gene for gene in genes}
        for gene, symbol in genes.items():
            self._of.setdefault(symbol, gene)

    def find(self, name: str) -> str | None:
        """The run's name of a gene, None where it does not know it."""
        return self._of.get(name) or self._of.get(without_version(name))

    def call(self, name: str) -> str:
        """The run's name of a gene, or its own name without a version."""
        return self.find(name) or without_version(name)

    def symbol(self, gene: str) -> str:
        """Name of a gene for people."""
        return self.symbols.get(gene, gene)


@dataclass(frozen=True, eq=False)
class Screen:
    """Differential expression in a screen.

    Attributes
    ----------
    perturbed, genes
        Names of the perturbed genes and of the genes whose expression was tested, as the run
        calls them where it knows them.
    log_fold_change, q
        Of each gene under each perturbation, shape (perturbed, genes): in the screen's own base
        of logarithms, and p adjusted for false discoveries. NaN where there is none; a gene
        without q was not tested.
    name, sha256
        What it was read from.
    elsewhere
        Perturbed genes whose differential expression was not computed, as the run lacks them.
    gene_level
        Baselines that need no model: name → a number for each gene, shape (genes,).
    distance, cells
        Of each perturbation: squared distance of its cells' mean expression from the controls'
        (see :func:`ranklock.perturbseq.screen_cells.distance_of_means`), and their number, shape
        (perturbed,); None of a table, which has no cells.
    provenance
        How it was read: what was used, what was left out.
    """

    perturbed: list[str]
    genes: list[str]
    log_fold_change: Floats
    q: Floats
    name: str
    sha256: str
    elsewhere: list[str] = field(default_factory=list)
    gene_level: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    distance: npt.NDArray[np.float64] | None = None
    cells: npt.NDArray[np.float64] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, most_q: float, least_fold_change: float) -> npt.NDArray[np.bool_]:
        """Which genes really changed: q ≤ ``most_q`` and |log fold change| large enough.

        Shape (perturbed, genes). The perturbed gene itself never has: that its own messenger is
        gone says whether the perturbation worked, not what it did.
        """
        # NaN compare as false: not tested is not changed.
        significant: npt.NDArray[np.bool_] = np.asarray(self.q <= most_q)
        if least_fold_change > 0:
            significant &= np.abs(self.log_fold_change) >= least_fold_change
        return significant & ~self.diagonal()

    def columns_of(self, genes: Sequence[str]) -> npt.NDArray[np.int_]:
        """Column of each gene, -1 where it was not tested."""
        columns = {gene: column for column, gene in enumerate(self.genes)}
        return np.array([columns.get(gene, -1) for gene in genes])

    def profiles(self) -> npt.NDArray[np.float64]:
        """How much each gene changed under each perturbation, shape (perturbed, genes).

        |log fold change|, or where the screen has none, 1 of genes that changed at q of 5 % and 0
        of others. NaN where it was not tested, and for the perturbed gene itself.
        """
        known = np.isfinite(self.q) & ~self.diagonal()
        if np.isfinite(self.log_fold_change).any():
            amount = np.abs(self.log_fold_change).astype(np.float64)
        else:
            amount = (self.q <= 0.05).astype(np.float64)
        return np.where(known, amount, np.nan)

    def diagonal(self) -> npt.NDArray[np.bool_]:
        """Where a gene meets its own perturbation, shape (perturbed, genes)."""
        perturbed, genes = np.asarray(self.perturbed), np.asarray(self.genes)
        return np.asarray(perturbed[:, None] == genes[None, :])


def described_labels(labels: Labels) -> dict[str, Any]:
    """How many labels were used and left out, with examples of the latter."""
    return {
        "labels_used": len(labels.genes),
        "controls": labels.controls[:20],
        "combinations_left_out": len(labels.combinations),
        "combinations": labels.combinations[:5],
        "unclear_left_out": len(labels.unclear),
        "unclear": labels.unclear[:5],
    }


def best_names(
    columns: Mapping[str, Sequence[str]], find: Callable[[str], str | None]
) -> tuple[str, int]:
    """Of columns that may hold names of genes, the one with most that are known, and how many.

    Different genes count, and the first of equals is taken.
    """
    known = {
        column: len({gene for name in pd.unique(pd.Series(names, dtype=object))
                     if (gene := find(str(name))) is not None})
        for column, names in columns.items()
    }  # fmt: skip
    best = max(known, key=known.__getitem__)
    return best, known[best]


def names_as_text(names: Iterable[Any]) -> list[str]:
    """Names as text: missing ones are empty, and numbers that identify genes stay whole.

    A column of whole numbers with a gap in it reaches us as floats.
    """
    column = names if isinstance(names, pd.Series) else pd.Series(list(names))
    missing = column.isna()
    if pd.api.types.is_float_dtype(column) and (column[~missing] % 1 == 0).all():
        column = column.astype("Int64")
    text: list[str] = column.astype(object).where(~missing, "").astype(str).str.strip().tolist()
    return text
