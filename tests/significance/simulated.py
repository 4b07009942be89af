"""Log effects with known parts: what the statistics must take apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ranklock.significance.log_effects import CellEffects

FLOOR = -9.0  # log10


def simulated(
    cells: int = 12,
    genes: int = 60,
    *,
    perturbed: int | None = None,
    planted: Mapping[tuple[int, int], float] | None = None,
    noise: float = 0.3,
    donors: int | None = None,
    seed: int = 0,
) -> list[CellEffects]:
    """Cells whose log effects are surface + responsiveness + potency + specific + noise.

    Genes have ranks that vary between cells; effects step at the perturbed rank and fall with
    distance; responsiveness and potency have a part of the gene and a part of the cell; noise has
    heavier tails than a normal's and is larger below the rank, as under ``delete``.
    """
    draw = np.random.default_rng(seed)
    place = draw.permutation(genes)
    responsiveness, potency = draw.normal(0, 0.5, genes), draw.normal(0, 0.5, genes)
    specific = np.zeros((genes, genes))
    for pair, value in (planted or {}).items():
        specific[pair] = value
    effects = []
    for cell in range(cells):
        order = np.argsort(place + draw.normal(0, 6, genes))
        rank = np.argsort(order)
        chosen = np.arange(genes) if perturbed is None else np.arange(perturbed)
        rows = chosen[np.argsort(rank[chosen])]
        distance = rank[order][None, :] - rank[rows][:, None]
        below = distance > 0
        surface = 1.5 * below - 0.6 * np.log10(np.maximum(np.abs(distance), 1))
        in_cell = draw.normal(0, 0.2, genes), draw.normal(0, 0.2, genes)
        tails = draw.standard_t(6, distance.shape) * noise * np.where(below, 1.5, 1.0)
        logs = (
            -5
            + surface
            + (responsiveness + in_cell[0])[order][None, :]
            + (potency + in_cell[1])[rows][:, None]
            + specific[np.ix_(rows, order)]
            + tails
        )
        logs[rows[:, None] == order[None, :]] = np.nan
        name = f"cell {cell}" if donors is None else f"donor {cell * donors // cells}"
        effects.append(
            CellEffects(name, genes, rows, rank[rows], order, np.arange(genes), logs, logs <= FLOOR)
        )
    return effects
