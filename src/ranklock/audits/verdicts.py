"""A sentence for each question, with the number that it rests on."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from ranklock.arms import edit_arm, placebo_arm, whole_arm
from ranklock.audits.comparison import STILL_RANKED, ComparisonAnswer
from ranklock.audits.genes import GenesAnswer
from ranklock.audits.links import LinksAnswer
from ranklock.audits.measure import edit_arms
from ranklock.audits.position_table import PositionTable
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


def superiority_number(superiority: Estimate) -> str:
    """A probability of superiority by its name: nothing that could be read as a p-value."""
    return f"probability of superiority {superiority.value:.2f}"


def on_step(
    step: StepAnswer | None, arms: ComparisonAnswer, table: PositionTable | None = None
) -> Saying:
    """Question 1; ``table`` says what of the rank shift is noise of the position table."""
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
        f"it with a probability of superiority of {shown(arm.superiority)}; the median effect is "
        f"{_factor(arm.step.value)}. Effects jump {_factor(arm.jump.value)} at the rank, and the "
        f"largest jump is there in {arm.located.value:.0%} of knock-outs "
        f"({arm.located_by_chance:.0%} by chance)."
    )
    if has_step:
        sentence += f" {_where(step, name)}"
    if np.isfinite(share.value):
        sentence += f" {shown(share, '.1%')} of the squared movement is rank shift"
        sentence += f"{_by_table(table)}."
    tone = {True: "bad", False: "good", None: "unknown"}[has_step]
    return sentence, superiority_number(arm.superiority), tone


def _by_table(table: PositionTable | None) -> str:
    """How much the share depends on the position table; empty where that was not measured."""
    if table is None or table.smoothing is None:
        return ""
    shares = {of.window: of.artefact_share.value for of in table.smoothing.tables}
    if not all(map(np.isfinite, shares.values())):
        return ""
    smooth = ", ".join(f"{v:.0%} over ±{w}" for w, v in shares.items() if w)
    return (
        f", and that depends on the position table: of the same {table.smoothing.knockouts} "
        f"knock-outs {shares[0]:.1%} with the checkpoint's own, with it smoothed {smooth}"
    )


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
    shares = genes.shares
    if not np.isfinite(shares.shares["rank"].value):
        return f"Not answered. {shares.note}", "", "unknown"
    rank, gene = shares.shares["rank"], shares.shares["gene"]
    split = f"rank explains {rank.value:.0%} of the variance of the {genes.measured}"
    begin, tone = "", "unknown"
    if np.isfinite(gene.value):
        split += f", the gene {gene.value:.0%}, the cell {shares.shares['cell'].value:.0%}"
        by_placebo = _gene_share_of_placebo(genes)
        if by_placebo is not None:
            split += f" (under {genes.placebo.arm} the gene {by_placebo.value:.0%})"  # type: ignore[union-attr]
        if np.isfinite(gene.low):
            alike = gene.high < max(rank.low, 0.1)
            beyond = by_placebo is None or gene.low > np.nanmax([by_placebo.value, by_placebo.high])
            begin = "It differs between genes: "
            if alike:
                begin = "With all genes, by their rank: "
            elif not beyond:
                begin = "It differs between genes, but no more than under the placebo: "
            tone = "good" if alike and not genes.beyond_placebo else "mixed"
    else:
        split += f" ({shares.note.rstrip('.').lower()})"
    sentence = f"{begin}{split}; {_departing(genes)}."
    sentence = sentence[0].upper() + sentence[1:]
    return sentence, f"rank {rank.value:.0%}", tone


def _gene_share_of_placebo(genes: GenesAnswer) -> Estimate | None:
    """Part of the variance that the gene explains where it cannot matter; None if not known."""
    shares = genes.placebo_shares
    if shares is None or not np.isfinite(shares.shares["gene"].value):
        return None
    return shares.shares["gene"]


def _departing(genes: GenesAnswer) -> str:
    """How many genes depart from what their rank predicts, and how many do under the placebo."""
    if not genes.tested:
        return "no gene is in three cells or more, so none was tested"
    text = (
        f"{genes.significant} of {genes.tested} genes that are in three cells or more depart from "
        "what their rank predicts (false-discovery rate 5%)"
    )
    placebo = genes.placebo
    if placebo is None:
        return f"{text}, without a placebo to compare that with (shift was not run)"
    text += (
        f", and {placebo.significant} of {placebo.tested} do under {placebo.arm}, where the gene "
        "stays and cannot matter"
    )
    if not genes.significant:
        return text
    if not genes.beyond_placebo:
        return f"{text}: no evidence of particular genes"
    return f"{text}, so that about {placebo.significant / genes.significant:.0%} are no genes' own"


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
        "proximity stays": ("Of the step, yes; of proximity, no. ", "mixed"),
        "step removed": ("Of the step, yes; of proximity, not certain. ", "mixed"),
        "not cured": ("No. ", "bad"),
        "unbiased": ("There is no step to take away. ", "good"),
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
        measured = (
            "The probability of superiority (that a gene below moves further than one above) is "
            f"{'; '.join(parts)}. "
        )
        number = superiority_number(next(iter(steps.values())).superiority)
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
    name, whole, placebo = edit_arm(arms) or arms[0], whole_arm(arms), placebo_arm(arms)
    score = links.scores[name]
    others = [other for other in (whole, placebo) if other is not None and other != name]
    baselines = {s: links.scores[s].auroc.value for s in BASELINES if s in links.scores}
    beside = {
        "under other knock-outs": score.under_others,
        **{f"under {other}": links.scores[other].auroc.value for other in others},
        **baselines,
    }
    auroc, tone = score.auroc.value, "mixed"
    # Under the placebo the regulator is still there.
    without_it = max(
        [0.5, *baselines.values(), *(links.scores[o].auroc.value for o in others if o == placebo)]
    )
    if score.p > FALSE_DISCOVERIES:
        begin = "Not detectably"
    elif not (score.p_under_others <= FALSE_DISCOVERIES and auroc > score.under_others):
        begin = "More than by chance, but no more than when other genes are removed"
    elif not auroc > without_it:
        begin = "More than by chance, but no more than what needs no model, or no knock-out, says"
    else:
        begin, tone = "Yes", "good"
    numbers = ", ".join(f"{what} {value:.2f}" for what, value in beside.items())
    alone = f"{score.significant} of {links.regulators} regulators are significant alone"
    if placebo in others:
        alone += f", {links.scores[placebo].significant} under {placebo}"
    sentence = (
        f"{begin}: over {links.regulators} regulators of {links.network}, effects under {name} "
        f"rank known targets with AUROC {shown(score.auroc)}; genes at like ranks "
        f"{score.null_auroc:.2f}, p = {score.p:.2g}. Beside it: {numbers}. {alone} (q ≤ 0.05)."
    )
    return sentence, f"AUROC {auroc:.2f}", tone
