"""A folder of estimates, read back as data frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from ranklock.errors import InputError, OutputError
from ranklock.estimates.manifest import KIND, Manifest
from ranklock.estimates.parts import Parts
from ranklock.run.folder import file_digest
from ranklock.run.manifest import KIND as RUN
from ranklock.run.run import INNER, Run, digest_of, open_run
from ranklock.run.work import read_work

FALLBACK = "fallback"  # folder of the run of cells that were measured whole
GENES, CELLS = "genes.parquet", "cells.parquet"
TABLE, VERIFIED, CHECKS = "estimates.parquet", "verified.parquet", "checks.parquet"
FIGURES = ("estimates.png", "estimates.svg")
_OF_CELL = ("gene_rank", "estimate", "gross", "peak", "dominance")


@dataclass(frozen=True, eq=False, repr=False)
class Estimates:
    """All knock-outs of some cells, estimated and measured; nothing is loaded before it is asked.

    Attributes
    ----------
    folder
        Where they are.
    manifest
        What was asked, of what, with what; its ``outcome``: what was missed, and ``statements``
        that a reader needs.
    """

    folder: Path
    manifest: Manifest

    def __repr__(self) -> str:
        planned = self.manifest.planned
        return (
            f"Estimates ({self.manifest.asked.question}): {planned.knockouts:,} knock-outs in "
            f"{planned.cells:,} cells, in {self.folder}"
            + ("" if self.complete else " (unfinished)")
        )

    @property
    def complete(self) -> bool:
        """Whether everything was done."""
        return self.manifest.complete

    @cached_property
    def table(self) -> pd.DataFrame:
        """Every gene over all cells, the largest absolute effect first.

        Returns
        -------
        Columns ``gene``, ``gene_id``; ``effect``: estimate, mended by what was measured, and its
        ``standard_error`` over cells; ``chosen``: why it was measured exactly (``largest``,
        ``suspicious``, ``random``), empty if it was not; ``exact`` and ``verified_estimate``:
        means over the ``verified_in`` cells in which it was; ``estimate``: mean over the
        ``n_cells`` cells that have it; ``ranked``: whether enough cells do; ``gross``, ``peak``,
        ``dominance``, ``gene_rank``. A large effect is no finding: whether another gene in the same
        place would have it, impostors say (:func:`ranklock.perturb` with ``impostors``).
        """
        return self._finished(TABLE)

    @cached_property
    def verified(self) -> pd.DataFrame:
        """Every knock-out that was measured: ``estimate`` and ``exact``, by cell and gene."""
        return self._finished(VERIFIED)

    @cached_property
    def checks(self) -> pd.DataFrame:
        """Every cell in which knock-outs were measured: ``error``, ``bad`` and ``fell_back``."""
        return self._finished(CHECKS)

    @cached_property
    def run(self) -> Run:
        """The knock-outs that were measured, with all that was read of them."""
        return open_run(self.folder / INNER)

    @cached_property
    def parts(self) -> Parts:
        """Estimates of all cells, on the disk."""
        return Parts(self.folder, self.manifest.planned.parts, digest_of(self.manifest.identity))

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Metadata of the cells, by name, in the order of their rows."""
        return pd.read_parquet(self.folder / CELLS)

    @cached_property
    def genes(self) -> pd.DataFrame:
        """Genes by token: ``gene_id`` and ``symbol``."""
        return pd.read_parquet(self.folder / GENES)

    def cell(self, cell: str | int) -> pd.DataFrame:
        """Estimates of one cell, highest rank first.

        Parameters
        ----------
        cell
            Its name, or its row.

        Returns
        -------
        Columns ``gene``, ``gene_id``, ``gene_rank``, ``estimate``, ``gross``, ``peak``,
        ``dominance`` (see :class:`ranklock.estimates.attribution.CellEstimates`).

        Raises
        ------
        InputError
            When there is no such cell.
        """
        names = [str(name) for name in self.cells.index]
        if names.count(str(cell)) > 1:
            raise InputError(f"{self.folder} has several cells {cell}; give the row of one.")
        row = names.index(cell) if cell in names else cell
        for table in self.parts.tables():
            rows = table[table["cell"] == row]
            if len(rows):
                names_of_genes = self.genes.loc[rows["token"], ["symbol", "gene_id"]]
                named = names_of_genes.rename(columns={"symbol": "gene"}).reset_index(drop=True)
                return named.join(rows[list(_OF_CELL)].reset_index(drop=True))
        raise InputError(f"{self.folder} holds no estimate of a cell {cell!r}.")

    def is_whole(self) -> bool:
        """Whether everything is there, and the files are what was written."""
        outcome = self.manifest.outcome
        if outcome is None or read_work(self.folder / INNER, RUN) is None:
            return False
        return self.run.complete and all(map(self._is_sound, outcome.files))

    def _is_sound(self, name: str) -> bool:
        outcome, path = self.manifest.outcome, self.folder / name
        return (
            outcome is not None and path.is_file() and file_digest(path) == outcome.files.get(name)
        )

    def _finished(self, name: str) -> pd.DataFrame:
        if not self.complete:
            raise OutputError(f"{self.folder} is unfinished; run its command again.")
        if not self._is_sound(name):
            raise OutputError(
                f"{self.folder / name} is missing, or not what was written; run its command again."
            )
        return pd.read_parquet(self.folder / name)


def is_estimates(folder: str | Path) -> bool:
    """Whether a folder holds estimates, finished or not."""
    return read_work(Path(folder), KIND) is not None


def read_estimates(folder: str | Path) -> Estimates:
    """Open a folder of estimates, finished or not.

    Raises
    ------
    OutputError
        When the folder holds none, or those of another version.
    """
    return Estimates(Path(folder), Manifest.read(Path(folder)))
