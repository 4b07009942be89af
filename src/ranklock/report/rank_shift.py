"""The figure that started all this: cosine similarity against rank, arm by arm."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import ARMS
from ranklock.effects import pooled_artefact_share, step
from ranklock.report.style import ARM_COLOURS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (2.7, 2.5)  # inches
_LETTERS_PER_INCH = 13  # of the title, at its size
_GREY = "#555555"


def rank_shift_figure(rows: pd.DataFrame, knocked_out: Sequence[int]) -> Figure:
    """Cosine similarity against original rank for each arm, whole and zoomed.

    Parameters
    ----------
    rows
        Effects of one knock-out in one cell: the columns ``cell``, ``gene``, ``responder_rank``,
        ``arm``, ``cosine_distance``, ``displacement`` and ``artefact_share`` of a run's table.
    knocked_out
        Perturbed ranks, ascending.

    Returns
    -------
    matplotlib Figure. In the upper row all arms share one scale. In the lower row they share a
    zoom that is chosen from the data (:func:`zoom_limit`); genes below it are marked at its foot
    and counted.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    arms = [arm for arm in rows["arm"].cat.categories if (rows["arm"] == arm).any()]
    by_arm = {
        arm: (part["responder_rank"].to_numpy(), part["cosine_distance"].to_numpy(np.float64))
        for arm, part in rows.groupby("arm", observed=True)
    }
    every = [distances for _, distances in by_arm.values()]
    limits = (_room(max(distances.max(initial=0.0) for distances in every)), zoom_limit(every))
    with mpl.rc_context(STYLE):
        width = max(_PANEL[0] * len(arms) + 0.9, 6.4)
        figure = Figure(figsize=(width, 2 * _PANEL[1] + 1.5), layout="constrained")
        axes = figure.subplots(2, len(arms), sharex=True, sharey="row", squeeze=False)
        for column, arm in enumerate(arms):
            ranks, distances = by_arm[arm]
            for row, limit in enumerate(limits):
                _panel(axes[row, column], ranks, distances, knocked_out, limit, ARM_COLOURS[arm])
            _head(list(axes[:, column]), arm, ranks, distances, knocked_out, limits[1])
        for row, label in enumerate(("one scale for all arms", "zoom, one scale for all arms")):
            axes[row, 0].set_ylabel(f"cosine similarity\n({label})")
            axes[row, 0].yaxis.set_major_formatter(similarity_label(limits[row]))
            axes[row, 0].yaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
        figure.supxlabel("rank in the unperturbed cell (0 = highest)", fontsize=9)
        letters = int(_LETTERS_PER_INCH * width)
        title = "\n".join(textwrap.fill(line, letters) for line in _title(rows, knocked_out))
        figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def zoom_limit(distances: Sequence[npt.NDArray[np.float64]]) -> float:
    """Largest cosine distance that the zoom shows.

    95 % of the genes fit in under the arm that moves least, and at least three times its median.

    Parameters
    ----------
    distances
        For each arm, the cosine distance of each responder.
    """
    moving = [d[d > 0] for d in distances if (d > 0).any()]
    if not moving:
        return 1.0
    least = min(moving, key=lambda d: float(np.median(d)))
    return _room(max(float(np.quantile(least, 0.95)), 3 * float(np.median(least))))


def _room(largest: float) -> float:
    return 1.08 * largest if largest > 0 else 1.0


def _panel(
    axes: Axes,
    ranks: npt.NDArray[Any],
    distances: npt.NDArray[np.float64],
    knocked_out: Sequence[int],
    limit: float,
    colour: str,
) -> None:
    # The axis counts distance downwards, and its labels say similarity: float64 cannot tell
    # 1 - 1e-17 from 1, and these effects go down to there.
    axes.set_ylim(limit, -0.04 * limit)
    for rank in knocked_out:
        axes.axvline(rank, color="black", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    inside = distances <= limit
    look: dict[str, Any] = {"color": colour, "linewidths": 0, "zorder": 2, "rasterized": True}
    size = float(np.clip(4000 / max(len(ranks), 1), 3, 18))
    axes.scatter(ranks[inside], distances[inside], s=size, alpha=0.55, **look)
    outside = ranks[~inside]
    axes.scatter(
        outside, np.full(len(outside), 0.985 * limit), s=12, marker="v", alpha=0.35, **look
    )


def _head(
    axes: Sequence[Axes],
    arm: str,
    ranks: npt.NDArray[Any],
    distances: npt.NDArray[np.float64],
    knocked_out: Sequence[int],
    zoom: float,
) -> None:
    """Write what is above the panels of one arm, where it can cover no gene."""
    sides = step(distances, ranks, knocked_out)
    medians = " · ".join(
        f"{side} {_short(value)}"
        for side, value in (("before", sides.before), ("after", sides.after))
        if np.isfinite(value)
    )
    positions = ARMS[arm].positions.value.partition(":")[0]
    axes[0].set_title(f"{arm}: positions {positions}", fontweight="bold", pad=17)
    axes[0].text(
        0.5, 1.03, f"median distance {medians}", transform=axes[0].transAxes, ha="center",
        fontsize=7.5, color=_GREY,
    )  # fmt: skip
    below = int((distances > zoom).sum())
    axes[1].set_title(f"{below} of {len(distances)} genes are below", fontsize=7.5, color=_GREY)


def similarity_label(limit: float) -> Callable[[float, int], str]:
    """Labels of ticks that count cosine distance: the similarity, told apart from one.

    Parameters
    ----------
    limit
        Largest distance on the axis; below a hundredth, labels are written as ``1 − d``.
    """

    def label(distance: float, _: int) -> str:
        if distance <= 0:
            return "1" if distance == 0 else ""
        return f"1 − {_short(distance)}" if limit < 0.01 else f"{1 - distance:.4g}"

    return label


def _short(number: float) -> str:
    """Two digits, without the zeros that pad an exponent: ``7.6e-7``."""
    text = f"{number:.2g}"
    return text.replace("e-0", "e-").replace("e+0", "e+")


def _title(rows: pd.DataFrame, knocked_out: Sequence[int]) -> list[str]:
    gene, cell = rows["gene"].iloc[0], rows["cell"].iloc[0]
    length = max(int(rows["responder_rank"].max()), max(knocked_out)) + 1
    where = ", ".join(map(str, knocked_out[:4])) + (", …" if len(knocked_out) > 4 else "")
    title = [f"{gene} knocked out of cell {cell}: rank {where} of {length}"]
    deleted = rows[rows["arm"] == "delete"]
    squared = deleted["displacement"].to_numpy(np.float64) ** 2
    share = pooled_artefact_share(deleted["artefact_share"].to_numpy(np.float64) * squared, squared)
    if np.isfinite(share):
        title.append(f"artefact share of delete: {share:.3f} of the squared movement is rank shift")
    return title
