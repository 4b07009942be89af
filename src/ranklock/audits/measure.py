"""What the audit measures of every knock-out in a sweep, one block in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ranklock.audits.responses import Responses
from ranklock.progress import progress as show_progress
from ranklock.run.old_store import CellLayout
from ranklock.run.old_sweep_result import Sweep
from ranklock.statistics.change_point import LEAST, contrast
from ranklock.statistics.intervals import spearman

Array = npt.NDArray[np.float64]

REMOVAL_ALONE = ("hold", "attention-mask")  # one and the same for every other gene
BINS = 48
_TOP = 10
_SMALLEST = 1e-18  # cosine distance that stands for none, where the noise floor is exactly zero


@dataclass(frozen=True, eq=False)
class HeatMap:
    """Mean log10 effect by perturbed rank and responder rank.

    Attributes
    ----------
    edges
        Bounds of the bins of both, shape (bins + 1,).
    values
        Mean log10 cosine distance, shape (bins of the perturbed rank, bins of the responder's);
        NaN where there is no pair.
    """

    edges: Array
    values: Array


@dataclass(frozen=True, eq=False)
class Example:
    """One knock-out, whole: the one nearest the middle of its cell.

    Attributes
    ----------
    cell, gene, rank
        What was knocked out of what, and where it stands.
    off_centre
        How far that is from the middle, as a part of the cell.
    responders, ranks
        Symbol and rank of each responder.
    effects
        Arm → cosine distance of each.
    """

    cell: str
    gene: str
    rank: int
    off_centre: float
    responders: list[str]
    ranks: npt.NDArray[np.int32]
    effects: dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Measurements:
    """All that the five questions are answered from.

    Attributes
    ----------
    arms
        Names of the arms.
    knockouts
        One row a knock-out in a cell: the columns of :meth:`Sweep.knockouts`; ``relative_rank``;
        ``by_rank`` (whether it was drawn to cover the ranks, and not for the network); and per arm
        ``<arm>_step`` (difference of the medians of log10 effect after and before the rank),
        ``<arm>_superiority``, ``<arm>_jump``, ``<arm>_change_point`` (see
        :func:`ranklock.statistics.change_point.contrast`), ``<arm>_agreement`` and
        ``<arm>_shared_top`` (Spearman's correlation of its effects with those of the reference,
        and how many of the ten largest are the same). ``before`` and ``responders`` are how many
        genes respond before the rank, and in all.
    heat
        Arm → heat map.
    example
        One knock-out for the figure; None when none has responders on both sides.
    responses
        Effects on the targets of a network; None without one.
    floor
        Cosine distance under which an effect is none.
    """

    arms: tuple[str, ...]
    knockouts: pd.DataFrame
    heat: dict[str, HeatMap]
    example: Example | None
    responses: Responses | None
    floor: float

    @property
    def reference(self) -> str | None:
        """The arm that others are compared with: ``hold``, removal alone; None without it."""
        return reference_of(self.arms)

    @property
    def by_rank(self) -> pd.DataFrame:
        """Knock-outs that were drawn to cover the ranks."""
        return self.knockouts[self.knockouts["by_rank"]]


def reference_of(arms: Iterable[str]) -> str | None:
    """The arm that is removal alone: ``hold``, or its alias where only that was run."""
    there = set(arms)
    return next((arm for arm in REMOVAL_ALONE if arm in there), None)


def measure(
    sweep: Sweep,
    *,
    by_rank: Mapping[str, Sequence[int]] | None = None,
    sources: Sequence[int] = (),
    progress: bool = False,
) -> Measurements:
    """Measure every knock-out of a sweep.

    Parameters
    ----------
    sweep
        The sweep, finished or not.
    by_rank
        Cell → ranks that were drawn to cover the ranks; all that there are by default.
    sources
        Tokens whose responders' effects are kept, for the network.
    progress
        Whether to show progress on stderr.
    """
    table = sweep.knockouts().reset_index(drop=True)
    ranks = table["gene_rank"].to_numpy()
    table["relative_rank"] = ranks / (table["genes_in_cell"] - 1).clip(lower=1)
    table["by_rank"] = True
    if by_rank is not None:
        drawn = {(cell, rank) for cell, of_cell in by_rank.items() for rank in of_cell}
        table["by_rank"] = [key in drawn for key in zip(table["cell"], ranks, strict=True)]
    floor = max(sweep.floor.cosine_distance, _SMALLEST)
    if sweep.manifest["asked"]["read"] == "cell":
        return Measurements(sweep.arms, table, {}, None, None, floor)
    edges = np.linspace(0, table["genes_in_cell"].max(), BINS + 1)
    sums = {arm: np.zeros((2, BINS, BINS)) for arm in sweep.arms}
    responses = Responses.empty(sweep, sources) if len(sources) else None
    parts: list[pd.DataFrame] = []
    example: Example | None = None
    with show_progress(len(table), "knock-outs measured", shown=progress) as advance:
        for layout, rows, effects in sweep.blocks(sweep.arms):
            perturbed, responding = layout.knocked_out_ranks[rows], layout.responder_ranks
            parts.append(_measure_block(effects, perturbed, responding, floor))
            if responses is not None:
                responses.add(layout, rows, effects)
            for arm in sweep.arms:
                _add_to_heat(sums[arm], edges, _log(effects[arm], floor), perturbed, responding)
            example = _nearer_the_middle(example, sweep, layout, rows, effects)
            advance(len(perturbed))
    measured = pd.concat(parts, ignore_index=True)
    with np.errstate(invalid="ignore"):
        heat = {arm: HeatMap(edges, total / counts) for arm, (total, counts) in sums.items()}
    return Measurements(
        sweep.arms, pd.concat([table, measured], axis=1), heat, example, responses, floor
    )


def _nearer_the_middle(
    best: Example | None,
    sweep: Sweep,
    layout: CellLayout,
    rows: slice,
    effects: Mapping[str, npt.NDArray[np.float32]],
) -> Example | None:
    """The knock-out of a block nearest the middle of its cell, or one that is nearer."""
    perturbed = layout.knocked_out_ranks[rows]
    off = np.abs(perturbed / max(layout.genes_in_cell - 1, 1) - 0.5)
    k = int(off.argmin())
    if len(layout.responders) < 2 or (best is not None and best.off_centre <= off[k]):
        return best
    return Example(
        layout.name,
        str(sweep.genes.loc[layout.knocked_out[rows][k], "symbol"]),
        int(perturbed[k]),
        float(off[k]),
        sweep.genes.loc[layout.responders, "symbol"].astype(str).tolist(),
        layout.responder_ranks,
        {arm: values[k].copy() for arm, values in effects.items()},
    )


def _measure_block(
    effects: Mapping[str, npt.NDArray[np.float32]],
    perturbed: npt.NDArray[np.int32],
    responding: npt.NDArray[np.int32],
    floor: float,
) -> pd.DataFrame:
    before = np.searchsorted(responding, perturbed)
    others = responding != perturbed[:, None]
    logs = {arm: _log(values, floor) for arm, values in effects.items()}
    reference = reference_of(effects)
    columns: dict[str, Array] = {
        "before": before.astype(np.float64), "responders": others.sum(axis=1).astype(np.float64)
    }  # fmt: skip
    compared = None if reference is None else _Compared(logs[reference], others)
    for arm, values in logs.items():
        sides = contrast(values, before)
        columns[f"{arm}_superiority"] = sides.superiority
        columns[f"{arm}_jump"] = sides.jump
        columns[f"{arm}_change_point"] = sides.change_point
        columns[f"{arm}_step"] = np.array(
            [_step(row[keep], int(k)) for row, keep, k in zip(values, others, before, strict=True)]
        )
        if compared is not None and arm != reference:
            columns[f"{arm}_agreement"], columns[f"{arm}_shared_top"] = compared.with_arm(values)
    return pd.DataFrame(columns)


class _Compared:
    """Effects of the reference in a block, ranked once for all the arms compared with it."""

    def __init__(self, logs: Array, others: npt.NDArray[np.bool_]) -> None:
        self._others = others
        self._kept = [row[keep] for row, keep in zip(logs, others, strict=True)]
        self._ranks = [stats.rankdata(row) for row in self._kept]
        self._tops = [_top(row) for row in self._kept]

    def with_arm(self, logs: Array) -> tuple[Array, Array]:
        """Spearman's correlation, and how many of the ten largest are the same."""
        kept = [row[keep] for row, keep in zip(logs, self._others, strict=True)]
        agreement = [spearman(a, b) for a, b in zip(kept, self._ranks, strict=True)]
        shared = [
            float(len(_top(row) & top)) if len(row) >= 2 * _TOP else np.nan
            for row, top in zip(kept, self._tops, strict=True)
        ]
        return np.array(agreement), np.array(shared)


def _top(values: Array) -> set[int]:
    """Which are the ten largest; of equal ones the first."""
    return set(np.argsort(-values, kind="stable")[:_TOP].tolist())


def _log(effects: npt.NDArray[np.float32], floor: float) -> Array:
    """log10 of effects; those under the noise floor count as the floor."""
    return np.asarray(np.log10(np.maximum(effects.astype(np.float64), floor)))


def _step(logs: Array, before: int) -> float:
    """Median after less median before; NaN too near an end."""
    if not LEAST <= before <= len(logs) - LEAST:
        return np.nan
    return float(np.median(logs[before:]) - np.median(logs[:before]))


def _add_to_heat(
    sums: Array, edges: Array, logs: Array, perturbed: npt.NDArray[np.int32],
    responding: npt.NDArray[np.int32],
) -> None:  # fmt: skip
    rows, columns = (
        np.eye(BINS)[np.clip(np.searchsorted(edges, ranks, side="right") - 1, 0, BINS - 1)]
        for ranks in (perturbed, responding)
    )
    there = np.isfinite(logs)
    sums[0] += rows.T @ np.where(there, logs, 0.0) @ columns
    sums[1] += rows.T @ there @ columns
