"""The folder of an audit: whose it is, and how it comes to be whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ranklock.audits.answers import Answers
from ranklock.audits.content import content_of
from ranklock.audits.figures import figures_of
from ranklock.audits.folder import CONTENT, REPORT, TABLES
from ranklock.audits.measure import Measurements
from ranklock.audits.report import report_of
from ranklock.audits.sample import Sample
from ranklock.audits.tables import tables_of
from ranklock.errors import OutputError
from ranklock.page.files import write_figures
from ranklock.run.files import write_whole
from ranklock.run.old_sweep_result import Sweep

SAMPLE, SWEEP, FIGURES = "sample.json", "sweep", "figures"
_OWN = {SAMPLE, SWEEP, FIGURES, CONTENT, REPORT, TABLES}
_FORMAT = "ranklock-audit-sample"


def check_audit_folder(folder: Path, identity: Mapping[str, Any], *, overwrite: bool) -> None:
    """Refuse a folder with anything in it but this audit; clear it where that is asked for.

    Raises
    ------
    OutputError
        When something else is there.
    """
    if folder.is_file():
        raise OutputError(f"{folder} is a file; name another folder with --out.")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    names = {name for name in names if not _is_partial(name)}
    if not names:
        return
    there = _remembered(folder)
    foreign = sorted(names - _OWN)
    if there is None or foreign:
        raise OutputError(
            f"{folder} holds {foreign[0] if foreign else 'something'} that is no part of an audit; "
            "name another folder with --out."
        )
    same = json.loads(json.dumps(identity))
    other = [what for what, value in same.items() if there["identity"].get(what) != value]
    if not other and set(there["identity"]) == set(same):
        return
    if not overwrite:
        raise OutputError(
            f"{folder} holds another audit ({', '.join(other) or 'other options'}); name another "
            "folder with --out, or replace it with --overwrite."
        )
    for name in sorted(names - {SAMPLE}):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / SAMPLE).unlink()


def _is_partial(name: str) -> bool:
    """Whether a killed process was writing it: see :func:`write_whole`."""
    return name.startswith(".") and any(name.endswith(f"-{own}") for own in _OWN)


def _remembered(folder: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads((folder / SAMPLE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if content.get("format") == _FORMAT else None


def begun_sample(folder: Path) -> Sample | None:
    """The sample of an audit that was begun in a folder."""
    there = _remembered(folder)
    return None if there is None or there["sample"] is None else Sample.from_json(there["sample"])


def remember_sample(folder: Path, identity: Mapping[str, Any], sample: Sample | None) -> None:
    """Write down what is going to be audited, before the first forward."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "format": _FORMAT,
        "identity": identity,
        "sample": None if sample is None else sample.to_json(),
    }
    write_json(folder / SAMPLE, content)


def write_audit(
    folder: Path,
    measured: Measurements,
    answers: Answers,
    sample: Mapping[str, Any],
    sweep: Sweep,
    formats: Sequence[str],
) -> None:
    """Write tables, content and report, each whole or not at all; then figures as files."""
    (folder / TABLES).mkdir(exist_ok=True)

    def write_table(name: str, table: pd.DataFrame) -> None:
        path = folder / TABLES / f"{name}.parquet"
        write_whole(path, lambda to: table.to_parquet(to, index=False))

    for name, table in tables_of(measured, answers).items():
        write_table(name, table)
    content = content_of(answers, sample, sweep.manifest)
    write_json(folder / CONTENT, content)
    figures = figures_of(measured, answers)
    page = report_of(measured, answers, content, figures)
    write_whole(folder / REPORT, lambda to: to.write_text(page, encoding="utf-8"))
    write_figures(figures, folder / FIGURES, formats)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(path, lambda to: to.write_text(text, encoding="utf-8"))
