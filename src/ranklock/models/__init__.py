"""A checkpoint in, its encoder's parts out; the one place that knows transformers' modules."""

from ranklock.models.checkpoint import Model, load_model

__all__ = ["Model", "load_model"]
