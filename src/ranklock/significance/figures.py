"""Figures of tests: how many times as much as impostors, and how certain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.page.style import ARM_COLOURS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ranklock.significance.results import Results

_LABELLED, _GENES = 10, 30
_GREY = "#9a9a9a"
_SMALLEST_P = 1e-300


def responders_figure(results: Results) -> Figure:
    """Fold over impostors against certainty, a point a pair of genes, a panel a test."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    table, tests = results.table, results.tests
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(3.0 * len(tests) + 0.6, 4.2), 3.9), layout="constrained")
        axes = figure.subplots(1, len(tests), sharex=True, sharey=True, squeeze=False)[0]
        for axis, (label, (kind, arm)) in zip(axes, tests.items(), strict=True):
            rows = table[(table["kind"] == kind) & (table["arm"] == arm) & table["p"].notna()]
            _draw_pairs(axis, rows, label, arm, results)
        axes[0].set_ylabel("-log10 p")
        figure.supxlabel("times as far as under impostors in the same place", fontsize=9)
    return figure


def _draw_pairs(axis: Axes, rows: pd.DataFrame, label: str, arm: str, results: Results) -> None:
    finding = rows["finding"].to_numpy(bool)
    fold = rows["fold"].to_numpy(np.float64)
    heights = -np.log10(np.maximum(rows["p"].to_numpy(np.float64), _SMALLEST_P))
    colour = ARM_COLOURS.get(arm, "#333333")
    axis.scatter(fold[~finding], heights[~finding], s=3, color=_GREY, alpha=0.35, linewidths=0,
                 rasterized=True)  # fmt: skip
    axis.scatter(fold[finding], heights[finding], s=9, color=colour, linewidths=0)
    _times(axis)
    axis.axvline(results.manifest["asked"]["minimum"], color="#cccccc", linewidth=0.8, zorder=0)
    axis.set_title(f"{label}: {int(finding.sum()):,} findings of {len(rows):,}", loc="left")
    best = np.flatnonzero(finding)
    for place in best[np.argsort(-heights[best], kind="stable")][:_LABELLED]:
        row = rows.iloc[place]
        axis.annotate(f"{row['gene']} → {row['responder']}", (fold[place], heights[place]),
                      fontsize=6, xytext=(4, -2), textcoords="offset points")  # fmt: skip
    axis.margins(x=0.25)


def _times(axis: Axes) -> None:
    """A logarithmic axis of factors, few enough of them named to stand apart."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    low, high = axis.get_xlim()
    few = high / max(low, 1e-12) > 100
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0,) if few else (1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda factor, _: f"×{factor:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def shifts_figure(results: Results, quantity: str) -> Figure:
    """Fold over impostors of the genes that shift cells most, with intervals, a panel a test."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    tests = {label: test for label, test in results.tests.items() if test[2] == quantity}
    table, minimum = results.table, float(results.manifest["asked"]["minimum"])
    panels = [
        (label, test[1], table[np.logical_and.reduce(
            [table[key] == value for key, value in zip(results.KEYS, test, strict=True)])])
        for label, test in tests.items()
    ]  # fmt: skip
    of_quantity = results.summary["quantity"] == quantity
    signed = bool(results.summary.loc[of_quantity, "signed"].iloc[0])
    most = max([min(int(rows["fold"].notna().sum()), _GENES) for _, _, rows in panels] + [4])
    with mpl.rc_context(STYLE):
        size = (max(3.4 * len(panels) + 0.4, 4.2), 0.17 * most + 1.2)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axis, (label, arm, rows) in zip(axes, panels, strict=True):
            _draw_shifts(axis, rows.dropna(subset="fold").head(_GENES), label, arm, signed=signed)
            for edge in (minimum, -minimum) if signed else (minimum,):
                axis.axvline(edge, color="#cccccc", linewidth=0.8, zorder=0)
        said = "root mean squares of impostors' shifts" if signed else "times impostors' shift"
        figure.supxlabel(f"{quantity}: {said} (filled: findings)", fontsize=9)
    return figure


def _draw_shifts(axis: Axes, rows: pd.DataFrame, label: str, arm: str, *, signed: bool) -> None:
    rows = rows.iloc[::-1]
    heights = np.arange(len(rows))
    fold, low, high = (
        rows[name].to_numpy(np.float64) for name in ("fold", "fold_low", "fold_high")
    )
    colour = ARM_COLOURS.get(arm, "#333333")
    errors = np.nan_to_num(np.maximum(np.stack([fold - low, high - fold]), 0.0))
    axis.errorbar(fold, heights, xerr=errors, fmt="none", ecolor=_GREY, elinewidth=0.8)
    faces = np.where(rows["finding"].to_numpy(bool), colour, "#ffffff")
    axis.scatter(fold, heights, s=18, c=faces, edgecolors=colour, linewidths=0.8, zorder=3)
    if not signed:
        _times(axis)
    axis.set_yticks(heights, rows["gene"].astype(str))
    axis.tick_params(axis="y", labelsize=7)
    axis.set_title(label, loc="left")


def directions_figure(directions: pd.DataFrame, state: str) -> Figure:
    """One kind of perturbation against its opposite: genes over the cloud of their impostors."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = directions[directions["state"] == state]
    first, second = rows["kind"].iloc[0], rows["other_kind"].iloc[0]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.0, 4.6), layout="constrained")
        axis = figure.subplots()
        cloud = [np.concatenate([_numbers(each) for each in rows[name]])
                 for name in ("impostor_times", "impostor_other_times")]  # fmt: skip
        axis.scatter(cloud[0], cloud[1], s=2, color=_GREY, alpha=0.3, linewidths=0, rasterized=True,
                     label="impostors, cell by cell")  # fmt: skip
        axis.scatter(rows["times"], rows["other_times"], s=18, color=ARM_COLOURS["hold"],
                     linewidths=0, label="genes, means over cells")  # fmt: skip
        far = rows.assign(size=rows["times"].abs() + rows["other_times"].abs())
        for row in far.nlargest(_LABELLED, "size").itertuples(index=False):
            axis.annotate(str(row.gene), (row.times, row.other_times), fontsize=7,
                          xytext=(4, 2), textcoords="offset points")  # fmt: skip
        axis.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
        axis.axvline(0, color="#cccccc", linewidth=0.8, zorder=0)
        axis.set_xlabel(f"{first} towards {state}, times impostors' root mean square")
        axis.set_ylabel(f"{second} towards {state}, times impostors'")
        axis.legend(frameon=False, fontsize=7)
    return figure


def _numbers(values: Any) -> npt.NDArray[np.float64]:
    return np.asarray(values if isinstance(values, list | np.ndarray) else [], np.float64)
