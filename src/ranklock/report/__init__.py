"""Figures."""

from ranklock.report.claims import calibration_figure, network_figure, volcano_figure
from ranklock.report.rank_shift import rank_shift_figure
from ranklock.report.screen import screen_figure
from ranklock.report.shifts import shifts_figure
from ranklock.report.style import draw

__all__ = [
    "calibration_figure", "draw", "network_figure", "rank_shift_figure", "screen_figure",
    "shifts_figure", "volcano_figure",
]  # fmt: skip
