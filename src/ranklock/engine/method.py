"""How effects are computed: by which forwards, in which number format."""

from __future__ import annotations

from dataclasses import dataclass

from ranklock.engine.displacement import Formats
from ranklock.models import Model
from ranklock.models.encoder import encoder_of


@dataclass(frozen=True)
class Method:
    """How effects are computed.

    Attributes
    ----------
    displacement
        Whether the displacement itself goes through the layers; otherwise two forwards are
        subtracted.
    precision
        Number format of the products, one of :data:`ranklock.models.precision.PRECISIONS`.
    """

    displacement: bool
    precision: str

    def __str__(self) -> str:
        return f"{'displacement' if self.displacement else 'two forwards'} in {self.precision}"

    def formats(self, model: Model) -> Formats:
        """A checkpoint in the formats of a displacement forward."""
        return Formats(
            encoder_of(model, baseline_precision(self.precision)),
            encoder_of(model, self.precision),
        )


def baseline_precision(precision: str) -> str:
    """Number format of unperturbed cells and states: a fast one is for displacements alone."""
    return "float64" if precision == "float64" else "float32"


EXACT = Method(displacement=False, precision="float64")
FLOAT32 = Method(displacement=True, precision="float32")
