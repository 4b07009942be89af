"""Inputs → batches → forwards: owns batching, memory and progress."""

from ranklock.engine.batches import hidden_states
from ranklock.engine.repeats import repeats_of

__all__ = ["hidden_states", "repeats_of"]
