"""What a cell is: one rank value encoding, with its metadata."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.errors import InputError
from ranklock.genes.vocabulary import CLS, EOS, Vocabulary

Tokens = npt.NDArray[np.int32]
Levels = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells as rank value encodings.

    Attributes
    ----------
    ranked
        For each cell, the tokens of its genes, highest rank first, as far as its source knows
        them: the cut at the model's input size comes later. Special tokens are not in it.
    obs
        Metadata, one row a cell; the index holds the cells' names.
    vocabulary
        The vocabulary that the tokens belong to.
    special_frame
        Whether the model is to see ``<cls>`` before and ``<eos>`` after the genes (Geneformer V2).
    source
        Where the cells were read from.
    complete
        Whether ``ranked`` holds all genes of a cell that the vocabulary knows. A tokenised file
        may have been cut at an input size.
    reading
        How they were read, for a manifest: which were asked for, and what of the file was used.
    levels
        For each cell, the expression of its genes in the order of ``ranked``, in a unit that is
        proportional to counts within the cell: divided by the gene's median, it is what the genes
        are ranked by. None for cells that were tokenised before.
    """

    ranked: tuple[Tokens, ...]
    obs: pd.DataFrame
    vocabulary: Vocabulary
    special_frame: bool
    source: str = "memory"
    complete: bool = False
    reading: Mapping[str, Any] = field(default_factory=dict)
    levels: tuple[Levels, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.ranked) != len(self.obs):
            raise InputError(f"{self.source}: {len(self.ranked)} cells, {len(self.obs)} obs rows.")
        if not self.ranked:
            raise InputError(f"{self.source} holds no cells.")
        if not self.obs.index.is_unique:
            raise InputError(f"{self.source}: two cells share a name; give each its own.")
        if self.special_frame and not {CLS, EOS} <= set(self.vocabulary.special):
            raise InputError(
                f"{self.source}: cells stand between special tokens, but "
                f"{self.vocabulary.source} has no <cls> and <eos>; use the vocabulary they were "
                "tokenised with."
            )
        lengths = [len(genes) for genes in self.ranked]
        if self.levels is not None and lengths != [len(levels) for levels in self.levels]:
            raise InputError(f"{self.source}: not every ranked gene has one level of expression.")
        for name, genes in zip(self.obs.index, self.ranked, strict=True):
            _check(genes, self.vocabulary, f"{self.source}, cell {name}")

    def __len__(self) -> int:
        return len(self.ranked)

    def __getitem__(self, rows: int | slice | Sequence[int] | npt.NDArray[np.int_]) -> Cells:
        chosen = np.arange(len(self))[rows].reshape(-1)
        levels = self.levels
        return replace(
            self,
            ranked=tuple(self.ranked[row] for row in chosen),
            obs=self.obs.iloc[chosen],
            levels=None if levels is None else tuple(levels[row] for row in chosen),
        )

    def __repr__(self) -> str:
        lengths = [len(genes) for genes in self.ranked]
        frame = ", between <cls> and <eos>" if self.special_frame else ""
        return (
            f"Cells: {len(self)} with {min(lengths)} to {max(lengths)} ranked genes{frame}, "
            f"from {self.source}"
        )

    @property
    def names(self) -> list[str]:
        """Names of the cells."""
        return [str(name) for name in self.obs.index]

    def sha256(self) -> str:
        """Digest of what the model can see of the cells: names, ranked genes, frame."""
        digest = hashlib.sha256(b"framed" if self.special_frame else b"bare")
        for name, genes in zip(self.names, self.ranked, strict=True):
            digest.update(f"\n{name}\n".encode())
            digest.update(np.ascontiguousarray(genes, dtype="<i4").tobytes())
        return digest.hexdigest()


def _check(genes: Tokens, vocabulary: Vocabulary, where: str) -> None:
    """Hold a cell to what a cell is: known genes, each at one rank."""
    if genes.ndim != 1 or genes.dtype != np.int32:
        raise InputError(f"{where}: tokens must be one row of int32.")
    if len(np.unique(genes)) != len(genes):
        tokens, counts = np.unique(genes, return_counts=True)
        twice = int(tokens[counts > 1][0])
        raise InputError(
            f"{where}: token {twice} stands at several ranks; tokenise the cells anew."
        )
    in_table = (genes >= 0) & (genes < len(vocabulary.known))
    unknown = genes[~(in_table & vocabulary.known[np.where(in_table, genes, 0)])]
    if len(unknown):
        raise InputError(
            f"{where}: token {unknown[0]} is not a gene of {vocabulary.source} (largest token "
            f"{vocabulary.largest_token}); use the vocabulary the cells were tokenised with."
        )
