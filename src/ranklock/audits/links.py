"""Question 5, known targets: do they move more than others when their regulator is removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.audits.measure import Measurements
from ranklock.audits.responses import COEXPRESSION, DISTANCE, Responses
from ranklock.statistics.enrichment import Enrichment, auroc, enrichment, matched_draws
from ranklock.statistics.intervals import Estimate, mean_interval, mean_test
from ranklock.statistics.significance import FALSE_DISCOVERIES, false_discovery_rates

FEWEST_TARGETS = 5
DRAWS = 1000
OTHERS = 20  # regulators at like ranks that a regulator is compared with


@dataclass(frozen=True)
class Recovery:
    """How well one score ranks known targets: means over regulators, and intervals over them.

    ``null_…`` are those of rank-matched targets, and ``p`` is that of so large a mean AUROC under
    them. ``under_others`` is the mean AUROC of the same targets when other regulators at like ranks
    are knocked out, which is what genes that move under any perturbation give;
    ``p_under_others`` that of a mean difference from it as large. ``significant`` regulators have
    an AUROC of their own with q ≤ 0.05.
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
    """Answer to question 5; ``regulators`` and ``links`` say how many were tested."""

    network: str
    regulators: int
    links: int
    scores: dict[str, Recovery]  # of each arm or baseline
    table: pd.DataFrame  # one row a regulator and score


def answer_links(
    measured: Measurements,
    targets: Mapping[int, set[int]],
    name: str,
    symbols: Mapping[int, str],
    seed: int,
) -> LinksAnswer | None:
    """How well effects rank known targets; None when no regulator has enough of them."""
    responses = measured.responses
    if responses is None:
        return None
    recovered = {
        source: recovery
        for source in sorted(responses.of)
        if (recovery := _of_regulator(responses, source, targets.get(source, set()), seed))
    }
    if not recovered:
        return None
    rows = []
    for source, (number, enrichments) in recovered.items():
        under_others = _under_others(responses, source, targets[source])
        rows += [
            {
                "gene": symbols[source], "token": source, "targets": number, "score": score,
                "auroc": part.auroc, "average_precision": part.average_precision,
                "null_auroc": float(part.null_auroc.mean()),
                "null_average_precision": float(part.null_average_precision.mean()),
                "under_others": under_others.get(score, np.nan), "p": part.p,
            }
            for score, part in enrichments.items()
        ]  # fmt: skip
    table = pd.DataFrame(rows)
    table["q"] = table.groupby("score")["p"].transform(false_discovery_rates)
    scores = {
        str(score): _recovery(
            [recovered[source][1][str(score)].null_auroc for source in of_score["token"]], of_score
        )
        for score, of_score in table.groupby("score", sort=False)
    }
    links = sum(number for number, _ in recovered.values())
    return LinksAnswer(name, len(recovered), links, scores, table)


def _of_regulator(
    responses: Responses, source: int, targets: set[int], seed: int
) -> tuple[int, dict[str, Enrichment]] | None:
    """Number of a regulator's targets, and how each arm or baseline ranks them; None of few."""
    response = responses.of[source]
    responding = response.counts > 0
    is_target = np.isin(responses.genes[responding], list(targets))
    number = int(is_target.sum())
    if not FEWEST_TARGETS <= number < len(is_target):
        return None
    cells = response.counts[responding]
    ranks = response.ranks[responding] / cells
    draws = matched_draws(is_target, ranks, DRAWS, seed + source)
    scores: dict[str, npt.NDArray[np.float64]] = {
        arm: places[responding] / cells
        for arm, places in zip(responses.arms, response.places, strict=True)
    }
    coexpression = responses.coexpression(source)
    if coexpression is not None:
        scores[COEXPRESSION] = coexpression[responding]
    scores[DISTANCE] = -response.distances[responding] / cells
    return number, {score: enrichment(values, is_target, draws) for score, values in scores.items()}


def _under_others(responses: Responses, source: int, targets: set[int]) -> dict[str, float]:
    """Arm → mean AUROC of the same targets under other regulators, those at the nearest ranks."""
    rank = responses.of[source].mean_rank
    nearest = sorted(
        (regulator for regulator in responses.of if regulator != source),
        key=lambda regulator: (abs(responses.of[regulator].mean_rank - rank), regulator),
    )[:OTHERS]
    aurocs: dict[str, list[float]] = {}
    for regulator in nearest:
        response = responses.of[regulator]
        # Neither regulator itself: it is knocked out, or is a target by another's count.
        responding = (response.counts > 0) & ~np.isin(responses.genes, (source, regulator))
        is_target = np.isin(responses.genes[responding], list(targets))
        if FEWEST_TARGETS <= is_target.sum() < len(is_target):
            for arm, places in zip(responses.arms, response.places, strict=True):
                score = places[responding] / response.counts[responding]
                aurocs.setdefault(arm, []).append(auroc(score, is_target))
    return {arm: float(np.mean(values)) for arm, values in aurocs.items()}


def _over_regulators(values: npt.NDArray[np.float64]) -> Estimate:
    mean = mean_interval(values, np.arange(len(values))).clipped(0.0, 1.0)
    return replace(mean, replicates="regulators" if len(values) > 1 else "none")


def _recovery(nulls: Sequence[npt.NDArray[np.float64]], rows: pd.DataFrame) -> Recovery:
    """One score over regulators: AUROCs of each one's draws, and its rows of the table."""
    null = np.mean(nulls, axis=0)
    auroc_of_targets = rows["auroc"].to_numpy()
    difference = rows["auroc"] - rows["under_others"]
    _, p_under_others = mean_test(difference, np.arange(len(rows)))
    return Recovery(
        _over_regulators(auroc_of_targets),
        _over_regulators(rows["average_precision"].to_numpy()),
        float(null.mean()),
        float(rows["null_average_precision"].mean()),
        float((1 + (null >= auroc_of_targets.mean() - 1e-12).sum()) / (1 + len(null))),
        float(rows["under_others"].mean()),
        p_under_others,
        int((rows["q"] <= FALSE_DISCOVERIES).sum()),
    )
