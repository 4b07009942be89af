"""What an audit leaves in its folder: tables, content, report, and figures as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ranklock.audits.answers import Answers
from ranklock.audits.content import content_of
from ranklock.audits.figures import figures_of
from ranklock.audits.folder import CONTENT, FIGURES, REPORT, TABLES
from ranklock.audits.measure import Measurements
from ranklock.audits.report import report_of
from ranklock.audits.tables import tables_of
from ranklock.audits.uncertainty import describe_sample
from ranklock.page.files import write_figures
from ranklock.run.files import write_whole
from ranklock.run.manifest import Manifest
from ranklock.run.work import WorkFolder


def write_audit(
    work: WorkFolder,
    measured: Measurements,
    answers: Answers,
    sample: Mapping[str, Any],
    manifest: Manifest,
    formats: Sequence[str],
) -> None:
    """Write tables, content and report, each whole or not at all; then figures as files.

    Parameters
    ----------
    work
        The folder.
    measured, answers
        Of the audit.
    sample
        What was audited, and of what.
    manifest
        Of the run under it.
    formats
        Of the figures.
    """
    (work.folder / TABLES).mkdir(exist_ok=True)
    for name, table in tables_of(measured, answers).items():
        path = work.folder / TABLES / f"{name}.parquet"
        write_whole(path, partial(table.to_parquet, index=False), work.locks / path.name)
    content = content_of(answers, describe_sample(sample, measured, answers), manifest.to_json())
    work.write_json(work.folder / CONTENT, content)
    figures = figures_of(measured, answers)
    page = report_of(measured, answers, content, manifest, figures)
    write_whole(
        work.folder / REPORT, lambda to: to.write_text(page, encoding="utf-8"), work.locks / REPORT
    )
    write_figures(figures, work.folder / FIGURES, formats)
