"""Question 5, known targets: do they move more than others when their regulator is removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.audits.measure import Measurements
from ranklock.audits.responses import COEXPRESSION, DISTANCE, Responses
from ranklock.statistics.enrichment import Enrichment, auroc, enrichment, matched_draws
from ranklock.statistics.intervals import Estimate, mean_interval, mean_test
from ranklock.statistics.significance import false_discovery_rates

FEWEST_TARGETS = 5
DRAWS = 1000
OTHERS = 20  # regulators at like ranks that a regulator is compared with


@dataclass(frozen=True)
class Recovery:
    """How well one score ranks known targets, over regulators.

    Attributes
    ----------
    auroc, average_precision
        Means over regulators; intervals over regulators.
    null_auroc, null_average_precision
        The same of rank-matched targets.
    under_others
        Mean AUROC of the same targets when other regulators at like ranks are knocked out: what
        genes that move under any perturbation give.
    p_under_others
        Of a mean difference from that as large, over regulators.
    p
        Of so large a mean AUROC under that null.
    significant
        Regulators whose own AUROC is significant at a false-discovery rate of 5 %.
    """

    auroc: Estimate
    average_precision: Estimate
    null_auroc: float
    null_average_precision: float
    p: float
    under_others: float
    p_under_others: float
    significant: int


@dataclass(frozen=True)
class LinksAnswer:
    """Answer to question 5.

    Attributes
    ----------
    network
        Where the links are from.
    regulators, links
        How many were tested.
    scores
        Arm or baseline → how well it ranks known targets.
    table
        One row a regulator and score.
    """

    network: str
    regulators: int
    links: int
    scores: dict[str, Recovery]
    table: pd.DataFrame


def answer_links(
    measured: Measurements,
    targets: Mapping[int, set[int]],
    name: str,
    symbols: Mapping[int, str],
    seed: int,
) -> LinksAnswer | None:
    """How well effects rank known targets; None when no regulator has enough of them.

    Parameters
    ----------
    measured
        The measurements.
    targets
        Token of a regulator → tokens of its targets.
    name
        Name of the network.
    symbols
        Token → symbol.
    seed
        Of the rank-matched draws.
    """
    responses = measured.responses
    if responses is None:
        return None
    found = {
        source: _of_regulator(responses, source, targets.get(source, set()), seed)
        for source in sorted(responses.counts)
    }
    found = {source: scores for source, scores in found.items() if scores}
    if not found:
        return None
    others = {source: _under_others(responses, source, targets[source]) for source in found}
    rows = [
        {
            "gene": symbols[source],
            "token": source,
            "targets": number,
            "score": score,
            "auroc": one.auroc,
            "average_precision": one.average_precision,
            "null_auroc": float(one.null_auroc.mean()),
            "null_average_precision": float(one.null_average_precision.mean()),
            "under_others": others[source].get(score, np.nan),
            "p": one.p,
        }
        for source, scores in found.items()
        for score, (number, one) in scores.items()
    ]
    table = pd.DataFrame(rows)
    table["q"] = table.groupby("score")["p"].transform(false_discovery_rates)
    names = dict.fromkeys(score for scores in found.values() for score in scores)
    recoveries = {
        name: _recovery([s[name][1] for s in found.values() if name in s], table, name)
        for name in names
    }
    links = int(table.drop_duplicates("token")["targets"].sum())
    return LinksAnswer(name, len(found), links, recoveries, table)


def _of_regulator(
    responses: Responses, source: int, targets: set[int], seed: int
) -> dict[str, tuple[int, Enrichment]]:
    """Arm or baseline → number of targets, and how they are ranked; empty with too few."""
    counts = responses.counts[source]
    there = counts > 0
    is_target = np.isin(responses.genes[there], list(targets))
    number = int(is_target.sum())
    if not FEWEST_TARGETS <= number < len(is_target):
        return {}
    n = counts[there]
    drawn = matched_draws(is_target, responses.ranks[source][there] / n, DRAWS, seed + source)
    scores: dict[str, npt.NDArray[np.float64]] = {
        arm: places[there] / n
        for arm, places in zip(responses.arms, responses.places[source], strict=True)
    }
    expression = responses.coexpression(source)
    if expression is not None:
        scores[COEXPRESSION] = expression[there]
    scores[DISTANCE] = -responses.distances[source][there] / n
    return {name: (number, enrichment(score, is_target, drawn)) for name, score in scores.items()}


def _under_others(responses: Responses, source: int, targets: set[int]) -> dict[str, float]:
    """Arm → mean AUROC of the same targets under other regulators, those at the nearest ranks."""
    own = responses.mean_rank(source)
    others = sorted(
        (other for other in responses.counts if other != source),
        key=lambda other: (abs(responses.mean_rank(other) - own), other),
    )[:OTHERS]
    each: dict[str, list[float]] = {}
    for other in others:
        counts = responses.counts[other]
        # Neither regulator itself: it is knocked out, or is a target by another's count.
        there = (counts > 0) & ~np.isin(responses.genes, (source, other))
        is_target = np.isin(responses.genes[there], list(targets))
        if FEWEST_TARGETS <= is_target.sum() < len(is_target):
            for arm, places in zip(responses.arms, responses.places[other], strict=True):
                each.setdefault(arm, []).append(auroc(places[there] / counts[there], is_target))
    return {arm: float(np.mean(values)) for arm, values in each.items()}


def _over_regulators(values: npt.NDArray[np.float64]) -> Estimate:
    found = mean_interval(values, np.arange(len(values))).clipped(0.0, 1.0)
    return replace(found, replicates="regulators" if len(values) > 1 else "none")


def _recovery(each: list[Enrichment], table: pd.DataFrame, score: str) -> Recovery:
    own = np.array([one.auroc for one in each])
    null = np.mean([one.null_auroc for one in each], axis=0)
    part = table[table["score"] == score]
    difference = part["auroc"] - part["under_others"]
    _, p_under_others = mean_test(difference, np.arange(len(part)))
    return Recovery(
        _over_regulators(own),
        _over_regulators(np.array([one.average_precision for one in each])),
        float(null.mean()),
        float(np.mean([one.null_average_precision for one in each])),
        float((1 + (null >= own.mean() - 1e-12).sum()) / (1 + len(null))),
        float(part["under_others"].mean()),
        p_under_others,
        int((part["q"] <= 0.05).sum()),
    )
