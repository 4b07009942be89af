"""A run's effects as one tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import NOT_RANKED
from ranklock.errors import InputError
from ranklock.run import fields as f
from ranklock.run.count_noise_tables import beside_effects

if TYPE_CHECKING:
    from ranklock.run.run import EffectBlock, Run

_MOST_ROWS = 50_000_000  # some 2 GB in memory
_FIELDS = (f.COSINE_DISTANCE.name, f.DISPLACEMENT.name, f.ARTEFACT_SHARE.name, f.FOLD.name)


def effect_table(run: Run, gene: str | None = None, cell: str | None = None) -> pd.DataFrame:
    """One row a task, arm and responder; see :attr:`ranklock.run.run.Run.table`.

    Parameters
    ----------
    run
        The run.
    gene, cell
        Only this gene's perturbations (symbol or Ensembl ID), or those in this cell.

    Raises
    ------
    InputError
        When genes were not read, or the table would be too large.
    """
    run.check_reads(f.GENES)
    shifts = run.shifts
    wanted = np.ones(len(run.perturbations), bool)
    if gene is not None:
        wanted = np.isin(np.arange(len(wanted)), run.perturbations_named(gene))
        shifts = shifts[shifts["gene_id"].isin(run.perturbations.loc[wanted, "gene_id"])]
    if cell is not None:
        shifts = shifts[shifts["cell"] == cell]
    responders = len(run.manifest.asked.responders)
    of_row = shifts["genes_in_cell"].clip(upper=responders) if responders else (
        shifts["genes_in_cell"]
    )  # fmt: skip
    if of_row.sum() > _MOST_ROWS:
        raise InputError(
            f"The table of effects of {run.folder} has some {of_row.sum():,} rows (at most "
            f"{_MOST_ROWS:,}); take effects(average=True), blocks(), or a part "
            "(effects_table(gene, cell))."
        )
    cells = None if gene is None and cell is None else list(dict.fromkeys(shifts["cell"]))
    parts = [
        _rows_of(run, block, arm, wanted[block.perturbations])
        for block in run.blocks(_FIELDS, cells=cells)
        for arm in run.manifest.arms[block.kind]
    ]
    parts = [part for part in parts if len(part["arm"])]
    # A cell's arms stand together, task by task.
    columns = {name: _joined([part[name] for part in parts]) for name in _TYPES}
    order = np.lexsort((columns["arm"], columns["task"]))
    columns = {name: values[order] for name, values in columns.items()}
    table = _frame(run, columns)
    if run.manifest.asked.count_noise:
        beside_effects(run, table, columns["cell"], columns["responder"])
    return table


_TYPES: dict[str, Any] = {
    "task": np.int64, "cell": np.int32, "perturbation": np.int32, "gene_rank": np.int32,
    "to_rank": np.int32, "responder": np.int32, "responder_rank": np.int32, "arm": np.int8,
    "cosine_distance": np.float32, "displacement": np.float32, "artefact_share": np.float32,
    "fold": np.float32,
}  # fmt: skip
_Columns = dict[str, npt.NDArray[Any]]


def _rows_of(run: Run, block: EffectBlock, arm: str, wanted: npt.NDArray[np.bool_]) -> _Columns:
    distances = block.distances[arm][wanted]
    kept = np.isfinite(block.values[f.DISPLACEMENT.name][arm][wanted])
    task, responder = np.nonzero(kept)
    shares, folds = (
        block.values.get(field.name, {}).get(arm) for field in (f.ARTEFACT_SHARE, f.FOLD)
    )
    # Tasks are told apart by cell and perturbation, of which no two are the same.
    tasks = block.row * np.int64(len(run.perturbations)) + block.perturbations[wanted]
    values: _Columns = {
        "task": tasks[task],
        "cell": np.full(len(task), block.row),
        "perturbation": block.perturbations[wanted][task],
        "gene_rank": block.gene_ranks[wanted][task],
        "to_rank": block.to_ranks[wanted][task],
        "responder": block.responders[responder],
        "responder_rank": block.responder_ranks[responder],
        "arm": np.full(len(task), run.arms.index(arm)),
        "cosine_distance": distances[kept],
        "displacement": block.values[f.DISPLACEMENT.name][arm][wanted][kept],
        "artefact_share": np.full(len(task), np.nan) if shares is None else shares[wanted][kept],
        "fold": np.full(len(task), np.nan) if folds is None else folds[wanted][kept],
    }
    return {name: column.astype(_TYPES[name]) for name, column in values.items()}


def _joined(parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0)


def _frame(run: Run, columns: _Columns) -> pd.DataFrame:
    perturbations, genes = run.perturbations, run.genes
    which = columns["perturbation"].astype(np.int64)
    place = genes.index.get_indexer(columns["responder"])
    names = [str(name) for name in run.cells.index]
    folds = {"fold": columns["fold"].astype(np.float32)} if run.manifest.asked.impostors else {}
    return pd.DataFrame(
        {
            "cell": _named(columns["cell"], names),
            "gene": _named(which, perturbations["gene"]),
            "kind": _named(which, perturbations["kind"]),
            "gene_rank": _ranks(columns["gene_rank"]),
            "to_rank": _ranks(columns["to_rank"]),
            "responder": _named(place, genes["symbol"]),
            "responder_rank": columns["responder_rank"].astype(np.int32),
            "arm": _named(columns["arm"], run.arms),
            "cosine_distance": columns["cosine_distance"].astype(np.float32),
            "displacement": columns["displacement"].astype(np.float32),
            "artefact_share": columns["artefact_share"].astype(np.float32),
            **folds,
            "gene_id": _named(which, perturbations["gene_id"]),
            "responder_id": _named(place, genes["gene_id"]),
        }
    )


def _named(codes: npt.NDArray[Any], names: Sequence[str] | pd.Series) -> pd.Categorical:
    """Categorical column of the names that are used; names that two codes share become one."""
    used, compact = np.unique(codes.astype(np.int64), return_inverse=True)
    texts = [str(name) for name in np.asarray(names, dtype=object)[used]]
    place = {name: code for code, name in enumerate(dict.fromkeys(texts))}
    lookup = np.array([place[name] for name in texts], dtype=np.int32)
    return pd.Categorical.from_codes(lookup[compact.ravel()], categories=list(place))


def _ranks(ranks: npt.NDArray[Any]) -> Any:
    return pd.arrays.IntegerArray(ranks.astype(np.int32), ranks == NOT_RANKED)
