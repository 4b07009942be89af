"""A run's stored effects, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ranklock.arms import NOT_RANKED
from ranklock.run import fields as f
from ranklock.run.store import EFFECTS

if TYPE_CHECKING:
    from ranklock.run.run import EffectBlock, Run

_BY_NAME = {field.name: field for field in (*f.OF_ARM, *f.DECOMPOSITION, f.FOLD)}
_KEYS = ("cell", "gene_id", "kind", "gene_rank", "to_rank", "genes_in_cell")


def read_blocks(
    run: Run,
    fields: Sequence[str],
    arms: Sequence[str] | None,
    kind: str | None,
    cells: Sequence[str] | None,
) -> Iterator[EffectBlock]:
    """Effects block by block; see :meth:`ranklock.run.run.Run.blocks`."""
    run.check_reads(f.GENES)
    chosen = run.arms_of(arms, kind)
    columns = [*_KEYS, *(field.name for field in f.RESPONDERS)]
    compared = {arm for each in run.kinds for arm in run.compared(each)}
    wanted = [
        (name, arm)
        for name in fields
        for arm in chosen
        if _BY_NAME[name] in f.fields_of_arm(arm, run.manifest.decomposed, compared)
    ]
    columns += [f.effect_column(arm, _BY_NAME[name]) for name, arm in wanted]
    if cells is None:
        for path in run.store.files(EFFECTS):
            for table in run.store.batches(path, columns):
                yield from _blocks_of(run, table, wanted, kind)
        return
    groups = _groups_of_cells(run)
    held: tuple[Path, int] | None = None  # cells that follow one another are mostly of one shard
    for cell in dict.fromkeys(str(name) for name in cells):
        for group in groups.get(cell, ()):
            if group != held:
                held, table = group, run.store.row_group(*group, columns)
                names = table["cell"].cast(pa.string()).to_numpy(zero_copy_only=False)
                rows = pd.Series(0, names).groupby(level=0).indices
            yield from _blocks_of(run, table.take(rows[cell]), wanted, kind)


def _groups_of_cells(run: Run) -> dict[str, list[tuple[Path, int]]]:
    """Cell → files and row groups that hold something of it, in their order."""
    groups: dict[str, list[tuple[Path, int]]] = {}
    for path in run.store.files(EFFECTS):
        for group, table in enumerate(run.store.batches(path, ["cell"])):
            for cell in pc.unique(table["cell"].cast(pa.string())).to_pylist():
                groups.setdefault(cell, []).append((path, group))
    return groups


def _blocks_of(
    run: Run, table: pa.Table, wanted: Sequence[tuple[str, str]], kind: str | None
) -> Iterator[EffectBlock]:
    from ranklock.run.run import EffectBlock

    cells = table["cell"].cast(pa.string()).to_pylist()
    kinds = table["kind"].cast(pa.string()).to_pylist()
    shown = table["genes_in_cell"].to_pylist()
    keys = list(zip(cells, kinds, shown, strict=True))
    start = 0
    for (cell, of_kind, genes), rows in groupby(keys):
        stop = start + sum(1 for _ in rows)
        part, start = table.slice(start, stop - start), stop
        if kind is not None and of_kind != kind:
            continue
        responder, responder_rank = (part[field.name] for field in f.RESPONDERS)
        responders = _first(responder)
        indices = run.perturbation_of(of_kind, part["gene_id"].cast(pa.string()).to_pylist())
        values: dict[str, dict[str, npt.NDArray[np.float32]]] = {}
        for name, arm in wanted:
            if arm in run.manifest.arms[of_kind]:
                column = part[f.effect_column(arm, _BY_NAME[name])]
                values.setdefault(name, {})[arm] = _matrix(column, len(responders))
        yield EffectBlock(
            cell,
            run.row_of(cell),
            of_kind,
            int(genes),
            indices,
            run.first_tokens[indices],
            _ranks(part["gene_rank"]),
            _ranks(part["to_rank"]),
            responders,
            _first(responder_rank),
            values,
        )


def _ranks(column: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    ranks: npt.NDArray[np.int32] = column.fill_null(NOT_RANKED).to_numpy().astype(np.int32)
    return ranks


def _first(column: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    numbers: npt.NDArray[np.int32] = column[0].values.to_numpy().astype(np.int32)
    return numbers


def _matrix(column: pa.ChunkedArray, width: int) -> npt.NDArray[np.float32]:
    """Lists of one length as rows."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    matrix: npt.NDArray[np.float32] = flat.reshape(len(column), width)
    return matrix
