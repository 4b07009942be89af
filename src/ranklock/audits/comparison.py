"""Question 4, the cure: the arms side by side, and a recommendation by a stated rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.audits.measure import Measurements, reference_of
from ranklock.audits.rankings import RankingsAnswer
from ranklock.audits.step import SMALL, ArmStep, StepAnswer
from ranklock.statistics.intervals import NOTHING, Estimate, mean_interval

BIASED = 0.10  # artefact share from which on delete is called biased
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
    """One arm beside the others.

    Attributes
    ----------
    has_step
        By the rule; None where it could not be told.
    artefact_share
        Pooled over genes and knock-outs; only ``delete`` has one, and arms that hold positions
        have none by construction.
    agreement, shared_top
        With ``hold``, within knock-outs: Spearman's correlation of effects, and how many of the
        ten largest are the same.
    against_rank, rank_explains
        Correlation of the cell shift with rank, and part of the variance of its logarithm that
        rank explains.
    """

    has_step: bool | None
    artefact_share: Estimate
    agreement: Estimate
    shared_top: Estimate
    against_rank: Estimate
    rank_explains: Estimate


@dataclass(frozen=True)
class ComparisonAnswer:
    """Answer to question 4.

    Attributes
    ----------
    arms
        Arm → comparison.
    mask_own_share
        Part of mask's squared movement that hold does not make: Σ‖m − h‖² / Σ‖m − b‖².
    recommendation
        What follows from the rule.
    outcome
        One of ``unknown``, ``unbiased``, ``cured``, ``cures differ``, ``not cured``.
    rule
        The rule.
    """

    arms: dict[str, ArmCompared]
    mask_own_share: Estimate
    recommendation: str
    outcome: str
    rule: str = RULE


def answer_comparison(
    measured: Measurements, step: StepAnswer | None, rankings: RankingsAnswer | None
) -> ComparisonAnswer:
    """All arms side by side."""
    table = measured.by_rank
    cells, genes = table["cell"].astype(str), table["gene_id"].astype(str)
    arms = {}
    for arm in measured.arms:
        of_step = step.arms.get(arm) if step else None
        share = NOTHING
        if arm == "delete" and "artefact_share" in table:
            share = pooled_share(table)
        agreement = table.get(f"{arm}_agreement")
        top = table.get(f"{arm}_shared_top")
        arms[arm] = ArmCompared(
            None if of_step is None else has_step(of_step),
            share,
            NOTHING if agreement is None else mean_interval(agreement, cells, genes).clipped(-1, 1),
            NOTHING if top is None else mean_interval(top, cells, genes).clipped(0, 10),
            rankings.cell_shift.against_rank.get(arm, NOTHING) if rankings else NOTHING,
            rankings.cell_shift.rank_explains.get(arm, NOTHING) if rankings else NOTHING,
        )
    own = NOTHING
    if "mask_squared" in table:
        own = ratio_interval(table["mask_beyond_hold_squared"], table["mask_squared"], table)
    outcome, text = recommend(arms)
    return ComparisonAnswer(arms, own, text, outcome)


def pooled_share(table: pd.DataFrame) -> Estimate:
    """Σ⟨φ_shift, D⟩ / Σ‖D‖² over knock-outs, with its interval."""
    along = table["artefact_share"] * table["total_squared"]
    return ratio_interval(along, table["total_squared"], table)


def ratio_interval(part: pd.Series, whole: pd.Series, table: pd.DataFrame) -> Estimate:
    """Ratio of two sums over knock-outs, with the interval of its linearisation."""
    over = np.asarray(part.fillna(0.0), float)
    under = np.asarray(whole.fillna(0.0), float)
    if not under.sum() > 0:
        return NOTHING
    ratio = over.sum() / under.sum()
    influence: npt.NDArray[np.float64] = ratio + (over - ratio * under) / under.mean()
    return mean_interval(influence, table["cell"].astype(str), table["gene_id"].astype(str))


def has_step(arm: ArmStep) -> bool | None:
    """Whether an arm has a step, by the rule; None where its intervals leave it open."""
    if arm.jump.high < NO_JUMP or arm.superiority.high < SMALL:
        return False
    return True if arm.jump.low > 0 and arm.superiority.low > SMALL else None


def is_biased(delete: ArmCompared) -> bool | None:
    """Whether ``delete`` is biased, by the rule; None where that is left open."""
    share = delete.artefact_share
    if delete.has_step or share.low > BIASED:
        return True
    return False if delete.has_step is False and share.high < BIASED else None


def recommend(arms: dict[str, ArmCompared]) -> tuple[str, str]:
    """Outcome of the rule, and the recommendation in words."""
    delete, hold = arms.get("delete"), reference_of(arms)
    if delete is None:
        return "unknown", "Nothing is recommended: delete was not run."
    biased, share = is_biased(delete), delete.artefact_share
    if biased is False:
        return "unbiased", (
            "delete may be used on these cells and this checkpoint: it has no step, and "
            f"{share.value:.1%} of its squared movement is rank shift."
        )
    if biased is None:
        lacks = (
            "its artefact share was not measured, which needs hold and shift"
            if delete.has_step is False and not np.isfinite(share.value)
            else "the intervals leave open whether delete is biased; spend more (--budget)"
        )
        return "unknown", f"Nothing is recommended: {lacks}."
    tried = [name for name in (hold, "mask") if name is not None and name in arms]
    cures = [name for name in tried if arms[name].has_step is False]
    if not tried:
        return "unknown", (
            "delete is biased, and no arm that holds positions (hold, mask) was run beside it."
        )
    if not cures:
        if any(arms[name].has_step is None for name in tried):
            return "unknown", (
                "delete is biased; the intervals leave open whether "
                f"{' and '.join(tried)} cure it: spend more (--budget)."
            )
        return "not cured", (
            "No arm that was run is free of the step: read none of these effects as biology "
            "without rank-matched controls."
        )
    also = _still_ranked(arms[cures[0]])
    if len(cures) == 1:
        others = [name for name in tried if name not in cures]
        state = {
            True: "has a step of its own",
            None: "is left open by its intervals (spend more: --budget)",
        }
        but = "".join(f"; {name} {state[arms[name].has_step]}" for name in others)
        return "cured", f"Use {cures[0]} in place of delete: it has no step{but}.{also}"
    agreement = arms["mask"].agreement.value
    if not agreement < ALIKE:
        return "cured", (
            f"Use {hold} in place of delete: it has no step. mask has none either, and orders the "
            f"genes alike (Spearman {agreement:.2f}).{also}"
        )
    return "cures differ", (
        f"Use {hold} in place of delete, and report mask beside it: neither has a step, but they "
        f"order the genes differently (Spearman {agreement:.2f}), so what only one of them says "
        f"depends on what the model makes of a gap or of <mask>.{also}"
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
