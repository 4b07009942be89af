"""Figure of estimates: estimates against exact effects, and the largest effects by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ranklock.page.style import ARM_COLOURS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMED = 15
_KINDS = {"largest": ARM_COLOURS["hold"], "suspicious": ARM_COLOURS["delete"], "random": "#7a7a7a"}
_SAID = {
    "goal": "change of cosine to the goal",
    "classifier": "change of the logit",
    "potency": "mean effect on all other genes (cosine distance)",
    "gene set": "mean effect on the gene set (cosine distance)",
}


def estimates_figure(table: pd.DataFrame, question: str) -> Figure:
    """Estimate against exact effect, and the largest effects with their standard errors."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 4.0), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
        _draw_agreement(left, table, question)
        _draw_largest(right, table.head(_NAMED).iloc[::-1])
        right.set_xlabel(_SAID[question])
    return figure


def _draw_agreement(axis: Axes, table: pd.DataFrame, question: str) -> None:
    measured = table[table["exact"].notna() & table["verified_estimate"].notna()]
    for kind, colour in _KINDS.items():
        rows = measured[measured["chosen"] == kind]
        if len(rows):
            axis.scatter(rows["verified_estimate"], rows["exact"], s=14, color=colour, linewidths=0,
                         label=f"{kind} ({len(rows)})", zorder=3)  # fmt: skip
    values = measured[["verified_estimate", "exact"]].to_numpy()
    if len(values):
        low, high = float(values.min()), float(values.max())
        if question not in ("goal", "classifier") and low > 0:
            axis.set_xscale("log")
            axis.set_yscale("log")
        axis.plot([low, high], [low, high], color="#cccccc", linewidth=1, zorder=1)
        axis.legend(frameon=False, fontsize=8, loc="upper left")
    axis.set_xlabel("estimate, in the cells that were measured")
    axis.set_ylabel("exact effect of hold")
    axis.set_title("Genes measured by forwards", loc="left")


def _draw_largest(axis: Axes, rows: pd.DataFrame) -> None:
    height = np.arange(len(rows))
    error = rows["standard_error"].fillna(0.0).to_numpy()
    measured = (rows["verified_in"] > 0).to_numpy()
    colours = np.where(measured, ARM_COLOURS["hold"], "#ffffff")
    axis.errorbar(rows["effect"], height, xerr=error, fmt="none", ecolor="#9a9a9a", elinewidth=1)
    axis.scatter(rows["effect"], height, s=22, c=colours, edgecolors=ARM_COLOURS["hold"], zorder=3)
    axis.axvline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axis.set_yticks(height, rows["gene"].astype(str))
    axis.tick_params(axis="y", labelsize=8)
    axis.set_title("Largest effects (open: estimated only)", loc="left")
