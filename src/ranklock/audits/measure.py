"""What the audit measures of every knock-out in a run, one block in memory at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import ARMS, KNOCK_OUT_ARMS, Role, decomposed_arm, edit_arm, role_of, whole_arm
from ranklock.audits.responses import Responses
from ranklock.errors import InputError, OptionError
from ranklock.kinds import KNOCK_OUT
from ranklock.progress import progress as show_progress
from ranklock.run.run import EffectBlock, Run
from ranklock.statistics.change_point import LEAST, contrast
from ranklock.statistics.intervals import spearman

Array = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.int32]

BINS = 48
_TOP = 10
NEAR = 10  # ranks from the perturbed gene, within which a responder stands near it
_SMALLEST = 1e-18  # cosine distance that stands for none
_KEY = ["cell", "gene_id", "arm"]
# Columns of shifts that say nothing of knock-outs of single genes.
_SAME_FOR_ALL = ("kind", "gene_ranks", "to_rank", "to_ranks", "inserted")


@dataclass(frozen=True, eq=False)
class Example:
    """One knock-out, whole: the one nearest the middle of its cell."""

    cell: str
    gene: str
    rank: int
    off_centre: float  # how far the rank is from the middle, as a part of the cell
    responders: list[str]  # symbols
    ranks: Ranks  # of the responders
    effects: dict[str, npt.NDArray[np.float32]]  # arm → cosine distance of each responder


@dataclass(frozen=True, eq=False)
class Measurements:
    """All that the five questions are answered from.

    Attributes
    ----------
    arms
        Names of the arms of knock-outs.
    table
        One row a knock-out in a cell and arm: the columns of :attr:`Run.shifts` but for those of
        sets and moves; ``task`` (number of the knock-out in a cell); ``relative_rank``;
        ``by_rank`` (whether it was drawn to cover the ranks, and not for the network). Where
        effects on genes were read, also ``before`` and ``responders`` (how many genes respond
        before the rank, and in all), ``step`` (difference of the medians of log10 effect after and
        before the rank), ``superiority``, ``jump`` and ``change_point`` (see
        :func:`ranklock.statistics.change_point.contrast`), ``agreement`` and ``shared_top``
        (Spearman's correlation with the effects of the edit alone, and how many of the ten largest
        are the same), ``near`` and ``near_by_chance`` (share of the ten that respond most that
        stand within ``NEAR`` ranks of the gene, and share of all responders that do, which is what
        ten drawn at random give; NaN with fewer than 20), and ``share_of_shift`` (the genes'
        pooled artefact share, of the whole arm).
    heat
        Arm → mean log10 cosine distance by perturbed rank (rows) and responder rank (columns),
        both cut into ``BINS`` that are named by their middles; NaN where there is no pair.
    example
        One knock-out for the figure; None when none has responders on both sides.
    responses
        Effects on the targets of a network; None without one.
    floor
        Cosine distance under which an effect is none.
    """

    arms: tuple[str, ...]
    table: pd.DataFrame
    heat: dict[str, pd.DataFrame]
    example: Example | None
    responses: Responses | None
    floor: float

    @property
    def edit(self) -> str | None:
        """The arm that others are compared with: the edit alone; None without it."""
        return edit_arm(self.arms)

    @property
    def whole(self) -> str | None:
        """The arm that people run today; None without it."""
        return whole_arm(self.arms)

    @property
    def tasks(self) -> pd.DataFrame:
        """One row a knock-out in a cell: the columns that all arms share."""
        return self.table[~self.table["task"].duplicated()].set_index("task")

    def drawn(self, arm: str) -> pd.DataFrame:
        """Rows of one arm, of knock-outs that were drawn to cover the ranks, by task."""
        table = self.table
        return table[(table["arm"] == arm) & table["by_rank"]].set_index("task")

    def beside(self, column: str) -> pd.DataFrame:
        """One column of the knock-outs drawn to cover the ranks: a row a task, a column an arm."""
        drawn = self.table[self.table["by_rank"]]
        return drawn.pivot(index="task", columns="arm", values=column)[list(self.arms)]


def edit_arms(arms: Sequence[str]) -> list[str]:
    """Of some arms those that edit and hold positions: the edit alone first, aliases left out."""
    names = [arm for arm in arms if role_of(arm) is Role.EDIT and ARMS[arm].runs_as not in arms]
    alone = edit_arm(names)
    return sorted(names, key=lambda arm: arm != alone)


def measure(
    run: Run,
    *,
    drawn: Mapping[str, Sequence[int]] | None = None,
    sources: Sequence[int] = (),
    progress: bool = False,
) -> Measurements:
    """Measure every knock-out of a run, finished or not.

    Parameters
    ----------
    drawn
        Cell → ranks that were drawn to cover the ranks; all that there are by default.
    sources
        Tokens whose responders' effects are kept, for the network.

    Raises
    ------
    InputError
        When the run has no knock-outs of single genes.
    """
    table = _knockouts(run, drawn)
    arms = tuple(arm for arm in run.arms if arm in KNOCK_OUT_ARMS)
    floor = _SMALLEST
    if "genes" not in run.reads:
        return Measurements(arms, table, {}, None, None, floor)
    edges = np.linspace(0, table["genes_in_cell"].max(), BINS + 1)
    sums = {arm: np.zeros((2, BINS, BINS)) for arm in arms}
    responses = None
    if len(sources):
        responses = Responses(np.sort(run.genes.index.to_numpy(np.int64)), sources, arms)
    ids = run.perturbations["gene_id"].astype(str).to_numpy()
    parts: list[pd.DataFrame] = []
    example: Example | None = None
    tasks = int(table["task"].max()) + 1
    with show_progress(tasks, "knock-outs measured", shown=progress) as advance:
        for block in run.blocks(kind=KNOCK_OUT.name):
            logs = {arm: np.log10(np.maximum(effects.astype(np.float64), floor))
                    for arm, effects in block.distances.items()}  # fmt: skip
            parts.append(_of_block(block, logs, ids))
            if responses is not None:
                responses.add(block)
            for arm, values in logs.items():
                _add_to_heat(sums[arm], edges, values, block.gene_ranks, block.responder_ranks)
            example = _nearer_the_middle(example, block, run.genes["symbol"])
            advance(len(block.perturbations))
    table = table.merge(pd.concat(parts, ignore_index=True), on=_KEY, how="left")
    table["arm"] = pd.Categorical(table["arm"], arms)
    if decomposed_arm(arms) is not None:
        table["share_of_shift"] = table["shift_along_total"] / table["displacement_squared"]
    middles = (edges[:-1] + edges[1:]) / 2
    with np.errstate(invalid="ignore"):
        heat = {
            arm: pd.DataFrame(total / counts, middles, middles)
            for arm, (total, counts) in sums.items()
        }
    return Measurements(arms, table, heat, example, responses, floor)


def check_kinds(run: Run) -> None:
    """Refuse a run of which the five questions cannot be asked: they are of single knock-outs.

    Raises
    ------
    OptionError
        When a run has no knock-outs, or knocks genes out together.
    """
    if KNOCK_OUT.name not in run.kinds:
        raise OptionError(
            f"{run.folder} holds {', '.join(run.kinds)} and no knock-outs, and an audit asks about "
            "knock-outs; run one with --do knock-out."
        )
    knockouts = run.perturbations[run.perturbations["kind"] == KNOCK_OUT.name]
    joint = knockouts["tokens"].map(len) > 1
    if joint.any():
        raise OptionError(
            f"{run.folder} knocks genes out together ({knockouts.loc[joint, 'gene'].iloc[0]}), and "
            "an audit asks about one gene at one rank; run one without --together."
        )


def _knockouts(run: Run, drawn: Mapping[str, Sequence[int]] | None) -> pd.DataFrame:
    """Knock-outs of a run, a row a task and arm, and whether they were drawn to cover the ranks."""
    table = run.shifts[run.shifts["kind"] == KNOCK_OUT.name].reset_index(drop=True)
    if table.empty:
        raise InputError(f"{run.folder} holds no knock-out yet; run its command again to go on.")
    table = table.drop(columns=list(_SAME_FOR_ALL))
    table = table.astype({"cell": str, "gene": str, "gene_id": str, "arm": str, "gene_rank": int})
    table["task"] = table.groupby(["cell", "gene_id"], sort=False).ngroup()
    table["relative_rank"] = table["gene_rank"] / (table["genes_in_cell"] - 1).clip(lower=1)
    table["by_rank"] = True
    if drawn is not None:
        pairs = {(cell, rank) for cell, ranks in drawn.items() for rank in ranks}
        keys = zip(table["cell"], table["gene_rank"], strict=True)
        table["by_rank"] = [key in pairs for key in keys]
    return table


def _nearer_the_middle(
    best: Example | None, block: EffectBlock, symbols: pd.Series
) -> Example | None:
    """The knock-out of a block nearest the middle of its cell, or one that is nearer."""
    off = np.abs(block.gene_ranks / max(block.genes_in_cell - 1, 1) - 0.5)
    k = int(off.argmin())
    if len(block.responders) < 2 or (best is not None and best.off_centre <= off[k]):
        return best
    return Example(
        block.cell,
        str(symbols.loc[block.genes[k]]),
        int(block.gene_ranks[k]),
        float(off[k]),
        symbols.loc[block.responders].astype(str).tolist(),
        block.responder_ranks,
        {arm: values[k].copy() for arm, values in block.distances.items()},
    )


def _of_block(
    block: EffectBlock, logs: Mapping[str, Array], ids: npt.NDArray[np.object_]
) -> pd.DataFrame:
    """Measurements of a block's knock-outs, a row a knock-out and arm."""
    before = np.searchsorted(block.responder_ranks, block.gene_ranks)
    responding = block.responder_ranks != block.gene_ranks[:, None]
    edit = edit_arm(logs)
    effects = {
        arm: [row[others] for row, others in zip(values, responding, strict=True)]
        for arm, values in logs.items()
    }
    near = [
        np.abs(block.responder_ranks[others] - rank) <= NEAR
        for others, rank in zip(responding, block.gene_ranks, strict=True)
    ]
    chance = [mask.mean() if len(mask) >= 2 * _TOP else np.nan for mask in near]
    parts = []
    for arm, rows in effects.items():
        sides = contrast(logs[arm], before)
        # Of the edit itself with itself there is nothing to say.
        pairs = [] if edit in (None, arm) else list(zip(rows, effects[edit], strict=True))
        part = {
            "cell": block.cell,
            "gene_id": ids[block.perturbations],
            "arm": arm,
            "before": before,
            "responders": responding.sum(axis=1),
            "superiority": sides.superiority,
            "jump": sides.jump,
            "change_point": sides.change_point,
            "step": [_step(row, int(k)) for row, k in zip(rows, before, strict=True)],
            "agreement": [spearman(*pair) for pair in pairs] or np.nan,
            "shared_top": [_shared_top(*pair) for pair in pairs] or np.nan,
            "near": [_near(*pair) for pair in zip(rows, near, strict=True)],
            "near_by_chance": chance,
        }
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def _shared_top(first: Array, second: Array) -> float:
    """How many of the ten largest are the same; NaN with too few for that to say anything."""
    # Of equal ones the first.
    one, two = (np.argsort(-values, kind="stable")[:_TOP] for values in (first, second))
    return float(np.isin(one, two).sum()) if len(first) >= 2 * _TOP else np.nan


def _near(effects: Array, near: npt.NDArray[np.bool_]) -> float:
    """Share of the ten largest that stand near; NaN with too few for that to say anything."""
    top = np.argsort(-effects, kind="stable")[:_TOP]
    return float(near[top].mean()) if len(effects) >= 2 * _TOP else np.nan


def _step(logs: Array, before: int) -> float:
    """Median after less median before; NaN too near an end."""
    if not LEAST <= before <= len(logs) - LEAST:
        return np.nan
    return float(np.median(logs[before:]) - np.median(logs[:before]))


def _add_to_heat(
    sums: Array, edges: Array, logs: Array, perturbed: Ranks, responding: Ranks
) -> None:
    rows, columns = (
        np.eye(BINS)[np.clip(np.searchsorted(edges, ranks, side="right") - 1, 0, BINS - 1)]
        for ranks in (perturbed, responding)
    )
    finite = np.isfinite(logs)
    sums[0] += rows.T @ np.where(finite, logs, 0.0) @ columns
    sums[1] += rows.T @ finite @ columns
