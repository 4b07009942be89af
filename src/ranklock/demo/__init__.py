"""The demo: real blood cells and a small model trained on them, both shipped with the package."""

from __future__ import annotations

from pathlib import Path

_DATA = Path(__file__).parent / "data"

CELLS_FILE = _DATA / "pbmc68k_counts.h5ad"
MODEL_FOLDER = _DATA / "model"
VOCABULARY_FILE = _DATA / "vocabulary.json"


def cells_file() -> Path:
    """Path of the demo's cells: 700 blood cells × 765 genes, raw counts, ``.h5ad``."""
    return CELLS_FILE


def model_folder() -> Path:
    """Path of the demo's checkpoint: a small ``BertForMaskedLM``."""
    return MODEL_FOLDER


def vocabulary_file() -> Path:
    """Path of the demo's vocabulary: 765 genes with their medians, JSON."""
    return VOCABULARY_FILE
