"""Which method a run takes: the fastest here whose measured error is small enough."""

from __future__ import annotations

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
_SMALL_FLOP = 3e11
# Another method than the most exact is taken where it is faster than this: timings vary by less.
_WORTH_IT = 1.2
# Tasks that are timed: one where it takes long enough for a clock.
_TASKS_TO_TIME, _LONG_FLOP = 2, 2e10


@dataclass(frozen=True)
class Chosen:
    """How a run is computed.

    Attributes
    ----------
    why
        Why its method was taken.
    accuracy
        The method, and its error.
    """

    why: str
    accuracy: Accuracy

    @property
    def method(self) -> Method:
        """The method."""
        return self.accuracy.method


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
        asked = Method(displacement=True, precision=plan.asked.precision)
        chosen = Chosen("asked for", reference.accuracy(asked))
    elif plan.flop < _SMALL_FLOP:
        chosen = Chosen("a small run", reference.accuracy(FLOAT32))
    else:
        chosen = _fastest(plan, reference)
    check_accuracy(chosen.accuracy, plan.asked.accuracy)
    return chosen


def _fastest(plan: Plan, reference: Reference) -> Chosen:
    tasks = 1 if plan.flop / len(plan.tasks) > _LONG_FLOP else _TASKS_TO_TIME
    seconds = {method: plan.time_some(method, tasks)[0] for method in _candidates(plan)}
    of_float32 = seconds.pop(FLOAT32)
    refused = []
    for method in sorted(seconds, key=lambda method: seconds[method]):
        if seconds[method] * _WORTH_IT > of_float32:
            break
        accuracy = reference.accuracy(method)
        if accuracy.too_large(plan.asked.accuracy) is None:
            ratio = of_float32 / seconds[method]
            return Chosen(f"{ratio:.1f} times as fast here as {FLOAT32}", accuracy)
        worst = max(error.median for error in accuracy.errors)
        refused.append(f"{method} errs by {percent(worst)}")
    why = "; ".join(refused) or "nothing else is faster here"
    return Chosen(why, reference.accuracy(FLOAT32))


def _candidates(plan: Plan) -> list[Method]:
    """What the device computes in, besides what is slower than float32 everywhere."""
    precisions = [p for p in offered_precisions(plan.model.device) if p != "float64"]
    return [
        *(Method(displacement=True, precision=precision) for precision in precisions),
        Method(displacement=False, precision="float32"),
    ]
