"""A sentence for each question, with the number that it rests on."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from ranklock.arms import edit_arm, whole_arm
from ranklock.audits.comparison import STILL_RANKED, ComparisonAnswer
from ranklock.audits.genes import GenesAnswer
from ranklock.audits.links import LinksAnswer
from ranklock.audits.measure import edit_arms
from ranklock.audits.rankings import Ranking, RankingsAnswer
from ranklock.audits.responses import BASELINES
from ranklock.audits.step import StepAnswer
from ranklock.statistics.intervals import Estimate
from ranklock.statistics.significance import FALSE_DISCOVERIES

Saying: TypeAlias = tuple[str, str, str]
"""A sentence; the number it rests on, or nothing; ``bad`` where results under ``delete`` mislead,
``good``, ``mixed`` or ``unknown``."""


def shown(estimate: Estimate, form: str = ".2f") -> str:
    """An estimate in words: its value and interval."""
    if not np.isfinite(estimate.value):
        return "not measured"
    if not np.isfinite(estimate.low):
        return f"{estimate.value:{form}} (no interval)"
    return f"{estimate.value:{form}} (95% interval {estimate.low:{form}} to {estimate.high:{form}})"


def on_step(step: StepAnswer | None, arms: ComparisonAnswer) -> Saying:
    """Question 1."""
    if step is None:
        return "Not answered: effects on genes were not read.", "", "unknown"
    name = whole_arm(step.arms) or next(iter(step.arms))
    arm, share = step.arms[name], arms.arms[name].artefact_share
    if not np.isfinite(arm.superiority.value):
        return (
            "Not answered: no knock-out has five responders on either side.", "", "unknown"
        )  # fmt: skip
    has_step = arms.arms[name].has_step
    verb = {True: "Yes", False: "No", None: "Not certain"}[has_step]
    sentence = (
        f"{verb}. Under {name}, a gene below the knocked-out one moves further than a gene above "
        f"it with probability {shown(arm.superiority)}; the median effect is "
        f"{_factor(arm.step.value)}. Effects jump {_factor(arm.jump.value)} at the rank, and the "
        f"largest jump is there in {arm.located.value:.0%} of knock-outs "
        f"({arm.located_by_chance:.0%} by chance)."
    )
    if has_step:
        sentence += f" {_where(step, name)}"
    if np.isfinite(share.value):
        sentence += f" {shown(share, '.1%')} of the squared movement is rank shift."
    tone = {True: "bad", False: "good", None: "unknown"}[has_step]
    return sentence, f"P = {arm.superiority.value:.2f}", tone


def _where(step: StepAnswer, arm: str) -> str:
    """Stretches of the ranks in which the jump is larger or smaller than elsewhere."""
    regions = step.along(arm, "jump")
    tested = [r for r in regions if np.isfinite(r.q)]
    if len(tested) < len(regions):
        empty = len(regions) - len(tested)
        return f"{empty} of {len(regions)} tenths of the ranks hold too few knock-outs to be told."
    parts = []
    for word, sign in (("larger", 1), ("smaller", -1)):
        stretches: list[list[float]] = []
        for region in (r for r in tested if r.differs and r.difference.value * sign > 0):
            if stretches and np.isclose(stretches[-1][1], region.first):
                stretches[-1][1] = region.last
            else:
                stretches.append([region.first, region.last])
        if stretches:
            named = ", ".join(f"{first:.0%} to {last:.0%}" for first, last in stretches)
            parts.append(f"{word} at ranks {named} of the cell")
    tenths = sum(r.mean.low > 0 for r in regions)
    where = f"It is there (jump above zero) in {tenths} of {len(regions)} tenths of the ranks"
    if not parts:
        return f"{where}, and no tenth differs from the others detectably."
    return f"{where}, {' and '.join(parts)} (false-discovery rate 5%)."


def _factor(step: float) -> str:
    """A difference of log10 as a factor."""
    factor = 10.0 ** abs(step)
    number = f"{factor:,.0f}" if factor >= 10 else f"{factor:.1f}"
    return f"×{number}" if step >= 0 or number == "1.0" else f"×1/{number}"


def on_genes(genes: GenesAnswer | None) -> Saying:
    """Question 2."""
    if genes is None:
        return "Not answered: effects on genes were not read.", "", "unknown"
    shares = genes.variance[genes.measured]
    if not np.isfinite(shares.shares["rank"].value):
        return f"Not answered. {shares.note}", "", "unknown"
    rank, gene = shares.shares["rank"], shares.shares["gene"]
    split = f"rank explains {rank.value:.0%} of the variance of the {genes.measured}"
    begin, tone = "", "unknown"
    if np.isfinite(gene.value):
        split += f", the gene {gene.value:.0%}, the cell {shares.shares['cell'].value:.0%}"
        if np.isfinite(gene.low):
            alike = gene.high < max(rank.low, 0.1)
            begin = "With all genes, by their rank: " if alike else "It differs between genes: "
            tone = "good" if alike and not genes.significant else "mixed"
    else:
        split += f" ({shares.note.rstrip('.').lower()})"
    tested = (
        f"{genes.significant} of {genes.tested} genes that are in three cells or more depart from "
        "what their rank predicts (false-discovery rate 5%)"
        if genes.tested
        else "no gene is in three cells or more, so none was tested"
    )
    sentence = f"{begin}{split}; {tested}."
    sentence = sentence[0].upper() + sentence[1:]
    return sentence, f"rank {rank.value:.0%}", tone


def on_rankings(rankings: RankingsAnswer | None) -> Saying:
    """Question 3."""
    if rankings is None:
        return "Not answered: cell shifts were not read.", "", "unknown"
    against = rankings.cell_shift.against_rank
    name = whole_arm(against) or next(iter(against))
    rho = against[name]
    if not np.isfinite(rho.value):
        return "Not answered: too few knock-outs in a cell.", "", "unknown"
    sentence = (
        f"Under {name}, the cell shift goes with the knocked-out gene's rank at Spearman "
        f"{shown(rho, '+.2f')}"
    )
    edit = edit_arm(against)
    if edit is not None and name != edit:
        sentence += f", under {edit} at {against[edit].value:+.2f}"
        sentence += _agreement(rankings.cell_shift, {name, edit})
    sentence += "."
    if rankings.goal is not None:
        towards = [f"{a} {e.value:+.2f}" for a, e in rankings.goal.against_rank.items()]
        sentence += f" The shift towards the goal goes with rank at {', '.join(towards)}."
    return sentence, f"ρ {rho.value:+.2f}", _tone_of_correlation(rho)


def _agreement(ranking: Ranking, arms: set[str]) -> str:
    """How alike two arms rank the knock-outs; empty where that is not known."""
    pair = next((a for a in ranking.agreements if set(a.arms) == arms), None)
    if pair is None or not np.isfinite(pair.pooled):
        return ""
    text = f"; the two rank {pair.genes} knock-outs with a correlation of {pair.pooled:.2f}"
    if pair.overlap:
        size = max(pair.overlap, key=int)
        share, chance = pair.overlap[size]
        text += f" and share {share:.0%} of their top {size} ({chance:.0%} by chance)"
    return text


def _tone_of_correlation(rho: Estimate) -> str:
    """Bad where it is certainly beyond ±0.3, good where it is certainly within."""
    if not np.isfinite(rho.low):
        return "unknown"
    if rho.low > STILL_RANKED or rho.high < -STILL_RANKED:
        return "bad"
    return "good" if rho.low >= -STILL_RANKED and rho.high <= STILL_RANKED else "mixed"


def on_arms(arms: ComparisonAnswer, step: StepAnswer | None) -> Saying:
    """Question 4."""
    outcomes = {
        "cured": ("Yes. ", "good"),
        "cures differ": ("Yes, each in its own way. ", "mixed"),
        "not cured": ("No. ", "bad"),
        "unbiased": ("There is nothing to cure. ", "good"),
    }
    begin, tone = outcomes.get(arms.outcome, ("", "unknown"))
    number, measured = "", ""
    steps = {} if step is None else {arm: step.arms[arm] for arm in edit_arms(tuple(arms.arms))}
    steps = {arm: of_arm for arm, of_arm in steps.items() if np.isfinite(of_arm.superiority.value)}
    if steps:
        parts = [
            f"{shown(of_arm.superiority)} under {arm}, with a jump of "
            f"{_factor(of_arm.jump.value)} at the rank"
            for arm, of_arm in steps.items()
        ]
        measured = f"The probability of moving further below the gene is {'; '.join(parts)}. "
        number = f"P = {next(iter(steps.values())).superiority.value:.2f}"
    return f"{begin}{measured}{arms.recommendation}", number, tone


def on_links(links: LinksAnswer | None, *, given: bool) -> Saying:
    """Question 5; ``given`` says whether there was a network."""
    if links is None:
        why = (
            "no regulator of the network was knocked out that has five known targets among the "
            "responders" if given else
            "it needs a network of known links (--network): a table with the columns source and "
            "target, or collectri"
        )  # fmt: skip
        return f"Not answered: {why}.", "", "unknown"
    arms = [score for score in links.scores if score not in BASELINES]
    name, whole = edit_arm(arms) or arms[0], whole_arm(arms)
    score = links.scores[name]
    baselines = {s: links.scores[s].auroc.value for s in BASELINES if s in links.scores}
    beside = {
        "under other knock-outs": score.under_others,
        **({whole: links.scores[whole].auroc.value} if whole else {}),
        **baselines,
    }
    auroc, tone = score.auroc.value, "mixed"
    if score.p > FALSE_DISCOVERIES:
        begin = "Not detectably"
    elif not (score.p_under_others <= FALSE_DISCOVERIES and auroc > score.under_others):
        begin = "More than by chance, but no more than when other genes are removed"
    elif not auroc > max(baselines.values(), default=0.5):
        begin = "More than by chance, but no more than what needs no model says"
    else:
        begin, tone = "Yes", "good"
    numbers = ", ".join(f"{what} {value:.2f}" for what, value in beside.items())
    sentence = (
        f"{begin}: over {links.regulators} regulators of {links.network}, effects under {name} "
        f"rank known targets with AUROC {shown(score.auroc)}; targets at like ranks "
        f"{score.null_auroc:.2f}, p = {score.p:.2g}. Beside it: {numbers}."
    )
    return sentence, f"AUROC {auroc:.2f}", tone
