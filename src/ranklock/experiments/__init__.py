"""The experiments that users run: each ties the stages together from cells to a run."""

from ranklock.audits.audit import audit, audit_sweep
from ranklock.estimates.estimate import regulators, screen
from ranklock.perturbseq.evaluate import evaluate, read_evaluation
from ranklock.run.old_knockout import knockout
from ranklock.run.old_move import move
from ranklock.run.old_sweep import sweep
from ranklock.run.old_sweep_plan import plan_sweep

__all__ = [
    "audit", "audit_sweep", "evaluate", "knockout", "move", "plan_sweep", "read_evaluation",
    "regulators", "screen", "sweep",
]  # fmt: skip
