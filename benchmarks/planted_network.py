"""Cells from a regulatory network that is known.

Kept-up libraries were looked for first: SERGIO's package on PyPI does not run as its page says
(github.com/PayamDiba/SERGIO, issues 25 and 28) and draws cells of discrete types around one steady
state each, and dyngen is an R package. What a rank-value model needs to learn a network is that a
factor's activity varies from cell to cell, so this is a small simulator of its own.

In every cell, in this order:

1. A cell state, and for each module of factors a level that its factors share (the confounder).
2. Activity of each factor: lognormal, from the state, its module and its own noise. Some factors
   are targets of others (a cascade), so that some links are indirect.
3. Mean expression of each target: its base times a Hill term for each of its factors,
   ``1 + (fold - 1) a² / (1 + a²)`` for activation and its reciprocal for repression, times
   lognormal noise. Bystanders follow a module's level and have no factor: co-expression takes
   them for targets.
4. Counts: a depth for the cell, then a negative binomial, and dropout of what is little expressed.
"""

from __future__ import annotations

from dataclasses import dataclass

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp


@dataclass(frozen=True)
class Design:
    """Everything that decides what is simulated."""

    cells: int = 8000
    held_out: int = 500
    modules: int = 5
    factors: int = 20
    targets: int = 70
    bystanders: int = 20
    others: int = 20
    second_regulator: float = 0.3  # share of targets with two factors
    cascades: int = 5  # factors that are targets of other factors
    repression: float = 0.3  # share of links
    fold: float = 6.0
    states: int = 4
    module_spread: float = 0.8  # of log activity
    factor_spread: float = 0.5
    noise: float = 0.3
    depth: float = 3000.0
    depth_spread: float = 0.25
    dispersion: float = 10.0
    dropout: float = 1.0  # counts at which half are kept; 0 for none
    seed: int = 0

    @property
    def genes(self) -> int:
        """Genes in all."""
        return self.factors + self.targets + self.bystanders + self.others


def draw_network(design: Design) -> pd.DataFrame:
    """Links: columns ``source``, ``target``, ``weight`` (1 activates, -1 represses)."""
    draw = np.random.default_rng([design.seed, 1])
    rows = []
    for index in range(design.targets):
        sources = [index % design.factors]
        if draw.random() < design.second_regulator:
            sources.append(int((sources[0] + draw.integers(1, design.factors)) % design.factors))
        rows += [(source, design.factors + index) for source in sources]
    # A cascade runs from factors of a lower number to one of a higher: no cycles.
    for lower in draw.choice(design.factors // 2, design.cascades, replace=False):
        rows.append((int(lower), int(draw.integers(design.factors // 2, design.factors))))
    names = gene_names(design)
    weights = np.where(draw.random(len(rows)) < design.repression, -1.0, 1.0)
    edges = pd.DataFrame(
        [(names[source], names[target]) for source, target in rows], columns=["source", "target"]
    ).assign(weight=weights)
    return edges.drop_duplicates(["source", "target"], ignore_index=True)


def gene_names(design: Design) -> list[str]:
    """Factors, targets, bystanders and others, in the order of the columns."""
    return [
        f"{kind}{index}"
        for kind, count in (
            ("FACTOR", design.factors),
            ("TARGET", design.targets),
            ("BYSTANDER", design.bystanders),
            ("OTHER", design.others),
        )
        for index in range(count)
    ]


def draw_cells(design: Design, edges: pd.DataFrame) -> anndata.AnnData:
    """Counts of cells, with ``split`` (training, held-out), ``state`` and ``n_counts`` in obs."""
    draw = np.random.default_rng([design.seed, 2])
    n, names = design.cells + design.held_out, gene_names(design)
    place = {name: index for index, name in enumerate(names)}
    states = draw.integers(design.states, size=n)
    modules = np.arange(design.factors) % design.modules
    level = draw.normal(0, design.module_spread, (n, design.modules))
    by_state = draw.normal(0, 0.3, (design.states, design.factors))
    log_activity = (
        by_state[states]
        + level[:, modules]
        + draw.normal(0, design.factor_spread, (n, design.factors))
    )
    activity = np.exp(log_activity)
    of_factors = edges[edges["target"].str.startswith("FACTOR")]
    for source, target, weight in of_factors.itertuples(index=False):
        activity[:, place[target]] *= _hill(activity[:, place[source]], weight, design.fold)
    expression = np.exp(draw.normal(0, 0.8, len(names)))[None, :] * np.exp(
        draw.normal(0, design.noise, (n, len(names)))
    )
    expression[:, : design.factors] *= activity
    for source, target, weight in edges.itertuples(index=False):
        if not target.startswith("FACTOR"):
            expression[:, place[target]] *= _hill(activity[:, place[source]], weight, design.fold)
    first = design.factors + design.targets
    follows = np.arange(design.bystanders) % design.modules
    expression[:, first : first + design.bystanders] *= np.exp(1.5 * level[:, follows])
    depth = design.depth * np.exp(draw.normal(0, design.depth_spread, n))
    means = expression / expression.sum(axis=1, keepdims=True) * depth[:, None]
    counts = draw.poisson(draw.gamma(design.dispersion, means / design.dispersion))
    if design.dropout:
        counts *= draw.random(counts.shape) < means / (means + design.dropout)
    obs = pd.DataFrame(
        {
            "split": np.where(np.arange(n) < design.cells, "training", "held-out"),
            "state": [f"state {state}" for state in states],
            "n_counts": counts.sum(axis=1),
        },
        index=[f"cell {index}" for index in range(n)],
    )
    return anndata.AnnData(sp.csr_matrix(counts.astype(np.int32)), obs, pd.DataFrame(index=names))


def _hill(activity: np.ndarray, weight: float, fold: float) -> np.ndarray:
    term = 1 + (fold - 1) * activity**2 / (1 + activity**2)
    return term if weight > 0 else 1 / term
