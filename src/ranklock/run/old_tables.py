"""A run's numbers as data frames and as AnnData."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import NOT_RANKED, whole_of
from ranklock.cells import Cells
from ranklock.effects import NoiseFloor
from ranklock.run.metadata import add_metadata
from ranklock.run.old_moves import add_move, move_columns, rank_or_missing, written_ranks
from ranklock.run.old_records import Record, pooled_share

if TYPE_CHECKING:
    from anndata import AnnData

Knockouts = Sequence[tuple[int, ...]]  # of each knock-out or move, the tokens of its genes
TOGETHER = "+"  # between genes that were knocked out together


def knockout_name(tokens: Sequence[int], cells: Cells) -> str:
    """Name of a knock-out for people: the symbols of its genes, joined by ``+``."""
    return TOGETHER.join(cells.vocabulary.symbol(token) for token in tokens)


def knockout_ids(tokens: Sequence[int], cells: Cells) -> str:
    """Ensembl IDs of a knock-out's genes, joined by ``+``."""
    return TOGETHER.join(cells.vocabulary.gene(token) for token in tokens)


def effect_table(
    records: Sequence[Record],
    knockouts: Knockouts,
    cells: Cells,
    arms: Sequence[str],
    floor: NoiseFloor,
) -> pd.DataFrame:
    """Tidy table: one row a cell, knocked-out gene, arm and responder.

    Returns
    -------
    Columns ``cell``, ``gene``, ``gene_rank``, ``responder``, ``responder_rank``, ``arm``,
    ``cosine_distance``, ``displacement``, ``artefact_share``, ``under_noise_floor``, and the
    Ensembl IDs ``gene_id`` and ``responder_id``. The artefact share stands in the rows of
    ``delete``, whose effect it is a share of, and is missing elsewhere. Of genes knocked out
    together, ``gene_rank`` is the first. Moves have more columns: see :func:`move_columns`, and
    ``passed``, whether the responder makes way.
    """
    sizes = np.array([len(record.tokens) for record in records])
    per_arm = len(arms)
    tokens = _join([np.tile(record.tokens, per_arm) for record in records], np.int32)
    known = np.unique(tokens)
    responder = np.searchsorted(known, tokens)
    knockout = np.repeat([record.knockout for record in records], sizes * per_arm)
    symbols = [cells.vocabulary.symbol(int(token)) for token in known]
    genes = [cells.vocabulary.gene(int(token)) for token in known]

    def values(kind: str) -> npt.NDArray[np.float32]:
        return _join([getattr(r, kind)[arm] for r in records for arm in arms], np.float32)

    whole = whole_of(arms)

    def share(record: Record, arm: str) -> npt.NDArray[np.float32]:
        if arm == whole:
            return record.decomposed["artefact_share"]
        return np.full(len(record.tokens), np.nan, dtype=np.float32)

    distance, moved = values("cosine_distance"), values("displacement")
    table = pd.DataFrame(
        {
            "cell": _categories(
                np.repeat([record.cell for record in records], sizes * per_arm), cells.names
            ),
            "gene": _categories(knockout, [knockout_name(k, cells) for k in knockouts]),
            "gene_rank": np.repeat([r.ranks[0] for r in records], sizes * per_arm).astype(np.int32),
            "responder": _categories(responder, symbols),
            "responder_rank": _join(
                [np.tile(record.responder_ranks, per_arm) for record in records], np.int32
            ),
            "arm": _categories(
                _join([np.repeat(np.arange(per_arm), size) for size in sizes], np.int64), arms
            ),
            "cosine_distance": distance,
            "displacement": moved,
            "artefact_share": _join([share(r, arm) for r in records for arm in arms], np.float32),
            "under_noise_floor": moved <= floor.displacement,
            "gene_id": _categories(knockout, [knockout_ids(k, cells) for k in knockouts]),
            "responder_id": _categories(responder, genes),
        }
    )
    if records[0].move is not None:
        table["passed"] = _join([np.tile(record.passed, per_arm) for record in records], np.bool_)
    return add_move(table, records, sizes * per_arm)


def cell_shift_table(
    records: Sequence[Record],
    knockouts: Knockouts,
    cells: Cells,
    arms: Sequence[str],
    floor: NoiseFloor,
) -> pd.DataFrame:
    """Cell shifts: one row a cell, knocked-out gene and arm.

    Returns
    -------
    Columns ``cell``, ``gene``, ``gene_rank``, ``arm``, ``cosine_distance``, ``displacement``,
    ``artefact_share`` (in the rows of ``delete``), ``under_noise_floor``, and ``gene_ranks``: the
    ranks of all genes knocked out together, joined by ``+``. Moves have more columns: see
    :func:`move_columns`.
    """
    rows = [(record, arm) for record in records for arm in arms]
    whole = whole_of(arms)
    moved = np.array([record.cell_displacement[arm] for record, arm in rows], dtype=np.float64)
    table = pd.DataFrame(
        {
            "cell": _categories(np.array([record.cell for record, _ in rows]), cells.names),
            "gene": _categories(
                np.array([record.knockout for record, _ in rows]),
                [knockout_name(k, cells) for k in knockouts],
            ),
            "gene_rank": np.array([record.ranks[0] for record, _ in rows], dtype=np.int32),
            "arm": _categories(np.tile(np.arange(len(arms)), len(records)), arms),
            "cosine_distance": np.array([r.cell_shift[arm] for r, arm in rows], dtype=np.float64),
            "displacement": moved,
            "artefact_share": np.array(
                [r.cell_artefact_share if arm == whole else np.nan for r, arm in rows]
            ),
            "under_noise_floor": moved <= floor.cell_displacement,
            "gene_ranks": [written_ranks(record.ranks) for record, _ in rows],
        }
    )
    return add_move(table, records, np.full(len(records), len(arms)))


def effects_anndata(
    records: Sequence[Record],
    knockouts: Knockouts,
    cells: Cells,
    arms: Sequence[str],
    floor: NoiseFloor,
    manifest: Mapping[str, Any],
) -> AnnData:
    """Effects as AnnData: one observation a knock-out in a cell.

    Returns
    -------
    obs: knocked-out gene, cell, rank, pooled artefact share, steps and cell shifts, with the
    cell's own metadata. var: responders. layers: ``<arm>`` (cosine distance),
    ``<arm>_displacement``, ``<arm>_under_noise_floor``, ``responder_rank``, and the decomposition
    (``artefact_share``, and the lengths ``phi_removal``, ``phi_shift`` and ``interaction``). A
    responder that a cell does not have, and the knocked-out gene itself, is NaN.
    ``uns["manifest"]`` is the manifest's JSON. Of moves, obs has the columns of
    :func:`move_columns` too, ``phi_move`` stands for ``phi_removal``, and the layer ``passed`` is 1
    for the responders that make way.
    """
    known, columns = _columns(records)
    obs = pd.DataFrame([_observation(r, knockouts, cells, arms) for r in records])
    obs.index = pd.Index(obs["gene"].str.cat(obs["cell"], sep=" @ "))
    if records[0].move is not None:
        obs["gene_rank"] = rank_or_missing(obs["gene_rank"])
    obs = add_metadata(obs, cells.obs.iloc[[record.cell for record in records]])

    def layer(values: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        full = np.full((len(records), len(known)), np.nan, dtype=np.float32)
        for row, (where, numbers) in enumerate(zip(columns, values, strict=True)):
            full[row, where] = numbers
        return full

    layers = {arm: layer([r.cosine_distance[arm] for r in records]) for arm in arms}
    layers |= {f"{arm}_displacement": layer([r.displacement[arm] for r in records]) for arm in arms}
    layers |= _marks(layers, arms, floor)
    layers["responder_rank"] = layer([record.responder_ranks for record in records])
    if records[0].move is not None:
        layers["passed"] = layer([record.passed for record in records])
    layers |= {name: layer([r.decomposed[name] for r in records]) for name in records[0].decomposed}
    return _anndata(obs, known, layers, cells, manifest)


def averaged_anndata(
    records: Sequence[Record],
    knockouts: Knockouts,
    cells: Cells,
    arms: Sequence[str],
    floor: NoiseFloor,
    manifest: Mapping[str, Any],
) -> AnnData:
    """Effects averaged over cells, as AnnData: one observation a knock-out or move.

    Returns
    -------
    obs: knocked-out gene, number of cells, pooled artefact share, mean cell shifts. layers:
    ``<arm>`` and ``<arm>_displacement``, means over the cells that have both genes, whose number is
    the layer ``n_cells``; ``<arm>_under_noise_floor``, of the mean; and ``artefact_share``, pooled
    over those cells.
    """
    known, columns = _columns(records)
    run = sorted({record.knockout for record in records})
    rows = [run.index(record.knockout) for record in records]

    def total(values: Sequence[npt.NDArray[Any] | float]) -> npt.NDArray[np.float64]:
        full = np.zeros((len(run), len(known)))
        for row, where, numbers in zip(rows, columns, values, strict=True):
            full[row, where] += numbers
        return full

    with np.errstate(invalid="ignore", divide="ignore"):
        count = total([1.0 for _ in records])
        means = {arm: total([r.cosine_distance[arm] for r in records]) / count for arm in arms} | {
            f"{arm}_displacement": total([r.displacement[arm] for r in records]) / count
            for arm in arms
        }
        whole = whole_of(arms)
        if whole is not None:
            squared = [r.displacement[whole].astype(np.float64) ** 2 for r in records]
            shares = [
                np.nan_to_num(r.decomposed["artefact_share"]) * square
                for r, square in zip(records, squared, strict=True)
            ]
            means["artefact_share"] = total(shares) / total(squared)
    obs = pd.DataFrame([_average([r for r in records if r.knockout == k], knockouts, cells, arms)
                        for k in run])  # fmt: skip
    obs.index = pd.Index(obs["gene"].astype(str))
    layers = {name: values.astype(np.float32) for name, values in means.items()}
    marked = layers | _marks(layers, arms, floor) | {"n_cells": count.astype(np.int32)}
    return _anndata(obs, known, marked, cells, manifest)


def _marks(
    layers: Mapping[str, npt.NDArray[Any]], arms: Sequence[str], floor: NoiseFloor
) -> dict[str, npt.NDArray[Any]]:
    return {
        f"{arm}_under_noise_floor": layers[f"{arm}_displacement"] <= floor.displacement
        for arm in arms
    }


def _observation(
    record: Record, knockouts: Knockouts, cells: Cells, arms: Sequence[str]
) -> dict[str, Any]:
    tokens = knockouts[record.knockout]
    row: dict[str, Any] = {
        "gene": knockout_name(tokens, cells),
        "gene_id": knockout_ids(tokens, cells),
        "cell": cells.names[record.cell],
        "gene_rank": record.ranks[0],
        "gene_ranks": written_ranks(record.ranks),
        "genes_in_cell": record.genes_in_cell,
        "artefact_share": pooled_share([record]),
        "cell_shift_artefact_share": record.cell_artefact_share,
    }
    if record.move is not None:
        row |= {name: column[0] for name, column in move_columns([record]).items()}
    for arm in arms:
        row |= {f"{arm}_{side}": value for side, value in record.sides(arm).items()}
        row[f"{arm}_cell_shift"] = record.cell_shift[arm]
    return row


def _average(
    records: Sequence[Record], knockouts: Knockouts, cells: Cells, arms: Sequence[str]
) -> dict[str, Any]:
    tokens = knockouts[records[0].knockout]
    known = [record.ranks[0] for record in records if record.ranks[0] != NOT_RANKED]
    row: dict[str, Any] = {
        "gene": knockout_name(tokens, cells),
        "gene_id": knockout_ids(tokens, cells),
        "n_cells": len(records),
        "mean_gene_rank": float(np.mean(known)) if known else float("nan"),
        "artefact_share": pooled_share(records),
    }
    if records[0].move is not None:
        columns = move_columns(records)
        row["perturbation"] = columns["perturbation"][0]
        row["mean_to_rank"] = float(np.mean(columns["to_rank"]))
        row["n_inserted"] = sum(columns["inserted"])
    for arm in arms:
        shifts = [record.cell_shift[arm] for record in records]
        row[f"{arm}_mean_cell_shift"] = float(np.mean(shifts))
    return row


def _columns(
    records: Sequence[Record],
) -> tuple[npt.NDArray[np.int32], list[npt.NDArray[np.int_]]]:
    """All responders' tokens, and for each record the columns of its own."""
    known = np.unique(_join([record.tokens for record in records], np.int32))
    return known, [np.searchsorted(known, record.tokens) for record in records]


def _anndata(
    obs: pd.DataFrame,
    tokens: npt.NDArray[np.int32],
    layers: Mapping[str, npt.NDArray[Any]],
    cells: Cells,
    manifest: Mapping[str, Any],
) -> AnnData:
    from anndata import AnnData

    var = pd.DataFrame(
        {
            "symbol": [cells.vocabulary.symbol(int(token)) for token in tokens],
            "token": tokens.astype(np.int32),
        },
        index=pd.Index([cells.vocabulary.gene(int(token)) for token in tokens], dtype=object),
    )
    obs.index.name = None
    adata = AnnData(obs=obs, var=var, layers=layers, uns={"manifest": json.dumps(manifest)})
    adata.strings_to_categoricals()  # now, or writing would do it and change what it writes
    return adata


def _categories(codes: npt.NDArray[Any], names: Sequence[str]) -> pd.Categorical:
    """Categorical column; names that two codes share become one category."""
    place = {name: code for code, name in enumerate(dict.fromkeys(names))}
    lookup = np.array([place[name] for name in names], dtype=np.int32)
    return pd.Categorical.from_codes(lookup[codes], categories=list(place))


def _join(arrays: Sequence[npt.NDArray[Any]], kind: Any) -> npt.NDArray[Any]:
    return np.concatenate(arrays).astype(kind) if len(arrays) else np.zeros(0, dtype=kind)
