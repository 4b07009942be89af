"""A run's effects as AnnData, in cells or averaged over them, read in constant memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
_DECOMPOSITION = tuple(field.name for field in f.DECOMPOSITION)
_FOLD = f.FOLD.name
_SHIFTS = ("cosine_distance", "median_shifted", "median_unshifted")


@dataclass(frozen=True, eq=False)
class Scope:
    """Which of a run's effects a matrix holds.

    Attributes
    ----------
    run, kind, arms, cells
        Of what: a kind of perturbation, arms of it, and names of cells (None for all).
    perturbations, responders
        Index among the run's perturbations of each row, and token of each column, ascending.
    """

    run: Run
    kind: str
    arms: tuple[str, ...]
    cells: Sequence[str] | None
    perturbations: Which
    responders: Which

    @property
    def decomposed(self) -> str | None:
        """The arm whose effects are decomposed, where it is among them."""
        names = self.run.manifest.decomposed
        return next((arm for arm in self.arms if arm in names), None)

    @property
    def compared(self) -> tuple[str, ...]:
        """Those of the arms that are compared with impostors."""
        return tuple(arm for arm in self.run.compared(self.kind) if arm in self.arms)

    def blocks(self, fields: Sequence[str], arms: Sequence[str]) -> Iterator[Part]:
        """Blocks, the rows and columns of a matrix that they belong to, and what of them does."""
        for block in self.run.blocks(fields, arms, self.kind, self.cells):
            tasks = np.flatnonzero(np.isin(block.perturbations, self.perturbations))
            known = np.flatnonzero(np.isin(block.responders, self.responders))
            rows = np.searchsorted(self.perturbations, block.perturbations[tasks])
            columns = np.searchsorted(self.responders, block.responders[known])
            yield Part(block, tasks, known, rows, columns)

    def check_memory(self, rows: int, bytes_of_entry: int) -> None:
        """Refuse matrices that do not fit.

        Raises
        ------
        InputError
            With what would.
        """
        needed = rows * len(self.responders) * bytes_of_entry
        free = psutil.virtual_memory().available
        if needed > free:
            raise InputError(
                f"Effects of {rows} × {len(self.responders)} responders of {self.run.folder} take "
                f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; take "
                "average=True, fewer arms, genes or cells, or a larger min_cells."
            )


@dataclass(frozen=True, eq=False)
class Part:
    """What of a block a matrix holds: some of its tasks and responders, at rows and columns."""

    block: EffectBlock
    tasks: Which
    known: Which
    rows: Which
    columns: Which

    def values(self, field: str, arm: str) -> npt.NDArray[np.float32]:
        """A field under an arm, shape (tasks, responders)."""
        return self.block.values[field][arm][np.ix_(self.tasks, self.known)]


def scope_of(
    run: Run,
    arms: Sequence[str] | None,
    kind: str | None,
    genes: Sequence[str] | None,
    cells: Sequence[str] | None,
    min_cells: int,
) -> Scope:
    """Perturbations and responders that enough cells have; see :meth:`Run.effects`.

    Raises
    ------
    InputError
        When genes were not read, or there are none.
    OptionError
        When the run has no such arm or kind.
    """
    run.check_reads(f.GENES)
    chosen_kind = kind or run.kinds[0]
    chosen = run.arms_of(arms, chosen_kind)
    counts = np.zeros(len(run.perturbations), int)
    responding: dict[int, set[str]] = {}
    for block in run.blocks((), chosen, chosen_kind, cells):
        counts[block.perturbations] += 1
        for token in block.responders.tolist():
            responding.setdefault(token, set()).add(block.cell)
    enough = counts >= max(min_cells, 1)
    if genes is not None:
        named = np.concatenate([run.perturbations_named(str(gene)) for gene in genes])
        enough &= np.isin(np.arange(len(enough)), named)
    responders = sorted(token for token, names in responding.items() if len(names) >= min_cells)
    if not enough.any() or not responders:
        raise InputError(f"No perturbation and responder of {run.folder} are in {min_cells} cells.")
    return Scope(
        run, chosen_kind, chosen, cells, np.flatnonzero(enough), np.array(responders, np.int64)
    )


def effects_in_cells(scope: Scope) -> AnnData:
    """One observation a perturbation in a cell."""
    tasks = [(part.block, part.tasks) for part in scope.blocks((), scope.arms)]
    number = sum(len(which) for _, which in tasks)
    sources = {_layer(arm, field): (field, arm) for arm in scope.arms for field in _OF_ARM}
    sources |= {_layer(arm, _FOLD): (_FOLD, arm) for arm in scope.compared}
    if scope.decomposed is not None:
        sources |= {field: (field, scope.decomposed) for field in _DECOMPOSITION}
    scope.check_memory(number, 4 * (len(sources) + 1))
    shape = (number, len(scope.responders))
    layers = {name: np.full(shape, np.nan, np.float32) for name in (*sources, "responder_rank")}
    start = 0
    for part in scope.blocks((*_OF_ARM, *_DECOMPOSITION, _FOLD), scope.arms):
        where = np.ix_(np.arange(start, start + len(part.tasks)), part.columns)
        for name, (field, arm) in sources.items():
            layers[name][where] = part.values(field, arm)
        layers["responder_rank"][where] = part.block.responder_ranks[part.known]
        start += len(part.tasks)
    return _anndata(scope, _observations(scope, tasks), layers)


def averaged_effects(scope: Scope) -> AnnData:
    """One observation a perturbation, averaged over its cells."""
    shape = (len(scope.perturbations), len(scope.responders))
    # Layers as they come out, and two running updates: count, mean, squares and temporaries.
    scope.check_memory(shape[0], len(scope.arms) * 13 + 8 + 2 * 5 * 8)
    layers: Layers = {}
    for arm in scope.arms:
        fields = (*_OF_ARM, *(_FOLD,) * (arm in scope.compared))
        moments = {field: RunningMoments(shape) for field in fields}
        for part in scope.blocks(fields, [arm]):
            for field, running in moments.items():
                running.update(part.rows, part.columns, part.values(field, arm))
        for field, running in moments.items():
            layers[_layer(arm, field)] = running.means()
        layers[f"{arm}_variance"] = moments[f.COSINE_DISTANCE.name].variances()
        layers["n_cells"] = moments[f.COSINE_DISTANCE.name].count
    if scope.decomposed is not None:
        along, total = np.zeros((2, *shape))
        fields = (f.ARTEFACT_SHARE.name, f.DISPLACEMENT.name)
        for part in scope.blocks(fields, [scope.decomposed]):
            share, moved = (part.values(field, scope.decomposed) for field in fields)
            squared = np.nan_to_num(moved.astype(np.float64)) ** 2
            along[np.ix_(part.rows, part.columns)] += np.nan_to_num(share) * squared
            total[np.ix_(part.rows, part.columns)] += squared
        layers[f.ARTEFACT_SHARE.name] = artefact_share(along, total).astype(np.float32)
    return _anndata(scope, _averages(scope), layers)


def _layer(arm: str, field: str) -> str:
    """The layer of cosine distances bears the arm's name alone."""
    return arm if field == f.COSINE_DISTANCE.name else f"{arm}_{field}"


def _observations(scope: Scope, tasks: Sequence[tuple[EffectBlock, Which]]) -> pd.DataFrame:
    """Of every perturbation in every cell: names, ranks, shifts, and the cell's own metadata."""
    run, keys = scope.run, ["cell", "gene_id"]
    shifts = run.shifts[run.shifts["kind"] == scope.kind]
    gene_ids = run.perturbations["gene_id"].astype(str).to_numpy()
    order = pd.MultiIndex.from_tuples(
        [(block.cell, gene_ids[i]) for block, which in tasks for i in block.perturbations[which]],
        names=keys,
    )
    kept = ["gene", "kind", "gene_rank", "gene_ranks", "to_rank", "inserted", "genes_in_cell"]
    obs = shifts.drop_duplicates(keys).set_index(keys).loc[order, kept].reset_index()
    for arm in scope.arms:
        of_arm = shifts[shifts["arm"] == arm].set_index(keys).reindex(order)
        for column in (name for name in _SHIFTS if name in of_arm):
            named = "cell_shift" if column == "cosine_distance" else column
            obs[f"{arm}_{named}"] = of_arm[column].to_numpy()
        if arm == scope.decomposed:
            obs["artefact_share"] = _share(of_arm)
    for column in ("gene", "gene_id", "cell", "kind", "gene_ranks"):
        obs[column] = obs[column].astype(str)
    if not obs["to_rank"].notna().any():
        obs = obs.drop(columns=["to_rank", "inserted"])
    obs.index = pd.Index(obs["gene"].str.cat(obs["cell"], sep=" @ "))
    return add_metadata(obs, run.cells.loc[obs["cell"]])


def _averages(scope: Scope) -> pd.DataFrame:
    """One row a perturbation: its cells, mean rank, pooled artefact share and mean cell shifts."""
    shifts = scope.run.shifts
    shifts = shifts[shifts["kind"] == scope.kind]
    if scope.cells is not None:
        shifts = shifts[shifts["cell"].isin([str(cell) for cell in scope.cells])]
    names = scope.run.perturbations.loc[scope.perturbations, ["gene", "gene_id"]].astype(str)
    obs = names.set_index("gene_id", drop=False).assign(kind=scope.kind)
    by_arm = {arm: shifts[shifts["arm"] == arm].groupby("gene_id", observed=True)
              for arm in scope.arms}  # fmt: skip
    first = by_arm[scope.arms[0]]
    obs["n_cells"] = first.size().reindex(obs.index).to_numpy()
    obs["mean_gene_rank"] = first["gene_rank"].mean().astype(float).reindex(obs.index).to_numpy()
    for arm, of_arm in by_arm.items():
        if "cosine_distance" in shifts:
            means = of_arm["cosine_distance"].mean()
            obs[f"{arm}_mean_cell_shift"] = means.reindex(obs.index).to_numpy()
        if arm == scope.decomposed:
            sums = of_arm[["shift_along_total", "displacement_squared"]].sum()
            obs["artefact_share"] = _share(sums.reindex(obs.index))
    return obs.set_index("gene", drop=False)


def _share(terms: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Artefact share, from its terms summed over responders."""
    along, total = (terms[name] for name in ("shift_along_total", "displacement_squared"))
    return artefact_share(along.to_numpy(), total.to_numpy())


def _anndata(scope: Scope, obs: pd.DataFrame, layers: Layers) -> AnnData:
    from anndata import AnnData

    run, tokens = scope.run, scope.responders
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
