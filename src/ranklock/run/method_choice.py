"""Which method a run takes: the fastest here whose measured error is small enough."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ranklock.engine.method import FLOAT32, Method
from ranklock.models.precision import AUTO, offered_precisions
from ranklock.quantities import percent
from ranklock.run.accuracy import Accuracy, Reference, check_accuracy

if TYPE_CHECKING:
    from ranklock.run.planned import Plan

# Where a run takes seconds whatever it is computed with, the most exact is taken unmeasured, and
# two runs are the same to the bit.
_SMALL_FLOP = 1e12
# Another method than the most exact is taken where it is faster than this: timings vary by less.
_WORTH_IT = 1.2
_TASKS_TO_TIME = 2


@dataclass(frozen=True)
class Chosen:
    """How a run is computed.

    Attributes
    ----------
    displacement, precision
        Of the :class:`ranklock.engine.method.Method`.
    why
        Why it was taken.
    accuracy
        Its error.
    """

    displacement: bool
    precision: str
    why: str
    accuracy: Accuracy

    @property
    def method(self) -> Method:
        """The method."""
        return Method(self.displacement, self.precision)


def choose_method(plan: Plan) -> Chosen:
    """Choose how a run is computed, and measure its error.

    Parameters
    ----------
    plan
        The run; ``asked.precision`` and ``asked.accuracy`` say what is allowed.

    Raises
    ------
    InputError
        When what was asked for is not exact enough.
    """
    reference = Reference(plan)
    if plan.asked.precision != AUTO:
        method = Method(displacement=True, precision=plan.asked.precision)
        chosen = _chosen(method, "asked for", reference.accuracy(method))
    elif plan.flop < _SMALL_FLOP:
        chosen = _chosen(FLOAT32, "a small run", reference.accuracy(FLOAT32))
    else:
        chosen = _fastest(plan, reference)
    check_accuracy(chosen.accuracy, plan.asked.accuracy)
    return chosen


def _fastest(plan: Plan, reference: Reference) -> Chosen:
    seconds = {method: _seconds(plan, method) for method in _candidates(plan)}
    slowest = seconds[FLOAT32]
    exact_enough = {}
    for method in sorted(seconds, key=lambda method: seconds[method]):
        if method != FLOAT32 and seconds[method] * _WORTH_IT > slowest:
            break
        accuracy = reference.accuracy(method)
        exact_enough[method] = accuracy
        if accuracy.too_large(plan.asked.accuracy) is None:
            why = f"{slowest / seconds[method]:.1f} times as fast here as {FLOAT32}"
            if method == FLOAT32:
                why = "nothing else is faster here"
            return _chosen(method, why, accuracy)
    why = "nothing else is faster here"
    refused = [f"{m} errs by {percent(_median(a))}" for m, a in exact_enough.items()]
    return _chosen(FLOAT32, "; ".join(refused) or why, reference.accuracy(FLOAT32))


def _median(accuracy: Accuracy) -> float:
    return max((error.median for error in accuracy.errors), default=0.0)


def _candidates(plan: Plan) -> list[Method]:
    """What the device computes in, besides what is slower than float32 everywhere."""
    precisions = [p for p in offered_precisions(plan.model.device) if p != "float64"]
    return [
        *(Method(displacement=True, precision=precision) for precision in precisions),
        Method(displacement=False, precision="float32"),
    ]


def _seconds(plan: Plan, method: Method) -> float:
    """Seconds that a few tasks take, once one has warmed up."""
    plan.run_some(method, 1)
    started = time.perf_counter()
    plan.run_some(method, _TASKS_TO_TIME)
    return time.perf_counter() - started


def _chosen(method: Method, why: str, accuracy: Accuracy) -> Chosen:
    return Chosen(method.displacement, method.precision, why, accuracy)
