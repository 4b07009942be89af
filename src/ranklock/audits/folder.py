"""An audit's folder, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from ranklock.audits.content import FORMAT, SCHEMA_VERSION
from ranklock.errors import InputError, OutputError
from ranklock.run.run import INNER, Run, open_run

KIND = "audit"
CONTENT, REPORT, TABLES, FIGURES = "audit.json", "report.html", "tables", "figures"


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """Answers to the five questions, in their folder.

    Attributes
    ----------
    folder
        Where they are.
    content
        All of them, as ``audit.schema.json`` describes it.
    """

    folder: Path
    content: dict[str, Any]

    def __repr__(self) -> str:
        sample = self.content["sample"]
        return (
            f"Audit: {sample['knockouts']:,} knock-outs in {sample['cells']:,} cells, in "
            f"{self.folder}"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(entry['asks'])}</th>"
            f"<td style='text-align:left'>{escape(entry['answer'])}</td></tr>"
            for entry in self.content["verdict"]
        )
        return f"<table>{rows}</table>"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / REPORT

    @property
    def run(self) -> Run:
        """The run that it is of: its own, or the one that was given.

        Raises
        ------
        OutputError
            When the given one is no longer where it was.
        """
        return open_run(self.content["sample"].get("run", self.folder / INNER))

    @property
    def verdict(self) -> pd.DataFrame:
        """One row a question: ``asks``, ``answer``, ``number``, ``tone``."""
        return pd.DataFrame(self.content["verdict"]).set_index("question")

    @property
    def tables(self) -> list[str]:
        """Names of its tables."""
        return sorted(path.stem for path in (self.folder / TABLES).glob("*.parquet"))

    def table(self, name: str) -> pd.DataFrame:
        """One of its tables, as :func:`ranklock.audits.tables.tables_of` lists them.

        Raises
        ------
        InputError
            When it has no such table.
        OutputError
            When the table is damaged.
        """
        if name not in self.tables:
            raise InputError(f"{self.folder} has no table {name!r}; it has {self.tables}.")
        path = self.folder / TABLES / f"{name}.parquet"
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise OutputError(f"{path} is damaged; run the audit's command again.") from error


def is_audit(folder: str | Path) -> bool:
    """Whether a folder holds an audit."""
    return _content_in(Path(folder)) is not None


def _content_in(folder: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads((folder / CONTENT).read_text("utf-8"))
        return content if content["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_audit(folder: str | Path) -> Audit:
    """Open the folder of an audit.

    Raises
    ------
    OutputError
        When the folder holds none, or one of another version.
    """
    folder = Path(folder)
    content = _content_in(folder)
    if content is None:
        raise OutputError(f"{folder} holds no audit ({CONTENT} is missing or damaged).")
    if content["schema_version"] != SCHEMA_VERSION:
        raise OutputError(
            f"{folder} was written by another version of Ranklock (schema "
            f"{content['schema_version']}, not {SCHEMA_VERSION})."
        )
    return Audit(folder, content)


def describe_audit(audit: Audit, out: Path) -> list[str]:
    """What to do, the verdict, a line a question, and where the report is."""
    lines = [
        f"{number}. {entry['asks']}\n   {entry['answer']}"
        for number, entry in enumerate(audit.content["verdict"], start=1)
    ]
    return [
        audit.content["arms"]["advice"],
        *lines,
        f"Report:  {out / REPORT}",
        f"Numbers: {out / CONTENT}",
    ]
