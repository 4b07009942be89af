"""Question 4, the cure: the arms side by side, and a recommendation by a stated rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import decomposed_arm, edit_arm, whole_arm
from ranklock.audits.measure import Measurements, edit_arms
from ranklock.audits.rankings import RankingsAnswer
from ranklock.audits.step import SMALL, ArmStep, StepAnswer
from ranklock.statistics.intervals import NOTHING, Estimate, mean_interval

BIASED = 0.10  # artefact share from which on the whole arm is called biased
ALIKE = 0.80  # Spearman's correlation from which on two arms are called alike
STILL_RANKED = 0.30  # |Spearman|, and share of variance, from which on rank is called a confounder
NO_JUMP = 0.176  # log10 of 1.5: effects that rise by less than half at the rank do not step

RULE = (
    "All of this holds for whole 95% intervals; what they leave open is called not certain. An arm "
    f"has a step where effects jump up at the rank by more than nothing, and the probability that "
    f"a gene after the rank moves further than one before it is above {SMALL}. It has none where "
    f"the jump is below ×{10**NO_JUMP:.1f}, or that probability below {SMALL}. delete is biased "
    f"where it has a step, or where its artefact share is above {BIASED:.0%}; it is free of bias "
    f"where it has none and the share is below {BIASED:.0%}. An arm that holds positions is a cure "
    "where it has no step. Two cures are alike where their effects correlate (Spearman, within a "
    f"knock-out) at {ALIKE} or more; then hold is recommended, as it adds nothing. A cure still "
    "goes with rank where the correlation of its cell shift with rank is beyond "
    f"±{STILL_RANKED}, or where a smooth function of rank explains more than {STILL_RANKED:.0%} of "
    "the variance of its log cell shift."
)


@dataclass(frozen=True)
class ArmCompared:
    """One arm beside the others."""

    has_step: bool | None  # by the rule; None where it could not be told
    # Pooled over genes and knock-outs, of the whole arm; where positions are held there is none.
    artefact_share: Estimate
    # Part of the squared movement that the edit alone does not make, of an arm that puts something
    # in the gene's place: Σ‖m − h‖² / Σ‖m − b‖².
    beyond_edit: Estimate
    agreement: Estimate  # Spearman's correlation with the effects of the edit alone
    shared_top: Estimate  # of the ten largest of both
    against_rank: Estimate  # Spearman's correlation of the cell shift with rank
    rank_explains: Estimate  # part of the variance of its logarithm


@dataclass(frozen=True)
class ComparisonAnswer:
    """Answer to question 4, by the rule.

    ``outcome`` is ``unknown``, ``unbiased``, ``cured``, ``cures differ`` or ``not cured``.
    """

    arms: dict[str, ArmCompared]
    recommendation: str
    outcome: str
    rule: str = RULE


def answer_comparison(
    measured: Measurements, step: StepAnswer | None, rankings: RankingsAnswer | None
) -> ComparisonAnswer:
    """All arms side by side."""
    against_rank = rankings.cell_shift.against_rank if rankings else {}
    rank_explains = rankings.cell_shift.rank_explains if rankings else {}
    decomposed = decomposed_arm(measured.arms)
    arms = {}
    for arm in measured.arms:
        rows = measured.drawn(arm)
        arms[arm] = ArmCompared(
            has_step(step.arms[arm]) if step else None,
            _ratio(rows, "shift_along_total") if arm == decomposed else NOTHING,
            _ratio(rows, "beyond_edit_squared"),
            _mean(rows, "agreement").clipped(-1, 1),
            _mean(rows, "shared_top").clipped(0, 10),
            against_rank.get(arm, NOTHING),
            rank_explains.get(arm, NOTHING),
        )
    outcome, text = recommend(arms)
    return ComparisonAnswer(arms, text, outcome)


def _mean(rows: pd.DataFrame, column: str) -> Estimate:
    if column not in rows:
        return NOTHING
    return mean_interval(rows[column], rows["cell"], rows["gene_id"])


def _ratio(rows: pd.DataFrame, column: str) -> Estimate:
    """Ratio of a sum over knock-outs to that of the squared movement, by linearisation."""
    if column not in rows or rows[column].isna().all():
        return NOTHING
    part: npt.NDArray[np.float64] = rows[column].fillna(0.0).to_numpy(np.float64)
    total: npt.NDArray[np.float64] = rows["displacement_squared"].fillna(0.0).to_numpy(np.float64)
    if not total.sum() > 0:
        return NOTHING
    ratio = part.sum() / total.sum()
    influence = ratio + (part - ratio * total) / total.mean()
    return mean_interval(influence, rows["cell"], rows["gene_id"])


def has_step(arm: ArmStep) -> bool | None:
    """Whether an arm has a step, by the rule; None where its intervals leave it open."""
    if arm.jump.high < NO_JUMP or arm.superiority.high < SMALL:
        return False
    return True if arm.jump.low > 0 and arm.superiority.low > SMALL else None


def is_biased(arm: ArmCompared) -> bool | None:
    """Whether the whole arm is biased, by the rule; None where that is left open."""
    if arm.has_step or arm.artefact_share.low > BIASED:
        return True
    return False if arm.has_step is False and arm.artefact_share.high < BIASED else None


def recommend(arms: Mapping[str, ArmCompared]) -> tuple[str, str]:
    """Outcome of the rule, and the recommendation in words."""
    whole, edit = whole_arm(arms), edit_arm(arms)
    if whole is None:
        return "unknown", "Nothing is recommended: delete was not run."
    biased, share = is_biased(arms[whole]), arms[whole].artefact_share
    if biased is False:
        return "unbiased", (
            f"{whole} may be used on these cells and this checkpoint: it has no step, and "
            f"{share.value:.1%} of its squared movement is rank shift."
        )
    if biased is None:
        lacks = (
            "its artefact share was not measured, which needs hold and shift"
            if arms[whole].has_step is False and not np.isfinite(share.value)
            else f"the intervals leave open whether {whole} is biased; spend more (--budget)"
        )
        return "unknown", f"Nothing is recommended: {lacks}."
    candidates = edit_arms(tuple(arms))
    cures = [name for name in candidates if arms[name].has_step is False]
    if not candidates:
        return "unknown", (
            f"{whole} is biased, and no arm that holds positions (hold, mask) was run beside it."
        )
    if not cures:
        if any(arms[name].has_step is None for name in candidates):
            return "unknown", (
                f"{whole} is biased; the intervals leave open whether {' and '.join(candidates)} "
                "cure it: spend more (--budget)."
            )
        return "not cured", (
            "No arm that was run is free of the step: read none of these effects as biology "
            "without rank-matched controls."
        )
    also = _still_ranked(arms[cures[0]])
    if len(cures) == 1:
        state = {
            True: "has a step of its own",
            None: "is left open by its intervals (spend more: --budget)",
        }
        but = "".join(
            f"; {name} {state[arms[name].has_step]}" for name in candidates if name not in cures
        )
        return "cured", f"Use {cures[0]} in place of {whole}: it has no step{but}.{also}"
    second = cures[1]
    agreement = arms[second].agreement.value
    if not agreement < ALIKE:
        return "cured", (
            f"Use {edit} in place of {whole}: it has no step. {second} has none either, and orders "
            f"the genes alike (Spearman {agreement:.2f}).{also}"
        )
    return "cures differ", (
        f"Use {edit} in place of {whole}, and report {second} beside it: neither has a step, but "
        f"they order the genes differently (Spearman {agreement:.2f}), so what only one of them "
        f"says depends on what the model makes of a gap or of <mask>.{also}"
    )


def _still_ranked(arm: ArmCompared) -> str:
    against, explains = arm.against_rank, arm.rank_explains
    if against.low > STILL_RANKED or against.high < -STILL_RANKED or explains.value >= STILL_RANKED:
        return (
            f" Its cell shift still goes with the gene's rank (Spearman {against.value:+.2f}; rank "
            f"explains {explains.value:.0%} of its variance): compare a knock-out with others at "
            "like ranks."
        )
    return ""
