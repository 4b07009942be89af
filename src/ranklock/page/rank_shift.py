"""The figure that started all this: cosine similarity against rank, arm by arm."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import arms_of, decomposed_arm, whole_arm
from ranklock.effects import median
from ranklock.kinds import Kind, find_kind
from ranklock.page.style import ARM_COLOURS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Numbers = npt.NDArray[np.float64]

_PANEL = (2.7, 2.5)  # inches
_LETTERS_PER_INCH = 13  # of the title, at its size
_GREY = "#555555"
_LINES = {"dashed": (0, (4, 3)), "dotted": (0, (1, 2))}
_SCALES = ("one scale for all arms", "zoom, one scale for all arms")


@dataclass(frozen=True, eq=False)
class _Perturbation:
    """One kind of perturbation of the figure, in one cell; ``ranks`` are where the genes stood."""

    kind: Kind
    rows: pd.DataFrame
    ranks: tuple[int, ...]

    @cached_property
    def to_ranks(self) -> tuple[int, ...]:
        """Where a move took the genes: those of a set go one behind the other."""
        if not self.kind.moves:
            return ()
        first, genes = int(self.rows["to_rank"].iloc[0]), str(self.rows["gene_id"].iloc[0])
        return tuple(range(first, first + len(genes.split("+"))))

    @cached_property
    def arms(self) -> dict[str, pd.DataFrame]:
        """Column of the figure → rows of the arm in it: what people run today has one column."""
        parts = {str(arm): part for arm, part in self.rows.groupby("arm", observed=True)}
        today = whole_arm(parts)
        return {"whole" if arm == today else arm: part for arm, part in parts.items()}

    @property
    def size(self) -> int:
        """How many genes the cell has, as far as responders and perturbed genes tell."""
        return max(int(self.rows["responder_rank"].max()), *self.ranks, 0) + 1

    def makes_way(self, ranks: npt.NDArray[np.int_]) -> npt.NDArray[np.bool_]:
        """Which responders the rank shift moves: those that it leaves at another rank."""
        staying = np.setdiff1d(np.arange(self.size), self.ranks)
        free = np.setdiff1d(np.arange(self.size + len(self.to_ranks)), self.to_ranks)
        moved = staying[staying != free[: len(staying)]]
        return np.isin(ranks, moved)


def rank_shift_figure(rows: pd.DataFrame, perturbed: Sequence[int]) -> Figure:
    """Cosine similarity against original rank for each arm, whole and zoomed.

    Parameters
    ----------
    rows
        Effects of one perturbation in one cell: the columns ``cell``, ``gene``, ``gene_id``,
        ``kind``, ``to_rank``, ``responder_rank``, ``arm``, ``cosine_distance``, ``displacement``
        and ``artefact_share`` of a run's table. Several kinds, as knock-out and overexpression of
        a gene, stand below each other.
    perturbed
        Ranks where the perturbed genes stood, marked by dashed lines; none of an inserted one.
        Those that a move took them to are marked by dotted ones.

    Returns
    -------
    matplotlib Figure. In a kind's upper row all arms share one scale. In its lower row they share a
    zoom that is chosen from the data (:func:`zoom_limit`); genes below it are marked at its foot
    and counted. Kinds share the first scale, and arms of one role stand below each other.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    perturbations = [
        _Perturbation(find_kind(str(kind)), part, tuple(perturbed))
        for kind, part in rows.groupby("kind", observed=True, sort=False)
    ]
    largest = _room(float(rows["cosine_distance"].max()))
    columns = list(dict.fromkeys(column for p in perturbations for column in p.arms))
    with mpl.rc_context(STYLE):
        width = max(_PANEL[0] * len(columns) + 0.9, 6.4)
        height = 2 * _PANEL[1] * len(perturbations) + 1.5
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(2 * len(perturbations), len(columns), sharex=True, squeeze=False)
        for number, perturbation in enumerate(perturbations):
            pair = axes[2 * number : 2 * number + 2]
            distances = [_distances(part) for part in perturbation.arms.values()]
            limits = (largest, zoom_limit(distances))
            _draw(dict(zip(columns, pair.T, strict=True)), perturbation, limits)
            several = f"{perturbation.kind.name}, " if len(perturbations) > 1 else ""
            for row, scale, limit in zip(pair, _SCALES, limits, strict=True):
                _scale_axis(row, f"cosine similarity\n({several}{scale})", limit)
        figure.supxlabel("rank in the unperturbed cell (0 = highest)", fontsize=9)
        lines = [line for perturbation in perturbations for line in _title(perturbation)]
        letters = int(_LETTERS_PER_INCH * width)
        title = "\n".join(textwrap.fill(line, letters) for line in lines)
        figure.suptitle(title, fontsize=11, parse_math=False)
    return figure


def _draw(
    axes: Mapping[str, npt.NDArray[Any]], perturbation: _Perturbation, limits: tuple[float, float]
) -> None:
    """Draw each arm in its two panels; columns of arms that the kind lacks stay empty."""
    marks = {"dashed": perturbation.ranks, "dotted": perturbation.to_ranks}
    for column, panels in axes.items():
        if column not in perturbation.arms:
            for panel in panels:
                panel.set_axis_off()
            continue
        rows = perturbation.arms[column]
        arm, ranks = str(rows["arm"].iloc[0]), rows["responder_rank"].to_numpy()
        for panel, limit in zip(panels, limits, strict=True):
            _panel(panel, ranks, _distances(rows), marks, limit, ARM_COLOURS[arm])
        _head(list(panels), arm, perturbation, rows, limits[1])


def _scale_axis(panels: Sequence[Axes], label: str, limit: float) -> None:
    """Name and number the vertical axis that a row of panels shares."""
    from matplotlib.ticker import MaxNLocator

    for panel in panels:
        panel.yaxis.set_major_formatter(similarity_label(limit))
        panel.yaxis.set_major_locator(MaxNLocator(4))
        panel.tick_params(labelleft=False)
    first = next(panel for panel in panels if panel.axison)
    first.set_ylabel(label)
    first.tick_params(labelleft=True)


def _distances(rows: pd.DataFrame) -> Numbers:
    return np.asarray(rows["cosine_distance"], dtype=np.float64)


def zoom_limit(distances: Sequence[Numbers]) -> float:
    """Largest cosine distance that the zoom shows, of each arm's distances of its responders.

    95 % of the genes fit in under the arm that moves least, and at least three times its median.
    """
    moving = [d[d > 0] for d in distances if (d > 0).any()]
    limits = [max(float(np.quantile(d, 0.95)), 3 * float(np.median(d))) for d in moving]
    return _room(min(limits)) if limits else 1.0


def _room(largest: float) -> float:
    return 1.08 * largest if largest > 0 else 1.0


def _panel(
    axes: Axes,
    ranks: npt.NDArray[Any],
    distances: Numbers,
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
    panels: Sequence[Axes], arm: str, perturbation: _Perturbation, rows: pd.DataFrame, zoom: float
) -> None:
    """Write what is above the panels of one arm, where it can cover no gene."""
    distances = _distances(rows)
    shifted = perturbation.makes_way(rows["responder_rank"].to_numpy())
    sides = {"before": median(distances[~shifted]), "after": median(distances[shifted])}
    if perturbation.kind.moves:
        sides = {"passed": sides["after"], "others": sides["before"]}
    finite = {side: value for side, value in sides.items() if np.isfinite(value)}
    medians = " · ".join(f"{side} {_short(value)}" for side, value in finite.items())
    positions = arms_of(perturbation.kind)[arm].positions.value.partition(":")[0]
    panels[0].set_title(f"{arm}: positions {positions}", fontweight="bold", pad=17)
    panels[0].text(
        0.5, 1.03, f"median distance {medians}", transform=panels[0].transAxes, ha="center",
        fontsize=7.5, color=_GREY,
    )  # fmt: skip
    below = int((distances > zoom).sum())
    panels[1].set_title(f"{below} of {len(distances)} genes are below", fontsize=7.5, color=_GREY)


def similarity_label(limit: float) -> Callable[[float, float], str]:
    """Labels of ticks that count cosine distance: the similarity, told apart from one.

    Where the axis ends (``limit``) below a hundredth, labels are written as ``1 − d``.
    """

    def label(distance: float, _: float) -> str:
        if distance <= 0:
            return "1" if distance == 0 else ""
        return f"1 − {_short(distance)}" if limit < 0.01 else f"{1 - distance:.4g}"

    return label


def _short(number: float) -> str:
    """Two digits, without the zeros that pad an exponent: ``7.6e-7``."""
    text = f"{number:.2g}"
    return text.replace("e-0", "e-").replace("e+0", "e+")


def _title(perturbation: _Perturbation) -> list[str]:
    rows, kind = perturbation.rows, perturbation.kind
    gene, cell = rows["gene"].iloc[0], rows["cell"].iloc[0]
    where = f"rank {_listed(perturbation.ranks)}" if perturbation.ranks else "no rank"
    if kind.moves:
        where += f" → {_listed(perturbation.to_ranks)}"
    if len({*rows["responder_rank"].unique(), *perturbation.ranks}) == perturbation.size:
        where += f" of {perturbation.size}"
    title = [f"{gene} {kind.participle} {'in' if kind.moves else 'of'} cell {cell}: {where}"]
    decomposed = decomposed_arm(map(str, rows["arm"].unique()))
    if decomposed is None:
        return title
    part = rows[rows["arm"] == decomposed]
    squared = part["displacement"].to_numpy(np.float64) ** 2
    along = np.nansum(part["artefact_share"].to_numpy(np.float64) * squared)
    if squared.sum() > 0:
        title.append(
            f"artefact share of {decomposed}: {along / squared.sum():.3f} of the squared movement "
            "is rank shift"
        )
    return title


def _listed(ranks: Sequence[int]) -> str:
    return ", ".join(map(str, ranks[:4])) + (", …" if len(ranks) > 4 else "")
