"""The experiments that users run: each ties the stages together from cells to a run."""

from ranklock.experiments.knockout import knockout

__all__ = ["knockout"]
