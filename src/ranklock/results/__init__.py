"""What a run leaves: its tables, its AnnData, and the folder on disk."""

from ranklock.run.folder import check_folder, read_folder, write_folder
from ranklock.run.old_records import Record, pooled_share
from ranklock.run.old_tables import (
    averaged_anndata,
    cell_shift_table,
    effect_table,
    effects_anndata,
)

__all__ = [
    "Record",
    "averaged_anndata",
    "cell_shift_table",
    "check_folder",
    "effect_table",
    "effects_anndata",
    "pooled_share",
    "read_folder",
    "write_folder",
]
