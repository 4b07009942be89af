"""The audit as a page: verdict first, then the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from ranklock.arms import ARMS, Positions
from ranklock.audits.answers import QUESTIONS, Answers
from ranklock.audits.genes import Departure
from ranklock.audits.measure import Measurements
from ranklock.audits.methods import citation, methods
from ranklock.audits.rankings import Mover, Ranking
from ranklock.audits.step import Region
from ranklock.page import (
    BigTable,
    Column,
    Figure,
    Formula,
    Json,
    Page,
    Paragraph,
    Section,
    Table,
    Verdict,
    render,
)
from ranklock.statistics.intervals import Estimate

Block: TypeAlias = Paragraph | Formula | Figure | Table | BigTable | Json
_TITLES = {
    "step": "The step",
    "genes": "Genes",
    "rankings": "Rankings of knock-outs",
    "arms": "The cure",
    "links": "Known links",
}
_MOST_ROWS = 5000  # of the table of knock-outs; the parquet has all


def report_of(
    measured: Measurements,
    answers: Answers,
    content: Mapping[str, Any],
    figures: Mapping[str, Figure],
) -> str:
    """The page as HTML.

    Parameters
    ----------
    measured, answers
        Of the audit.
    content
        The audit as JSON has it.
    figures
        From :func:`ranklock.audits.figures.figures_of`.
    """
    sample, manifest = content["sample"], content["manifest"]
    blocks = {
        "step": _step(answers, figures),
        "genes": _genes(answers, figures),
        "rankings": _rankings(answers, figures),
        "arms": _arms(answers),
        "links": _links(answers, figures),
    }
    sections = [
        Section(
            verdict.question,
            f"{number}. {_TITLES[verdict.question]}",
            verdict.answer,
            blocks[verdict.question],
            answered=not verdict.answer.startswith("Not answered"),
        )
        for number, verdict in enumerate(answers.verdicts, start=1)
    ]
    sections += [
        Section(
            "knockouts", "Every gene that was knocked out", "", [_knockouts(measured, answers)]
        ),
        Section(
            "uncertain",
            "What the sampling left uncertain",
            "" if sample["uncertain"] else "Nothing: every gene of every cell was knocked out.",
            [Paragraph(text) for text in sample["uncertain"]],
        ),
        Section("methods", "Methods", "", methods(measured.arms, drawn="sweep" not in sample)),
        Section(
            "manifest",
            "What was run",
            "",
            [
                Json("Manifest of the sweep: options, versions, digests, noise floor", manifest),
                Paragraph(citation(version("ranklock"))),
            ],
        ),
    ]
    page = Page(
        "Audit of in-silico knock-outs",
        f"{sample['knockouts']:,} knock-outs of {sample['genes']:,} genes in {sample['cells']:,} "
        f"cells, under {len(measured.arms)} arms" + _of_which(sample),
        [
            Verdict(v.question, QUESTIONS[v.question], v.answer, v.number, v.tone)
            for v in answers.verdicts
        ],
        _lead(sample, manifest),
        sections,
        [f"Made by Ranklock {version('ranklock')}. Nothing on this page is fetched from anywhere."],
    )
    return render(page)


def _of_which(sample: dict[str, Any]) -> str:
    covering = sample["to_cover_the_ranks"]
    if covering == sample["knockouts"]:
        return ""
    return f"; {covering:,} of them cover the ranks, the others are a network's regulators"


def _lead(sample: dict[str, Any], manifest: dict[str, Any]) -> list[str]:
    cells, model = manifest["cells"], manifest["model"]
    lines = [f"Cells: {cells['source']}. Checkpoint: {model['name']}."]
    if sample["states"]:
        states = sample["states"]
        lines.append(
            f"Start state: {states['key']}={states['start']}; goal state: {states['goal']}, the "
            f"mean of {states['goal_cells']} cells."
        )
    return lines


def _step(answers: Answers, figures: Mapping[str, Figure]) -> list[Block]:
    blocks: list[Block] = _of(figures, "example", "heat")
    if answers.step is None:
        return blocks
    rows = [
        (
            arm, _cell(one.superiority), one.size, _cell(one.step, "+.2f"),
            _cell(one.jump, "+.2f"), _cell(one.located, ".0%"),
            f"{one.located_exactly:.0%}" if np.isfinite(one.located_exactly) else None,
            f"{one.located_by_chance:.0%}" if np.isfinite(one.located_by_chance) else None,
        )
        for arm, one in answers.step.arms.items()
    ]  # fmt: skip
    table = Table(
        "The step under each arm, with 95% intervals",
        ("arm", "P(after > before)", "size", "step, log10", "jump at the rank, log10",
         "change point on the rank", "exactly", "by chance"),
        rows,
    )  # fmt: skip
    return [table, *blocks, *_of(figures, "regions", "change-points"), *_region_tables(answers)]


def _region_tables(answers: Answers) -> list[Table]:
    """Steps and jumps by tenths of the ranks: a row a tenth, a column an arm."""
    if answers.step is None:
        return []
    tables = []
    for what, caption in (
        ("step", "Step (log10) by tenths of the ranks"),
        ("jump", "Jump at the rank (log10) by tenths of the ranks"),
    ):
        regions = {(r.name, r.arm): r for r in answers.step.regions if r.what == what}
        names = list(dict.fromkeys(name for name, _ in regions))
        rows = [
            (name, *(_marked(regions[name, arm]) for arm in answers.step.arms)) for name in names
        ]
        tables.append(
            Table(
                f"{caption}; * differs from elsewhere in the same cells (q ≤ 0.05)",
                ("ranks", *answers.step.arms),
                rows,
            )
        )
    return tables


def _marked(region: Region) -> str | None:
    value = _cell(region.mean, "+.2f")
    return f"{value} *" if value and region.q <= 0.05 else value


def _genes(answers: Answers, figures: Mapping[str, Figure]) -> list[Block]:
    if answers.genes is None:
        return []
    rows = [
        (name.replace("_", " "), *(_cell(found.shares[part], ".0%") for part in found.shares),
         found.note or None)
        for name, found in answers.genes.variance.items()
    ]  # fmt: skip
    return [
        Table(
            "Shares of the variance between knock-outs, with 95% intervals",
            ("measured", "rank", "gene", "cell", "rest", "note"),
            rows,
        ),
        *_of(figures, "variance", "departures"),
        _departures("Steps larger than the rank predicts", answers.genes.larger),
        _departures("Steps smaller than the rank predicts", answers.genes.smaller),
    ]


def _departures(caption: str, departures: Sequence[Departure]) -> Table:
    return Table(
        caption,
        ("gene", "Ensembl ID", "cells", "mean rank", "step, log10", "departure, log10", "q"),
        [
            (d.gene, d.gene_id, d.cells, f"{d.mean_rank:.0f}", f"{d.step:+.2f}",
             f"{d.departure:+.2f}", f"{d.q:.2g}")
            for d in departures
        ],
    )  # fmt: skip


def _rankings(answers: Answers, figures: Mapping[str, Figure]) -> list[Block]:
    if answers.rankings is None:
        return []
    blocks: list[Block] = [
        *_ranking_tables(answers.rankings.cell_shift),
        *_of(figures, "against-rank", "places"),
    ]
    if answers.rankings.goal is not None:
        blocks += _ranking_tables(answers.rankings.goal)
    else:
        blocks.append(
            Paragraph(
                "No goal state was given; with --state-key, --start and --goal the same is said of "
                "the shift towards it."
            )
        )
    return blocks


def _ranking_tables(ranking: Ranking) -> list[Block]:
    what = ranking.what
    sizes = list(dict.fromkeys(size for a in ranking.agreements for size in a.overlap))
    columns = ["arm", "against rank (Spearman)", "variance that rank explains"]
    against = [
        [arm, _cell(one, "+.2f"), _cell(ranking.rank_explains[arm], ".0%")]
        for arm, one in ranking.against_rank.items()
    ]
    if ranking.size_against_rank is not None:
        columns.append("its absolute value against rank")
        for row, one in zip(against, ranking.size_against_rank.values(), strict=True):
            row.append(_cell(one, "+.2f"))
    return [
        Table(
            f"How the {what} goes with the knocked-out gene's rank, within cells", columns, against
        ),
        Table(
            f"How two arms rank the knock-outs by {what}; in brackets, overlap by chance",
            ("arms", "genes", "Spearman over genes", "Spearman within cells",
             *(f"shared of top {size}" for size in sizes)),
            [
                (
                    " and ".join(a.arms), a.genes,
                    f"{a.pooled:+.2f}" if np.isfinite(a.pooled) else None,
                    _cell(a.within_cells, "+.2f"),
                    *(
                        f"{a.overlap[size][0]:.0%} ({a.overlap[size][1]:.0%})"
                        if size in a.overlap else None
                        for size in sizes
                    ),
                )
                for a in ranking.agreements
            ],
        ),
        _movers(f"Rise most from delete to hold, by {what}", ranking.rise),
        _movers(f"Fall most from delete to hold, by {what}", ranking.fall),
    ]  # fmt: skip


def _movers(caption: str, movers: Sequence[Mover]) -> Table:
    return Table(
        caption,
        ("gene", "Ensembl ID", "mean rank", "place under delete", "place under hold"),
        [
            (m.gene, m.gene_id, f"{m.mean_rank:.0f}", m.place_under_delete, m.place_under_reference)
            for m in movers
        ],
    )


def _arms(answers: Answers) -> list[Block]:
    compared = answers.arms
    verdicts = {True: "yes", False: "no", None: "not known"}
    rows = []
    for arm, one in compared.arms.items():
        of_step = answers.step.arms.get(arm) if answers.step else None
        rows.append(
            (
                arm, verdicts[one.has_step], _cell(of_step.superiority) if of_step else None,
                _cell(one.artefact_share, ".1%") or _by_construction(arm),
                _cell(one.against_rank, "+.2f"),
                _cell(one.rank_explains, ".0%"), _cell(one.agreement), _cell(one.shared_top, ".1f"),
            )
        )  # fmt: skip
    own = _cell(compared.mask_own_share, ".1%")
    return [
        Table(
            "The arms side by side, with 95% intervals",
            ("arm", "a step", "P(after > before)", "artefact share", "cell shift against rank",
             "and how much rank explains of it", "effects against hold (Spearman)",
             "shared with hold, of ten"),
            rows,
        ),
        *([Paragraph(
            f"What <mask> adds of its own: {own} of the squared movement under mask is not made by "
            "hold (Σ‖m − h‖² / Σ‖m − b‖²). The attention mask is the same as hold for every other "
            "gene, in exact arithmetic, and is not run twice."
        )] if own else []),
        Paragraph(f"The rule. {compared.rule}"),
    ]  # fmt: skip


def _by_construction(arm: str) -> str | None:
    return "none: positions held" if ARMS[arm].positions is Positions.HELD else None


def _links(answers: Answers, figures: Mapping[str, Figure]) -> list[Block]:
    if answers.links is None:
        return [
            Paragraph(
                "A network is a table (.csv, .tsv, .parquet) with the columns source and target, "
                "Ensembl IDs or symbols, and a weight if there is one; --network collectri fetches "
                "CollecTRI through decoupler. A regulator needs five known targets among the "
                "responders. The other answers do not depend on it."
            )
        ]
    rows = [
        (
            name, _cell(one.auroc), f"{one.null_auroc:.2f}", f"{one.p:.2g}",
            f"{one.under_others:.2f}" if np.isfinite(one.under_others) else None,
            _cell(one.average_precision, ".3f"), f"{one.null_average_precision:.3f}",
            one.significant,
        )
        for name, one in answers.links.scores.items()
    ]  # fmt: skip
    return [
        Table(
            f"Known targets of {answers.links.regulators} regulators ({answers.links.links:,} "
            "links), arms beside baselines that need no model",
            ("score", "AUROC", "at like ranks", "p", "under other knock-outs",
             "average precision", "at like ranks ", "regulators with q ≤ 0.05"),
            rows,
        ),
        *_of(figures, "targets"),
    ]  # fmt: skip


def _knockouts(measured: Measurements, answers: Answers) -> BigTable:
    """One row a knocked-out gene; where effects were not read, of its cell shifts."""
    if answers.genes is not None:
        table = answers.genes.table
    else:
        shifts = [f"{arm}_cell_shift" for arm in measured.arms]
        grouped = measured.knockouts.groupby(["gene", "gene_id"], observed=True)
        table = grouped[[c for c in shifts if c in measured.knockouts]].mean().reset_index()
    helps = {
        "cells": "Cells that it was knocked out of",
        "departure": "Step less what rank and cell predict, log10",
        "artefact_share": "Part of the squared movement under delete that is rank shift",
        "q": "False-discovery rate of the departure",
    }
    named = not (table["gene"].astype(str) == table["gene_id"].astype(str)).all()
    first = ["gene", *["gene_id"] * named]
    kept = first + [
        name
        for name in table
        if name not in ("gene", "gene_id", "p") and not name.endswith("_superiority")
    ]
    columns = [
        Column(
            name.replace("_", " "),
            helps.get(name, ""),
            3 if pd.api.types.is_float_dtype(table[name]) else None,
        )
        for name in kept
    ]
    rows = [
        [_plain_value(value) for value in row]
        for row in table[kept].head(_MOST_ROWS).itertuples(index=False)
    ]
    more = f" (the first {_MOST_ROWS:,} of {len(table):,})" if len(table) > _MOST_ROWS else ""
    return BigTable(
        "knockout-table", f"Means over the cells that have the gene{more}", columns, rows
    )


def _plain_value(value: Any) -> str | float | int | None:
    if isinstance(value, float):
        return float(f"{value:.4g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, int | np.integer) else str(value)


def _of(figures: Mapping[str, Figure], *names: str) -> list[Block]:
    return [figures[name] for name in names if name in figures]


def _cell(estimate: Estimate, form: str = ".2f") -> str | None:
    """An estimate for a table."""
    if not np.isfinite(estimate.value):
        return None
    if not np.isfinite(estimate.low):
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"
