"""What an audit leaves in its folder: tables, content, report, and figures as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from ranklock.audits.answers import Answers
from ranklock.audits.content import content_of
from ranklock.audits.figures import figures_of
from ranklock.audits.folder import CONTENT, FIGURES, REPORT, TABLES
from ranklock.audits.measure import Measurements
from ranklock.audits.report import report_of
from ranklock.audits.uncertainty import describe_sample
from ranklock.page.files import write_figures
from ranklock.run.files import write_whole
from ranklock.run.manifest import Manifest
from ranklock.run.work import WorkFolder
from ranklock.statistics.intervals import Estimate


def write_audit(
    work: WorkFolder,
    measured: Measurements,
    answers: Answers,
    sample: Mapping[str, Any],
    manifest: Manifest,
    formats: Sequence[str],
) -> None:
    """Write tables, content and report, each whole or not at all; then figures as files.

    ``sample`` says what was audited, and of what; ``manifest`` is of the run under it.
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


def tables_of(measured: Measurements, answers: Answers) -> dict[str, pd.DataFrame]:
    """Name → table.

    Returns
    -------
    ``knockouts`` (one row a knock-out in a cell and arm), and as far as the questions were
    answered ``genes`` (one row a knocked-out gene), ``gene_means`` (gene × arm), ``regions`` (arm
    × tenth of the ranks), ``heat`` (arm × perturbed rank × responder rank), ``links`` (regulator ×
    score).
    """
    tables = {"knockouts": measured.table}
    if answers.genes is not None:
        tables |= {"genes": answers.genes.table, "gene_means": answers.genes.means}
    if answers.step is not None:
        tables["regions"] = pd.DataFrame(
            [
                {
                    "arm": region.arm, "what": region.what, "region": region.name,
                    "first": region.first, "last": region.last, "knockouts": region.knockouts,
                    **_columns("mean", region.mean), **_columns("difference", region.difference),
                    "q": region.q,
                }
                for region in answers.step.regions
            ]
        )  # fmt: skip
    if measured.heat:
        heat = pd.concat(measured.heat, names=["arm", "perturbed_rank"])
        heat = heat.rename_axis(columns="responder_rank").stack().dropna()
        tables["heat"] = heat.rename("mean_log10_cosine_distance").reset_index()
    if answers.links is not None:
        tables["links"] = answers.links.table
    return tables


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
