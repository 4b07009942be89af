"""Question 4: the arms side by side, what each leaves, and a recommendation by a stated rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import decomposed_arm, edit_arm, whole_arm
from ranklock.audits.measure import NEAR, Measurements, edit_arms
from ranklock.audits.rankings import RankingsAnswer
from ranklock.audits.step import SMALL, ArmStep, StepAnswer
from ranklock.statistics.intervals import NOTHING, Estimate, mean_interval

BIASED = 0.10  # artefact share from which on the whole arm is called biased
ALIKE = 0.80  # Spearman's correlation from which on two arms are called alike
STILL_RANKED = 0.30  # |Spearman|, and share of variance, from which on rank is called a confounder
FAR = 2.0  # times chance, from which on the strongest responders are called near the gene
NO_JUMP = 0.176  # log10 of 1.5: effects that rise by less than half at the rank do not step

_HERE = "With this checkpoint, on these cells:"
_IMPOSTORS = "impostors (ranklock perturb --impostors 12, then ranklock test)"

RULE = (
    "All of this holds for whole 95% intervals; what they leave open is called not certain. An arm "
    f"has a step where effects jump up at the rank by more than nothing, and the probability that "
    f"a gene after the rank moves further than one before it is above {SMALL}. It has none where "
    f"the jump is below ×{10**NO_JUMP:.1f}, or that probability below {SMALL}. delete is biased "
    f"where it has a step, or where its artefact share is above {BIASED:.0%}; it is free of bias "
    f"where it has none and the share is below {BIASED:.0%}. An arm that holds positions takes the "
    "step away where it has none. Proximity stays under it where, of the ten genes that respond "
    f"most to a knock-out, more than {FAR:.0f} times as many stand within {NEAR} ranks of the gene "
    "as chance puts there, for that rank in that cell. It is called a cure only where proximity "
    "does not stay either. Two such arms are alike where their effects correlate (Spearman, within "
    f"a knock-out) at {ALIKE} or more; then hold is recommended, as it adds nothing. An arm still "
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
    # Share of the ten responders that move most that stand within NEAR ranks of the gene, and what
    # chance gives at the same ranks of the same cells.
    near: Estimate = NOTHING
    near_by_chance: float = np.nan


@dataclass(frozen=True)
class ComparisonAnswer:
    """Answer to question 4, by the rule.

    ``outcome`` is ``unknown``; ``unbiased``; ``not cured`` (a step is left under every arm);
    ``step removed`` (whether proximity stays is not certain); ``proximity stays``; ``cured``
    (neither is left) or ``cures differ``. ``advice`` is one sentence: what to do with this
    checkpoint and these cells.
    """

    arms: dict[str, ArmCompared]
    advice: str
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
            pooled_share(rows, "shift_along_total") if arm == decomposed else NOTHING,
            pooled_share(rows, "beyond_edit_squared"),
            _mean(rows, "agreement").clipped(-1, 1),
            _mean(rows, "shared_top").clipped(0, 10),
            against_rank.get(arm, NOTHING),
            rank_explains.get(arm, NOTHING),
            _mean(rows, "near").clipped(0, 1),
            float(rows["near_by_chance"].mean()) if "near_by_chance" in rows else np.nan,
        )
    outcome, text = recommend(arms)
    return ComparisonAnswer(arms, advise(arms, outcome, text), text, outcome)


def _mean(rows: pd.DataFrame, column: str) -> Estimate:
    if column not in rows:
        return NOTHING
    return mean_interval(rows[column], rows["cell"], rows["gene_id"])


def pooled_share(rows: pd.DataFrame, column: str) -> Estimate:
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


def has_proximity(arm: ArmCompared) -> bool | None:
    """Whether what responds most stands near the gene, by the rule; None where left open."""
    if arm.near.low > FAR * arm.near_by_chance:
        return True
    return False if arm.near.high < FAR * arm.near_by_chance else None


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
            f"{_proximity(whole, arms[whole])}"
        )
    if biased is None:
        lacks = (
            "its artefact share was not measured, which needs hold and shift"
            if arms[whole].has_step is False and not np.isfinite(share.value)
            else f"the intervals leave open whether {whole} is biased; spend more (--budget)"
        )
        return "unknown", f"Nothing is recommended: {lacks}."
    candidates = edit_arms(tuple(arms))
    free = [name for name in candidates if arms[name].has_step is False]
    if not candidates:
        return "unknown", (
            f"{whole} is biased, and no arm that holds positions (hold, mask) was run beside it."
        )
    if not free:
        if any(arms[name].has_step is None for name in candidates):
            return "unknown", (
                f"{whole} is biased; the intervals leave open whether {' and '.join(candidates)} "
                "take the step away: spend more (--budget)."
            )
        return "not cured", (
            "No arm that was run is free of the step: read none of these effects as biology "
            f"without {_IMPOSTORS}."
        )
    first = arms[free[0]]
    outcome = {True: "proximity stays", None: "step removed", False: "cured"}[has_proximity(first)]
    also = f"{_proximity(free[0], first)}{_still_ranked(first)}"
    if len(free) == 1:
        state = {
            True: "has a step of its own",
            None: "is left open by its intervals (spend more: --budget)",
        }
        but = "".join(
            f"; {name} {state[arms[name].has_step]}" for name in candidates if name not in free
        )
        return outcome, f"Use {free[0]} in place of {whole}: it has no step{but}.{also}"
    second = free[1]
    agreement = arms[second].agreement.value
    if not agreement < ALIKE:
        return outcome, (
            f"Use {edit} in place of {whole}: it has no step. {second} has none either, and orders "
            f"the genes alike (Spearman {agreement:.2f}).{also}"
        )
    return "cures differ" if outcome == "cured" else outcome, (
        f"Use {edit} in place of {whole}, and report {second} beside it: neither has a step, but "
        f"they order the genes differently (Spearman {agreement:.2f}), so what only one of them "
        f"says depends on what the model makes of a gap or of <mask>.{also}"
    )


def advise(arms: Mapping[str, ArmCompared], outcome: str, recommendation: str) -> str:
    """One sentence: what to do with this checkpoint and these cells."""
    whole = whole_arm(arms)
    free = [name for name in edit_arms(tuple(arms)) if arms[name].has_step is False]
    if outcome == "unknown":
        return recommendation[0].upper() + recommendation[1:]
    if outcome == "not cured":
        return (
            f"{_HERE} call no effect a finding without {_IMPOSTORS}: every arm that was run has "
            "the step."
        )
    use = f"{whole} may be used" if outcome == "unbiased" else f"knock genes out with {free[0]}"
    if outcome != "unbiased":
        use += f" in place of {whole}"
    if outcome == "cures differ":
        use += f", report {free[1]} beside it"
    stays = {
        "proximity stays": "what responds most is what stands near the gene",
        "step removed": "whether what responds most merely stands near the gene is not certain",
    }.get(outcome, "any gene in this place would move others")
    return f"{_HERE} {use}, and call an effect a finding only beyond {_IMPOSTORS}: {stays}."


def _proximity(name: str, arm: ArmCompared) -> str:
    """What an arm leaves of proximity, and what that makes of its raw effects."""
    stays = has_proximity(arm)
    if not np.isfinite(arm.near.value):
        said = f"Whether the strongest responders under {name} stand near the gene was not measured"
    else:
        bounds = (
            f" (95% interval {arm.near.low:.0%} to {arm.near.high:.0%})"
            if np.isfinite(arm.near.low)
            else ""
        )
        said = (
            f"of each knock-out's ten strongest responders under {name}, {arm.near.value:.0%}"
            f"{bounds} stand within {NEAR} ranks of the gene, {arm.near_by_chance:.0%} by chance"
        )
        begin = {True: "Proximity stays: ", False: "", None: "Proximity is not certain: "}[stays]
        said = begin + said if begin else said[0].upper() + said[1:]
    return f" {said}. Raw effects under {name} are no findings; findings need {_IMPOSTORS}."


def _still_ranked(arm: ArmCompared) -> str:
    against, explains = arm.against_rank, arm.rank_explains
    if against.low > STILL_RANKED or against.high < -STILL_RANKED or explains.value >= STILL_RANKED:
        return (
            f" Its cell shift still goes with the gene's rank (Spearman {against.value:+.2f}; rank "
            f"explains {explains.value:.0%} of its variance): compare a knock-out with others at "
            "like ranks."
        )
    return ""
