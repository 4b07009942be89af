"""Panels, axes and numbers that the figures of an audit are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ranklock.audits.responses import BASELINES
from ranklock.page import plain
from ranklock.page.style import ARM_COLOURS
from ranklock.statistics.intervals import Estimate

_MOST_POINTS = 2500  # of an arm in a scatter plot: more only weighs
LOG = {"type": "log", "exponentformat": "power", "dtick": 1}
_BASELINE_COLOURS = dict(zip(BASELINES, ("#666666", "#aaaaaa"), strict=True))


def colour(name: str) -> str:
    """Colour of an arm or a baseline."""
    return ARM_COLOURS.get(name) or _BASELINE_COLOURS.get(name, "#888888")


def grid(panels: int, x: str, y: str, *, shared: bool = True) -> dict[str, Any]:
    """Layout of panels side by side; their vertical axes share one scale, or each has its own."""
    gap = 0.04
    width = (1 - gap * (panels - 1)) / panels
    # One title for all panels: on a phone each would cover the next.
    title = {
        "text": x, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0,
        "yshift": -30, "yanchor": "top", "font": {"size": 14},
    }  # fmt: skip
    layout: dict[str, Any] = {
        "annotations": [title], "shapes": [], "margin": {"t": 40, "b": 60},
    }  # fmt: skip
    for number in range(1, panels + 1):
        suffix = "" if number == 1 else str(number)
        start = (number - 1) * (width + gap)
        layout[f"xaxis{suffix}"] = {
            "domain": [start, start + width], "anchor": f"y{suffix}", "nticks": 3, "tickangle": 0,
            "zeroline": False,
        } | ({} if number == 1 else {"matches": "x"})  # fmt: skip
        layout[f"yaxis{suffix}"] = {"anchor": f"x{suffix}"}
        if number == 1:
            layout["yaxis"]["title"] = {"text": y}
        elif shared:
            layout[f"yaxis{suffix}"] |= {"matches": "y", "showticklabels": False}
    return layout


def axes(number: int) -> dict[str, str]:
    """Axes of a panel."""
    suffix = "" if number == 1 else str(number)
    return {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}


def panel_title(number: int, panels: int, text: str) -> dict[str, Any]:
    """Title above a panel."""
    gap = 0.04
    width = (1 - gap * (panels - 1)) / panels
    return {
        "text": text, "showarrow": False, "xref": "paper", "yref": "paper",
        "x": (number - 1) * (width + gap) + width / 2, "y": 1.02, "xanchor": "center",
        "yanchor": "bottom", "font": {"size": 13},
    }  # fmt: skip


def bars(estimates: Sequence[Estimate]) -> dict[str, Any]:
    """Values with their intervals as error bars."""
    values = np.array([one.value for one in estimates])
    return {
        "y": numbers(values),
        "error_y": {
            "type": "data", "symmetric": False, "thickness": 1,
            "array": numbers([one.high - one.value for one in estimates]),
            "arrayminus": numbers([one.value - one.low for one in estimates]),
        },
    }  # fmt: skip


def interval(estimate: Estimate) -> str:
    """A share with its interval."""
    text = f"{estimate.value:.0%}"
    known = np.isfinite(estimate.low)
    return f"{text} ({estimate.low:.0%} to {estimate.high:.0%})" if known else text


def thinned(table: Any) -> Any:
    """At most so many rows, evenly taken."""
    step = -(-len(table) // _MOST_POINTS)
    return table.iloc[:: max(step, 1)]


def labels(genes: Any, cells: Any) -> list[str]:
    """Gene and cell of each point, for the hover."""
    return [f"{plain(str(g))}, {plain(str(c))}" for g, c in zip(genes, cells, strict=True)]


def numbers(values: Any) -> list[float | None]:
    """Numbers for JSON: four digits are more than a screen shows."""
    array: npt.NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    return [float(f"{x:.4g}") if np.isfinite(x) else None for x in array]


def matrix(values: npt.NDArray[np.float64]) -> list[list[float | None]]:
    """Rows of numbers."""
    return [numbers(row) for row in values]
