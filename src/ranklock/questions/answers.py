"""The audit whole: five answers, and a sentence for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ranklock.questions.comparison import ComparisonAnswer, answer_comparison
from ranklock.questions.genes import GenesAnswer, answer_genes
from ranklock.questions.links import LinksAnswer, answer_links
from ranklock.questions.measure import REFERENCE, Measurements
from ranklock.questions.rankings import RankingsAnswer, answer_rankings
from ranklock.questions.responses import COEXPRESSION, DISTANCE
from ranklock.questions.step import StepAnswer, answer_step
from ranklock.statistics.intervals import Estimate

QUESTIONS = {
    "step": "Is there a step, and at which ranks?",
    "genes": "With all genes, or with particular genes?",
    "rankings": "Does it bias cell shifts, and the ranking of knock-outs?",
    "arms": "Does <mask> or the attention mask cure it?",
    "links": "Are the genes that then change most linked to the one knocked out?",
}


@dataclass(frozen=True)
class Verdict:
    """One question's answer in a sentence.

    Attributes
    ----------
    question
        Key of ``QUESTIONS``.
    answer
        The sentence.
    number
        The number it rests on, with what it is; empty where there is none.
    tone
        ``bad`` where results under ``delete`` mislead, ``good``, ``mixed`` or ``unknown``.
    """

    question: str
    answer: str
    number: str
    tone: str


@dataclass(frozen=True)
class Answers:
    """Answers to the five questions; None where a question could not be answered."""

    step: StepAnswer | None
    genes: GenesAnswer | None
    rankings: RankingsAnswer | None
    arms: ComparisonAnswer
    links: LinksAnswer | None
    verdicts: tuple[Verdict, ...]


def answer(
    measured: Measurements,
    *,
    targets: Mapping[int, set[int]] | None = None,
    network: str = "",
    symbols: Mapping[int, str] | None = None,
    seed: int = 0,
) -> Answers:
    """Answer the five questions.

    Parameters
    ----------
    measured
        The measurements.
    targets, network, symbols
        Token of a regulator → tokens of its targets, name of the network, token → symbol; none
        without a network.
    seed
        Of the rank-matched draws.
    """
    step = answer_step(measured)
    genes = answer_genes(measured)
    rankings = answer_rankings(measured)
    arms = answer_comparison(measured, step, rankings)
    links = None if not targets else answer_links(measured, targets, network, symbols or {}, seed)
    verdicts = (
        _of_step(step, arms),
        _of_genes(genes),
        _of_rankings(rankings),
        _of_arms(arms, step),
        _of_links(links, given=bool(targets)),
    )
    return Answers(step, genes, rankings, arms, links, verdicts)


def shown(estimate: Estimate, form: str = ".2f") -> str:
    """An estimate in words: its value and interval."""
    if not np.isfinite(estimate.value):
        return "not measured"
    if not np.isfinite(estimate.low):
        return f"{estimate.value:{form}} (no interval)"
    return f"{estimate.value:{form}} (95% interval {estimate.low:{form}} to {estimate.high:{form}})"


def _of_step(step: StepAnswer | None, arms: ComparisonAnswer) -> Verdict:
    if step is None or not np.isfinite(next(iter(step.arms.values())).superiority.value):
        return Verdict("step", "Not answered: no knock-out has five responders on either side.",
                       "", "unknown")  # fmt: skip
    name = "delete" if "delete" in step.arms else next(iter(step.arms))
    one = step.arms[name]
    found = arms.arms[name].has_step
    share = arms.arms[name].artefact_share
    verb = {True: "Yes", False: "No", None: "Not certain (no interval)"}[found]
    sentence = (
        f"{verb}. Under {name}, a gene below the knocked-out one moves further than a gene above "
        f"it with probability {shown(one.superiority)}; the median moves {_times(one.step.value)}. "
        f"The largest change point falls on the rank in {one.located.value:.0%} of knock-outs "
        f"({one.located_by_chance:.0%} by chance). {_where(step, name)}"
    )
    if np.isfinite(share.value):
        sentence += f" {shown(share, '.1%')} of the squared movement is rank shift."
    tone = {True: "bad", False: "good", None: "unknown"}[found]
    return Verdict("step", sentence, f"P = {one.superiority.value:.2f}", tone)


def _where(step: StepAnswer, arm: str) -> str:
    """Stretches of the ranks in which the step is larger or smaller than elsewhere."""
    odd = [r for r in step.regions if (r.arm, r.what) == (arm, "step") and r.q <= 0.05]
    parts = []
    for word, sign in (("larger", 1), ("smaller", -1)):
        stretches: list[list[float]] = []
        for region in (r for r in odd if r.difference.value * sign > 0):
            if stretches and np.isclose(stretches[-1][1], region.first):
                stretches[-1][1] = region.last
            else:
                stretches.append([region.first, region.last])
        if stretches:
            named = ", ".join(f"{first:.0%} to {last:.0%}" for first, last in stretches)
            parts.append(f"{word} at ranks {named} of the cell")
    if not parts:
        return "It is there at all ranks: no tenth of them differs from the rest."
    return f"It is {' and '.join(parts)} (tenths of the ranks, false-discovery rate 5%)."


def _times(step: float) -> str:
    factor = 10.0 ** abs(step)
    number = f"{factor:,.0f}" if factor >= 10 else f"{factor:.1f}"
    return f"{number} times as far" if step >= 0 else f"{number} times less far"


def _of_genes(genes: GenesAnswer | None) -> Verdict:
    if genes is None:
        return Verdict("genes", "Not answered: effects on genes were not read.", "", "unknown")
    shares = genes.variance.get(genes.measured)
    if shares is None or not np.isfinite(shares.shares["rank"].value):
        why = shares.note if shares else "Too few knock-outs."
        return Verdict("genes", f"Not answered. {why}", "", "unknown")
    rank, gene = shares.shares["rank"], shares.shares["gene"]
    split = f"rank explains {rank.value:.0%} of the variance of the {genes_measure(genes)}"
    if np.isfinite(gene.value):
        split += f", the gene {gene.value:.0%}, the cell {shares.shares['cell'].value:.0%}"
    else:
        split += f" ({shares.note.rstrip('.').lower()})"
    tested = (
        f"{genes.significant} of {genes.tested} genes that are in three cells or more depart from "
        "what their rank predicts (false-discovery rate 5%)"
        if genes.tested
        else "no gene is in three cells or more, so none was tested"
    )
    return Verdict("genes", f"{split[0].upper()}{split[1:]}; {tested}.",
                   f"rank {rank.value:.0%}", "mixed" if genes.significant else "good")  # fmt: skip


def genes_measure(genes: GenesAnswer) -> str:
    """What genes were tested on, in words."""
    arm = genes.measured.removesuffix("_step")
    return f"step under {arm}"


def _of_rankings(rankings: RankingsAnswer | None) -> Verdict:
    if rankings is None:
        return Verdict("rankings", "Not answered: cell shifts were not read.", "", "unknown")
    against = rankings.cell_shift.against_rank
    name = "delete" if "delete" in against else next(iter(against))
    rho = against[name]
    if not np.isfinite(rho.value):
        return Verdict("rankings", "Not answered: too few knock-outs in a cell.", "", "unknown")
    sentence = (
        f"Under {name}, the cell shift goes with the knocked-out gene's rank at Spearman "
        f"{shown(rho, '+.2f')}"
    )
    if REFERENCE in against and name != REFERENCE:
        sentence += f", under {REFERENCE} at {against[REFERENCE].value:+.2f}"
        pair = next(
            (a for a in rankings.cell_shift.agreements if set(a.arms) == {name, REFERENCE}), None
        )
        if pair is not None and np.isfinite(pair.pooled):
            sentence += (
                f"; the two rank {pair.genes} knock-outs with a correlation of {pair.pooled:.2f}"
            )
            if pair.overlap:
                size = max(pair.overlap, key=int)
                share, chance = pair.overlap[size]
                sentence += f" and share {share:.0%} of their top {size} ({chance:.0%} by chance)"
    biased = abs(rho.value) >= 0.3 and not (rho.low <= 0 <= rho.high)
    return Verdict("rankings", sentence + ".", f"ρ {rho.value:+.2f}", "bad" if biased else "good")


def _of_arms(arms: ComparisonAnswer, step: StepAnswer | None) -> Verdict:
    tones = {"cured": "good", "unbiased": "good", "cures differ": "mixed", "not cured": "bad"}
    begin = {"cured": "Yes. ", "cures differ": "Yes, but. ", "not cured": "No. "}
    number, found = "", ""
    cures = [
        arm
        for arm in (REFERENCE, "mask")
        if step is not None and arm in step.arms and np.isfinite(step.arms[arm].superiority.value)
    ]
    if step is not None and cures:
        each = [f"{shown(step.arms[arm].superiority)} under {arm}" for arm in cures]
        found = f"The probability of moving further below the gene is {', '.join(each)}. "
        number = f"P = {step.arms[cures[0]].superiority.value:.2f}"
    text = f"{begin.get(arms.outcome, '')}{found}{arms.recommendation}"
    return Verdict("arms", text, number, tones.get(arms.outcome, "unknown"))


def _of_links(links: LinksAnswer | None, *, given: bool) -> Verdict:
    if links is None:
        why = (
            "no regulator of the network was knocked out that has five known targets among the "
            "responders" if given else
            "it needs a network of known links (--network): a table with the columns source and "
            "target, or collectri"
        )  # fmt: skip
        return Verdict("links", f"Not answered: {why}.", "", "unknown")
    name = REFERENCE if REFERENCE in links.scores else next(iter(links.scores))
    one = links.scores[name]
    beside = [
        f"{score} {links.scores[score].auroc.value:.2f}"
        for score in ("delete", COEXPRESSION, DISTANCE)
        if score in links.scores and score != name
    ]
    found = one.p <= 0.05
    sentence = (
        f"{'Yes, more than by chance' if found else 'Not detectably'}: over {links.regulators} "
        f"regulators of {links.network}, effects under {name} rank known targets with AUROC "
        f"{shown(one.auroc)}; targets at like ranks {one.null_auroc:.2f}, p = {one.p:.2g}. Beside "
        f"it: {', '.join(beside)}."
    )
    return Verdict("links", sentence, f"AUROC {one.auroc.value:.2f}", "good" if found else "mixed")
