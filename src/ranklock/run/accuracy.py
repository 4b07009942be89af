"""The error of a run, measured on some of its tasks against two plain forwards in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ranklock.arms import ARMS
from ranklock.effects import approach, displacements, distances
from ranklock.engine.method import EXACT, Method
from ranklock.engine.moments import Moments
from ranklock.engine.readout import Measured
from ranklock.engine.tasks import measure_groups
from ranklock.errors import InputError
from ranklock.quantities import counted, percent

if TYPE_CHECKING:
    from ranklock.run.planned import Plan

Numbers = npt.NDArray[np.float64]

# Of all tasks, those that are computed again; at least so many, and at most.
_PART, _FEWEST, _MOST = 0.01, 4, 24
# Effects smaller than this part of an embedding are rounding, in float64 too.
_RESOLVED = 1e-10
# What a 95th percentile may be, in medians' limits, and how many effects it takes to have one.
_TAIL, _ENOUGH = 5.0, 20

_IMPOSTORS = "impostors"  # all of them together, among the arms
COSINE_DISTANCE, DISPLACEMENT = "cosine_distance", "displacement"
CELL_SHIFT, CELL_DISPLACEMENT = "cell_shift", "cell_displacement"
TOWARDS_STATES = "towards_states"


@dataclass(frozen=True)
class Error:
    """Relative error of one quantity under one arm.

    Attributes
    ----------
    arm, quantity
        Which.
    effects
        How many effects were compared.
    median, percentile_95
        Of |computed − exact| / |exact|.
    in_worst_task
        The largest median of one task. Of n tasks drawn alike, another one exceeds it with
        probability 1 / (n + 1).
    """

    arm: str
    quantity: str
    effects: int
    median: float
    percentile_95: float
    in_worst_task: float


@dataclass(frozen=True)
class Accuracy:
    """How exact a run's effects are.

    Attributes
    ----------
    method
        How they were computed.
    tasks
        How many tasks were computed again with two plain forwards in float64: of every rank from
        the highest to the lowest, under all arms.
    errors
        What came of it.
    """

    method: Method
    tasks: int
    errors: tuple[Error, ...]

    def too_large(self, limit: float) -> Error | None:
        """The worst of the errors that are larger than a limit, for medians; None if none is."""
        worst = max(self.errors, key=_in_limits, default=None)
        return worst if worst is not None and _in_limits(worst) > limit else None

    def said(self) -> str:
        """What was measured, in a line."""
        by_quantity: dict[str, Error] = {}
        for error in self.errors:
            known = by_quantity.get(error.quantity)
            if known is None or error.median > known.median:
                by_quantity[error.quantity] = error
        parts = [
            f"{quantity.replace('_', ' ')} {percent(error.median)} (95 % of effects below "
            f"{percent(error.percentile_95)}, worst task {percent(error.in_worst_task)}, "
            f"{error.arm})"
            for quantity, error in by_quantity.items()
            if quantity in {COSINE_DISTANCE, CELL_SHIFT, TOWARDS_STATES}
        ]
        said = "; ".join(parts) or "no effect is large enough to be compared"
        return (
            f"Error of the {self.method}, median in {counted(self.tasks, 'task')} against float64, "
            f"in its worst arm: {said}."
        )


def _in_limits(error: Error) -> float:
    tail = error.percentile_95 / _TAIL if error.effects >= _ENOUGH else 0.0
    return max(error.median, tail)


def sample_of(plan: Plan) -> list[int]:
    """Tasks that are computed again: of ranks from the highest to the lowest, of each kind."""
    number = int(np.clip(len(plan.tasks) * _PART, _FEWEST, _MOST))
    number = min(max(number, len(plan.kinds)), len(plan.tasks))
    kinds = np.array([plan.kinds.index(p.kind) for p in plan.perturbations])
    order = np.lexsort((plan.tasks.rank, kinds[plan.tasks.perturbation]))
    places = np.linspace(0, len(order) - 1, number).round().astype(int)
    return sorted(set(order[places].tolist()))


class Reference:
    """Some tasks of a run, computed exactly once, for methods to be compared with."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._groups = [plan.group(range(task, task + 1)) for task in sample_of(plan)]
        self._exact = self._measured(EXACT)

    def accuracy(self, method: Method) -> Accuracy:
        """Relative errors of a method."""
        values: dict[tuple[str, str], list[Numbers]] = {}
        for exact, computed in zip(self._exact, self._measured(method), strict=True):
            for arm in exact.genes.moved:
                name = arm if arm in ARMS else _IMPOSTORS
                for quantity, relative in _relative_errors(exact, computed, arm):
                    values.setdefault((name, quantity), []).append(relative)
        errors = []
        for (arm, quantity), parts in values.items():
            joined = np.concatenate(parts)
            if len(joined):
                # Of few effects the 95th percentile is the largest: never less than what was seen.
                median, tail = np.median(joined), np.quantile(joined, 0.95, method="higher")
                worst = max(float(np.median(part)) for part in parts if len(part))
                errors.append(Error(arm, quantity, len(joined), float(median), float(tail), worst))
        return Accuracy(method, len(self._groups), tuple(errors))

    def _measured(self, method: Method) -> list[Measured]:
        return measure_groups(self._plan.model, self._groups, self._plan.reading, method=method)


def check_accuracy(accuracy: Accuracy, limit: float) -> None:
    """Refuse a method that errs by more than is allowed.

    Raises
    ------
    InputError
        With what would be exact enough.
    """
    worst = accuracy.too_large(limit)
    if worst is None:
        return
    raise InputError(
        f"Computed as {accuracy.method}, the {worst.quantity.replace('_', ' ')} under {worst.arm} "
        f"errs by {percent(worst.median)} of the effect (median of {worst.effects}; 95 % below "
        f"{percent(worst.percentile_95)}), and {percent(limit)} is allowed: take --precision "
        "float32 or float64, or allow more (--accuracy)."
    )


def _relative_errors(
    exact: Measured, computed: Measured, arm: str
) -> Iterator[tuple[str, Numbers]]:
    yield from _of_moments(
        exact.genes, computed.genes, arm, {COSINE_DISTANCE: distances, DISPLACEMENT: displacements}
    )
    if exact.cell is None or computed.cell is None:
        return
    yield from _of_moments(
        exact.cell, computed.cell, arm, {CELL_SHIFT: distances, CELL_DISPLACEMENT: displacements}
    )
    if exact.states is not None and computed.states is not None:
        resolved = _resolved(exact.cell, arm)
        before = approach(exact.cell, exact.states, arm)[resolved]
        after = approach(computed.cell, computed.states, arm)[resolved]
        yield TOWARDS_STATES, _relative(before.ravel(), after.ravel())


def _of_moments(
    exact: Moments,
    computed: Moments,
    arm: str,
    quantities: Mapping[str, Callable[[Moments, str], Numbers]],
) -> Iterator[tuple[str, Numbers]]:
    resolved = _resolved(exact, arm)
    for name, quantity in quantities.items():
        yield name, _relative(quantity(exact, arm)[resolved], quantity(computed, arm)[resolved])


def _resolved(exact: Moments, arm: str) -> npt.NDArray[np.bool_]:
    """Which effects float64 itself resolves."""
    return np.asarray(exact.moved[arm] > _RESOLVED**2 * exact.squared)


def _relative(exact: Numbers, computed: Numbers) -> Numbers:
    there = exact != 0
    return np.asarray(np.abs(computed - exact)[there] / np.abs(exact[there]))
