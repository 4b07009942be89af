"""What the sampling of an audit left uncertain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ranklock.audits.answers import Answers
from ranklock.audits.measure import Measurements


def describe_sample(
    sample: Mapping[str, Any], measured: Measurements, answers: Answers
) -> dict[str, Any]:
    """The sample, with what was audited, and sentences of what that left ``uncertain``.

    Parameters
    ----------
    sample
        ``cells`` and ``cells_given``, and whatever else is known of it; of a run that was there
        ``unfinished``, ``other_kinds``, ``chosen`` (how its genes were) and ``responders`` (how
        many were stored, None for all).
    """
    tasks = measured.tasks
    genes = tasks.groupby("gene_id")["cell"].nunique()
    cells, given = int(sample["cells"]), sample["cells_given"]
    possible = int(tasks.drop_duplicates("cell")["genes_in_cell"].sum())
    by_rank = int(tasks["by_rank"].sum())
    ranks, rare = tasks["relative_rank"], float((genes < 3).mean())
    step = answers.step
    intervals = [] if step is None else [arm.superiority for arm in step.arms.values()]
    width = pd.Series([(x.high - x.low) / 2 for x in intervals], dtype=float).max()
    near_an_end = 0 if step is None else step.too_near_an_end
    sentences = {
        "One cell was audited: intervals hold over its knock-outs, and say nothing of others.":
            cells == 1,
        f"{cells} of {given} cells were audited; four times as many would about halve the "
        "intervals.":
            1 < cells < given,
        f"{len(tasks):,} of the {possible:,} genes of these cells were knocked out: those that "
        "were not say nothing here.":
            len(tasks) < possible,
        f"{len(tasks) - by_rank:,} knock-outs were added for the network; questions 1 to 4 rest "
        f"on the other {by_rank:,}, which cover the ranks.":
            by_rank < len(tasks),
        f"The knock-outs cover ranks {ranks.min():.0%} to {ranks.max():.0%} of the cells alone; "
        "the answers hold for those.":
            len(tasks) >= 10 and np.ptp(ranks) < 0.8,
        "The run is not finished: what is there was audited.":
            sample.get("unfinished"),
        f"The run also holds {', '.join(sample.get('other_kinds', ()))}, which was not audited: "
        "the questions are of knock-outs.":
            sample.get("other_kinds"),
        f"The genes of the run were {sample.get('chosen')}: the answers hold for genes like them.":
            sample.get("chosen"),
        f"The run stored effects on {sample.get('responders')} genes alone, by which steps are "
        "told.":
            sample.get("responders"),
        f"{rare:.0%} of the {len(genes):,} genes were knocked out of fewer than three cells, too "
        "few to be tested each.":
            rare > 0,
        "The probability of superiority (of a gene after the rank over one before it) is known to "
        f"±{width:.2f} or better, arm by arm.":
            np.isfinite(width),
        f"{near_an_end} knock-outs stand within five genes of an end of their cell, where no step "
        "can be told.":
            near_an_end,
    }  # fmt: skip
    return {
        **sample,
        "knockouts": len(tasks),
        "to_cover_the_ranks": by_rank,
        "genes": len(genes),
        "uncertain": [sentence for sentence, holds in sentences.items() if holds],
    }
