"""What is left of the rank shift where the position table is smoothed, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ranklock.arms import decomposed_arm
from ranklock.audits.comparison import pooled_share
from ranklock.audits.masked_genes import mask_cells, masked_losses
from ranklock.audits.measure import Measurements
from ranklock.audits.sample import Sample
from ranklock.cells import Cells
from ranklock.genes.vocabulary import MASK
from ranklock.models import Model
from ranklock.models.masked_head import load_masked_head
from ranklock.models.smoothed import smoothed
from ranklock.run.run import Run
from ranklock.statistics.intervals import NOTHING, Estimate, mean_interval

WINDOWS = (2, 10)
ARMS = ("delete", "hold", "shift")  # what the decomposition needs
MOST = 48  # knock-outs, and masked inputs
ONE_IN = 16  # of the audit's knock-outs, up to that many
_IN_A_CELL = 8  # knock-outs, before more cells are taken
# Forwards that one of the knock-outs costs: every arm of every smoothed table, and one masked input
# of each table, the checkpoint's own among them.
FORWARDS = len(WINDOWS) * len(ARMS) + len(WINDOWS) + 1


@dataclass(frozen=True)
class Smoothed:
    """One position table: the checkpoint's, or one that was smoothed.

    Attributes
    ----------
    window
        Positions on either side that each is averaged over; 0 for the checkpoint's own.
    artefact_share
        Pooled over the knock-outs that every table was run on.
    loss, accuracy
        Mean cross-entropy of a masked gene in nats, and share of them that are guessed rightly;
        empty where the checkpoint has no head for them.
    loss_rise, accuracy_change
        Difference of these from the checkpoint's own, gene by gene.
    """

    window: int
    artefact_share: Estimate
    loss: Estimate
    accuracy: Estimate
    loss_rise: Estimate
    accuracy_change: Estimate


@dataclass(frozen=True)
class Smoothing:
    """What smoothing the position table does.

    ``masked_genes`` is 0 and ``no_loss`` says why, where the cost was not measured.
    """

    tables: list[Smoothed]
    knockouts: int
    cells: int
    masked_genes: int
    no_loss: str


def knockouts_to_smooth(knockouts: int) -> int:
    """How many of an audit's knock-outs are run again with smoothed tables."""
    return int(np.clip(knockouts // ONE_IN, 1, MOST))


def ranks_to_smooth(sample: Sample) -> dict[int, list[int]]:
    """Row of a cell → ranks that are knocked out again: a few cells, all over their ranks."""
    able = [place for place, ranks in enumerate(sample.by_rank) if ranks]
    number = knockouts_to_smooth(sum(map(len, sample.by_rank)))
    cells = min(max(-(-number // _IN_A_CELL), 2), len(able), number)
    chosen: dict[int, list[int]] = {}
    for turn, place in enumerate(np.linspace(0, len(able) - 1, cells).round().astype(int)):
        ranks = sample.by_rank[able[place]]
        share = min(number * (turn + 1) // cells - number * turn // cells, len(ranks))
        # The middle of equal stretches: of one rank the middle one.
        middles = ((np.arange(share) + 0.5) * len(ranks) / share).astype(int)
        chosen[int(sample.cells[able[place]])] = [int(ranks[k]) for k in middles]
    return chosen


def smooth_models(model: Model, *, special_frame: bool) -> dict[int, Model]:
    """Window → the checkpoint with its position table smoothed over it; ``<cls>`` keeps its own."""
    return {window: smoothed(model, window, first=int(special_frame)) for window in WINDOWS}


def answer_smoothing(
    measured: Measurements,
    runs: Mapping[int, Run],
    models: Mapping[int, Model],
    cells: Cells,
    rows: Sequence[int],
    seed: int,
) -> Smoothing:
    """Compare the tables on the same knock-outs and the same masked genes.

    Parameters
    ----------
    measured
        The audit's knock-outs, those of the smoothed tables among them.
    runs
        Window → run of the knock-outs under a smoothed table.
    models
        Window → model; 0 for the checkpoint itself.
    cells, rows
        Cells whose genes are masked.
    seed
        Of what is masked.
    """
    shifts = {window: _decomposed(run.shifts) for window, run in runs.items()}
    again = next(iter(shifts.values()))[["cell", "gene_id"]]
    number = len(again)
    own = _decomposed(measured.table).merge(again, on=["cell", "gene_id"])
    shares = {
        window: pooled_share(table, "shift_along_total")
        for window, table in ({0: own} | shifts).items()
    }
    costs, masked, why = _costs(models, cells, rows, number, seed)
    nothing = (NOTHING,) * 4
    return Smoothing(
        [Smoothed(w, shares[w], *(costs[w] if costs else nothing)) for w in shares],
        number,
        int(again["cell"].nunique()),
        masked,
        why,
    )


def _decomposed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the arm that is decomposed."""
    arm = decomposed_arm(table["arm"].astype(str).unique())
    rows = table[table["arm"] == arm]
    return rows.astype({"cell": str, "gene_id": str})


def _costs(
    models: Mapping[int, Model], cells: Cells, rows: Sequence[int], number: int, seed: int
) -> tuple[dict[int, tuple[Estimate, Estimate, Estimate, Estimate]], int, str]:
    """Window → loss, accuracy and their changes; how many genes were masked; why none were."""
    own = models[0]
    if MASK not in cells.vocabulary.special:
        return {}, 0, f"{cells.vocabulary.source} has no <mask> token"
    if own.permutation is not None:
        return {}, 0, f"the weights of {own.name} are permuted, and its head's are not"
    head = load_masked_head(own.name, device=own.device)
    if head is None:
        return {}, 0, f"{own.name} has no head that tells masked genes (it was fine-tuned)"
    inputs = mask_cells(cells, own, rows, number, seed)
    of_cell = np.repeat([each.cell for each in inputs], [len(each.rows) for each in inputs])
    losses = {window: masked_losses(model, head, inputs) for window, model in models.items()}
    costs = {}
    for window, measures in losses.items():
        means = [mean_interval(values, of_cell) for values in measures]
        changes = [
            mean_interval(values - before, of_cell)
            for values, before in zip(measures, losses[0], strict=True)
        ]
        costs[window] = (*means, *(changes if window else (NOTHING, NOTHING)))
    return costs, len(of_cell), ""


def with_arms(arms: Sequence[str]) -> bool:
    """Whether an audit under these arms has a share to compare with."""
    return decomposed_arm(arms) is not None and set(ARMS) <= set(arms)
