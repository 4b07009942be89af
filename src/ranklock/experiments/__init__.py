"""The experiments that users run: each ties the stages together from cells to a run."""

from ranklock.experiments.audit import audit, audit_sweep
from ranklock.experiments.evaluate import evaluate, read_evaluation
from ranklock.experiments.knockout import knockout
from ranklock.experiments.move import move
from ranklock.experiments.screen import regulators, screen
from ranklock.experiments.sweep import sweep
from ranklock.experiments.sweep_plan import plan_sweep

__all__ = [
    "audit", "audit_sweep", "evaluate", "knockout", "move", "plan_sweep", "read_evaluation",
    "regulators", "screen", "sweep",
]  # fmt: skip
