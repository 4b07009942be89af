"""Specific effects: what an effect has beyond ranks, responsiveness and potency.

On the scale of log10, over the perturbations × responders of a cell:

    log effect(g, i) = f(rank g, rank i) + responsiveness(i) + potency(g) + specific(g, i) + noise

f is one surface for all cells, potency a constant for each perturbation in each cell.
Responsiveness is that of a responder in a cell *to perturbations near this rank*: what the nearest
ones of the same cell (its **rank-matched controls**) show in the same responder, once f and their
potencies are taken off. So a specific effect is a difference from other genes that were perturbed
at like ranks in the same cell, and needs at least one of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranklock.significance.log_effects import CellEffects
from ranklock.statistics.rank_surface import RankSurface, SurfaceFit, surface_terms
from ranklock.statistics.two_way import clipped, comparable, matched_rows, two_way_residuals

Array = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]

REACH = 12  # perturbations on either side in rank that are an entry's controls
_ROWS = 48  # perturbations of a cell that the surface is fitted to, spread over its ranks
BOUND = 5.0  # of standardised effects: one cell cannot make a finding


@dataclass(frozen=True, eq=False)
class Specific:
    """Specific effects of a cell; matrices of shape (perturbations, responders).

    Attributes
    ----------
    specific
        log10 of effect over expected effect; NaN where nothing can be compared.
    standardised
        The same in units of its controls' spread, between -5 and 5.
    controls
        How many rank-matched controls an entry has.
    potency, responsiveness
        Of each perturbation and responder, relative to the cell's others, log10.
    """

    specific: Array
    standardised: Array
    controls: Array
    potency: Array
    responsiveness: Array


def fit_surface(cells: Iterable[CellEffects]) -> RankSurface:
    """The surface f of all cells, with potency and responsiveness left free in each.

    ``cells`` are read twice: least squares first, then once more with residuals clipped at 2.5
    robust standard deviations (a step of Huber's estimator), so that specific effects do not pull.
    Both constants are projected out of values and terms alike (Frisch and Waugh, *Econometrica* 1,
    1933), so a constant added to a perturbation or a responder changes nothing.
    """
    least_squares, robust = SurfaceFit(), SurfaceFit()
    for cell in cells:
        _add(least_squares, cell, None)
    start = least_squares.solve()
    for cell in cells:
        _add(robust, cell, start)
    step = robust.solve()
    return RankSurface(start.coefficients + step.coefficients, start.determined)


def _add(fit: SurfaceFit, cell: CellEffects, start: RankSurface | None) -> None:
    rows = np.unique(np.linspace(0, len(cell.perturbations) - 1, _ROWS).round().astype(int))
    ranks = cell.gene_ranks[rows]
    values = cell.log_effects[rows]
    if start is not None:
        values = values - start.at(ranks, cell.responder_ranks, cell.genes)
    present = comparable(np.isfinite(values))
    if not present.any():
        return
    residuals = two_way_residuals(np.where(present, values, 0.0), present)
    if start is not None:
        residuals = clipped(residuals, present)
    terms = two_way_residuals(surface_terms(ranks, cell.responder_ranks, cell.genes), present)
    fit.add(terms, residuals)


def specific_effects(cell: CellEffects, surface: RankSurface) -> Specific:
    """Specific effects of one cell, off a surface of :func:`fit_surface`."""
    present = comparable(cell.present)
    predicted = surface.at(cell.gene_ranks, cell.responder_ranks, cell.genes)
    values = np.where(present, cell.log_effects - predicted, 0.0)
    residuals = two_way_residuals(values, present)
    potency, responsiveness = _constants(values - residuals, present)
    bounded = clipped(residuals, present)
    below = cell.responder_ranks[None, :] > cell.gene_ranks[:, None]
    places = cell.gene_ranks.astype(np.float64)
    matched = matched_rows(bounded, places, [present & below, present & ~below], REACH)
    able = present & (matched.count > 0)
    specific = np.where(able, residuals - matched.predicted, 0.0)
    # What all of a perturbation's responders share is its potency, near these ranks too.
    weights = np.maximum(able.sum(axis=1), 1)
    shared = np.where(able, clipped(specific, able), 0.0).sum(axis=1) / weights
    specific = specific - shared[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        standardised = np.where(matched.unit > 0, specific / matched.unit, 0.0)
    return Specific(
        np.where(able, specific, np.nan),
        np.where(able, np.clip(standardised, -BOUND, BOUND), np.nan),
        np.where(able, matched.count, 0.0),
        potency,
        responsiveness,
    )


def _constants(fitted: Array, present: Marks) -> tuple[Array, Array]:
    """Constants of rows and of columns, each with mean zero; NaN where nothing is there."""
    rows, columns = present.sum(axis=1), present.sum(axis=0)
    with np.errstate(invalid="ignore"):
        row = np.where(rows > 0, fitted.sum(axis=1) / np.maximum(rows, 1), np.nan)
        column = np.where(columns > 0, fitted.sum(axis=0) / np.maximum(columns, 1), np.nan)
    return row - _mean(row), column - _mean(column)


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0
