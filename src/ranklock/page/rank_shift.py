"""The figure that started all this: cosine similarity against rank, arm by arm."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import ARMS, MOVE_ARMS, whole_of
from ranklock.effects import pooled_artefact_share, step
from ranklock.effects.step import median
from ranklock.moves import SAID
from ranklock.page.style import ARM_COLOURS, STYLE
from ranklock.run.old_moves import read_ranks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (2.7, 2.5)  # inches
_LETTERS_PER_INCH = 13  # of the title, at its size
_GREY = "#555555"
_LINES = {"dashed": (0, (4, 3)), "dotted": (0, (1, 2))}


def rank_shift_figure(rows: pd.DataFrame, perturbed: Sequence[int]) -> Figure:
    """Cosine similarity against original rank for each arm, whole and zoomed.

    Parameters
    ----------
    rows
        Effects of one knock-out in one cell: the columns ``cell``, ``gene``, ``responder_rank``,
        ``arm``, ``cosine_distance``, ``displacement`` and ``artefact_share`` of a run's table. Of a
        move also ``perturbation``, ``to_ranks`` and ``passed``.
    perturbed
        Ranks where the perturbed genes stood, marked by dashed lines; the ranks that a move took
        them to are marked by dotted ones.

    Returns
    -------
    matplotlib Figure. In the upper row all arms share one scale. In the lower row they share a
    zoom that is chosen from the data (:func:`zoom_limit`); genes below it are marked at its foot
    and counted.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    arms = [arm for arm in rows["arm"].cat.categories if (rows["arm"] == arm).any()]
    by_arm = {str(arm): part for arm, part in rows.groupby("arm", observed=True)}
    every = [part["cosine_distance"].to_numpy(np.float64) for part in by_arm.values()]
    marks = {"dashed": list(perturbed), "dotted": _moved_to(rows)}
    limits = (_room(max(distances.max(initial=0.0) for distances in every)), zoom_limit(every))
    with mpl.rc_context(STYLE):
        width = max(_PANEL[0] * len(arms) + 0.9, 6.4)
        figure = Figure(figsize=(width, 2 * _PANEL[1] + 1.5), layout="constrained")
        axes = figure.subplots(2, len(arms), sharex=True, sharey="row", squeeze=False)
        for column, arm in enumerate(arms):
            ranks = by_arm[arm]["responder_rank"].to_numpy()
            distances = by_arm[arm]["cosine_distance"].to_numpy(np.float64)
            for row, limit in enumerate(limits):
                _panel(axes[row, column], ranks, distances, marks, limit, ARM_COLOURS[arm])
            sides = _sides(by_arm[arm], perturbed)
            _head(list(axes[:, column]), arm, sides, distances, limits[1])
        for row, label in enumerate(("one scale for all arms", "zoom, one scale for all arms")):
            axes[row, 0].set_ylabel(f"cosine similarity\n({label})")
            axes[row, 0].yaxis.set_major_formatter(similarity_label(limits[row]))
            axes[row, 0].yaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
        figure.supxlabel("rank in the unperturbed cell (0 = highest)", fontsize=9)
        letters = int(_LETTERS_PER_INCH * width)
        title = "\n".join(textwrap.fill(line, letters) for line in _title(rows, perturbed))
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
    marks: Mapping[str, Sequence[int]],
    limit: float,
    colour: str,
) -> None:
    # The axis counts distance downwards, and its labels say similarity: float64 cannot tell
    # 1 - 1e-17 from 1, and these effects go down to there.
    axes.set_ylim(limit, -0.04 * limit)
    for look, places in marks.items():
        for rank in places:
            axes.axvline(rank, color="black", linewidth=0.8, linestyle=_LINES[look], zorder=1)
    inside = distances <= limit
    points: dict[str, Any] = {"color": colour, "linewidths": 0, "zorder": 2, "rasterized": True}
    size = float(np.clip(4000 / max(len(ranks), 1), 3, 18))
    axes.scatter(ranks[inside], distances[inside], s=size, alpha=0.55, **points)
    outside = ranks[~inside]
    axes.scatter(
        outside, np.full(len(outside), 0.985 * limit), s=12, marker="v", alpha=0.35, **points
    )


def _head(
    axes: Sequence[Axes],
    arm: str,
    sides: Mapping[str, float],
    distances: npt.NDArray[np.float64],
    zoom: float,
) -> None:
    """Write what is above the panels of one arm, where it can cover no gene."""
    medians = " · ".join(
        f"{side} {_short(value)}" for side, value in sides.items() if np.isfinite(value)
    )
    positions = {**MOVE_ARMS, **ARMS}[arm].positions.value.partition(":")[0]
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


def _moved_to(rows: pd.DataFrame) -> list[int]:
    """Ranks that a move took its genes to; none of a knock-out."""
    return read_ranks(str(rows["to_ranks"].iloc[0])) if "to_ranks" in rows else []


def _sides(rows: pd.DataFrame, perturbed: Sequence[int]) -> dict[str, float]:
    """Medians of one arm's effects, on the two sides that its perturbation has."""
    distances = rows["cosine_distance"].to_numpy(np.float64)
    if "passed" in rows:
        passed = rows["passed"].to_numpy(bool)
        return {"passed": median(distances[passed]), "others": median(distances[~passed])}
    two = step(distances, rows["responder_rank"].to_numpy(), perturbed)
    return {"before": two.before, "after": two.after}


def _title(rows: pd.DataFrame, perturbed: Sequence[int]) -> list[str]:
    gene, cell = rows["gene"].iloc[0], rows["cell"].iloc[0]
    length = max(int(rows["responder_rank"].max()), *perturbed, 0) + 1
    where = f"rank {_listed(perturbed)}" if perturbed else "no rank"
    if "perturbation" in rows:
        said = f"{SAID[rows['perturbation'].iloc[0]]} in"
        where += f" → {_listed(_moved_to(rows))}"
    else:
        said = "knocked out of"
    title = [f"{gene} {said} cell {cell}: {where} of {length}"]
    both = whole_of(rows["arm"].cat.categories)
    if both is None:
        return title
    whole = rows[rows["arm"] == both]
    squared = whole["displacement"].to_numpy(np.float64) ** 2
    share = pooled_artefact_share(whole["artefact_share"].to_numpy(np.float64) * squared, squared)
    if np.isfinite(share):
        title.append(f"artefact share of {both}: {share:.3f} of the squared movement is rank shift")
    return title


def _listed(ranks: Sequence[int]) -> str:
    return ", ".join(map(str, ranks[:4])) + (", …" if len(ranks) > 4 else "")
