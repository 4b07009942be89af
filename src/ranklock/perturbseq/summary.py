"""What a score is worth over perturbed genes: its increments over baselines, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ranklock.perturbseq.joint import COLUMNS
from ranklock.perturbseq.measure import Measured
from ranklock.statistics.intervals import NOTHING, Estimate, mean_test, without_interval
from ranklock.statistics.ranking import signed_rank_p

FEWEST_FOR_AN_INTERVAL = 3
LEVEL = 0.05
ADDS, NOTHING_FOUND, TOO_FEW = "adds", "nothing found", "too few"


@dataclass(frozen=True)
class LayerSummary:
    """One layer's scores, over perturbed genes; joint: with all baselines taken together."""

    layer: str
    perturbed: int  # genes that were scored
    auroc: Estimate
    average_precision: Estimate
    spearman: Estimate  # with |log fold change|
    chance_average_precision: float  # mean share of changed genes
    baselines: dict[str, float]  # mean AUROC
    best: str | None  # the baseline with the largest
    best_auroc: float
    best_average_precision: float
    increment: Estimate  # score less best baseline, perturbed gene by perturbed gene
    increment_average_precision: Estimate
    increment_p: float  # of no increment in AUROC, by Wilcoxon's signed-rank test
    under_other_perturbations: Estimate  # AUROC less that of the same genes under others
    joint_without: float  # AUROC of the baselines
    joint: Estimate  # what the score adds, in perturbed genes that the model had not seen
    joint_average_precision: Estimate
    joint_p: float  # of none in AUROC, by Student's t, times the number of layers (Bonferroni)
    joint_weight: float  # mean coefficient of the score: below zero, it was read backwards
    recall_ceiling: float  # share of the changed genes that are responders at all
    verdict: str  # adds, nothing found or too few: see summarise_layer


def orient_baselines(measured: Measured) -> pd.DataFrame:
    """Turn each baseline to the side on which it ranks the other perturbed genes' changed genes.

    Genes of high expression may be those that change, or those of low. Which it is says the rest
    of the screen, not the perturbed gene that is judged; a baseline that ranks the others worse
    than chance is read backwards for this one. The columns of either side give way to
    ``best_baseline`` (by mean AUROC in the layer), ``best_auroc``, ``best_average_precision`` and
    ``increment``.
    """
    parts = [
        _oriented(part.copy(), measured.baselines)
        for _, part in measured.table.groupby("layer", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def summarise(table: pd.DataFrame, baselines: list[str]) -> dict[str, LayerSummary]:
    """Every layer of an oriented table, in its order."""
    parts = {str(name): part for name, part in table.groupby("layer", sort=False)}
    return {name: summarise_layer(part, baselines, len(parts)) for name, part in parts.items()}


def summarise_layer(part: pd.DataFrame, baselines: list[str], layers: int) -> LayerSummary:
    """One layer of an oriented table.

    Notes
    -----
    The verdict is ``adds`` where the score adds to all baselines taken together (p of the joint
    increment, times the number of layers, at most 0.05, the increment and the score's own weight
    above zero), ``too few`` with fewer than three perturbed genes, and ``nothing found`` otherwise.
    Better than the best single baseline is not enough: a score may put two of them together. A
    joint increment a little below zero is what a score that is noise to the baselines gives.
    """
    n = len(part)
    models = part.reindex(columns=list(COLUMNS))  # NaN where there were too few genes for them
    joint, joint_p = _over_genes(models["joint_auroc_with"] - models["joint_auroc_without"])
    joint_p = min(joint_p * layers, 1.0)
    weight = float(models["joint_weight"].mean())
    verdict = NOTHING_FOUND
    if n < FEWEST_FOR_AN_INTERVAL or not np.isfinite(joint.value):
        verdict = TOO_FEW
    elif joint_p <= LEVEL and joint.value > 0 and weight > 0:
        verdict = ADDS
    means = {b: float(part[f"auroc of {b}"].mean()) for b in baselines if f"auroc of {b}" in part}
    best = None if part["best_baseline"].isna().all() else str(part["best_baseline"].iloc[0])
    return LayerSummary(
        layer=str(part["layer"].iloc[0]),
        perturbed=n,
        auroc=_mean(part["auroc"]),
        average_precision=_mean(part["average_precision"]),
        spearman=_mean(part["spearman"]),
        chance_average_precision=float(part["chance_average_precision"].mean()),
        baselines=means,
        best=best,
        best_auroc=float(part["best_auroc"].mean()),
        best_average_precision=float(part["best_average_precision"].mean()),
        increment=_mean(part["increment"]),
        increment_average_precision=_mean(
            part["average_precision"] - part["best_average_precision"]
        ),
        increment_p=signed_rank_p(part["increment"]),
        under_other_perturbations=_mean(part["auroc"] - part["auroc_under_other_perturbations"]),
        joint_without=float(models["joint_auroc_without"].mean()),
        joint=joint,
        joint_average_precision=_mean(
            models["joint_average_precision_with"] - models["joint_average_precision_without"]
        ),
        joint_p=joint_p,
        joint_weight=weight,
        recall_ceiling=float(part["recall_ceiling"].mean()),
        verdict=verdict,
    )


def _oriented(part: pd.DataFrame, baselines: list[str]) -> pd.DataFrame:
    for name in baselines:
        if f"auroc of {name}" not in part:
            continue
        forwards = part[f"auroc of {name}"].to_numpy()
        mean_of_others = (forwards.sum() - forwards) / max(len(forwards) - 1, 1)
        backwards = (mean_of_others < 0.5) & (len(forwards) > 1)
        for kind in ("auroc", "average precision"):
            turned = part.pop(f"{kind} of {name} backwards")
            part[f"{kind} of {name}"] = np.where(backwards, turned, part[f"{kind} of {name}"])
    known = [name for name in baselines if f"auroc of {name}" in part]
    best = max(known, key=lambda name: part[f"auroc of {name}"].mean()) if known else None
    part["best_baseline"] = best
    part["best_auroc"] = part[f"auroc of {best}"] if best else np.nan
    part["best_average_precision"] = part[f"average precision of {best}"] if best else np.nan
    part["increment"] = part["auroc"] - part["best_auroc"]
    return part


def _mean(values: pd.Series) -> Estimate:
    return _over_genes(values)[0]


def _over_genes(values: pd.Series) -> tuple[Estimate, float]:
    """Mean over perturbed genes and its p; no interval from fewer than three."""
    finite = values[np.isfinite(values)].to_numpy(np.float64)
    if not len(finite):
        return NOTHING, float("nan")
    if len(finite) < FEWEST_FOR_AN_INTERVAL:
        return without_interval(float(finite.mean()), len(finite)), float("nan")
    mean, p = mean_test(finite, np.arange(len(finite)))
    return replace(mean, replicates="perturbed genes"), p
