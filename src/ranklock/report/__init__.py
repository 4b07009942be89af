"""Figures."""

from ranklock.estimates.figure import screen_figure
from ranklock.page.rank_shift import rank_shift_figure
from ranklock.page.style import draw
from ranklock.significance.figures import calibration_figure, network_figure, volcano_figure
from ranklock.significance.shift_figure import shifts_figure

__all__ = [
    "calibration_figure", "draw", "network_figure", "rank_shift_figure", "screen_figure",
    "shifts_figure", "volcano_figure",
]  # fmt: skip
