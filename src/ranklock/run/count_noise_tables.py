"""Count noise as tables, and beside the effects of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.errors import InputError, OutputError
from ranklock.run import fields as f
from ranklock.run.count_noise import COUNT_NOISE

if TYPE_CHECKING:
    from ranklock.run.run import Run

Column = npt.NDArray[np.float32]


def is_measured(run: Run) -> bool:
    """Whether a run's count noise was asked for, and is there."""
    return run.manifest.asked.count_noise and (run.folder / COUNT_NOISE).is_file()


def count_noise_table(run: Run) -> pd.DataFrame:
    """One row a cell and gene, and one a cell; see :attr:`ranklock.run.run.Run.count_noise`.

    Raises
    ------
    InputError
        When it was not asked for.
    OutputError
        When it is not there yet, or damaged.
    """
    if not run.manifest.asked.count_noise:
        raise InputError(
            f"{run.folder} was run without count noise; run it into another folder with "
            "--count-noise."
        )
    if not is_measured(run):
        raise OutputError(
            f"{run.folder} has no {COUNT_NOISE} yet; run the same command again, which writes it."
        )
    table = run.store.read(run.folder / COUNT_NOISE).to_pandas()
    table["token"] = table["token"].astype(pd.Int32Dtype())
    table["draws"] = table["draws"].astype(np.int32)
    for column, names in (("responder", "symbol"), ("responder_id", "gene_id")):
        texts = pd.Categorical(table["token"].map(run.genes[names]))
        table.insert(table.columns.get_loc("token"), column, texts)
    return table


def of_cells(run: Run) -> pd.DataFrame:
    """Count noise of the cells' own embeddings, by the names of the cells."""
    table = run.count_noise
    return table[table["token"].isna()].set_index(table.columns[0])


def beside_shifts(run: Run, shifts: pd.DataFrame) -> None:
    """Put count noise beside the shifts of the same cells, NaN where it is not measured yet.

    Parameters
    ----------
    run
        The run.
    shifts
        One row a task and arm; gets the columns ``count_noise``, and ``count_noise_towards_…``
        beside the shifts towards each state.
    """
    columns = {"cosine_distance": f.COUNT_NOISE.name}
    columns |= {f.towards(state): f.count_noise_towards(state) for state in run.states}
    noise = of_cells(run) if is_measured(run) else None
    cells = shifts["cell"].astype(str)
    for beside, column in columns.items():
        if beside in shifts:
            values = _missing(len(shifts))
            if noise is not None:
                values = noise[beside].reindex(cells).to_numpy(np.float32)
            shifts.insert(_after(shifts, beside), column, values)


def beside_effects(
    run: Run, effects: pd.DataFrame, rows: npt.NDArray[Any], tokens: npt.NDArray[Any]
) -> None:
    """Put count noise beside the effects on the same gene of the same cell.

    Parameters
    ----------
    run
        The run.
    effects
        One row a task, arm and responder; gets the column ``count_noise``, NaN where a gene is in
        no draw, or nothing is measured yet.
    rows, tokens
        Row of each effect's cell, and token of its responder, shape (effects,).
    """
    values = _missing(len(effects))
    if is_measured(run):
        table = run.count_noise
        genes = table[table["token"].notna()]
        size = int(run.genes.index.max()) + 1  # so that a cell and a token make one number
        names = genes["cell"].astype(str)
        row_of_cell = names.map({str(name): row for row, name in enumerate(run.cells.index)})
        keys = row_of_cell.to_numpy(np.int64) * size + genes["token"].to_numpy(np.int64)
        noise = pd.Series(genes["cosine_distance"].to_numpy(), index=keys)
        wanted = rows.astype(np.int64) * size + tokens.astype(np.int64)
        values = noise.reindex(wanted).to_numpy(np.float32)
    effects.insert(_after(effects, "cosine_distance"), f.COUNT_NOISE.name, values)


def _after(table: pd.DataFrame, column: str) -> int:
    place: int = table.columns.get_loc(column)
    return place + 1


def _missing(length: int) -> Column:
    return np.full(length, np.nan, np.float32)
