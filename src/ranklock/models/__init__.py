"""A checkpoint in, hidden states out; the one place that knows transformers and torch modules."""

from ranklock.models.checkpoint import Model, load_model
from ranklock.models.encoder import encode, output_of_layer

__all__ = ["Model", "encode", "load_model", "output_of_layer"]
