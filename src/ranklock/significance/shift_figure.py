"""Figure of cells' shifts: against rank, as measured, and beyond rank-matched perturbations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ranklock.page.style import ARM_COLOURS, STYLE
from ranklock.significance.shift_tables import UNSIGNED
from ranklock.statistics.significance import FALSE_DISCOVERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELLED = 8


def shifts_figure(
    table: pd.DataFrame, tests: Mapping[str, tuple[str, ...]], quantity: str
) -> Figure:
    """Shift against rank, a column a kind and arm: above as measured, below what is specific.

    ``quantity`` is drawn under every kind and arm that has it; ``tests`` as of ``Shifts.tests``.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown = {label: test for label, test in tests.items() if test[2] == quantity}
    log = quantity in UNSIGNED
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(3.0 * len(shown) + 0.6, 4.2), 5.0), layout="constrained")
        axes = figure.subplots(2, len(shown), sharex=True, sharey="row", squeeze=False)
        for column, (label, test) in zip(axes.T, shown.items(), strict=True):
            rows = table[(table[["kind", "arm", "quantity"]] == list(test)).all(axis=1)]
            _panel(column, rows, label.removesuffix(f", {quantity}"), test[1])
            if not log:
                column[0].axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
            elif (rows["shift"] > 0).any():
                column[0].set_yscale("log")
        axes[0, 0].set_ylabel(f"{quantity}{' (cosine distance)' if log else ''}")
        axes[1, 0].set_ylabel(f"beyond rank-matched{' (log10)' if log else ''}")
        figure.supxlabel("mean rank of the perturbed gene", fontsize=9)
    return figure


def _panel(axes: tuple[Axes, Axes], rows: pd.DataFrame, label: str, arm: str) -> None:
    significant = (rows["q"] <= FALSE_DISCOVERIES).to_numpy()
    colour = ARM_COLOURS.get(arm, "#333333")
    x = rows["gene_rank"].to_numpy()
    for axis, name in zip(axes, ("shift", "specific"), strict=True):
        y = rows[name].to_numpy()
        axis.scatter(
            x[~significant], y[~significant], s=5, color="#9a9a9a", alpha=0.5, linewidths=0
        )
        axis.scatter(x[significant], y[significant], s=9, color=colour, linewidths=0)
    axes[1].axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    tested = int(rows["q"].notna().sum())
    axes[0].set_title(f"{label}: {int(significant.sum()):,} of {tested:,} at FDR 5%", loc="left")
    for row in _apart(rows[significant]).itertuples(index=False):
        axes[1].annotate(
            row.gene, (row.gene_rank, row.specific), fontsize=6, xytext=(3, 2),
            textcoords="offset points",
        )  # fmt: skip


def _apart(rows: pd.DataFrame) -> pd.DataFrame:
    """The first rows whose names would not stand on one another's."""
    kept: list[int] = []
    places = rows[["gene_rank", "specific"]].to_numpy()
    size = np.ptp(places, axis=0) * (0.22, 0.07) if len(places) else np.zeros(2)
    for index, place in enumerate(places):
        if all((np.abs(place - places[label]) > size).any() for label in kept):
            kept.append(index)
        if len(kept) == _LABELLED:
            break
    return rows.iloc[kept]
