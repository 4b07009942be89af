"""What two ranks predict: a smooth function of the perturbed rank and the responder's rank.

Effects fall with distance in rank, and under arms that renumber they step at the perturbed rank
itself. So the surface is smooth in the perturbed rank and in the logarithm of the distance, and is
free to differ between responders above and below the rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline

Array = npt.NDArray[np.float64]
Ranks = npt.NDArray[np.int64]

_DEGREE = 2
_KNOTS = np.r_[[0.0] * (_DEGREE + 1), 0.25, 0.5, 0.75, [1.0] * (_DEGREE + 1)]
_SPLINES = len(_KNOTS) - _DEGREE - 1
COEFFICIENTS = 2 * _SPLINES * _SPLINES
_SMALLEST = 1e-9  # of the largest singular value: directions below are not determined


@dataclass(frozen=True, eq=False)
class RankSurface:
    """A fitted surface.

    Attributes
    ----------
    coefficients
        Of responders above and below the rank × splines of the perturbed rank × splines of the
        distance, shape (2, splines, splines).
    determined
        How many directions of the coefficients the numbers determined; the others are zero, and
        what lies along them stays with the genes.
    """

    coefficients: Array
    determined: int

    def at(self, knocked_out: Ranks, responders: Ranks, genes: int) -> Array:
        """Predicted log effects in a cell of so many genes, shape (knock-outs, responders)."""
        along = _splines(knocked_out / genes)
        away = _splines(_log_distance(np.arange(max(genes, 1)), genes))
        tables = np.einsum("kp,spd,nd->skn", along, self.coefficients, away)
        distance = np.abs(responders[None, :] - knocked_out[:, None])
        below = (responders[None, :] > knocked_out[:, None]).astype(np.int64)
        return np.asarray(tables[below, np.arange(len(knocked_out))[:, None], distance])


def surface_terms(knocked_out: Ranks, responders: Ranks, genes: int) -> Array:
    """Terms of the surface, shape (knock-outs, responders, ``COEFFICIENTS``)."""
    along = _splines(knocked_out / genes)
    distance = np.abs(responders[None, :] - knocked_out[:, None])
    away = _splines(_log_distance(np.arange(max(genes, 1)), genes))[distance]
    below = responders[None, :] > knocked_out[:, None]
    sides = np.stack([~below, below], axis=-1).astype(np.float64)
    terms = np.einsum("kns,kp,knd->knspd", sides, along, away)
    return np.asarray(terms.reshape(*distance.shape, COEFFICIENTS))


class SurfaceFit:
    """Least squares for a surface, from one cell at a time, in constant memory."""

    def __init__(self) -> None:
        self._squares = np.zeros((COEFFICIENTS, COEFFICIENTS))
        self._products = np.zeros(COEFFICIENTS)

    def add(self, terms: Array, values: Array) -> None:
        """Take in :func:`surface_terms` and log effects of a cell, all else projected out."""
        flat = terms.reshape(-1, COEFFICIENTS)
        self._squares += flat.T @ flat
        self._products += flat.T @ values.ravel()

    def solve(self) -> RankSurface:
        """The surface, with directions that nothing determines at zero."""
        values, vectors = np.linalg.eigh(self._squares)
        known = values > _SMALLEST * max(values[-1], 0.0)
        known &= values > 0
        basis = vectors[:, known]
        solution = basis @ ((basis.T @ self._products) / values[known])
        return RankSurface(solution.reshape(2, _SPLINES, _SPLINES), int(known.sum()))


def _splines(x: npt.ArrayLike) -> Array:
    inside = np.clip(np.asarray(x, dtype=np.float64), 0.0, 1.0)
    return np.asarray(BSpline.design_matrix(inside, _KNOTS, _DEGREE).toarray())


def _log_distance(distance: Ranks, genes: int) -> Array:
    """From 0, next to the rank, to 1, a whole cell away."""
    return np.asarray(np.log(np.maximum(distance, 1)) / np.log(max(genes, 2)))
