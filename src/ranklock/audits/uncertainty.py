"""What the sampling of an audit left uncertain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ranklock.audits.answers import Answers
from ranklock.audits.measure import Measurements


def describe_sample(
    sample: Mapping[str, Any], measured: Measurements, answers: Answers
) -> dict[str, Any]:
    """What was audited, and what that left uncertain.

    Parameters
    ----------
    sample
        ``cells`` and ``cells_given``, and whatever else is known of it; ``unfinished``,
        ``other_kinds``, ``chosen`` (how its genes were) and ``responders`` (how many were stored,
        None for all) of a run that was there.
    measured, answers
        Of the audit.

    Returns
    -------
    The sample, with ``knockouts``, ``to_cover_the_ranks`` (those that were drawn for that),
    ``genes`` and ``uncertain``, a list of sentences.
    """
    table = measured.tasks
    genes = table.groupby("gene_id")["cell"].nunique()
    uncertain = []
    cells = int(sample["cells"])
    if cells == 1:
        uncertain.append(
            "One cell was audited: intervals hold over its knock-outs, and say nothing of others."
        )
    elif cells < sample["cells_given"]:
        uncertain.append(
            f"{cells} of {sample['cells_given']} cells were audited; four times as many would "
            "about halve the intervals."
        )
    possible = int(table.drop_duplicates("cell")["genes_in_cell"].sum())
    if len(table) < possible:
        uncertain.append(
            f"{len(table):,} of the {possible:,} genes of these cells were knocked out: those that "
            "were not say nothing here."
        )
    by_rank = int(table["by_rank"].sum())
    if by_rank < len(table):
        uncertain.append(
            f"{len(table) - by_rank:,} knock-outs were added for the network; questions 1 to 4 "
            f"rest on the other {by_rank:,}, which cover the ranks."
        )
    covered = np.ptp(table["relative_rank"])
    if len(table) >= 10 and covered < 0.8:
        uncertain.append(
            f"The knock-outs cover ranks {table['relative_rank'].min():.0%} to "
            f"{table['relative_rank'].max():.0%} of the cells alone; the answers hold for those."
        )
    if sample.get("unfinished"):
        uncertain.append("The run is not finished: what is there was audited.")
    if sample.get("other_kinds"):
        uncertain.append(
            f"The run also holds {', '.join(sample['other_kinds'])}, which was not audited: the "
            "questions are of knock-outs."
        )
    if sample.get("chosen"):
        uncertain.append(
            f"The genes of the run were {sample['chosen']}: the answers hold for genes like them."
        )
    if sample.get("responders"):
        uncertain.append(
            f"The run stored effects on {sample['responders']} genes alone, by which steps are "
            "told."
        )
    rare = float((genes < 3).mean())
    if rare > 0:
        uncertain.append(
            f"{rare:.0%} of the {len(genes):,} genes were knocked out of fewer than three cells, "
            "too few to be tested each."
        )
    step = answers.step
    if step is not None:
        intervals = [arm.superiority for arm in step.arms.values()]
        widths = [(interval.high - interval.low) / 2 for interval in intervals]
        if np.isfinite(widths).any():
            uncertain.append(
                "The probability that a gene after the rank moves further is known to ±"
                f"{np.nanmax(widths):.2f} or better, arm by arm."
            )
        if step.too_near_an_end:
            uncertain.append(
                f"{step.too_near_an_end} knock-outs stand within five genes of an end of their "
                "cell, where no step can be told."
            )
    return {
        **sample,
        "knockouts": len(table),
        "to_cover_the_ranks": by_rank,
        "genes": len(genes),
        "uncertain": uncertain,
    }
