"""The figure that started all this: cosine similarity against rank, arm by arm."""

from __future__ import annotations

from collections.abc import Sequence
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
    zoom that just holds the smaller effects: three times the median of the arm that moves least
    would be its lower end, were it not widened to show 95 % of that arm's genes. Genes below it
    are marked at its foot and counted.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    arms = [arm for arm in rows["arm"].cat.categories if (rows["arm"] == arm).any()]
    by_arm = {
        arm: (part["responder_rank"].to_numpy(), part["cosine_distance"].to_numpy(np.float64))
        for arm, part in rows.groupby("arm", observed=True)
    }
    with mpl.rc_context(STYLE):
        width = max(_PANEL[0] * len(arms) + 0.9, 6.4)
        figure = Figure(figsize=(width, 2 * _PANEL[1] + 1.15), layout="constrained")
        axes = figure.subplots(2, len(arms), sharex=True, sharey="row", squeeze=False)
        whole = max(distances.max(initial=0.0) for _, distances in by_arm.values())
        limits = (_room(whole), zoom_limit([distances for _, distances in by_arm.values()]))
        for column, arm in enumerate(arms):
            ranks, distances = by_arm[arm]
            for row, limit in enumerate(limits):
                _panel(axes[row, column], ranks, distances, knocked_out, limit, ARM_COLOURS[arm])
            positions = ARMS[arm].positions.value.partition(":")[0]
            axes[0, column].set_title(f"{arm}\npositions {positions}", fontweight="bold")
            _write_medians(axes[0, column], ranks, distances, knocked_out)
        for row, label in enumerate(("one scale for all arms", "zoom, one scale for all arms")):
            axes[row, 0].set_ylabel(f"cosine similarity\n({label})")
            axes[row, 0].yaxis.set_major_formatter(_similarity)
            axes[row, 0].yaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
        figure.supxlabel("rank in the unperturbed cell (0 = highest)", fontsize=9)
        figure.suptitle(_title(rows, knocked_out), fontsize=11, parse_math=False)
    return figure


def zoom_limit(distances: Sequence[npt.NDArray[np.float64]]) -> float:
    """Largest cosine distance that the zoom shows: 95 % of the arm that moves least fit in.

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
    size = float(np.clip(4000 / max(len(ranks), 1), 3, 18))
    axes.scatter(
        ranks[inside], distances[inside], s=size, color=colour, alpha=0.55, linewidths=0, zorder=2,
        rasterized=True,
    )  # fmt: skip
    outside = ranks[~inside]
    if len(outside):
        axes.scatter(
            outside, np.full(len(outside), 0.985 * limit), s=12, marker="v", color=colour,
            alpha=0.35, linewidths=0, zorder=2, rasterized=True,
        )  # fmt: skip
        axes.text(
            0.5, 0.10, f"{len(outside)} genes below", transform=axes.transAxes, ha="center",
            fontsize=8, color="black", bbox={"facecolor": "white", "alpha": 0.85, "linewidth": 0},
        )  # fmt: skip


def _write_medians(
    axes: Axes,
    ranks: npt.NDArray[Any],
    distances: npt.NDArray[np.float64],
    knocked_out: Sequence[int],
) -> None:
    sides = step(distances, ranks, knocked_out)
    text = "median distance\n" + "\n".join(
        f"{side} {value:.1e}"
        for side, value in (("before", sides.before), ("after", sides.after))
        if np.isfinite(value)
    )
    axes.text(
        0.03, 0.04, text, transform=axes.transAxes, fontsize=8, color=_GREY, va="bottom",
        bbox={"facecolor": "white", "alpha": 0.85, "linewidth": 0},
    )  # fmt: skip


def _similarity(distance: float, _: int) -> str:
    """Label of a tick: the similarity, written so that it can be told from one."""
    if distance <= 0:
        return "1" if distance == 0 else ""
    if distance >= 1e-3:
        return f"{1 - distance:.4g}"
    return f"1 − {distance:.2g}"


def _title(rows: pd.DataFrame, knocked_out: Sequence[int]) -> str:
    gene, cell = rows["gene"].iloc[0], rows["cell"].iloc[0]
    length = int(rows["responder_rank"].max()) + 1
    length = max(length, max(knocked_out) + 1)
    where = ", ".join(map(str, knocked_out[:4])) + (", …" if len(knocked_out) > 4 else "")
    title = f"{gene} knocked out of cell {cell}: rank {where} of {length}"
    deleted = rows[rows["arm"] == "delete"]
    squared = deleted["displacement"].to_numpy(np.float64) ** 2
    share = pooled_artefact_share(deleted["artefact_share"].to_numpy(np.float64) * squared, squared)
    if np.isfinite(share):
        title += f"\nartefact share of delete: {share:.3f} of the effect is rank shift"
    return title
