"""Figures of tests: volcano, network, whether p-values are what they say, shifts by rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import Role, role_of
from ranklock.page.style import ARM_COLOURS, STYLE
from ranklock.significance.shift_tables import UNSIGNED
from ranklock.statistics.significance import FALSE_DISCOVERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_EDGES = 40
_OF_ONE_GENE = 4  # edges of one perturbation that are drawn
_LABELLED, _LABELLED_SHIFTS = 12, 8
_GREY = "#9a9a9a"
_PANEL = (3.0, 3.0)  # inches

Array = npt.NDArray[Any]
Tests = Mapping[str, tuple[str, ...]]  # label → kind and arm (and quantity)


def volcano_figure(table: pd.DataFrame, tests: Tests) -> Figure:
    """Specific effect against significance, a point a pair of genes, a panel a test."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        width, height = _PANEL[0] * len(tests) + 0.6, _PANEL[1] + 0.9
        figure = Figure(figsize=(max(width, 4.2), height), layout="constrained")
        axes = figure.subplots(1, len(tests), sharex=True, sharey=True, squeeze=False)[0]
        for axis, (label, (kind, arm)) in zip(axes, tests.items(), strict=True):
            rows = table[(table["kind"] == kind) & (table["arm"] == arm) & table["p"].notna()]
            _volcano(axis, rows, label, arm)
        axes[0].set_ylabel("-log10 p")
        figure.supxlabel("specific effect (log10 of effect over expected effect)", fontsize=9)
    return figure


def _volcano(axis: Axes, rows: pd.DataFrame, label: str, arm: str) -> None:
    significant = (rows["q"] <= FALSE_DISCOVERIES).to_numpy()
    heights = _heights(rows["p"])
    specific = rows["specific"].to_numpy()
    _points(axis, specific, heights, significant, arm, sizes=(3, 7), alpha=0.35, rasterized=True)
    axis.axvline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axis.set_title(f"{label}: {int(significant.sum()):,} of {len(rows):,} at FDR 5%", loc="left")
    # The surest pair of each perturbation, so that one gene with many does not fill the panel.
    best = rows[significant].drop_duplicates("gene").head(_LABELLED)
    labels: list[tuple[bool, float]] = []
    span = max(float(heights.max(initial=1.0)), 1.0)
    for row, height in zip(best.itertuples(index=False), _heights(best["p"]), strict=True):
        more = row.specific > 0
        if any(side == more and abs(height - place) < 0.045 * span for side, place in labels):
            continue
        labels.append((more, float(height)))
        axis.annotate(
            f"{row.gene} → {row.responder}", (row.specific, height), fontsize=6,
            xytext=(4 if more else -4, -2), textcoords="offset points",
            ha="left" if more else "right",
        )  # fmt: skip
    axis.margins(x=0.25)


def _points(
    axis: Axes, x: Array, y: Array, significant: Array, arm: str, *,
    sizes: tuple[float, float], alpha: float, **options: Any,
) -> None:  # fmt: skip
    """Points, those that are significant in the colour of the arm."""
    grey: dict[str, Any] = {"color": _GREY, "alpha": alpha}
    colours = grey, {"color": ARM_COLOURS.get(arm, "#333333")}
    for rows, size, colour in zip((~significant, significant), sizes, colours, strict=True):
        axis.scatter(x[rows], y[rows], s=size, linewidths=0, **colour, **options)


def _heights(p: pd.Series) -> Array:
    smallest = np.nextafter(0, 1)
    return np.asarray(-np.log10(np.maximum(p.to_numpy(np.float64), smallest)))


def network_figure(findings: pd.DataFrame, arm: str) -> Figure:
    """The first findings of an arm as a network of genes, at most 40, and 4 of a perturbation."""
    import matplotlib as mpl
    import networkx as nx
    from matplotlib.figure import Figure

    few = findings[findings.groupby("gene", observed=True).cumcount() < _OF_ONE_GENE]
    shown = few.head(MOST_EDGES)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 6.2), layout="constrained")
        axis = figure.subplots()
        axis.set_axis_off()
        axis.set_title(
            f"{arm}: {len(shown)} of the surest of {len(findings):,} findings (FDR 5%), at most "
            f"{_OF_ONE_GENE} a perturbation",
            loc="left",
        )
        if shown.empty:
            axis.text(0.5, 0.5, "No finding at this rate.", ha="center", transform=axis.transAxes)
            return figure
        graph = nx.DiGraph()
        for row in shown.itertuples(index=False):
            graph.add_edge(str(row.gene), str(row.responder), specific=float(row.specific))
        places = places_of(graph.to_undirected())
        sources = {str(gene) for gene in shown["gene"]}
        colour = ARM_COLOURS.get(arm, "#333333")
        widths = np.array([edge["specific"] for _, _, edge in graph.edges(data=True)])
        nx.draw_networkx_edges(
            graph, places, ax=axis, width=list(0.4 + 1.8 * widths / widths.max()),
            edge_color=_GREY, arrowsize=7, node_size=120,
        )  # fmt: skip
        nx.draw_networkx_nodes(
            graph, places, ax=axis, node_size=60,
            node_color=[colour if gene in sources else "#dddddd" for gene in graph],
        )  # fmt: skip
        nx.draw_networkx_labels(
            graph, places, ax=axis, font_size=6.5, verticalalignment="bottom",
        )  # fmt: skip
    return figure


def places_of(graph: Any) -> dict[str, Array]:
    """Places of genes: connected parts side by side, the largest first."""
    import networkx as nx

    places: dict[str, Array] = {}
    parts = sorted(nx.connected_components(graph), key=lambda part: (-len(part), min(part)))
    left, bottom, height = 0.0, 0.0, 0.0
    width = 1.4 * float(np.sqrt(graph.number_of_nodes()))
    for part in parts:
        size = float(np.sqrt(len(part))) + 0.5
        if left and left + size > width:
            left, bottom, height = 0.0, bottom + height, 0.0
        connected = graph.copy()  # in its order: a view of few nodes has that of their hashes
        connected.remove_nodes_from(set(graph) - part)
        inside = nx.kamada_kawai_layout(connected, scale=0.38 * size)
        if len(part) == 2:  # upright, so that names stand over one another
            inside = {gene: place[::-1] for gene, place in inside.items()}
        middle = np.array([left + size / 2, bottom + size / 2])
        places |= {gene: middle + place for gene, place in inside.items()}
        left, height = left + size, max(height, size)
    return places


def calibration_figure(histograms: pd.DataFrame, tests: Tests) -> Figure:
    """p-values of every test, and of the same pairs under rank-matched swaps."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(tests) + 0.6, 2.9), layout="constrained")
        axes = figure.subplots(1, len(tests), sharex=True, sharey=True, squeeze=False)[0]
        for axis, (label, (kind, arm)) in zip(axes, tests.items(), strict=True):
            rows = histograms[(histograms["kind"] == kind) & (histograms["arm"] == arm)]
            _histogram(axis, rows, arm)
            axis.set_title(label, loc="left")
        axes[0].set_ylabel("density of pairs")
        axes[-1].legend(frameon=False, fontsize=7, loc="upper right")
        figure.supxlabel("p-value", fontsize=9)
    return figure


def _histogram(axis: Axes, rows: pd.DataFrame, arm: str) -> None:
    width = 1.0 / max(len(rows), 1)
    name = "placebo" if role_of(arm) is Role.PLACEBO else "perturbations"
    for column, label, style in (
        ("real", name, {"color": ARM_COLOURS.get(arm, "#333333"), "alpha": 0.55}),
        ("swapped", "swapped with rank-matched", {"color": "none", "edgecolor": "#222222"}),
    ):
        total = rows[column].sum()
        heights = rows[column] / (total * width) if total else rows[column] * 0.0
        options: dict[str, Any] = dict(style)
        axis.bar(
            rows["bin"], heights, width=width, align="edge", label=label, linewidth=0.8, **options
        )
    axis.axhline(1.0, color="#222222", linewidth=0.8, linestyle=":")


def shifts_figure(table: pd.DataFrame, tests: Tests, quantity: str) -> Figure:
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
    x = rows["gene_rank"].to_numpy()
    for axis, name in zip(axes, ("shift", "specific"), strict=True):
        y = rows[name].to_numpy()
        _points(axis, x, y, significant, arm, sizes=(5, 9), alpha=0.5)
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
        if len(kept) == _LABELLED_SHIFTS:
            break
    return rows.iloc[kept]
