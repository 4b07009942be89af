"""Scores of perturbations: a number for each and every responder, and where genes stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import ARMS
from ranklock.errors import InputError, OptionError
from ranklock.kinds import KNOCK_OUT
from ranklock.perturbseq.screen import GeneNames, names_as_text
from ranklock.run.fields import CELL

if TYPE_CHECKING:
    from anndata import AnnData

    from ranklock.run.run import Run

Array = npt.NDArray[np.float64]
EXPRESSION, VARIANCE = "expression", "variance"


@dataclass(frozen=True, eq=False)
class GenesInCells:
    """Where genes stand in the cells of a run, within the model's input size.

    ``table``, by gene: ``cells`` that have it, its mean ``rank`` there, and mean ``expression`` and
    its ``variance`` over all cells: 1 − rank / genes in the cell, 0 in cells that lack it.
    """

    cells: int
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores that are to rank the genes that really changed.

    Genes are called as the run does.
    """

    perturbed: list[str]
    responders: list[str]
    layers: Mapping[str, Array]  # (perturbed, responders), larger: changed more; NaN: unknown
    symbols: Mapping[str, str]
    name: str  # of what they were read from
    kind: str = KNOCK_OUT.name
    in_cells: GenesInCells | None = None
    sets: list[str] = field(default_factory=list)  # of several genes at once: cannot be judged
    # Layer → mean cell shift of each perturbed gene, shape (perturbed,), where a run has them.
    cell_shifts: Mapping[str, Array] = field(default_factory=dict)
    model: str = ""  # digest of the checkpoint, where they are of a run

    @cached_property
    def names(self) -> GeneNames:
        """Names of its genes."""
        return GeneNames(self.symbols)

    def gene_level(self) -> dict[str, Array]:
        """Baselines of the responders from the run's cells: expression and its variance."""
        if self.in_cells is None:
            return {}
        table = self.in_cells.table.reindex(self.responders)
        return {name: table[name].to_numpy(np.float64) for name in (EXPRESSION, VARIANCE)}

    def mean_ranks(self) -> tuple[Array, Array]:
        """Mean rank of each perturbed gene and of each responder; NaN where it is not known."""
        ranks = pd.Series(dtype=float) if self.in_cells is None else self.in_cells.table["rank"]
        return (
            ranks.reindex(self.perturbed).to_numpy(np.float64),
            ranks.reindex(self.responders).to_numpy(np.float64),
        )


def scores_of_run(run: Run, layers: Sequence[str] | None = None, kind: str | None = None) -> Scores:
    """Mean cosine distances of a run's effects over its cells, arm by arm.

    Raises
    ------
    OptionError
        When it has no such arm or kind, several kinds to choose from, or no effects on genes.
    """
    name = str(run.folder)
    kind = _kind(run.kinds, kind, name)
    effects = run.effects(layers, kind=kind, average=True)
    chosen = layers or [arm for arm in run.arms if arm in effects.layers]
    scores = scores_of_anndata(effects, chosen, name, kind=kind, in_cells=genes_in_cells(run))
    return replace(
        scores,
        cell_shifts=_cell_shifts(run, scores, kind),
        model=run.manifest.made_from.model.sha256,
    )


def _cell_shifts(run: Run, scores: Scores, kind: str) -> dict[str, Array]:
    """Mean over cells of the cell embedding's cosine distance, where it was read."""
    if CELL not in run.reads:
        return {}
    shifts = run.shifts[run.shifts["kind"] == kind]
    means = shifts.groupby(["arm", "gene_id"], observed=True)["cosine_distance"].mean()
    return {
        arm: means[arm].reindex(scores.perturbed).to_numpy(np.float64)
        for arm in scores.layers
        if arm in means.index.get_level_values("arm")
    }


def scores_of_anndata(
    adata: AnnData,
    layers: Sequence[str] | None,
    name: str,
    *,
    kind: str | None = None,
    in_cells: GenesInCells | None = None,
) -> Scores:
    """Scores of an AnnData: obs = perturbations, var = responders, a layer a score.

    Parameters
    ----------
    adata
        obs names, or obs column ``gene_id``, are the perturbed genes, var names the responders;
        symbols are in obs ``gene`` and var ``symbol``, kinds of perturbation in obs ``kind``, where
        they are given. Several observations of one gene, such as one a cell, are averaged.
    layers
        ``X`` may be one of them; the arms by default.
    name, kind, in_cells
        As of :class:`Scores`; knock-outs by default, where there are any.

    Raises
    ------
    OptionError
        When layers or a kind are to be named, or there is no such one.
    InputError
        When responders are not unique, or no single gene is perturbed.
    """
    names = (["X"] if adata.X is not None else []) + list(adata.layers)
    chosen = list(layers or [layer for layer in names if layer in ARMS])
    missing = [layer for layer in chosen if layer not in names]
    if missing or not chosen:
        said = f"has no layer {missing[0]!r}" if missing else "has no layer that is an arm"
        raise OptionError(
            f"{name} {said}; name the scores with --layer (larger: changed more). It has: "
            f"{', '.join(names)}."
        )
    if "kind" in adata.obs:
        kinds = adata.obs["kind"].astype(str)
        kind = _kind(pd.unique(kinds), kind, name)
        adata = adata[(kinds == kind).to_numpy()]
    gene_ids = names_as_text(adata.obs.get("gene_id", adata.obs_names))
    gene_symbols = names_as_text(adata.obs["gene"]) if "gene" in adata.obs else gene_ids
    responders = names_as_text(adata.var_names)
    responder_symbols = names_as_text(adata.var["symbol"]) if "symbol" in adata.var else responders
    symbols = dict(zip(responders, responder_symbols, strict=True))
    symbols |= dict(zip(gene_ids, gene_symbols, strict=True))
    sets = {gene for gene in gene_ids if "+" in gene}
    genes = [gene for gene in dict.fromkeys(gene_ids) if gene not in sets]
    if len(set(responders)) != len(responders):
        raise InputError(f"{name} names a responder twice; make its var names unique.")
    if not genes and sets:
        raise InputError(
            f"{name} perturbs several genes at once; a screen of one gene at a time cannot judge "
            "that. Run it without --together."
        )
    if not genes or not responders:
        raise InputError(f"{name} holds no perturbation of one gene, or no responder.")
    rows = pd.Index(genes).get_indexer(gene_ids)
    means = {
        layer: _averaged(adata.X if layer == "X" else adata.layers[layer], rows, len(genes), name)
        for layer in chosen
    }
    return Scores(
        genes, responders, means, symbols, name, kind or KNOCK_OUT.name, in_cells,
        sorted({symbols[gene] for gene in sets}),
    )  # fmt: skip


def genes_in_cells(run: Run) -> GenesInCells:
    """Where genes stand in a run's cells: those that were perturbed or read.

    Holds one cell at a time.
    """
    size = int(run.genes.index.max()) + 1
    cells, ranks, levels, squares = np.zeros((4, size))
    number = 0
    for _, blocks in groupby(run.blocks(fields=()), key=lambda block: block.row):
        parts = list(blocks)
        tokens, first = np.unique(
            np.concatenate([a for block in parts for a in (block.responders, block.genes)]),
            return_index=True,
        )
        rank = np.concatenate(
            [a for block in parts for a in (block.responder_ranks, block.gene_ranks)]
        )[first]
        tokens, rank = tokens[rank >= 0], rank[rank >= 0]
        level = 1.0 - rank / parts[0].genes_in_cell
        cells[tokens] += 1
        ranks[tokens] += rank
        levels[tokens] += level
        squares[tokens] += level**2
        number += 1
    tokens = np.flatnonzero(cells)
    mean = levels[tokens] / number
    table = pd.DataFrame(
        {
            "cells": cells[tokens].astype(int),
            "rank": ranks[tokens] / cells[tokens],
            EXPRESSION: mean,
            VARIANCE: np.maximum(squares[tokens] / number - mean**2, 0.0),
        },
        index=pd.Index(run.genes.loc[tokens, "gene_id"].astype(str), name="gene"),
    )
    return GenesInCells(len(run.cells), table)


def _kind(kinds: Sequence[str], asked: str | None, name: str) -> str:
    """The kind of perturbation to judge: the one asked for, knock-outs, or the only one."""
    kinds = [str(kind) for kind in kinds]
    if asked is None and KNOCK_OUT.name in kinds:
        return KNOCK_OUT.name
    if asked is None and len(kinds) == 1:
        return kinds[0]
    if asked in kinds:
        return str(asked)
    said = f"has no perturbation of kind {asked!r}" if asked else "holds several kinds"
    raise OptionError(f"{name} {said}; name one with --kind. It has: {', '.join(kinds)}.")


def _averaged(layer: Any, rows: npt.NDArray[np.int_], number: int, name: str) -> Array:
    """Mean over the observations of each perturbation that have a number."""
    dense = layer.toarray() if hasattr(layer, "toarray") else np.asarray(layer)
    if dense.dtype.kind not in "iuf":
        raise OptionError(f"{name}: a layer of {dense.dtype} holds no scores; name another.")
    values = np.where(np.isfinite(dense), dense.astype(np.float64), np.nan)
    if len(rows) == number and (rows == np.arange(number)).all():
        return values
    means = pd.DataFrame(values).groupby(rows).mean()
    return np.asarray(means.reindex(range(number)), dtype=np.float64)
