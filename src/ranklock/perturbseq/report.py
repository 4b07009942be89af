"""An evaluation against a laboratory screen, in words and as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ranklock.page.style import ARM_COLOURS, STYLE
from ranklock.perturbseq.knock_out_report import describe_knock_outs
from ranklock.perturbseq.scores import EXPRESSION
from ranklock.perturbseq.screen_cells import CONTROL_EXPRESSION
from ranklock.perturbseq.summary import ADDS, LEVEL, TOO_FEW, LayerSummary
from ranklock.perturbseq.text import number, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ranklock.perturbseq.evaluate import Evaluation

_PANEL = 2.9  # inches
_ACROSS = 4  # panels in a row
_MOST_NAMED = 12  # points that are named, where they are so few


def evaluation_figure(table: pd.DataFrame, layers: Sequence[LayerSummary]) -> Figure:
    """AUROC of the scores against that of the best baseline, a panel a layer.

    A point is a perturbed gene; above the diagonal the scores rank its changed genes better than
    the baseline does, and the cross is the mean.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    across = min(len(layers), _ACROSS)
    down = -(-len(layers) // across)
    aurocs = pd.concat([table["auroc"], table["best_auroc"]]).dropna()
    low = min(math.floor(aurocs.min() * 10) / 10, 0.4)
    high = max(math.ceil(aurocs.max() * 10) / 10, 0.6)
    with mpl.rc_context(STYLE):
        size = (max(_PANEL * across, 4.2), (_PANEL + 0.5) * down + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        for place, panel in zip(axes.flat, layers, strict=False):
            _panel(place, table[table["layer"] == panel.layer], panel, low, high)
        for place in list(axes.flat)[len(layers) :]:
            place.set_axis_off()
        for row in axes:
            row[0].set_ylabel("AUROC of the scores")
        figure.supxlabel("AUROC of the best gene-level baseline", fontsize=9)
    return figure


def _panel(axes: Axes, part: pd.DataFrame, summary: LayerSummary, low: float, high: float) -> None:
    colour = ARM_COLOURS.get(summary.layer, "#444444")
    axes.plot([low, high], [low, high], color="#999999", linewidth=0.8)
    for line in (axes.axhline, axes.axvline):
        line(0.5, color="#cccccc", linewidth=0.6, linestyle=":")
    x = part["best_auroc"] if summary.best else part["auroc"] * 0 + 0.5
    axes.scatter(x, part["auroc"], s=18, color=colour, alpha=0.75, linewidths=0, zorder=3)
    axes.scatter([x.mean()], [part["auroc"].mean()], s=70, marker="+", color="black", zorder=4)
    if len(part) <= _MOST_NAMED:
        for name, best_auroc, auroc in zip(part["gene"], x, part["auroc"], strict=True):
            axes.annotate(
                str(name), (best_auroc, auroc), fontsize=6, xytext=(3, 2),
                textcoords="offset points", parse_math=False,
            )  # fmt: skip
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    baseline = summary.best or "none: chance"
    axes.set_title(
        f"{summary.layer}\nincrement {signed(summary.increment)}\nbest baseline: {baseline}",
        fontsize=8, parse_math=False,
    )  # fmt: skip


def describe_evaluation(evaluation: Evaluation) -> list[str]:
    """All of it in words, a line each."""
    content, coverage = evaluation.content, evaluation.coverage
    layers = list(evaluation.layers.values())
    null = evaluation.null
    null_layers = {} if null is None else null.layers
    lines = [*_sources(content), *_coverage(content, coverage, layers), ""]
    lines += _scores([(s.layer, s) for s in layers], list(null_layers.values()))
    lines += ["", *_references(layers, content["baselines"]), ""]
    lines += describe_knock_outs(
        evaluation.knock_out_layers, None if null is None else null.knock_out_layers
    )
    for summary in layers:
        said = verdict_in_words(summary)
        if summary.layer in null_layers:
            said += _beside_null(summary, null_layers[summary.layer])
        lines.append(f"{summary.layer}: {said}")
    if null is None:
        lines.append(
            "No null model beside it (--null-run): whether a model without knowledge shows as much "
            "is not known."
        )
    return lines


def _beside_null(summary: LayerSummary, null: LayerSummary) -> str:
    """What the null model's scores add, after the verdict of the checkpoint's."""
    shown = f"AUROC {signed(null.joint)}, p = {null.joint_p:.2g}"
    if summary.verdict == ADDS and null.verdict == ADDS:
        return f" So do the null model's ({shown}), so it is no knowledge of the checkpoint's."
    return f" The null model's: {'they add' if null.verdict == ADDS else null.verdict} ({shown})."


def verdict_in_words(summary: LayerSummary) -> str:
    """Whether scores add anything beyond the baselines, in a sentence."""
    if summary.verdict == TOO_FEW and summary.perturbed < 3:
        return (
            f"{summary.perturbed} perturbed gene{'s' * (summary.perturbed > 1)} could be scored, "
            "too few to say anything of others; three are needed."
        )
    if summary.verdict == TOO_FEW:
        return "no baseline could be had, so there is nothing that the scores could add to."
    alone = (
        "on their own they rank better than the best of them"
        if summary.increment.low > 0
        else "on their own they do not rank better than the best of them"
    )
    shown = f"AUROC {signed(summary.joint)}, p = {summary.joint_p:.2g}"
    if summary.verdict == ADDS:
        return f"the scores add to the gene-level baselines taken together ({shown}); {alone}."
    if summary.joint_p <= LEVEL and summary.joint.value > 0:  # and so its weight is below zero
        return (
            f"the scores add to the baselines only when read backwards ({shown}): the less a gene "
            "moves, the more it changed."
        )
    return (
        f"nothing is seen that the scores add to the gene-level baselines taken together ({shown})."
    )


def _sources(content: dict[str, Any]) -> list[str]:
    run, screen, asked = content["run"], content["screen"], content["asked"]
    threshold = f"adjusted p ≤ {asked['most_q']:g}"
    if asked["least_fold_change"]:
        threshold += f" and |log fold change| ≥ {asked['least_fold_change']:g}"
    left_out = [
        f"{labels} {description}"
        for labels, description in (
            (screen.get("combinations_left_out", 0), "combinations of genes"),
            (screen.get("unclear_left_out", 0), "labels that are not understood"),
            (screen.get("perturbed_genes_with_too_few_cells", 0), "genes with too few cells"),
        )
        if labels
    ]
    lines = [
        f"Run:    {run['name']}: {run['perturbations']:,} perturbations ({run['kind']}) × "
        f"{run['responders']:,} responders",
        f"Screen: {screen['name']}: {screen['perturbed']:,} perturbed genes × "
        f"{screen['genes']:,} genes; changed: {threshold}",
    ]
    if left_out:
        lines.append(f"        left out: {', '.join(left_out)}")
    if run["sets"]:
        lines.append(
            f"        {len(run['sets'])} perturbations of several genes at once are not judged"
        )
    return lines


def _coverage(
    content: dict[str, Any], coverage: pd.DataFrame, layers: Sequence[LayerSummary]
) -> list[str]:
    inside, scored = int(coverage["in_run"].sum()), int(coverage["scored"].sum())
    words = (
        f"{inside} of the screen's {len(coverage)} perturbed genes are in the run, {scored} are "
        "scored"
    )
    if "cells_with_gene" in coverage and inside:
        cells = coverage.loc[coverage["in_run"], "cells_with_gene"]
        words += (
            f"; they stand within the input size in {cells.min()} to {cells.max()} of "
            f"{content['run']['cells']} cells (median {cells.median():g})"
        )
    lines = [f"Coverage: {words}."]
    if scored < inside:
        lines.append(
            f"          {inside - scored} have fewer than {content['asked']['fewest_changed']} "
            "changed, or unchanged, genes among their responders."
        )
    genes = coverage[coverage["scored"]]
    ceiling = genes["changed_that_respond"].sum() / genes["changed_genes"].sum()
    lines.append(
        f"Recall ceiling: {ceiling:.0%} of the changed genes of those scored are responders at "
        "all; the others are missed, whatever the score."
    )
    return lines


def _scores(named: Sequence[tuple[str, LayerSummary]], null: Sequence[LayerSummary]) -> list[str]:
    """A line a layer and model; means over perturbed genes, with 95 % intervals."""
    named = [*named, *((f"{summary.layer}, null model", summary) for summary in null)]
    width = max(12, *(len(name) for name, _ in named)) + 2
    rows = [("", "AUROC", "best baseline", "increment", "joint increment", "p")]
    rows += [
        (
            name, number(summary.auroc.value), number(summary.best_auroc),
            signed(summary.increment), signed(summary.joint), number(summary.joint_p, ".2g"),
        )
        for name, summary in named
    ]  # fmt: skip
    lines = [
        "Means over perturbed genes [95 % intervals]; p of the joint increment, times the number "
        "of layers:"
    ]
    for layer, auroc, best, increment, joint, p in rows:
        lines.append(
            f"  {layer:<{width}}{auroc:>6}  {best:>13}  {increment:>24}  {joint:>24}  {p:>7}"
        )
    lines.append("Average precision (chance), Spearman with |log fold change|, and AUROC less that")
    lines.append("of the same genes under other perturbations:")
    lines += [
        f"  {name:<{width}}{number(summary.average_precision.value):>6}  "
        f"({number(summary.chance_average_precision)})  {number(summary.spearman.value):>7}  "
        f"{signed(summary.under_other_perturbations):>26}"
        for name, summary in named
    ]
    return lines


def _references(layers: Sequence[LayerSummary], baselines: Sequence[str]) -> list[str]:
    if not baselines:
        return [
            "No baseline could be had: one perturbation, and no run (--cells) to know genes by."
        ]
    lines = ["Baselines, AUROC:"]
    for summary in layers:
        aurocs = ", ".join(f"{name} {number(value)}" for name, value in summary.baselines.items())
        lines.append(f"  {summary.layer}: {aurocs}; together {number(summary.joint_without)}")
    if {EXPRESSION, CONTROL_EXPRESSION}.isdisjoint(baselines):
        lines.append(
            "  note: expression and variance are not known here, so these are weak baselines; name "
            "the run that the scores are from with --cells."
        )
    return lines
