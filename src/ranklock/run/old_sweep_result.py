"""A sweep's folder, read back as data frames and AnnData."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil

from ranklock.effects import NoiseFloor
from ranklock.errors import InputError, OptionError, OutputError
from ranklock.run.files import write_whole
from ranklock.run.folder import MANIFEST, system_reason
from ranklock.run.metadata import add_metadata
from ranklock.run.old_store import CellLayout, Store, store_format
from ranklock.run.running import RunningMoments

if TYPE_CHECKING:
    from anndata import AnnData

FORMAT = "ranklock-sweep"
STORE, GENES, CELLS = "effects.zarr", "genes.parquet", "cells.parquet"
OF_A_SCREEN = "those of a screen"  # what a sweep's genes are called that a screen chose
INNER = "sweep"  # folder of the sweep of an audit, a screen or claims, within theirs
MEAN_EFFECTS, CELL_SHIFTS = "effects.h5ad", "cell_shifts.parquet"


@dataclass(frozen=True, eq=False, repr=False)
class Sweep:
    """Effects of a sweep, in its folder; nothing is loaded before it is asked for.

    Attributes
    ----------
    folder
        Where it is.
    manifest
        What was asked, of what, with what; the noise floor; what it costs.
    """

    folder: Path
    manifest: dict[str, Any]

    def __repr__(self) -> str:
        asked = self.manifest["asked"]
        return (
            f"Sweep: {self.manifest['plan']['knockouts']} knock-outs in "
            f"{self.manifest['plan']['cells']} cells, arms {', '.join(asked['arms'])}, in "
            f"{self.folder}" + ("" if self.complete else " (unfinished)")
        )

    @property
    def complete(self) -> bool:
        """Whether every block is there."""
        return bool(self.manifest["complete"])

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms."""
        return tuple(self.manifest["asked"]["arms"])

    @property
    def floor(self) -> NoiseFloor:
        """The measured noise floor."""
        return NoiseFloor(**self.manifest["noise_floor"])

    @cached_property
    def store(self) -> Store:
        """What is on the disk."""
        fields = self.manifest["fields"]
        return Store(
            self.folder / STORE,
            tuple(fields["effects"]),
            tuple(fields["knockouts"]),
            digest_of(self.manifest["identity"]),
        )

    @cached_property
    def genes(self) -> pd.DataFrame:
        """Genes by token: ``gene_id`` and ``symbol``."""
        return _table(self.folder / GENES).set_index("token")

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Metadata of the cells, by name."""
        return _table(self.folder / CELLS)

    def progress(self) -> tuple[int, int]:
        """Blocks that are there, and blocks in all."""
        done = sum(len(self.store.done(layout)) for layout in self._layouts())
        return done, self.manifest["plan"]["blocks"]

    def size(self) -> tuple[int, int]:
        """How many different genes are knocked out, and how many respond."""
        genes: set[int] = set()
        responders: set[int] = set()
        for layout in self._layouts():
            genes.update(layout.knocked_out.tolist())
            responders.update(layout.responders.tolist())
        return len(genes), len(responders)

    def blocks(
        self, fields: Sequence[str]
    ) -> Iterator[tuple[CellLayout, slice, dict[str, npt.NDArray[np.float32]]]]:
        """Effects block by block, in the order of :meth:`knockouts`.

        Yields
        ------
        Layout of the cell, which of its knock-outs these are, and field → numbers of shape
        (knock-outs, responders), in constant memory.
        """
        for layout in self._layouts():
            for block in self.store.done(layout):
                yield layout, layout.rows(block), self.store.effects(layout, block, fields)

    def cells_effects(
        self, fields: Sequence[str], cells: Sequence[str]
    ) -> Iterator[tuple[CellLayout, dict[str, npt.NDArray[np.float32]]]]:
        """Effects cell by cell, in the order given; cells that hold nothing are passed over.

        Yields
        ------
        Layout of the cell, and field → numbers of shape (knock-outs, responders), NaN where a
        block is not done.
        """
        index_of = {layout.name: layout.index for layout in self._layouts()}
        for name in cells:
            if name not in index_of:
                continue
            layout = self._layout(index_of[name])
            shape = (len(layout.knocked_out), len(layout.responders))
            whole = {field: np.full(shape, np.nan, np.float32) for field in fields}
            for block in self.store.done(layout):
                for field, numbers in self.store.effects(layout, block, fields).items():
                    whole[field][layout.rows(block)] = numbers
            yield layout, whole

    def knockouts(self) -> pd.DataFrame:
        """Every knock-out in every cell: one row each.

        Returns
        -------
        Columns ``cell``, ``gene``, ``gene_id``, ``gene_rank``, ``genes_in_cell``, the pooled
        ``artefact_share``, and per arm ``<arm>_before`` and ``<arm>_after`` (median cosine
        distance of the responders on either side of the rank), ``<arm>_cell_shift`` and
        ``<arm>_cell_displacement``, as far as the sweep read them.
        """
        parts = [self._knockouts_of(layout) for layout in self._layouts()]
        if not parts:
            raise OutputError(f"{self.folder} holds no finished block yet; run its command again.")
        table = pd.concat(parts, ignore_index=True)
        for column in ("cell", "gene", "gene_id"):
            table[column] = table[column].astype("category")
        return table

    def cell_shifts(self) -> pd.DataFrame:
        """Cell shifts as a tidy table: one row a cell, knocked-out gene and arm.

        Returns
        -------
        Columns ``cell``, ``gene``, ``gene_rank``, ``arm``, ``cosine_distance``, ``displacement``,
        ``artefact_share`` (in the rows of ``delete``), ``under_noise_floor`` and ``gene_id``.
        """
        self._has("cell")
        wide = self.knockouts()
        parts = []
        for arm in self.arms:
            part = wide[["cell", "gene", "gene_rank"]].copy()
            part["arm"] = arm
            part["cosine_distance"] = wide[f"{arm}_cell_shift"]
            part["displacement"] = wide[f"{arm}_cell_displacement"]
            share = wide.get("cell_shift_artefact_share") if arm == "delete" else None
            part["artefact_share"] = np.nan if share is None else share
            part["under_noise_floor"] = part["displacement"] <= self.floor.cell_displacement
            part["gene_id"] = wide["gene_id"]
            parts.append(part)
        tidy = pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)
        tidy["arm"] = pd.Categorical(tidy["arm"], categories=list(self.arms))
        return tidy

    def cell(self, cell: str | int) -> AnnData:
        """Effects in one cell: obs = knocked-out genes, var = responders, layers = arms.

        Parameters
        ----------
        cell
            Its name, or its number in the sweep.

        Returns
        -------
        Layers as in a knock-out's ``effects``; the knocked-out gene itself, and what is not done
        yet, is NaN.
        """
        self._has("genes")
        layout = self._layout_of(cell)
        shape = (len(layout.knocked_out), len(layout.responders))
        layers: dict[str, npt.NDArray[Any]] = {
            field: np.full(shape, np.nan, np.float32) for field in self.store.effect_fields
        }
        for block in self.store.done(layout):
            for field, numbers in self.store.effects(layout, block).items():
                layers[field][layout.rows(block)] = numbers
        for arm in self.arms:
            marks = layers[f"{arm}_displacement"] <= self.floor.displacement
            layers[f"{arm}_under_noise_floor"] = marks
        obs = self._knockouts_of(layout).set_index("gene", drop=False)
        adata = self._anndata(obs, layout.responders, layers)
        adata.var["responder_rank"] = layout.responder_ranks
        return adata

    def effects(
        self,
        arms: Sequence[str] | None = None,
        *,
        genes: Sequence[str] | None = None,
        min_cells: int = 1,
    ) -> AnnData:
        """Effects averaged over cells: obs = knocked-out genes, var = responders.

        Cells are read one at a time, in constant memory.

        Parameters
        ----------
        arms
            Which arms; all by default.
        genes
            Which knock-outs, by symbol or Ensembl ID; all by default.
        min_cells
            Leave out knock-outs and responders that fewer cells have.

        Returns
        -------
        AnnData with layers ``<arm>`` (mean cosine distance), ``<arm>_variance`` (between cells),
        ``<arm>_displacement``, ``<arm>_under_noise_floor``, ``n_cells``, and ``artefact_share``
        (pooled over cells) where ``delete`` and the decomposition are there.

        Raises
        ------
        InputError
            When the matrices do not fit into memory, with what would.
        """
        self._has("genes")
        chosen = tuple(arms or self.arms)
        unknown = set(chosen) - set(self.arms)
        if unknown:
            raise OptionError(f"This sweep has no arm {unknown.pop()}; it has: {self.arms}.")
        rows, columns = self.genes_in(min_cells, genes)
        self._check_memory(len(rows), len(columns), len(chosen))
        layers: dict[str, npt.NDArray[Any]] = {}
        for arm in chosen:
            distance, moved = self._averages(arm, rows, columns)
            layers[arm] = distance.means()
            layers[f"{arm}_variance"] = distance.variances()
            layers[f"{arm}_displacement"] = moved.means()
            marks = layers[f"{arm}_displacement"] <= self.floor.displacement
            layers[f"{arm}_under_noise_floor"] = marks
            layers["n_cells"] = distance.count
        if "artefact_share" in self.store.effect_fields and "delete" in chosen:
            layers["artefact_share"] = self._pooled_share(rows, columns)
        obs = _averages(self.knockouts(), self.arms)
        symbols = self.genes.loc[rows, "symbol"].astype(str)
        return self._anndata(obs.loc[symbols], columns, layers)

    def export(self, path: str | Path, *, min_cells: int = 1) -> Path:
        """Write :meth:`effects` to an ``.h5ad`` that appears whole or not at all.

        Raises
        ------
        OutputError
            When it cannot be written.
        """
        path = Path(path)
        means = self.effects(min_cells=min_cells)
        try:
            write_whole(
                path, lambda to: means.write_h5ad(to, compression="gzip", compression_opts=1)
            )
        # h5py says RuntimeError of a disk that fills up while it closes a file.
        except (OSError, RuntimeError) as error:
            raise OutputError(f"{path} cannot be written ({system_reason(error)}).") from error
        return path

    def _averages(
        self, arm: str, rows: npt.NDArray[np.int32], columns: npt.NDArray[np.int32]
    ) -> tuple[RunningMoments, RunningMoments]:
        """Of cosine distances and of displacements under one arm."""
        fields = (arm, f"{arm}_displacement")
        both = RunningMoments((len(rows), len(columns))), RunningMoments((len(rows), len(columns)))
        for where, across, numbers in self._stream(fields, rows, columns):
            for running, field in zip(both, fields, strict=True):
                running.update(where, across, numbers[field])
        return both

    def _pooled_share(
        self, rows: npt.NDArray[np.int32], columns: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.float32]:
        """Σ⟨φ_shift, D⟩ / Σ‖D‖² over cells."""
        part, whole = np.zeros((2, len(rows), len(columns)))
        for where, across, n in self._stream(
            ["artefact_share", "delete_displacement"], rows, columns
        ):
            squared = np.nan_to_num(n["delete_displacement"].astype(np.float64)) ** 2
            part[np.ix_(where, across)] += np.nan_to_num(n["artefact_share"]) * squared
            whole[np.ix_(where, across)] += squared
        with np.errstate(invalid="ignore", divide="ignore"):
            share: npt.NDArray[np.float32] = np.where(whole > 0, part / whole, np.nan).astype("f4")
        return share

    def _stream(
        self,
        fields: Sequence[str],
        rows: npt.NDArray[np.int32],
        columns: npt.NDArray[np.int32],
    ) -> Iterator[
        tuple[npt.NDArray[np.int_], npt.NDArray[np.int_], dict[str, npt.NDArray[np.float32]]]
    ]:
        """Fields block by block: rows and columns of the whole that they belong to, and numbers."""
        for layout in self._layouts():
            responds = np.isin(layout.responders, columns)
            across = np.searchsorted(columns, layout.responders[responds])
            for block in self.store.done(layout):
                tokens = layout.knocked_out[layout.rows(block)]
                asked = np.isin(tokens, rows)
                if asked.any() and responds.any():
                    numbers = self.store.effects(layout, block, fields)
                    yield (
                        np.searchsorted(rows, tokens[asked]),
                        across,
                        {f: n[np.ix_(asked, responds)] for f, n in numbers.items()},
                    )

    def genes_in(
        self, min_cells: int, genes: Sequence[str] | None = None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Tokens of knocked-out genes and of responders that enough cells have, ascending.

        Parameters
        ----------
        min_cells
            How many cells that is.
        genes
            Which knock-outs, by symbol or Ensembl ID; all by default.

        Raises
        ------
        InputError
            When there are none.
        """
        size = int(self.genes.index.max()) + 1
        knocked_out, responders = np.zeros((2, size), dtype=int)
        for layout in self._layouts():
            for block in self.store.done(layout):
                knocked_out[layout.knocked_out[layout.rows(block)]] += 1
            responders[layout.responders] += 1
        enough = knocked_out >= min_cells
        if genes is not None:
            asked = [self.token(gene) for gene in genes]
            enough &= np.isin(np.arange(size), asked)
        rows, columns = np.flatnonzero(enough), np.flatnonzero(responders >= min_cells)
        if not len(rows) or not len(columns):
            raise InputError(
                f"No knock-out and responder of {self.folder} are in {min_cells} cells."
            )
        return rows.astype(np.int32), columns.astype(np.int32)

    def token(self, gene: str) -> int:
        """Token of a gene by symbol or Ensembl ID."""
        found = self.genes.index[(self.genes["symbol"] == gene) | (self.genes["gene_id"] == gene)]
        if not len(found):
            raise InputError(f"There is no gene {gene} in {self.folder}.")
        return int(found[0])

    def _check_memory(self, rows: int, columns: int, arms: int) -> None:
        # Layers as they come out, and two running updates: count, mean, squares and temporaries.
        needed = rows * columns * (arms * 13 + 8 + 2 * 5 * 8)
        free = psutil.virtual_memory().available
        if needed > free:
            raise InputError(
                f"Effects of {rows} knock-outs on {columns} responders under {arms} arms take "
                f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; take fewer arms "
                "or genes, or a larger min_cells."
            )

    def _layouts(self) -> Iterator[CellLayout]:
        for index in self.store.cells():
            yield self._layout(index)

    @cached_property
    def _known_layouts(self) -> dict[int, CellLayout]:
        return {}

    def _layout(self, index: int) -> CellLayout:
        """Layout of a cell, which never changes once it is there."""
        if index not in self._known_layouts:
            self._known_layouts[index] = self.store.layout(index)
        return self._known_layouts[index]

    def _layout_of(self, cell: str | int) -> CellLayout:
        names = [str(name) for name in self.cells.index]
        index = names.index(cell) if cell in names else cell
        if isinstance(index, str) or operator.index(index) not in self.store.cells():
            raise InputError(f"{self.folder} holds nothing of a cell {cell!r}.")
        return self._layout(operator.index(index))

    def _knockouts_of(self, layout: CellLayout) -> pd.DataFrame:
        done = [np.arange(len(layout.knocked_out))[layout.rows(b)] for b in self.store.done(layout)]
        rows = np.concatenate(done) if done else np.zeros(0, int)
        tokens = layout.knocked_out[rows]
        numbers = {f: n[rows] for f, n in self.store.knockouts(layout).items()}
        terms = [numbers.pop(term, None) for term in ("shift_along_total", "total_squared")]
        table = pd.DataFrame(
            {
                "cell": layout.name,
                "gene": self.genes.loc[tokens, "symbol"].astype(str).to_numpy(),
                "gene_id": self.genes.loc[tokens, "gene_id"].astype(str).to_numpy(),
                "gene_rank": layout.knocked_out_ranks[rows],
                "genes_in_cell": layout.genes_in_cell,
            }
        )
        if terms[0] is not None and terms[1] is not None:
            with np.errstate(invalid="ignore", divide="ignore"):
                table["artefact_share"] = np.where(terms[1] > 0, terms[0] / terms[1], np.nan)
            table["total_squared"] = terms[1]
        return table.assign(**numbers)

    def _anndata(
        self, obs: pd.DataFrame, tokens: npt.NDArray[np.int32], layers: dict[str, npt.NDArray[Any]]
    ) -> AnnData:
        from anndata import AnnData

        var = pd.DataFrame(
            {
                "symbol": self.genes.loc[tokens, "symbol"].astype(str).to_numpy(),
                "token": tokens.astype(np.int32),
            },
            index=pd.Index(self.genes.loc[tokens, "gene_id"].astype(str), dtype=object, name=None),
        )
        obs.index = pd.Index(obs.index.astype(str), dtype=object, name=None)
        adata = AnnData(
            obs=obs, var=var, layers=layers, uns={"manifest": json.dumps(self.manifest)}
        )
        adata.strings_to_categoricals()
        return adata

    def _has(self, what: str) -> None:
        read = self.manifest["asked"]["read"]
        if read not in (what, "both"):
            raise InputError(f"This sweep read {read} only (--read), not {what}.")


def digest_of(identity: dict[str, Any]) -> str:
    """Digest of what makes a sweep this one."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise OutputError(
            f"{path} is missing or damaged; run the sweep's command again, which writes it anew."
        ) from error


def is_sweep(folder: str | Path) -> bool:
    """Whether a folder holds a sweep, finished or not."""
    try:
        return bool(json.loads((Path(folder) / MANIFEST).read_text())["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_sweep(folder: str | Path) -> Sweep:
    """Open the folder of a sweep, finished or not.

    Raises
    ------
    OutputError
        When the folder holds no sweep.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise KeyError(manifest["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{folder} holds no sweep of Ranklock ({MANIFEST} is missing, damaged or of another "
            "kind of run)."
        ) from error
    if manifest["identity"]["store format"] != store_format():
        raise OutputError(
            f"{folder} was written by another version of Ranklock "
            f"({manifest['identity']['version of Ranklock']}); read it with that one."
        )
    return Sweep(folder, manifest)


def sweep_in(folder: str | Path) -> Sweep | None:
    """The sweep that a folder is, or holds: an audit's, a screen's; None where there is none."""
    for place in (Path(folder), Path(folder) / INNER):
        if is_sweep(place):
            return read_sweep(place)
    return None


def describe_genes_and_cells(
    tokens: Sequence[int], gene_ids: Sequence[str], symbols: Sequence[str], obs: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables that let a store be read without its vocabulary and cells."""
    genes = pd.DataFrame({"token": np.asarray(tokens, np.int32), "gene_id": gene_ids,
                          "symbol": symbols})  # fmt: skip
    names = pd.DataFrame(index=pd.Index([str(name) for name in obs.index], name="cell"))
    return genes, add_metadata(names, obs)


def _averages(knockouts: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """One row a knocked-out gene: its cells, mean rank, pooled share and mean cell shifts."""
    grouped = knockouts.groupby("gene", observed=True)
    table = pd.DataFrame(
        {
            "gene": [str(name) for name in grouped.groups],
            "gene_id": grouped["gene_id"].first().astype(str).to_numpy(),
            "n_cells": grouped.size().to_numpy(),
            "mean_gene_rank": grouped["gene_rank"].mean().to_numpy(),
        }
    )
    if "artefact_share" in knockouts:
        weighted = knockouts["artefact_share"] * knockouts["total_squared"]
        sums = weighted.groupby(knockouts["gene"], observed=True).sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            table["artefact_share"] = sums.to_numpy() / grouped["total_squared"].sum().to_numpy()
    for arm in arms:
        if f"{arm}_cell_shift" in knockouts:
            table[f"{arm}_mean_cell_shift"] = grouped[f"{arm}_cell_shift"].mean().to_numpy()
    return table.set_index("gene", drop=False)
