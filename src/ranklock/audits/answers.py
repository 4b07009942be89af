"""The audit whole: five answers, and a sentence for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ranklock.audits.comparison import ComparisonAnswer, answer_comparison
from ranklock.audits.genes import GenesAnswer, answer_genes
from ranklock.audits.links import LinksAnswer, answer_links
from ranklock.audits.measure import Measurements
from ranklock.audits.position_table import PositionTable
from ranklock.audits.rankings import RankingsAnswer, answer_rankings
from ranklock.audits.step import StepAnswer, answer_step
from ranklock.audits.verdicts import on_arms, on_genes, on_links, on_rankings, on_step
from ranklock.page import Verdict

QUESTIONS = {
    "step": "Is there a step, and at which ranks?",
    "genes": "With all genes, or with particular genes?",
    "rankings": "Does it bias cell shifts, and the ranking of knock-outs?",
    "arms": "Does <mask> or the attention mask cure it?",
    "links": "Are the genes that then change most linked to the one knocked out?",
}


@dataclass(frozen=True)
class Answers:
    """Answers to the five questions; None where a question could not be answered."""

    step: StepAnswer | None
    genes: GenesAnswer | None
    rankings: RankingsAnswer | None
    arms: ComparisonAnswer
    links: LinksAnswer | None
    position_table: PositionTable | None
    verdicts: tuple[Verdict, ...]


def answer(
    measured: Measurements,
    *,
    targets: Mapping[int, set[int]] | None = None,
    network: str = "",
    symbols: Mapping[int, str] | None = None,
    seed: int = 0,
    position_table: PositionTable | None = None,
) -> Answers:
    """Answer the five questions; without a network there are no targets and no symbols.

    Parameters
    ----------
    targets, symbols
        Token of a regulator → tokens of its targets, token → symbol.
    seed
        Of the rank-matched draws.
    position_table
        What the checkpoint's position table says of the step, where there is a checkpoint.
    """
    step = answer_step(measured)
    genes = answer_genes(measured)
    rankings = answer_rankings(measured)
    arms = answer_comparison(measured, step, rankings)
    links = None if not targets else answer_links(measured, targets, network, symbols or {}, seed)
    sayings = {
        "step": on_step(step, arms, position_table),
        "genes": on_genes(genes),
        "rankings": on_rankings(rankings),
        "arms": on_arms(arms, step),
        "links": on_links(links, given=bool(targets)),
    }
    verdicts = tuple(Verdict(name, asks, *sayings[name]) for name, asks in QUESTIONS.items())
    return Answers(step, genes, rankings, arms, links, position_table, verdicts)
