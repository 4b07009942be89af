"""A run's effects as AnnData, in cells or averaged over them, read in constant memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil

from ranklock.effects import artefact_share
from ranklock.errors import InputError
from ranklock.run import fields as f
from ranklock.run.metadata import add_metadata
from ranklock.run.running import RunningMoments

if TYPE_CHECKING:
    from anndata import AnnData

    from ranklock.run.run import EffectBlock, Run

Layers = dict[str, npt.NDArray[Any]]
Which = npt.NDArray[np.int64]
_OF_ARM = tuple(field.name for field in f.OF_ARM)
_SHIFTS = ("cosine_distance", "median_shifted", "median_unshifted")
_ALL_FIELDS = (*_OF_ARM, *(field.name for field in f.DECOMPOSITION))


def effects_in_cells(
    run: Run,
    arms: Sequence[str] | None,
    kind: str | None,
    genes: Sequence[str] | None,
    cells: Sequence[str] | None,
    min_cells: int,
) -> AnnData:
    """One observation a perturbation in a cell; see :meth:`ranklock.run.run.Run.effects`."""
    kind, chosen, rows, columns = _chosen(run, arms, kind, genes, cells, min_cells)
    tasks = [
        (block, np.flatnonzero(np.isin(block.perturbations, rows)))
        for block in run.blocks((), chosen, kind, cells)
    ]
    number = sum(len(which) for _, which in tasks)
    names = [f.effect_column(arm, field) for arm in chosen for field in f.OF_ARM]
    names += [field.name for field in f.DECOMPOSITION] * bool(_decomposed(run, chosen))
    _check_memory(number, len(columns), 4 * (len(names) + 1) + len(chosen), run)
    layers = {name: np.full((number, len(columns)), np.nan, np.float32)
              for name in (*names, "responder_rank")}  # fmt: skip
    start = 0
    for block in run.blocks(_ALL_FIELDS, chosen, kind, cells):
        which = np.flatnonzero(np.isin(block.perturbations, rows))
        across, responds = _columns_of(block, columns)
        here = np.ix_(np.arange(start, start + len(which)), across)
        for name, field, arm in _fields_of(block, chosen):
            layers[name][here] = block.values[field][arm][np.ix_(which, responds)]
        layers["responder_rank"][here] = block.responder_ranks[responds]
        start += len(which)
    layers = {_layer_name(name, chosen): layer for name, layer in layers.items()}
    obs = _observations(run, kind, tasks, chosen)
    return _anndata(run, obs, columns, layers | _marks(run, layers, chosen))


def averaged_effects(
    run: Run,
    arms: Sequence[str] | None,
    kind: str | None,
    genes: Sequence[str] | None,
    cells: Sequence[str] | None,
    min_cells: int,
) -> AnnData:
    """One observation a perturbation, averaged over its cells."""
    kind, chosen, rows, columns = _chosen(run, arms, kind, genes, cells, min_cells)
    shape = (len(rows), len(columns))
    # Layers as they come out, and two running updates: count, mean, squares and temporaries.
    _check_memory(*shape, len(chosen) * 13 + 8 + 2 * 5 * 8, run)
    layers: Layers = {}
    for arm in chosen:
        moments = {field.name: RunningMoments(shape) for field in f.OF_ARM}
        for block, where, across, inside in _parts(run, _OF_ARM, arm, kind, cells, rows, columns):
            for name, running in moments.items():
                running.update(where, across, block.values[name][arm][inside])
        distance, moved = (moments[field.name] for field in f.OF_ARM)
        layers[arm] = distance.means()
        layers[f"{arm}_variance"] = distance.variances()
        layers[f"{arm}_displacement"] = moved.means()
        layers["n_cells"] = distance.count
    whole = _decomposed(run, chosen)
    if whole is not None:
        part, total = np.zeros((2, *shape))
        fields = (f.ARTEFACT_SHARE.name, f.DISPLACEMENT.name)
        for block, where, across, inside in _parts(run, fields, whole, kind, cells, rows, columns):
            share, moved_by = (block.values[name][whole][inside] for name in fields)
            squared = np.nan_to_num(moved_by.astype(np.float64)) ** 2
            part[np.ix_(where, across)] += np.nan_to_num(share) * squared
            total[np.ix_(where, across)] += squared
        layers["artefact_share"] = artefact_share(part, total).astype(np.float32)
    obs = _averages(run, kind, rows, chosen, cells)
    return _anndata(run, obs, columns, layers | _marks(run, layers, chosen))


def _chosen(
    run: Run,
    arms: Sequence[str] | None,
    kind: str | None,
    genes: Sequence[str] | None,
    cells: Sequence[str] | None,
    min_cells: int,
) -> tuple[str, tuple[str, ...], Which, Which]:
    """Kind, arms, indices of perturbations and tokens of responders that enough cells have."""
    run.check_reads(f.GENES)
    chosen_kind = kind or run.kinds[0]
    chosen = run.arms_of(arms, chosen_kind)
    counts = np.zeros(len(run.perturbations), int)
    responders: dict[int, int] = {}
    seen: set[tuple[str, int]] = set()
    for block in run.blocks((), chosen, chosen_kind, cells):
        counts[block.perturbations] += 1
        if (block.cell, len(block.responders)) not in seen:
            seen.add((block.cell, len(block.responders)))
            for token in block.responders.tolist():
                responders[token] = responders.get(token, 0) + 1
    enough = counts >= max(min_cells, 1)
    if genes is not None:
        named = np.concatenate([run.perturbations_named(str(gene)) for gene in genes])
        enough &= np.isin(np.arange(len(enough)), named)
    rows = np.flatnonzero(enough)
    columns = np.array(sorted(t for t, n in responders.items() if n >= min_cells), np.int64)
    if not len(rows) or not len(columns):
        raise InputError(f"No perturbation and responder of {run.folder} are in {min_cells} cells.")
    return chosen_kind, chosen, rows, columns


def _parts(
    run: Run,
    fields: Sequence[str],
    arm: str,
    kind: str,
    cells: Sequence[str] | None,
    rows: Which,
    columns: Which,
) -> Iterator[tuple[EffectBlock, Which, Which, tuple[npt.NDArray[Any], ...]]]:
    """Blocks, the rows and columns of the whole that they belong to, and what of them does."""
    for block in run.blocks(fields, [arm], kind, cells):
        which = np.flatnonzero(np.isin(block.perturbations, rows))
        across, responds = _columns_of(block, columns)
        if len(which) and len(across):
            where = np.searchsorted(rows, block.perturbations[which])
            yield block, where, across, np.ix_(which, responds)


def _columns_of(block: EffectBlock, columns: Which) -> tuple[Which, Which]:
    """Columns of the whole that a block's responders stand in, and which responders these are."""
    responds = np.flatnonzero(np.isin(block.responders, columns))
    return np.searchsorted(columns, block.responders[responds]), responds


def _fields_of(block: EffectBlock, arms: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Layer, field and arm of everything that a block holds."""
    decomposition = {field.name for field in f.DECOMPOSITION}
    by_name = {field.name: field for field in f.OF_ARM}
    for field, of_arms in block.values.items():
        for arm in of_arms:
            if arm in arms:
                named = field if field in decomposition else f.effect_column(arm, by_name[field])
                yield named, field, arm


def _layer_name(name: str, arms: Sequence[str]) -> str:
    """The layer of cosine distances bears the arm's name alone."""
    return next((arm for arm in arms if name == f.effect_column(arm, f.COSINE_DISTANCE)), name)


def _decomposed(run: Run, arms: Sequence[str]) -> str | None:
    return next((arm for arm in arms if arm in run.manifest.decomposed), None)


def _marks(run: Run, layers: Layers, arms: Sequence[str]) -> Layers:
    return {
        f"{arm}_under_noise_floor": layers[f.effect_column(arm, f.DISPLACEMENT)]
        <= run.floor.displacement
        for arm in arms
    }


def _check_memory(rows: int, columns: int, bytes_of_entry: int, run: Run) -> None:
    needed, free = rows * columns * bytes_of_entry, psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"Effects of {rows} × {columns} responders of {run.folder} take "
            f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; take "
            "average=True, fewer arms, genes or cells, or a larger min_cells."
        )


def _observations(
    run: Run, kind: str, tasks: Sequence[tuple[EffectBlock, Which]], arms: Sequence[str]
) -> pd.DataFrame:
    """Of every perturbation in every cell: names, ranks, shifts, and the cell's own metadata."""
    shifts = run.shifts[run.shifts["kind"] == kind]
    keys = ["cell", "gene_id"]
    common = shifts.drop_duplicates(keys).set_index(keys)
    kept = ["gene", "kind", "gene_rank", "gene_ranks", "to_rank", "inserted", "genes_in_cell"]
    gene_ids = run.perturbations["gene_id"].astype(str).to_numpy()
    order = pd.MultiIndex.from_tuples(
        [(block.cell, gene_ids[i]) for block, which in tasks for i in block.perturbations[which]],
        names=keys,
    )
    obs = common.loc[order, kept].reset_index()
    for arm in arms:
        of_arm = shifts[shifts["arm"] == arm].set_index(keys).reindex(order)
        for column in (name for name in _SHIFTS if name in of_arm):
            named = "cell_shift" if column == "cosine_distance" else column
            obs[f"{arm}_{named}"] = of_arm[column].to_numpy()
        if arm in run.manifest.decomposed and "shift_along_total" in of_arm:
            obs["artefact_share"] = artefact_share(
                of_arm["shift_along_total"].to_numpy(), of_arm["displacement_squared"].to_numpy()
            )
    for column in ("gene", "gene_id", "cell", "kind", "gene_ranks"):
        obs[column] = obs[column].astype(str)
    if kind in run.kinds and not obs["to_rank"].notna().any():
        obs = obs.drop(columns=["to_rank", "inserted"])
    obs.index = pd.Index(obs["gene"].str.cat(obs["cell"], sep=" @ "))
    return add_metadata(obs, run.cells.loc[obs["cell"]])


def _averages(
    run: Run, kind: str, rows: Which, arms: Sequence[str], cells: Sequence[str] | None
) -> pd.DataFrame:
    """One row a perturbation: its cells, mean rank, pooled artefact share and mean cell shifts."""
    shifts = run.shifts[run.shifts["kind"] == kind]
    if cells is not None:
        shifts = shifts[shifts["cell"].isin([str(cell) for cell in cells])]
    names = run.perturbations.loc[rows, ["gene", "gene_id"]].astype(str)
    first = shifts[shifts["arm"] == arms[0]].groupby("gene_id", observed=True)
    obs = names.set_index("gene_id", drop=False)
    obs["kind"] = kind
    obs["n_cells"] = first.size().reindex(obs.index).to_numpy()
    obs["mean_gene_rank"] = first["gene_rank"].mean().astype(float).reindex(obs.index).to_numpy()
    for arm in arms:
        of_arm = shifts[shifts["arm"] == arm].groupby("gene_id", observed=True)
        if "cosine_distance" in shifts:
            means = of_arm["cosine_distance"].mean()
            obs[f"{arm}_mean_cell_shift"] = means.reindex(obs.index).to_numpy()
        if arm in run.manifest.decomposed and "shift_along_total" in shifts:
            sums = of_arm[["shift_along_total", "displacement_squared"]].sum().reindex(obs.index)
            obs["artefact_share"] = artefact_share(
                sums["shift_along_total"].to_numpy(), sums["displacement_squared"].to_numpy()
            )
    return obs.set_index("gene", drop=False)


def _anndata(run: Run, obs: pd.DataFrame, tokens: Which, layers: Layers) -> AnnData:
    from anndata import AnnData

    genes = run.genes.loc[tokens]
    var = pd.DataFrame(
        {"symbol": genes["symbol"].astype(str).to_numpy(), "token": tokens.astype(np.int32)},
        index=pd.Index(genes["gene_id"].astype(str), dtype=object, name=None),
    )
    obs.index = obs.index.astype(str).astype(object).rename(None)
    manifest = json.dumps(run.manifest.to_json())
    adata = AnnData(obs=obs, var=var, layers=layers, uns={"manifest": manifest})
    adata.strings_to_categoricals()  # now, or writing would do it and change what it writes
    return adata
