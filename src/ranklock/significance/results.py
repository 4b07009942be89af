"""One folder for all tests of a run: sections that are written together and read apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ranklock.errors import OutputError
from ranklock.page.style import draw
from ranklock.run.folder import read_folder, write_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMMAND = "test"


@dataclass(frozen=True, eq=False)
class Section:
    """What one kind of test adds to a folder.

    Attributes
    ----------
    name
        ``responders``, ``shifts`` or ``combinations``; the names of its files begin with it.
    manifest
        What was asked, of what, and what could not be told.
    writers
        File name → function that writes that file.
    """

    name: str
    manifest: Mapping[str, Any]
    writers: Mapping[str, Callable[[Path], object]]


def table_writers(tables: Mapping[str, pd.DataFrame]) -> dict[str, Callable[[Path], object]]:
    """File name → function that writes the table as Parquet."""
    return {
        name: partial(table.to_parquet, index=False, compression="zstd")
        for name, table in tables.items()
    }


def figure_writers(figures: Mapping[str, Figure]) -> dict[str, Callable[[Path], object]]:
    """File name → function that writes the figure, as ``.png`` and as ``.svg``."""
    return {
        f"{name}.{suffix}": partial(draw, figure)
        for name, figure in figures.items()
        for suffix in ("png", "svg")
    }


def write_tests(folder: str | Path, sections: Sequence[Section], *, overwrite: bool) -> Path:
    """Write sections to a folder, all of them or none.

    Raises
    ------
    OutputError
        When the folder exists and may not be replaced, or cannot be written.
    """
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


def read_section(
    folder: str | Path, name: str, tables: Sequence[str]
) -> tuple[dict[str, Any], list[pd.DataFrame]]:
    """Manifest of a section, and its tables by the names of their files.

    Raises
    ------
    OutputError
        When the folder holds no such section, or a file in it was damaged or changed.
    """
    sections = sections_in(folder)
    if name not in sections:
        raise OutputError(f"{folder} holds {' and '.join(sections)}, not {name}.")
    return sections[name], [pd.read_parquet(Path(folder) / table) for table in tables]
