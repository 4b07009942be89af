"""One folder for all tests of a run: sections that are written together and read apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pandas as pd

from ranklock.arms import edit_arm
from ranklock.errors import OutputError
from ranklock.page.style import draw
from ranklock.run.folder import read_folder, write_folder
from ranklock.significance.asked import labelled
from ranklock.statistics.significance import FALSE_DISCOVERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMAND = "test"


@dataclass(frozen=True, eq=False)
class Section:
    """What one kind of test adds to a folder; its files' names begin with its own."""

    name: str
    manifest: Mapping[str, Any]
    writers: dict[str, Callable[[Path], object]]


@dataclass(frozen=True, eq=False, repr=False)
class Results(ABC):
    """Tests of kinds and arms: what those of responders and those of shifts have in common."""

    NAME: ClassVar[str]
    KEYS: ClassVar[tuple[str, ...]]  # columns that tell tests apart
    FILES: ClassVar[Mapping[str, str]]  # attribute → file

    table: pd.DataFrame
    summary: pd.DataFrame
    manifest: dict[str, Any]

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{found:,} findings of {label}"
            for found, label in zip(self.summary["found"], self.tests, strict=True)
        )
        return f"{type(self).__name__}: {counts} (above ×{self.manifest['asked']['minimum']:g})"

    @property
    def notes(self) -> list[str]:
        """What a reader must know before believing a test, a sentence each."""
        return list(self.manifest["notes"])

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of perturbation."""
        return tuple(self.manifest["asked"]["kinds"])

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms."""
        return tuple(self.manifest["asked"]["arms"])

    @property
    def tests(self) -> dict[str, tuple[str, ...]]:
        """Label → kind and arm (and quantity), for each row of the summary."""
        return labelled(self.summary[list(self.KEYS)].itertuples(index=False, name=None))

    @property
    def first_arm(self) -> str:
        """The arm that findings rest on: the edit alone, where it was run."""
        return edit_arm(self.arms) or self.arms[0]

    def _findings(self, **columns: str | None) -> pd.DataFrame:
        return self._where(self.table["finding"], **columns).reset_index(drop=True)

    def _smaller(self, **columns: str | None) -> pd.DataFrame:
        rows = self._where(self.table["q_smaller"] <= FALSE_DISCOVERIES, **columns)
        return rows.sort_values(["fold", "gene_id"], ignore_index=True)

    def _where(self, rows: pd.Series, **columns: str | None) -> pd.DataFrame:
        for column, value in columns.items():
            if value is not None:
                rows = rows & (self.table[column] == value)
        return self.table[rows]

    @abstractmethod
    def _figures(self) -> dict[str, Figure]:
        """Names of the files without a suffix → figures that are written."""

    def section(self) -> Section:
        """What of it is written to a folder."""
        writers = table_writers({file: getattr(self, name) for name, file in self.FILES.items()})
        for name, figure in self._figures().items():
            writers |= {f"{name}.{suffix}": partial(draw, figure) for suffix in ("png", "svg")}
        return Section(self.NAME, self.manifest, writers)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write a folder, whole or not at all; ``ranklock.read_...`` opens it.

        Raises
        ------
        OutputError
            When it exists and may not be replaced, or cannot be written.
        """
        return write_tests(folder, [self.section()], overwrite=overwrite)

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Read them from a folder; an OutputError where it holds none, or is damaged."""
        sections = sections_in(folder)
        if cls.NAME not in sections:
            raise OutputError(f"{folder} holds {' and '.join(sections)}, not {cls.NAME}.")
        tables = {name: pd.read_parquet(Path(folder) / file) for name, file in cls.FILES.items()}
        return cls(manifest=sections[cls.NAME], **tables)


def summary_of(table: pd.DataFrame, null: pd.DataFrame | None) -> dict[str, int | None]:
    """How many claims of a test were tested and found, and how many of the null model's were."""
    return {
        "tested": int(table["p"].notna().sum()),
        "found": int(table["finding"].sum()),
        "smaller": int((table["q_smaller"] <= FALSE_DISCOVERIES).sum()),
        "null_tested": None if null is None else int(null["p"].notna().sum()),
        "null_found": None if null is None else int(null["finding"].sum()),
    }


def table_writers(tables: Mapping[str, pd.DataFrame]) -> dict[str, Callable[[Path], object]]:
    """File name → function that writes the table as Parquet."""
    return {
        name: partial(table.to_parquet, index=False, compression="zstd")
        for name, table in tables.items()
    }


def write_tests(folder: str | Path, sections: Sequence[Section], *, overwrite: bool) -> Path:
    """Write sections to a folder, all of them or none; errors as of :meth:`Results.save`."""
    folder = Path(folder)
    manifest = {"asked": {"command": COMMAND}}
    manifest |= {section.name: dict(section.manifest) for section in sections}
    writers = {name: write for section in sections for name, write in section.writers.items()}
    write_folder(folder, manifest, writers, overwrite=overwrite)
    return folder


def sections_in(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Name of each section in a folder → its manifest.

    Raises
    ------
    OutputError
        When the folder holds no tests, or a file in it was damaged or changed.
    """
    manifest = read_folder(Path(folder))
    command = manifest["asked"]["command"]
    if command != COMMAND:
        raise OutputError(
            f"{folder} holds results of ranklock {command}, not of ranklock {COMMAND}."
        )
    return {
        name: part for name, part in manifest.items() if name not in ("asked", "files", "format")
    }
