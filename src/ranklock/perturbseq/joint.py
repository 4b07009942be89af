"""What a score adds to baselines taken together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from ranklock.statistics.enrichment import auroc

Array = npt.NDArray[np.float64]
FOLDS = 20  # at most: with so many perturbed genes or fewer, each is left out by itself
MOST_ROWS = 200_000  # that a model is fitted to
_WEAK = 1e4  # inverse of a ridge that only keeps coefficients finite
COLUMNS = (
    "joint_auroc_without", "joint_auroc_with", "joint_average_precision_without",
    "joint_average_precision_with", "joint_weight",
)  # fmt: skip


def joint_increments(
    baselines: Sequence[Array],
    scores: Sequence[Array],
    changed: Sequence[npt.NDArray[np.bool_]],
    seed: int = 0,
) -> pd.DataFrame:
    """Rank the changed genes of each perturbed gene by models that had not seen it.

    Parameters
    ----------
    baselines, scores
        Of each perturbed gene, normal scores of its baselines, shape (genes, baselines), and of
        the score, shape (genes,).
    changed
        Which of those genes really changed, shape (genes,).
    seed
        Of the draw of rows, where there are more than ``MOST_ROWS``.

    Returns
    -------
    A row a perturbed gene. ``joint_auroc_without`` and ``joint_average_precision_without``: of the
    baselines taken together; ``…_with``: of them and the score. ``joint_weight``: coefficient of
    the score; below zero, the model had learned to read it backwards.

    Notes
    -----
    Two logistic models: on the baselines and their squares, and on these and the score. Each
    perturbed gene weighs the same. Left out are one perturbed gene at a time, or every twentieth
    where there are more than ``FOLDS``.
    """
    number = len(scores)
    squared = [np.column_stack([b, b**2]) for b in baselines]
    scored = [np.column_stack([b, s]) for b, s in zip(squared, scores, strict=True)]
    draw = np.random.default_rng(seed)
    quota = max(MOST_ROWS // number, 100)
    rows = [
        np.arange(len(s)) if len(s) <= quota else draw.choice(len(s), quota, replace=False)
        for s in scores
    ]
    folds = min(number, FOLDS)
    measures = pd.DataFrame(index=range(number), columns=list(COLUMNS), dtype=np.float64)
    for fold in range(folds):
        training = [i for i in range(number) if i % folds != fold]
        target = np.concatenate([changed[i][rows[i]] for i in training])
        weights = np.concatenate([np.full(len(rows[i]), 1 / len(rows[i])) for i in training])
        weights /= len(training)
        for side, features in (("without", squared), ("with", scored)):
            model = LogisticRegression(C=_WEAK, solver="newton-cholesky").fit(
                np.concatenate([features[i][rows[i]] for i in training]),
                target,
                weights / weights.sum(),
            )
            for i in range(fold, number, folds):
                ranked = model.decision_function(features[i])
                measures.loc[i, f"joint_auroc_{side}"] = auroc(ranked, changed[i])
                measures.loc[i, f"joint_average_precision_{side}"] = average_precision_score(
                    changed[i], ranked
                )
                measures.loc[i, "joint_weight"] = model.coef_[0, -1]
    return measures
