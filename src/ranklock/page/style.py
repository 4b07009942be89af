"""How figures look and how they are written: the same bytes every time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any kind of colour blindness. An arm has one wherever it
# is shown.
ARM_COLOURS = {
    "delete": "#D55E00",
    "hold": "#0072B2",
    "attention-mask": "#56B4E9",
    "mask": "#009E73",
    "shift": "#CC79A7",
    "delete-backfill": "#E69F00",
    "move": "#000000",
}

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "ranklock",
    "svg.fonttype": "none",
}

_DPI = 160


def draw(figure: Figure, path: Path) -> None:
    """Write a figure without a date, so that two runs give the same file."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=_DPI, metadata=metadata)
