"""Panels, axes and numbers that the figures of an audit are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.audits.responses import BASELINES
from ranklock.page import plain
from ranklock.page.style import ARM_COLOURS
from ranklock.statistics.intervals import Estimate

Trace = dict[str, Any]

_GAP = 0.04  # between panels, of the figure's width
_MOST_POINTS = 2500  # of an arm in a scatter plot: more only weighs
_LOG = {"type": "log", "exponentformat": "power", "dtick": 1}
_DOTTED = {"dash": "dot", "width": 1, "color": "#888888"}
_BASELINE_COLOURS = dict(zip(BASELINES, ("#666666", "#aaaaaa"), strict=True))


def colour(name: str) -> str:
    """Colour of an arm or a baseline."""
    return ARM_COLOURS.get(name) or _BASELINE_COLOURS.get(name, "#888888")


def panels(
    names: Iterable[str],
    x: str,
    y: str,
    traces: Callable[[str], Sequence[Trace]],
    *,
    shared: bool = True,
    log: bool = False,
) -> dict[str, Any]:
    """``data`` and ``layout`` of panels side by side, one a name, which is its title.

    ``x`` and ``y`` are titles of the axes; the vertical ones may share one scale, and be
    logarithmic. ``traces`` says what is drawn in the panel of a name.
    """
    titles = list(names)
    width = (1 - _GAP * (len(titles) - 1)) / len(titles)
    # One title for all panels: on a phone each would cover the next.
    annotations: list[dict[str, Any]] = [
        {
            "text": x, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0,
            "yshift": -30, "yanchor": "top", "font": {"size": 14},
        }
    ]  # fmt: skip
    layout: dict[str, Any] = {
        "annotations": annotations, "shapes": [], "margin": {"t": 40, "b": 60},
    }  # fmt: skip
    data: list[Trace] = []
    for place, title in enumerate(titles, start=1):
        suffix = "" if place == 1 else str(place)
        start = (place - 1) * (width + _GAP)
        layout[f"xaxis{suffix}"] = {
            "domain": [start, start + width], "anchor": f"y{suffix}", "nticks": 3, "tickangle": 0,
            "zeroline": False,
        } | ({} if place == 1 else {"matches": "x"})  # fmt: skip
        layout[f"yaxis{suffix}"] = {"anchor": f"x{suffix}"} | (_LOG if log else {})
        if place == 1:
            layout["yaxis"]["title"] = {"text": y}
        elif shared:
            layout[f"yaxis{suffix}"] |= {"matches": "y", "showticklabels": False}
        annotations.append(
            {
                "text": title, "showarrow": False, "xref": "paper", "yref": "paper",
                "x": start + width / 2, "y": 1.02, "xanchor": "center", "yanchor": "bottom",
                "font": {"size": 13},
            }
        )  # fmt: skip
        data += [{**trace, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}"} for trace in traces(title)]
    return {"data": data, "layout": layout}


def points(arm: str, x: Any, y: Any, text: Sequence[str], hover: str) -> Trace:
    """Points of one arm; ``hover`` is what is said of one, beside its text."""
    return {
        "type": "scatter", "mode": "markers", "name": arm, "showlegend": False,
        "x": np.asarray(x).tolist(), "y": numbers(y), "text": list(text),
        "marker": {"size": 4, "color": colour(arm), "opacity": 0.85},
        "hovertemplate": "%{text}" + hover + "<extra></extra>",
    }  # fmt: skip


def knockouts(arm: str, rows: pd.DataFrame, y: str, hover: str) -> Trace:
    """A column of an arm's knock-outs against their ranks; evenly taken where there are many."""
    rows = rows.iloc[:: max(-(-len(rows) // _MOST_POINTS), 1)]
    text = [f"{plain(g)}, {plain(c)}" for g, c in zip(rows["gene"], rows["cell"], strict=True)]
    return points(arm, rows["gene_rank"], rows[y], text, hover)


def dotted(panel: int, start: tuple[float, float], end: tuple[float, float]) -> dict[str, Any]:
    """A dotted line in a panel; the first coordinate is along x, the second along y."""
    suffix = "" if panel == 1 else str(panel)
    return {
        "type": "line", "xref": f"x{suffix}", "yref": f"y{suffix}", "x0": start[0],
        "y0": start[1], "x1": end[0], "y1": end[1], "line": _DOTTED,
    }  # fmt: skip


def bars(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Values with their intervals as error bars."""
    values = np.array([estimate.value for estimate in estimates])
    return {
        "y": numbers(values),
        "error_y": {
            "type": "data", "symmetric": False, "thickness": 1,
            "array": numbers([e.high - e.value for e in estimates]),
            "arrayminus": numbers([e.value - e.low for e in estimates]),
        },
    }  # fmt: skip


def number(value: float, form: str) -> str | None:
    """A number as text; None of NaN."""
    return f"{value:{form}}" if np.isfinite(value) else None


def interval(estimate: Estimate, form: str = ".2f") -> str | None:
    """An estimate with its interval, where it has one."""
    if not np.isfinite(estimate.low):
        return number(estimate.value, form)
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


def numbers(values: Any) -> list[float | None]:
    """Numbers for JSON: four digits are more than a screen shows."""
    array: npt.NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    return [float(f"{x:.4g}") if np.isfinite(x) else None for x in array]
