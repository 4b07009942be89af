"""Figures."""

from ranklock.report.rank_shift import rank_shift_figure
from ranklock.report.style import draw

__all__ = ["draw", "rank_shift_figure"]
