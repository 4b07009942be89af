"""Figure of knock-outs' shifts: against rank, as measured, and beyond rank-matched knock-outs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ranklock.page.style import ARM_COLOURS, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL_SHIFT, _RATE, _LABELLED = "cell shift", 0.05, 8


def shifts_figure(table: pd.DataFrame, arms: list[str]) -> Figure:
    """Shift against rank, a column an arm: above as measured, below what is specific.

    Parameters
    ----------
    table
        Genes, the smallest p first: ``arm``, ``quantity``, ``gene``, ``shift``, ``specific``,
        ``gene_rank`` and ``q``. Drawn are cell shifts, or the first quantity where there are none.
    arms
        Which arms, in order.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    there = list(dict.fromkeys(table["quantity"]))
    quantity = _CELL_SHIFT if _CELL_SHIFT in there else there[0]
    rows = table[table["quantity"] == quantity]
    shown = [arm for arm in arms if (rows["arm"] == arm).any()]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(3.0 * len(shown) + 0.6, 4.2), 5.0), layout="constrained")
        axes = figure.subplots(2, len(shown), sharex=True, sharey="row", squeeze=False)
        for column, arm in enumerate(shown):
            part = rows[rows["arm"] == arm]
            found = (part["q"] <= _RATE).to_numpy()
            colour = ARM_COLOURS.get(arm, "#333333")
            for axis, what in zip(axes[:, column], ("shift", "specific"), strict=True):
                y = part[what].to_numpy()
                x = part["gene_rank"].to_numpy()
                axis.scatter(x[~found], y[~found], s=5, color="#9a9a9a", alpha=0.5, linewidths=0)
                axis.scatter(x[found], y[found], s=9, color=colour, linewidths=0)
            axes[1, column].axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
            tested = int(part["q"].notna().sum())
            axes[0, column].set_title(
                f"{arm}: {int(found.sum()):,} of {tested:,} at FDR 5%", loc="left"
            )
            for row in _apart(part[found]).itertuples(index=False):
                axes[1, column].annotate(
                    row.gene, (row.gene_rank, row.specific), fontsize=6, xytext=(3, 2),
                    textcoords="offset points",
                )  # fmt: skip
            if quantity == _CELL_SHIFT and (part["shift"] > 0).any():
                axes[0, column].set_yscale("log")
        log = quantity == _CELL_SHIFT
        axes[0, 0].set_ylabel(f"{quantity}{' (cosine distance)' if log else ' (cosine)'}")
        axes[1, 0].set_ylabel(f"beyond rank-matched{' (log10)' if log else ''}")
        figure.supxlabel("mean rank of the knocked-out gene", fontsize=9)
    return figure


def _apart(rows: pd.DataFrame) -> pd.DataFrame:
    """The first rows whose names would not stand on one another's."""
    kept: list[int] = []
    place = rows[["gene_rank", "specific"]].to_numpy()
    size = np.ptp(place, axis=0) * (0.22, 0.07) if len(place) else np.zeros(2)
    for index, here in enumerate(place):
        if all((np.abs(here - place[other]) > size).any() for other in kept):
            kept.append(index)
        if len(kept) == _LABELLED:
            break
    return rows.iloc[kept]
