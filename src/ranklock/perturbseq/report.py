"""An evaluation against a real screen, in words and as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ranklock.page.style import ARM_COLOURS, STYLE
from ranklock.perturbseq.summary import ADDS, LEVEL, TOO_FEW, LayerSummary
from ranklock.statistics.intervals import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = 2.9  # inches
_ACROSS = 4  # panels in a row
_MOST_NAMED = 12  # points that are named, where they are so few


def evaluation_figure(table: pd.DataFrame, layers: Sequence[LayerSummary]) -> Figure:
    """AUROC of the scores against that of the best baseline: a panel a layer.

    Parameters
    ----------
    table
        An oriented table: a row a perturbed gene and layer.
    layers
        Their summaries, in the order of the panels.

    Returns
    -------
    matplotlib Figure. A point is a perturbed gene; above the diagonal the scores rank its changed
    genes better than the baseline does, and the cross is the mean.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    across = min(len(layers), _ACROSS)
    down = -(-len(layers) // across)
    both = pd.concat([table["auroc"], table["best_auroc"]]).dropna()
    low = min(math.floor(both.min() * 10) / 10, 0.4)
    high = max(math.ceil(both.max() * 10) / 10, 0.6)
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


def _panel(axes: Axes, part: pd.DataFrame, found: LayerSummary, low: float, high: float) -> None:
    colour = ARM_COLOURS.get(found.layer, "#444444")
    axes.plot([low, high], [low, high], color="#999999", linewidth=0.8)
    for line in (axes.axhline, axes.axvline):
        line(0.5, color="#cccccc", linewidth=0.6, linestyle=":")
    x = part["best_auroc"] if found.best else part["auroc"] * 0 + 0.5
    axes.scatter(x, part["auroc"], s=18, color=colour, alpha=0.75, linewidths=0, zorder=3)
    axes.scatter([x.mean()], [part["auroc"].mean()], s=70, marker="+", color="black", zorder=4)
    if len(part) <= _MOST_NAMED:
        for name, across, up in zip(part["gene"], x, part["auroc"], strict=True):
            axes.annotate(
                str(name), (across, up), fontsize=6, xytext=(3, 2), textcoords="offset points",
                parse_math=False,
            )  # fmt: skip
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    best = found.best or "none: chance"
    axes.set_title(
        f"{found.layer}\nincrement {_signed(found.increment)}\nbest baseline: {best}",
        fontsize=8, parse_math=False,
    )  # fmt: skip


def describe_evaluation(
    content: dict[str, Any], coverage: pd.DataFrame, layers: Sequence[LayerSummary]
) -> list[str]:
    """All of it in words, a line each."""
    lines = [*_sources(content), *_coverage(content, coverage, layers), ""]
    lines += _scores(layers)
    lines += ["", *_references(layers, content["baselines"]), ""]
    lines += [f"{found.layer}: {verdict_in_words(found)}" for found in layers]
    return lines


def verdict_in_words(found: LayerSummary) -> str:
    """Whether scores add anything beyond the baselines, in a sentence."""
    if found.verdict == TOO_FEW and found.perturbed < 3:
        return (
            f"{found.perturbed} perturbed gene{'s' * (found.perturbed > 1)} could be scored, too "
            "few to say anything of others; three are needed."
        )
    if found.verdict == TOO_FEW:
        return "no baseline could be had, so there is nothing that the scores could add to."
    alone = (
        "on their own they rank better than the best of them"
        if found.increment.low > 0
        else "on their own they do not rank better than the best of them"
    )
    shown = f"AUROC {_signed(found.joint)}, p = {found.joint_p:.2g}"
    if found.verdict == ADDS:
        return f"the scores add to the gene-level baselines taken together ({shown}); {alone}."
    if found.joint_p <= LEVEL and found.joint.value > 0:  # and so its weight is below zero
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
        f"{number} {what}"
        for number, what in (
            (screen.get("combinations_left_out", 0), "combinations of genes"),
            (screen.get("unclear_left_out", 0), "labels that are not understood"),
            (screen.get("perturbed_genes_with_too_few_cells", 0), "genes with too few cells"),
        )
        if number
    ]
    lines = [
        f"Run:    {run['name']}: {run['knockouts']:,} knock-outs × {run['responders']:,} "
        "responders",
        f"Screen: {screen['name']}: {screen['perturbed']:,} perturbed genes × "
        f"{screen['genes']:,} genes; changed: {threshold}",
    ]
    if left_out:
        lines.append(f"        left out: {', '.join(left_out)}")
    if run["knockouts_of_several_genes"]:
        lines.append(
            f"        {len(run['knockouts_of_several_genes'])} knock-outs of several genes at once "
            "are not judged"
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
    some = coverage[coverage["scored"]]
    ceiling = some["changed_that_respond"].sum() / some["changed_genes"].sum()
    lines.append(
        f"Recall ceiling: {ceiling:.0%} of the changed genes of those scored are responders at "
        "all; the others are missed, whatever the score."
    )
    return lines


def _scores(layers: Sequence[LayerSummary]) -> list[str]:
    """A line a layer; means over perturbed genes, with 95 % intervals."""
    width = max(12, *(len(found.layer) for found in layers)) + 2
    rows = [("", "AUROC", "best baseline", "increment", "joint increment", "p")]
    rows += [
        (
            found.layer, _number(found.auroc.value), _number(found.best_auroc),
            _signed(found.increment), _signed(found.joint), _p(found.joint_p),
        )
        for found in layers
    ]  # fmt: skip
    lines = [
        "Means over perturbed genes [95 % intervals]; p of the joint increment, times the number "
        "of layers:"
    ]
    for first, *rest in rows:
        auroc, best, increment, joint, p = rest
        lines.append(
            f"  {first:<{width}}{auroc:>6}  {best:>13}  {increment:>24}  {joint:>24}  {p:>7}"
        )
    lines.append("Average precision (chance), Spearman with |log fold change|, and AUROC less that")
    lines.append("of the same genes under other knock-outs:")
    lines += [
        f"  {found.layer:<{width}}{_number(found.average_precision.value):>6}  "
        f"({_number(found.chance_average_precision)})  {_number(found.spearman.value):>7}  "
        f"{_signed(found.under_other_knockouts):>26}"
        for found in layers
    ]
    return lines


def _references(layers: Sequence[LayerSummary], baselines: Sequence[str]) -> list[str]:
    if not baselines:
        return ["No baseline could be had: one knock-out, and no cells (--cells) to know genes by."]
    lines = ["Baselines, AUROC:"]
    for found in layers:
        each = ", ".join(f"{name} {_number(value)}" for name, value in found.baselines.items())
        lines.append(f"  {found.layer}: {each}; together {_number(found.joint_without)}")
    lines.append(
        "  for reference, who knows the rest of the screen (how often genes change there): "
        + ", ".join(f"{found.layer} {_number(found.of_the_screen)}" for found in layers)
    )
    missing = {"expression", "expression in control cells"}.isdisjoint(baselines)
    if missing:
        lines.append(
            "  note: expression and variance are not known here, so these are weak baselines; name "
            "the sweep or run that the scores are from with --cells."
        )
    return lines


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2g}"


def _signed(found: Estimate) -> str:
    if math.isnan(found.value):
        return "–"
    if math.isnan(found.low):
        return f"{found.value:+.3f}"
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
