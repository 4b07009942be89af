"""The audit as a page: verdict first, then the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import pandas as pd

from ranklock.audits.answers import Answers
from ranklock.audits.evidence import evidence
from ranklock.audits.genes import gene_means
from ranklock.audits.measure import Measurements
from ranklock.audits.methods import citation, methods
from ranklock.audits.panels import numbers
from ranklock.audits.position_table_page import position_table_sentence
from ranklock.page import BigTable, Column, Figure, Json, Page, Paragraph, Section, render
from ranklock.run.manifest import Manifest

_TITLES = {
    "step": "The step",
    "genes": "Genes",
    "rankings": "Rankings of knock-outs",
    "arms": "What each arm leaves",
    "links": "Known links",
}
_MOST_ROWS = 5000  # of the table of knock-outs; the parquet has all


def report_of(
    measured: Measurements,
    answers: Answers,
    content: Mapping[str, Any],
    manifest: Manifest,
    figures: Mapping[str, Figure],
) -> str:
    """The page as HTML; ``content`` is the audit as JSON has it, ``manifest`` that of its run."""
    sample = content["sample"]
    blocks = evidence(answers, figures)
    sections = [
        Section(
            verdict.section,
            f"{number}. {_TITLES[verdict.section]}",
            verdict.answer,
            blocks[verdict.section],
            answered=not verdict.answer.startswith("Not answered"),
        )
        for number, verdict in enumerate(answers.verdicts, start=1)
    ]
    of_table = position_table_sentence(answers.position_table)
    sections.append(
        Section(
            "position-table", "The position table", of_table, blocks["position-table"],
            answered=answers.position_table is not None,
        )
    )  # fmt: skip
    table = _knockouts(measured, answers)
    uncertain = [Paragraph(text) for text in sample["uncertain"]]
    nothing = "" if uncertain else "Nothing: every gene of every cell was knocked out."
    ran = Json("Manifest of the run: options, versions, digests, error", content["manifest"])
    sections += [
        Section("knockouts", "Every gene that was knocked out", "", [table]),
        Section("uncertain", "What the sampling left uncertain", nothing, uncertain),
        Section("methods", "Methods", "", methods(measured.arms, drawn="run" not in sample)),
        Section(
            "manifest",
            "What was run, and how exactly",
            "",
            [
                Paragraph(manifest.computed.accuracy.said()),
                ran,
                Paragraph(citation(version("ranklock"))),
            ],
        ),
    ]
    covering, added = sample["to_cover_the_ranks"], ""
    if covering < sample["knockouts"]:
        added = f"; {covering:,} of them cover the ranks, the others are a network's regulators"
    page = Page(
        "Audit of in-silico knock-outs",
        f"{sample['knockouts']:,} knock-outs of {sample['genes']:,} genes in {sample['cells']:,} "
        f"cells, under {len(measured.arms)} arms{added}",
        answers.verdicts,
        _lead(manifest),
        sections,
        [f"Made by Ranklock {version('ranklock')}. Nothing on this page is fetched from anywhere."],
        advice=answers.arms.advice,
    )
    return render(page)


def _lead(manifest: Manifest) -> list[str]:
    source, model = manifest.made_from.cells.source, manifest.made_from.model.name
    lines = [f"Cells: {source}. Checkpoint: {model}."]
    if manifest.states is not None:
        asked = manifest.states.asked
        cells = [state.cells for state in manifest.states.cells if state.state == asked.goal]
        goal = f"the {asked.average} of {sum(cells):,} cells" if cells else "an embedding given"
        donors = f", of its donor ({asked.within}) for each cell" if asked.within else ""
        lines.append(
            f"Start state: {asked.key}={' or '.join(asked.start)}; goal state: {asked.goal}, "
            f"{goal}{donors}."
        )
    return lines


def _knockouts(measured: Measurements, answers: Answers) -> BigTable:
    """One row a knocked-out gene: its test where there is one, and its means under each arm."""
    if answers.genes is not None:
        genes = answers.genes.table.drop(columns=["step", "p"])
    else:
        grouped = measured.tasks.groupby(["gene_id", "gene"])
        genes = grouped.agg(cells=("cell", "nunique"), mean_rank=("gene_rank", "mean"))
        genes = genes.reset_index()
    names = [
        ("gene", "gene", ""),
        ("gene_id", "Ensembl ID", ""),
        ("cells", "cells", "Cells that it was knocked out of"),
        ("mean_rank", "mean rank", "Its mean rank in these cells"),
        ("share_of_shift", "artefact share", "Part of the squared movement under delete that is "
         "rank shift"),
        ("departure", "departure", "Step less what rank and cell predict, log10"),
        ("q", "q", "False-discovery rate of the departure"),
    ]  # fmt: skip
    if (genes["gene"] == genes["gene_id"]).all():
        names.pop(1)
    series = [(title, text, genes[name]) for name, title, text in names if name in genes]
    means = gene_means(measured).set_index(["gene_id", "arm"])
    for name, title in (("step", "step"), ("cosine_distance", "cell shift")):
        for arm in measured.arms if name in means else ():
            values = means[name].xs(arm, level="arm").reindex(genes["gene_id"])
            series.append((f"{title} under {arm}", "Mean over these cells", values))
    more = f" (the first {_MOST_ROWS:,} of {len(genes):,})" if len(genes) > _MOST_ROWS else ""
    return BigTable(
        "knockout-table",
        f"Means over the cells that have the gene{more}",
        [
            Column(title, text, 3 if pd.api.types.is_float_dtype(values) else None)
            for title, text, values in series
        ],
        list(zip(*(_plain(values.head(_MOST_ROWS)) for _, _, values in series), strict=True)),
    )


def _plain(values: pd.Series) -> list[Any]:
    return numbers(values) if pd.api.types.is_float_dtype(values) else values.tolist()
