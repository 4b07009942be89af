"""A screen's folder, read back as data frames."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ranklock.errors import InputError, OutputError
from ranklock.estimates.parts import Estimates
from ranklock.run.folder import MANIFEST, file_digest
from ranklock.run.old_sweep_result import CELLS, GENES, INNER, Sweep, digest_of, read_sweep
from ranklock.statistics.significance import FALSE_DISCOVERIES

FORMAT = "ranklock-screen"
TABLE, VERIFIED, CHECKS = "screen.parquet", "verified.parquet", "checks.parquet"
FALLBACK = "fallback"
_OF_CELL = ("gene_rank", "estimate", "gross", "peak", "dominance")
FIGURE_PNG, FIGURE_SVG = "screen.png", "screen.svg"


@dataclass(frozen=True, eq=False, repr=False)
class Screen:
    """What a screen found, in its folder; nothing is loaded before it is asked for.

    Attributes
    ----------
    folder
        Where it is.
    manifest
        What was asked, of what, with what; what was missed; ``statements`` that a reader needs.
    """

    folder: Path
    manifest: dict[str, Any]

    def __repr__(self) -> str:
        plan = self.manifest["plan"]
        return (
            f"Screen ({self.manifest['asked']['question']}): {plan['knockouts']} knock-outs in "
            f"{plan['cells']} cells, in {self.folder}" + ("" if self.complete else " (unfinished)")
        )

    @property
    def complete(self) -> bool:
        """Whether everything is there."""
        return bool(self.manifest["complete"])

    @cached_property
    def table(self) -> pd.DataFrame:
        """Every gene over all cells, the largest absolute effect first.

        Returns
        -------
        Columns ``gene``, ``gene_id``; ``effect``: estimate, mended by what was measured, and its
        ``standard_error`` over cells; ``chosen``: why it was measured exactly (``largest``,
        ``suspicious``, ``random``), empty if it was not; ``exact`` and ``estimate_there``: means
        over the ``verified_in`` cells in which it was; ``estimate``: mean over the ``n_cells``
        cells that have it; ``ranked``: whether enough cells do; ``gross``, ``peak``,
        ``dominance``, ``gene_rank``; ``specific``, ``t``, ``p``, ``q``, ``percentile``: against
        other genes at like ranks, as of :func:`ranklock.knockouts`; ``under_noise_floor``: share
        of the exact effects.
        """
        return self._whole(TABLE)

    def claims(self) -> pd.DataFrame:
        """Genes that differ significantly from others at like ranks, the surest first.

        At a false-discovery rate of 5 %: rows of :attr:`table`.
        """
        found = self.table[self.table["q"] <= FALSE_DISCOVERIES]
        return found.sort_values(["p", "gene_id"], ignore_index=True)

    @cached_property
    def verified(self) -> pd.DataFrame:
        """Every knock-out that was measured: ``estimate`` and ``exact``, by cell and gene."""
        return self._whole(VERIFIED)

    @cached_property
    def checks(self) -> pd.DataFrame:
        """Every cell in which knock-outs were measured: ``error``, ``bad`` and ``fell_back``."""
        return self._whole(CHECKS)

    @cached_property
    def sweep(self) -> Sweep:
        """The knock-outs that were measured, with their effects on every responder."""
        return read_sweep(self.folder / INNER)

    @cached_property
    def parts(self) -> Estimates:
        """Estimates of all cells, on the disk."""
        identity = self.manifest["identity"]["estimates"]
        return Estimates(self.folder, self.manifest["plan"]["parts"], digest_of(identity))

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Metadata of the cells, by name, in the order of their rows."""
        return pd.read_parquet(self.folder / CELLS)

    @cached_property
    def genes(self) -> pd.DataFrame:
        """Genes by token: ``gene_id`` and ``symbol``."""
        return pd.read_parquet(self.folder / GENES).set_index("token")

    def cell(self, cell: str | int) -> pd.DataFrame:
        """Estimates of one cell, highest rank first.

        Parameters
        ----------
        cell
            Its name, or its row.

        Returns
        -------
        Columns ``gene``, ``gene_id``, ``gene_rank``, ``estimate``, ``gross``, ``peak``,
        ``dominance`` (see :class:`ranklock.estimates.attribution.Screened`).

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
            mine = table[table["cell"] == row]
            if len(mine):
                named = self.genes.loc[mine["token"]]
                mine = mine.assign(
                    gene=named["symbol"].to_numpy(), gene_id=named["gene_id"].to_numpy()
                )
                columns = ["gene", "gene_id", *_OF_CELL]
                return mine[columns].reset_index(drop=True)
        raise InputError(f"{self.folder} holds no estimate of a cell {cell!r}.")

    def _whole(self, name: str) -> pd.DataFrame:
        path = self.folder / name
        if not self.complete:
            raise OutputError(f"{self.folder} is unfinished; run its command again.")
        digest = self.manifest["files"].get(name)
        if not path.is_file() or file_digest(path) != digest:
            raise OutputError(
                f"{path} is missing, or not what the screen wrote; run its command again."
            )
        return pd.read_parquet(path)


def is_screen(folder: str | Path) -> bool:
    """Whether a folder holds a screen, finished or not."""
    try:
        return bool(json.loads((Path(folder) / MANIFEST).read_text())["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_screen(folder: str | Path) -> Screen:
    """Open the folder of a screen, finished or not.

    Raises
    ------
    OutputError
        When the folder holds no screen.
    """
    folder = Path(folder)
    if not is_screen(folder):
        raise OutputError(
            f"{folder} holds no screen of Ranklock ({MANIFEST} is missing, damaged or of another "
            "kind of run)."
        )
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return Screen(folder, manifest)
