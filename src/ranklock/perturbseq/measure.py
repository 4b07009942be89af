"""How well scores rank the genes that really changed, and how well gene-level baselines do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score

from ranklock.errors import InputError
from ranklock.perturbseq.joint import joint_increments
from ranklock.perturbseq.scores import Scores
from ranklock.perturbseq.screen import Screen
from ranklock.statistics.enrichment import auroc
from ranklock.statistics.intervals import spearman
from ranklock.statistics.ranking import normal_scores, places

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MEAN_EFFECT, NEARNESS = "mean effect of other perturbations", "nearness in rank"
SCREEN_MEAN = "mean change under the screen's other perturbations"
COMPARED = 20  # other perturbations under which the same genes are ranked
FEWEST_FOR_JOINT = 3


@dataclass(frozen=True)
class Thresholds:
    """What counts as changed, and how many are needed."""

    most_q: float = 0.05  # largest adjusted p of a gene that changed
    least_fold_change: float = 0.0  # absolute, in the screen's base of logarithms
    fewest_changed: int = 5  # and unchanged, that a perturbed gene needs to be scored


@dataclass(frozen=True, eq=False)
class Measured:
    """Numbers of every perturbed gene."""

    table: pd.DataFrame  # a row a perturbed gene and layer
    coverage: pd.DataFrame  # a row a perturbed gene of the screen, scored or not
    baselines: list[str]  # names of those that could be had


@dataclass(frozen=True, eq=False)
class _Pair:
    """A perturbed gene that both have, and the responders that both know."""

    gene: str
    row: int  # among the perturbations of the run
    tested: Bools  # over responders
    changed: Bools
    fold: Array  # |log fold change|
    under_others: Array  # mean change of each responder under the screen's other perturbations
    all_changed: int  # in the screen, responders or not


def measure(
    scores: Scores,
    screen: Screen,
    thresholds: Thresholds,
    excluded: Collection[str] = (),
    seed: int = 0,
) -> Measured:
    """Rank the changed genes of each perturbed gene by its scores and by every baseline.

    Genes that are ``excluded``, named as the run does, are never scored.

    Raises
    ------
    InputError
        When no perturbed gene is in both, or none has enough changed genes.
    """
    known = set(scores.perturbed)
    shared = [gene for gene in screen.perturbed if gene in known]
    if not shared:
        raise InputError(
            f"No perturbed gene of {screen.name} is perturbed in {scores.name} (the screen's begin "
            f"with {_first([*screen.perturbed, *screen.elsewhere], scores)}, the run's with "
            f"{_first(scores.perturbed, scores)}); perturb those, or check the names."
        )
    pairs, coverage = _pairs(scores, screen, thresholds, excluded)
    level = scores.gene_level()
    columns = screen.columns_of(scores.responders)
    for name, values in screen.gene_level.items():
        level[name] = np.where(columns >= 0, values[columns], np.nan)
    parts = []
    for layer, values in scores.layers.items():
        part = _of_layer(layer, values, scores, level, pairs, thresholds, seed)
        if not part.empty:
            parts.append(part)
    if not parts:
        raise InputError(
            f"None of the {len(shared)} perturbed genes that {screen.name} and {scores.name} "
            f"share has {thresholds.fewest_changed} changed and as many unchanged genes among the "
            f"responders (at q ≤ {thresholds.most_q:g}, |log fold change| ≥ "
            f"{thresholds.least_fold_change:g}); {_one_class(screen, thresholds)}"
        )
    table = pd.concat(parts, ignore_index=True)
    coverage["scored"] = coverage["gene_id"].isin(set(table["gene_id"]))
    coverage.loc[coverage["scored"], "why_not"] = ""
    names = [MEAN_EFFECT, SCREEN_MEAN, NEARNESS, *level]
    return Measured(table, coverage, [n for n in names if f"auroc of {n}" in table])


def _pairs(
    scores: Scores, screen: Screen, thresholds: Thresholds, excluded: Collection[str]
) -> tuple[list[_Pair], pd.DataFrame]:
    """Perturbed genes of both, and how much of the screen the run covers."""
    changed = screen.changed(thresholds.most_q, thresholds.least_fold_change)
    tested = np.isfinite(screen.q) & ~screen.diagonal() & ~np.isin(screen.genes, list(excluded))
    changed &= tested
    means = means_of_others(screen.profiles())
    columns = screen.columns_of(scores.responders)
    in_screen = columns >= 0
    row_of = {gene: row for row, gene in enumerate(scores.perturbed)}
    pairs, rows = [], []
    for i, gene in enumerate(screen.perturbed):
        number = int(changed[i].sum())
        row: dict[str, object] = {
            "gene": scores.names.symbol(gene), "gene_id": gene, "in_run": gene in row_of,
            "tested_genes": int(tested[i].sum()), "changed_genes": number,
        }  # fmt: skip
        if gene in row_of:
            take = np.where(in_screen, columns, 0)
            pair = _Pair(
                gene, row_of[gene], tested[i][take] & in_screen, changed[i][take] & in_screen,
                np.where(in_screen, np.abs(screen.log_fold_change[i][take]), np.nan),
                np.where(in_screen, means[i][take], np.nan), number,
            )  # fmt: skip
            pairs.append(pair)
            scored = np.any([np.isfinite(v[pair.row]) for v in scores.layers.values()], axis=0)
            respond = int((pair.changed & scored).sum())
            row |= {
                "changed_that_respond": respond,
                "recall_ceiling": respond / number if number else np.nan,
                "why_not": f"{respond} changed genes among its responders, or too few unchanged; "
                f"{thresholds.fewest_changed} of each are needed",
            }
        rows.append(row)
    rows += [
        {"gene": scores.names.symbol(gene), "gene_id": gene, "in_run": False}
        for gene in screen.elsewhere
    ]
    coverage = pd.DataFrame(rows).reindex(
        columns=["gene", "gene_id", "in_run", "tested_genes", "changed_genes",
                 "changed_that_respond", "recall_ceiling", "why_not"]
    )  # fmt: skip
    coverage["why_not"] = coverage["why_not"].fillna("not perturbed in the run")
    for column in ("tested_genes", "changed_genes", "changed_that_respond"):
        coverage[column] = coverage[column].astype("Int64")
    if scores.in_cells is not None:
        known = scores.in_cells.table["cells"].reindex(coverage["gene_id"])
        coverage["cells_with_gene"] = known.fillna(0).to_numpy(int)
        coverage["cells_of_run"] = scores.in_cells.cells
    return pairs, coverage


def means_of_others(profiles: Array) -> Array:
    """Mean over the other perturbations of each perturbation, shape (perturbed, genes).

    0 where no other knows a gene: nobody saw it change. NaN where there is no other perturbation.
    """
    known = np.isfinite(profiles)
    there = np.where(known, profiles, 0.0)
    numbers = known.sum(axis=0) - known
    means: Array = (there.sum(axis=0) - there) / np.maximum(numbers, 1)
    # What is left of a difference of equal sums is rounding.
    return np.where(numbers > 0, means, 0.0) if len(profiles) > 1 else np.full_like(means, np.nan)


def _of_layer(
    layer: str,
    values: Array,
    scores: Scores,
    level: Mapping[str, Array],
    pairs: list[_Pair],
    thresholds: Thresholds,
    seed: int,
) -> pd.DataFrame:
    """A row a perturbed gene that can be scored in one layer."""
    place = places(values)
    known = np.isfinite(place)
    sums, counts = np.nansum(place, axis=0), known.sum(axis=0)
    gene_ranks, ranks = scores.mean_ranks()
    rows, features, normal, truth = [], [], [], []
    for pair in pairs:
        k = pair.row
        with np.errstate(invalid="ignore", divide="ignore"):
            mean_of_others = (sums - np.nan_to_num(place[k])) / (counts - known[k])
            mean = sums / counts
        baselines = {
            MEAN_EFFECT: mean_of_others, SCREEN_MEAN: pair.under_others,
            NEARNESS: -np.abs(ranks - gene_ranks[k]), **level,
        }  # fmt: skip
        candidates = known[k] & pair.tested
        # One that is not known of any gene is no baseline; genes that another lacks are not scored.
        baselines = {n: b for n, b in baselines.items() if np.isfinite(b[candidates]).any()}
        use = candidates & np.all([np.isfinite(b) for b in baselines.values()] or [known[k]], 0)
        changed = pair.changed[use]
        hits = int(changed.sum())
        if min(hits, len(changed) - hits) < thresholds.fewest_changed:
            continue
        score = values[k, use]
        row: dict[str, object] = {
            "gene": scores.names.symbol(pair.gene), "gene_id": pair.gene, "layer": layer,
            "genes": len(changed), "changed": hits,
            "recall_ceiling": hits / pair.all_changed,
            "auroc": auroc(score, changed),
            "average_precision": average_precision_score(changed, score),
            "chance_average_precision": hits / len(changed),
            "spearman": spearman(score, pair.fold[use]),
            "auroc_under_other_perturbations": _under_others(values, known, use, pair, gene_ranks,
                                                             seed),
        }  # fmt: skip
        for name, baseline in baselines.items():
            for sign, side in ((1, ""), (-1, " backwards")):
                row[f"auroc of {name}{side}"] = auroc(sign * baseline[use], changed)
                row[f"average precision of {name}{side}"] = average_precision_score(
                    changed, sign * baseline[use]
                )
        rows.append(row)
        if MEAN_EFFECT in baselines:
            # All perturbations, its own too: were it left out of the mean, its own scores would
            # add to the mean as one more measurement of what genes do under any perturbation.
            baselines[MEAN_EFFECT] = mean
        features.append(
            np.array([normal_scores(b[use]) for b in baselines.values()]).reshape(-1, len(score)).T
        )
        normal.append(normal_scores(score))
        truth.append(changed)
    table = pd.DataFrame(rows)
    widths = {f.shape[1] for f in features}
    if len(rows) >= FEWEST_FOR_JOINT and len(widths) == 1 and widths != {0}:
        return table.join(joint_increments(features, normal, truth, seed))
    return table


def _under_others(
    values: Array, known: Bools, use: Bools, pair: _Pair, gene_ranks: Array, seed: int
) -> float:
    """Mean AUROC of the same changed genes under perturbations of genes at the nearest ranks."""
    rows = np.delete(np.arange(len(values)), pair.row)
    distance = np.abs(gene_ranks[rows] - gene_ranks[pair.row])
    if not np.isfinite(distance).all():  # at random, where ranks are not known
        distance = np.random.default_rng((seed, pair.row)).random(len(rows))
    aurocs = []
    for row in rows[np.argsort(distance, kind="stable")][:COMPARED]:
        scored = use & known[row]
        hits = int(pair.changed[scored].sum())
        if 0 < hits < scored.sum():
            aurocs.append(auroc(values[row, scored], pair.changed[scored]))
    return float(np.mean(aurocs)) if aurocs else float("nan")


def _one_class(screen: Screen, thresholds: Thresholds) -> str:
    changed = screen.changed(thresholds.most_q, thresholds.least_fold_change)
    tested = np.isfinite(screen.q) & ~screen.diagonal()
    if tested.any() and changed[tested].mean() > 0.9:
        return (
            "nearly every row of the screen is a changed gene, so it seems to list only those: "
            "then say --unlisted unchanged."
        )
    return (
        "loosen the thresholds (--max-q, --min-fold-change, --min-changed), or perturb more genes."
    )


def _first(genes: list[str], scores: Scores) -> str:
    return ", ".join(scores.names.symbol(gene) for gene in genes[:3]) or "nothing"
