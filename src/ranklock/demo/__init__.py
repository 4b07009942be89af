"""The demo: real blood cells and a small model trained on them, both shipped with the package."""

from __future__ import annotations

from pathlib import Path

_DATA = Path(__file__).parent / "data"


def cells_file() -> Path:
    """Path of the demo's cells: 700 blood cells × 765 genes, raw counts, ``.h5ad``."""
    return _DATA / "pbmc68k_counts.h5ad"


def model_folder() -> Path:
    """Path of the demo's checkpoint: a small ``BertForMaskedLM``."""
    return _DATA / "model"


def vocabulary_file() -> Path:
    """Path of the demo's vocabulary: 765 genes with their medians, JSON."""
    return _DATA / "vocabulary.json"
