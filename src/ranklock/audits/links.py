"""Question 5, known targets: do they move more than others when their regulator is removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.audits.measure import Measurements
from ranklock.audits.responses import COEXPRESSION, DISTANCE, Responses
from ranklock.statistics.enrichment import (
    Enrichment,
    aurocs,
    enrichment,
    matched_permutations,
    permutation_p,
)
from ranklock.statistics.intervals import Estimate, mean_interval
from ranklock.statistics.significance import FALSE_DISCOVERIES, false_discovery_rates

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

FEWEST_TARGETS = 5
DRAWS = 1000
OTHERS = 20  # regulators at like ranks that a regulator is compared with


@dataclass(frozen=True)
class Recovery:
    """How well one score ranks known targets: means over regulators, and intervals over them.

    ``null_…`` are those under permutations of the genes within stretches of ranks, each applied to
    the targets of all regulators at once, so that shared targets stay shared; ``p`` is that of so
    large a mean AUROC under them. ``under_others`` is the mean AUROC of the same targets when other
    regulators at like ranks are knocked out, which is what genes that move under any perturbation
    give; ``p_under_others`` that of a mean difference from it as large, under the same
    permutations. ``significant`` regulators have an AUROC of their own with q ≤ 0.05. Intervals
    take regulators as independent, which those that share targets are not: p does not.
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


@dataclass(frozen=True, eq=False)
class _Regulator:
    """A regulator's targets and how each score ranks them.

    ``targets`` are columns of the responses; ``under_others`` is the mean AUROC of the targets when
    others are knocked out, by arm: first of the targets, then of each permutation, shape
    (1 + draws,).
    """

    token: int
    targets: Indices
    scores: dict[str, Enrichment]
    under_others: dict[str, Array]


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
    permuted = _permutations(responses, seed)
    regulators = [
        regulator
        for source in sorted(responses.of)
        if (regulator := _of_regulator(responses, source, targets.get(source, set()), permuted))
    ]
    if not regulators:
        return None
    rows = [
        {
            "gene": symbols[each.token], "token": each.token, "targets": len(each.targets),
            "score": score, "auroc": part.auroc, "average_precision": part.average_precision,
            "null_auroc": float(np.nanmean(part.null_auroc)),
            "null_average_precision": float(np.nanmean(part.null_average_precision)),
            "under_others": each.under_others[score][0] if score in each.under_others else np.nan,
            "p": part.p,
        }
        for each in regulators
        for score, part in each.scores.items()
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    table["q"] = table.groupby("score")["p"].transform(false_discovery_rates)
    scores = {
        str(score): _recovery([r for r in regulators if score in r.scores], str(score), of_score)
        for score, of_score in table.groupby("score", sort=False)
    }
    links = sum(len(each.targets) for each in regulators)
    return LinksAnswer(name, len(regulators), links, scores, table)


def _permutations(responses: Responses, seed: int) -> Indices:
    """Permutations of the genes among those of like mean rank that respond to any regulator.

    Shape (draws, genes); genes that never respond stay where they are.
    """
    counts = np.sum([response.counts for response in responses.of.values()], axis=0)
    sums = np.sum([response.ranks for response in responses.of.values()], axis=0)
    permuted = np.tile(np.arange(len(responses.genes), dtype=np.int64), (DRAWS, 1))
    if responses.of:
        there = np.flatnonzero(counts > 0)
        permuted[:, there] = there[matched_permutations(sums[there] / counts[there], DRAWS, seed)]
    return permuted


def _of_regulator(
    responses: Responses, source: int, targets: set[int], permuted: Indices
) -> _Regulator | None:
    """How each arm or baseline ranks a regulator's targets; None of too few that respond."""
    response = responses.of[source]
    responding = response.counts > 0
    is_target = responding & np.isin(responses.genes, list(targets))
    if not FEWEST_TARGETS <= is_target.sum() < responding.sum():
        return None
    known = np.flatnonzero(is_target)

    def where_responding(values: Array) -> Array:
        return np.where(responding, values / np.maximum(response.counts, 1.0), np.nan)

    scores = {
        arm: where_responding(places)
        for arm, places in zip(responses.arms, response.places, strict=True)
    }
    coexpression = responses.coexpression(source)
    if coexpression is not None:
        scores[COEXPRESSION] = np.where(responding, coexpression, np.nan)
    scores[DISTANCE] = where_responding(-response.distances)
    return _Regulator(
        source,
        known,
        {score: enrichment(values, known, permuted) for score, values in scores.items()},
        _under_others(responses, source, known, permuted),
    )


def _under_others(
    responses: Responses, source: int, known: Indices, permuted: Indices
) -> dict[str, Array]:
    """Arm → mean AUROC of the same targets, and of what is permuted there, under other regulators.

    Those at the nearest ranks; shape (1 + draws,).
    """
    rank = responses.of[source].mean_rank
    nearest = sorted(
        (regulator for regulator in responses.of if regulator != source),
        key=lambda regulator: (abs(responses.of[regulator].mean_rank - rank), regulator),
    )[:OTHERS]
    chosen = np.concatenate([known[None, :], permuted[:, known]])
    found: dict[str, list[Array]] = {}
    for regulator in nearest:
        response = responses.of[regulator]
        # Neither regulator itself: it is knocked out, or is a target by another's count.
        responding = (response.counts > 0) & ~np.isin(responses.genes, (source, regulator))
        if FEWEST_TARGETS <= responding[known].sum() < responding.sum():
            for arm, places in zip(responses.arms, response.places, strict=True):
                score = np.where(responding, places / np.maximum(response.counts, 1.0), np.nan)
                found.setdefault(arm, []).append(aurocs(score, chosen))
    return {arm: _mean(values) for arm, values in found.items()}


def _mean(values: Sequence[Array]) -> Array:
    """Mean over the first axis of what is there; NaN where nothing is."""
    stacked = np.stack(values)
    known = np.isfinite(stacked)
    sums, counts = np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0)
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))


def _over_regulators(values: Array) -> Estimate:
    mean = mean_interval(values, np.arange(len(values))).clipped(0.0, 1.0)
    return replace(mean, replicates="regulators" if len(values) > 1 else "none")


def _recovery(regulators: Sequence[_Regulator], score: str, rows: pd.DataFrame) -> Recovery:
    """One score over the regulators that it has, and its rows of the table."""
    null = _mean([each.scores[score].null_auroc for each in regulators])
    auroc_of_targets = rows["auroc"].to_numpy()
    beside = [each for each in regulators if score in each.under_others]
    p_under_others = np.nan
    if beside:
        differences = _mean(
            [
                np.append(each.scores[score].auroc, each.scores[score].null_auroc)
                - each.under_others[score]
                for each in beside
            ]
        )
        p_under_others = permutation_p(float(differences[0]), differences[1:])
    return Recovery(
        _over_regulators(auroc_of_targets),
        _over_regulators(rows["average_precision"].to_numpy()),
        float(np.nanmean(null)),
        float(rows["null_average_precision"].mean()),
        permutation_p(float(auroc_of_targets.mean()), null),
        float(rows["under_others"].mean()),
        p_under_others,
        int((rows["q"] <= FALSE_DISCOVERIES).sum()),
    )
