"""A smooth function of rank, as a linear model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline

Array = npt.NDArray[np.float64]
_PIECES = 4
_ENOUGH = 10  # numbers for each coefficient


def rank_smooth(values: npt.ArrayLike, ranks: npt.ArrayLike) -> Array:
    """Least-squares cubic spline of values on rank: what the rank predicts, shape (n,).

    Four pieces between quantiles of the ranks; a lower degree where there are fewer than ten
    numbers a coefficient, down to a constant.
    """
    y, x = np.asarray(values, dtype=np.float64), np.asarray(ranks, dtype=np.float64)
    basis = _basis(x)
    solution = np.linalg.lstsq(basis, y, rcond=None)[0]
    return np.asarray(basis @ solution)


def smooth_degrees(ranks: npt.ArrayLike) -> int:
    """Coefficients that the smooth of these ranks has beyond its mean."""
    return int(_basis(np.asarray(ranks, dtype=np.float64)).shape[1]) - 1


def _basis(x: Array) -> Array:
    most = len(np.unique(x))
    affordable = min(len(x) // _ENOUGH, most)
    if affordable < 2 or np.ptp(x) == 0:
        return np.ones((len(x), 1))
    degree = min(3, affordable - 1)
    pieces = min(_PIECES, affordable - degree)
    inner = np.unique(np.quantile(x, np.linspace(0, 1, pieces + 1))[1:-1])
    inner = inner[(inner > x.min()) & (inner < x.max())]
    knots = np.r_[[x.min()] * (degree + 1), inner, [x.max()] * (degree + 1)]
    return np.asarray(BSpline.design_matrix(x, knots, degree).toarray())
