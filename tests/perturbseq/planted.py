"""Synthetic runs and screens with a known truth; none of them is real."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ranklock.perturbseq.scores import GenesInCells, Scores
from ranklock.perturbseq.screen import Screen


def planted(
    seed: int,
    *,
    specific: float,
    responsiveness: float = 1.0,
    perturbations: int = 24,
    responders: int = 400,
    perturbed: int = 16,
) -> tuple[Scores, Screen]:
    """Genes change by a responsiveness that the screen and the scores share, and by a target set.

    ``specific`` is how far the scores of half of the perturbed genes rise at their own targets,
    in standard deviations of their noise; ``responsiveness`` how well scores know which genes
    change under anything.
    """
    draw = np.random.default_rng(seed)
    genes = [f"ENSG{i:011d}" for i in range(responders)]
    responsive = draw.normal(size=responders)
    targets = draw.random((perturbations, responders)) < 0.06
    values = responsiveness * responsive + draw.normal(size=(perturbations, responders))
    values[: perturbed // 2] += specific * targets[: perturbed // 2]
    values[np.arange(perturbations), np.arange(perturbations)] = np.nan
    always = responsive + draw.normal(size=(perturbed, responders)) > 2.2
    changed = targets[:perturbed] | always
    fold = np.where(
        changed, draw.choice([-1, 1], changed.shape), 0.1 * draw.normal(size=changed.shape)
    )
    expression = responsive + draw.normal(size=responders)
    in_cells = GenesInCells(
        10,
        pd.DataFrame(
            {"cells": 10, "rank": draw.permutation(responders).astype(float),
             "expression": expression, "variance": draw.random(responders)},
            index=genes,
        ),
    )  # fmt: skip
    symbols = {gene: f"G{i}" for i, gene in enumerate(genes)}
    scores = Scores(
        genes[:perturbations], genes, {"hold": np.exp(values)}, symbols, "planted",
        in_cells=in_cells,
    )  # fmt: skip
    q = np.where(changed, 0.001, 0.6).astype(np.float32)
    screen = Screen(genes[:perturbed], genes, fold.astype(np.float32), q, "synthetic", "0")
    return scores, screen
