"""Inner products: what a device sends back in place of whole embeddings.

An embedding has some hundred numbers, and every effect of it is made of a handful of inner
products: of the baseline x and of the displacements δ under each arm. Embeddings stay on the
device; these come back, and :mod:`ranklock.effects` makes effects of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ranklock.arms import ARMS, Edit, decomposed_arm, edit_arm, placebo_arm

Numbers = npt.NDArray[np.float64]
Pair = tuple[str, str]


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
        Pair of arms → ⟨δ, δ'⟩: those of :func:`crossed_pairs`.
    """

    squared: Numbers
    along: Mapping[str, Numbers]
    moved: Mapping[str, Numbers]
    crossed: Mapping[Pair, Numbers]


@dataclass(frozen=True)
class Impostor:
    """Where an impostor is found among the inputs of a task.

    Attributes
    ----------
    standing
        Name of the input in which it stands in the perturbed gene's place.
    perturbed
        Arm → name of the input in which it is perturbed as the gene is: where genes are taken out,
        the gene's own.
    tokens
        Who it is in each task: one gene for each that is perturbed together.
    """

    standing: str
    perturbed: Mapping[str, str]
    tokens: Sequence[tuple[int, ...]] = ()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Pairs of inputs whose displacements are multiplied with each other."""
        return tuple((self.standing, after) for after in dict.fromkeys(self.perturbed.values()))


@dataclass(frozen=True, eq=False)
class StateMoments:
    """Inner products of cell embeddings with embeddings g of states, in float64.

    Attributes
    ----------
    squared
        ‖g‖², shape (states,).
    before
        ⟨x, g⟩ of the baseline, shape (tasks, states).
    along
        Arm → ⟨δ, g⟩, shape (tasks, states).
    """

    squared: Numbers
    before: Numbers
    along: Mapping[str, Numbers]


def decomposition_arms(arms: Iterable[str]) -> tuple[str, str, str] | None:
    """Names of the edit, the placebo and the whole, where all three are there."""
    names = list(arms)
    edit, placebo, whole = edit_arm(names), placebo_arm(names), decomposed_arm(names)
    return None if whole is None or edit is None or placebo is None else (edit, placebo, whole)


def masking_pair(arms: Iterable[str]) -> Pair | None:
    """Names of the arm that removes a gene and of the one that puts a token in its place."""
    names = list(arms)
    edit = edit_arm(names)
    masking = {name for name, arm in ARMS.items() if arm.edit is Edit.MASK}
    mask = next((name for name in names if name in masking), None)
    return None if edit is None or mask is None else (edit, mask)


def crossed_pairs(arms: Iterable[str]) -> tuple[Pair, ...]:
    """Pairs of arms whose displacements are multiplied with each other."""
    names = list(arms)
    masking = masking_pair(names)
    return (
        *combinations(decomposition_arms(names) or (), 2),
        *(() if masking is None else (masking,)),
    )
