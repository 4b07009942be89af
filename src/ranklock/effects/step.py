"""The step: responders after the perturbed rank against those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Step:
    """Median cosine distance on either side of the perturbed rank; NaN where no gene stands."""

    before: float
    after: float


def step(
    distances: npt.NDArray[Any], responder_ranks: npt.NDArray[Any], knocked_out: Sequence[int]
) -> Step:
    """Medians of the effects on either side of the perturbed rank.

    Parameters
    ----------
    distances
        Cosine distance of each responder, shape (responders,).
    responder_ranks
        Rank of each, shape (responders,).
    knocked_out
        Perturbed ranks. Of several, genes between the first and the last are on neither side.
    """
    return Step(
        before=median(distances[responder_ranks < min(knocked_out)]),
        after=median(distances[responder_ranks > max(knocked_out)]),
    )


def median(values: npt.NDArray[Any]) -> float:
    """Median of numbers; NaN where there is none."""
    return float(np.median(values)) if len(values) else float("nan")
