"""Natural knock-outs in words and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ranklock.page.style import ARM_COLOURS, STYLE
from ranklock.perturbseq.natural_design import NOT_DRAWN
from ranklock.perturbseq.natural_scores import BELOW, BEYOND, PLACEBO, ModelSummary, NaturalSummary
from ranklock.perturbseq.text import number, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = 2.9  # inches
_MOST_NAMED = 12  # genes that are named, where they are so few


def natural_figure(table: pd.DataFrame, arms: Sequence[NaturalSummary]) -> Figure:
    """Place of each gene's own knock-out: checkpoint against null model, a panel an arm.

    A point is a gene; above the diagonal the checkpoint's knock-out points to the cells that lack
    the gene more than the null model's does, and the cross is the mean.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        size = (max(_PANEL * len(arms), 4.2), _PANEL + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, len(arms), sharex=True, sharey=True, squeeze=False)[0]
        for place, summary in zip(axes, arms, strict=True):
            _panel(place, table[table["arm"] == summary.arm], summary)
        axes[0].set_ylabel("place in the checkpoint")
        figure.supxlabel("place in the null model (0.5: chance)", fontsize=9)
    return figure


def _panel(axes: Axes, part: pd.DataFrame, summary: NaturalSummary) -> None:
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    for line in (axes.axhline, axes.axvline):
        line(0.5, color="#cccccc", linewidth=0.6, linestyle=":")
    x, y = part["null_place"], part["place"]
    colour = ARM_COLOURS.get(summary.arm, "#444444")
    axes.scatter(x, y, s=18, color=colour, alpha=0.75, linewidths=0, zorder=3)
    axes.scatter([x.mean()], [y.mean()], s=70, marker="+", color="black", zorder=4)
    if len(part) <= _MOST_NAMED:
        for name, across, up in zip(part["gene"], x, y, strict=True):
            axes.annotate(
                str(name), (across, up), fontsize=6, xytext=(3, 2), textcoords="offset points",
                parse_math=False,
            )  # fmt: skip
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_title(
        f"{summary.arm}\nbeyond the null model\n{signed(summary.beyond_null)}",
        fontsize=8, parse_math=False,
    )  # fmt: skip


def describe_natural(
    content: dict[str, Any], table: pd.DataFrame, arms: Sequence[NaturalSummary]
) -> list[str]:
    """All of it in words, a line each."""
    lines = [*_sources(content, table), "", *_scores(arms), ""]
    return [*lines, *(f"{summary.arm}: {natural_verdict(summary)}" for summary in arms)]


def natural_verdict(summary: NaturalSummary) -> str:
    """Whether the checkpoint's knock-outs point to cells that lack the gene, in a sentence."""
    shown = (
        f"place {number(summary.model.place.value, '.2f')} against "
        f"{number(summary.null.place.value, '.2f')}, difference {signed(summary.beyond_null)}, "
        f"p = {summary.p:.2g}"
    )
    match summary.verdict:
        case v if v == PLACEBO:
            return f"the placebo, in which the gene stays: {shown}."
        case v if v == BEYOND:
            return (
                "removing a gene moves cells towards cells that truly lack it, more than removing "
                f"other genes does, and more than in a model without knowledge ({shown}). This is "
                "of the model, and no link between genes in biology."
            )
        case v if v == BELOW:
            return (
                "knock-outs point to the cells that truly lack the gene LESS than those of a model "
                f"without knowledge do ({shown})."
            )
    return (
        "no evidence that knock-outs point to the cells that truly lack the gene more than those "
        f"of a model without knowledge do ({shown})."
    )


def _sources(content: dict[str, Any], table: pd.DataFrame) -> list[str]:
    cells, genes, asked = content["cells"], content["genes"], content["asked"]
    judged = table[table["why_not"] == ""].drop_duplicates("gene_id")
    within = f" within {', '.join(asked['match'])}" if asked["match"] else ""
    lines = [
        f"Run:    {content['run']['name']}, knock-outs in {content['model']['name']} and in its "
        f"null model (weights permuted, seed {asked['seed']})",
        f"Cells:  {cells['source']}: {cells['for_directions']} of {cells['number']} say which way "
        f"the lack of a gene points, genes are knocked out in {cells['held_out']} others",
        f"Genes:  {genes['judged']} of {genes['asked']} are judged, by {judged['pairs'].min()} to "
        f"{judged['pairs'].max()} pairs of a cell that lacks the gene and one that has it, matched "
        f"by their number of genes{within}",
        f"        the lacking cell of a pair shows {judged['genes_apart'].mean():+.1f} genes on "
        f"average, and {judged['genes_apart'].min():+.1f} to {judged['genes_apart'].max():+.1f} of "
        "one gene's pairs",
    ]
    if not asked["match"]:
        lines.append(
            "        not matched within anything: a gene that some types of cells lack has the "
            "direction of those types (--match)"
        )
    left_out = table.loc[table["why_not"] != "", "why_not"]
    not_drawn = int(left_out.str.startswith(NOT_DRAWN).sum())
    for genes_left_out, why_not in (
        (len(left_out) - not_drawn, f"fewer than {asked['min_cells']} matched pairs or held-out "
         "cells (--min-cells), so nothing is said of them"),
        (not_drawn, f"{NOT_DRAWN} (--max-genes)"),
    ):  # fmt: skip
        if genes_left_out:
            lines.append(f"        {genes_left_out} are not judged: {why_not}")
    return lines


def _scores(arms: Sequence[NaturalSummary]) -> list[str]:
    """Two lines an arm: the checkpoint and the null model."""
    lines = [
        "Cosine of a gene's knock-out with its direction, of other genes' knock-outs in the same",
        "cells, and the difference; place of the gene among all (0.5: chance, 1: foremost); means",
        "over genes [95 % intervals]; p of a place as high when directions go to genes at random:",
        f"  {'arm':<16}{'model':<12}{'own':>7}{'others':>8}  {'difference':>24}  "
        f"{'place':>20}  {'p':>7}",
    ]
    for summary in arms:
        lines.append(_line(summary.arm, "checkpoint", summary.model))
        lines.append(_line("", "null model", summary.null))
    lines += [
        "Cosines are larger in a model that uses fewer of its dimensions, whichever gene is",
        "knocked out: models are compared by places. Places of a null model are above chance, for",
        "cells that lack a gene lack its token.",
    ]
    return lines


def _line(arm: str, model: str, summary: ModelSummary) -> str:
    place = summary.place
    interval = (
        f"{number(place.value, '.2f')} [{number(place.low, '.2f')}, {number(place.high, '.2f')}]"
    )
    return (
        f"  {arm:<16}{model:<12}{number(summary.own):>7}{number(summary.others):>8}  "
        f"{signed(summary.difference):>24}  {interval:>20}  {number(summary.p, '.2g'):>7}"
    )
