"""What results of moves hold beside what those of knock-outs hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import NOT_RANKED
from ranklock.run.old_records import Record


def written_ranks(ranks: Sequence[int]) -> str:
    """Ranks joined by ``+``, ``none`` for that of a gene that the cell lacks."""
    return "+".join("none" if rank == NOT_RANKED else str(rank) for rank in ranks)


def read_ranks(written: str) -> list[int]:
    """The ranks that :func:`written_ranks` wrote, without those of genes that the cell lacks."""
    return [int(rank) for rank in written.split("+") if rank != "none"]


def move_columns(records: Sequence[Record]) -> dict[str, list[Any]]:
    """What results of moves say beside what those of knock-outs say, one entry a record.

    Returns
    -------
    ``perturbation`` (its name), ``to_rank`` and ``to_ranks`` (the rank moved to, of the first gene
    and of all), and ``inserted`` (whether a gene was put into an input that lacked it). The column
    ``gene_rank`` is missing where the cell lacks the gene.
    """
    moves = [record.move for record in records if record.move is not None]
    return {
        "perturbation": [move.perturbation for move in moves],
        "to_rank": [move.to_ranks[0] for move in moves],
        "to_ranks": [written_ranks(move.to_ranks) for move in moves],
        "inserted": [move.inserted for move in moves],
    }


def add_move(
    table: pd.DataFrame, records: Sequence[Record], rows: npt.NDArray[np.int_]
) -> pd.DataFrame:
    """Put the columns of moves into a table that has so many rows for each record."""
    if records[0].move is None:
        return table
    columns = move_columns(records)
    table["gene_rank"] = rank_or_missing(table["gene_rank"])
    place = table.columns.get_loc("gene_rank")
    table.insert(place + 1, "to_rank", np.repeat(columns["to_rank"], rows).astype(np.int32))
    table["to_ranks"] = pd.Categorical(np.repeat(columns["to_ranks"], rows))
    table["inserted"] = np.repeat(columns["inserted"], rows)
    table["perturbation"] = pd.Categorical(np.repeat(columns["perturbation"], rows))
    return table


def rank_or_missing(ranks: pd.Series) -> pd.Series:
    """A column of ranks as one that can be missing: where a cell lacks the gene."""
    return ranks.astype("Int32").mask(ranks == NOT_RANKED)
