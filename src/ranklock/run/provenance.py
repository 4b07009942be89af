"""What a result was made from and with: the parts of a manifest that every experiment has."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from ranklock.arms import capacity
from ranklock.cells import Cells
from ranklock.models import Model


def provenance(
    cells: Cells, model: Model, depth: int, precision: str = "float32"
) -> dict[str, Any]:
    """Cells, vocabulary, model, machine and versions, with digests; no times, no paths of results.

    Parameters
    ----------
    cells, model
        What was used.
    depth
        Number of layers that were run.
    precision
        Number format of the forwards.
    """
    import torch

    packages = ("ranklock", "torch", "transformers", "numpy", "anndata")
    return {
        "cells": {
            "source": cells.source,
            **cells.reading,
            "number": len(cells),
            "names": cells.names,
            "special_frame": cells.special_frame,
            "longer_than_the_input": sum(
                len(ranked) > capacity(model.input_size, special_frame=cells.special_frame)
                for ranked in cells.ranked
            ),
            "sha256": cells.sha256(),
        },
        "vocabulary": {
            "source": cells.vocabulary.source,
            "genes": len(cells.vocabulary.tokens),
            "sha256": cells.vocabulary.sha256,
        },
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "layers": model.layers,
            "layers_run": depth,
            "width": model.width,
            "heads": model.heads,
            "input_size": model.input_size,
            "sha256": model.sha256,
        },
        "machine": {
            "device": model.device,
            "threads": torch.get_num_threads(),
            "precision": precision,
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }
