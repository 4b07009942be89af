"""Inner products: what a device sends back in place of whole embeddings.

An embedding has some hundred numbers, and every effect of it is made of a handful of inner
products: of the baseline x and of the displacements δ under each arm. Embeddings stay on the
device; these come back, and :mod:`ranklock.effects.moments` makes effects of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ranklock.arms import DECOMPOSITION_ARMS

Numbers = npt.NDArray[np.float64]
CROSSED = tuple(combinations(DECOMPOSITION_ARMS, 2))
MASK_AND_HOLD = ("hold", "mask")  # the same removal, with and without a token in the gap


@dataclass(frozen=True, eq=False)
class Moments:
    """Inner products of embeddings, in float64; each of shape (...).

    Attributes
    ----------
    squared
        ‖x‖² of the baseline.
    along
        Arm → ⟨δ, x⟩.
    moved
        Arm → ‖δ‖².
    crossed
        Pair of arms → ⟨δ, δ'⟩: those in ``CROSSED`` where all three arms of the decomposition
        were run, and ``MASK_AND_HOLD`` where both were.
    """

    squared: Numbers
    along: Mapping[str, Numbers]
    moved: Mapping[str, Numbers]
    crossed: Mapping[tuple[str, str], Numbers]


@dataclass(frozen=True, eq=False)
class StateMoments:
    """Inner products of cell embeddings with embeddings g of states, in float64.

    Attributes
    ----------
    squared
        ‖g‖², shape (states,).
    before
        ⟨x, g⟩ of the baseline, shape (knock-outs, states).
    along
        Arm → ⟨δ, g⟩, shape (knock-outs, states).
    """

    squared: Numbers
    before: Numbers
    along: Mapping[str, Numbers]
