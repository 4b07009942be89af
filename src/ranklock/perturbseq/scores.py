"""Scores of a run: a number for every knock-out and responder, and what its cells say of genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import ARMS
from ranklock.errors import InputError, OptionError
from ranklock.perturbseq.screen import GeneNames
from ranklock.run.old_sweep_result import Sweep

if TYPE_CHECKING:
    from anndata import AnnData

Array = npt.NDArray[np.float64]
EXPRESSION, VARIANCE = "expression", "variance"


@dataclass(frozen=True, eq=False)
class GenesInCells:
    """Where genes stand in the cells of a run, within the model's input size.

    Attributes
    ----------
    cells
        How many cells.
    table
        By gene: ``cells`` that have it, its mean ``rank`` there, and mean ``expression`` and its
        ``variance`` over all cells: 1 − rank / genes in the cell, 0 in cells that lack it.
    """

    cells: int
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores that are to rank the genes that really changed.

    Attributes
    ----------
    knocked_out, responders
        Genes, as the run names them.
    layers
        Name → scores, larger for what is to have changed more; shape (knock-outs, responders),
        NaN where there is none.
    symbols
        Gene → symbol.
    name
        What they were read from.
    in_cells
        Where genes stand in the run's cells; None where that is not known.
    left_out
        Knock-outs of several genes at once, which no single perturbation can judge.
    """

    knocked_out: list[str]
    responders: list[str]
    layers: Mapping[str, Array]
    symbols: Mapping[str, str]
    name: str
    in_cells: GenesInCells | None = None
    left_out: list[str] = field(default_factory=list)

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
        """Mean rank of each knocked-out gene and of each responder; NaN where it is not known."""
        if self.in_cells is None:
            return np.full(len(self.knocked_out), np.nan), np.full(len(self.responders), np.nan)
        ranks = self.in_cells.table["rank"]
        both = (ranks.reindex(genes).to_numpy(float) for genes in (self.knocked_out,
                                                                    self.responders))  # fmt: skip
        return next(both), next(both)


def scores_of_sweep(sweep: Sweep, layers: Sequence[str] | None = None) -> Scores:
    """Mean cosine distances of a sweep, arm by arm.

    Raises
    ------
    OptionError
        When it has no such arm.
    InputError
        When it is too large for memory.
    """
    return scores_of_anndata(
        sweep.effects(layers), layers or sweep.arms, str(sweep.folder), genes_of_sweep(sweep)
    )


def scores_of_table(
    table: pd.DataFrame, cells: int, name: str, layers: Sequence[str] | None = None
) -> Scores:
    """Mean cosine distances of a knock-out run over its cells, arm by arm.

    Parameters
    ----------
    table
        Its tidy table of effects.
    cells
        How many cells were asked for, those without the gene included.
    name
        What the run is called.
    layers
        Which arms; all by default.
    """
    arms = list(layers or table["arm"].cat.categories)
    unknown = set(arms) - set(table["arm"].cat.categories)
    if unknown:
        raise OptionError(f"{name} has no arm {unknown.pop()}.")
    several = table["gene_id"].astype(str).str.contains("+", regex=False)
    left_out = sorted(set(table.loc[several, "gene"].astype(str)))
    single = table[~several]
    if single.empty:
        raise InputError(f"{name} knocks out several genes at once; a screen of one gene at a "
                         "time cannot judge that. Run it without --together.")  # fmt: skip
    means = single.groupby(["gene_id", "responder_id", "arm"], observed=True)["cosine_distance"]
    wide = means.mean().unstack("responder_id")
    genes = list(dict.fromkeys(single["gene_id"].astype(str)))
    symbols = dict(zip(single["gene_id"].astype(str), single["gene"].astype(str), strict=True))
    symbols |= dict(
        zip(single["responder_id"].astype(str), single["responder"].astype(str), strict=True)
    )
    by_arm = {arm: wide.xs(arm, level="arm").reindex(genes).to_numpy(np.float64) for arm in arms}
    return Scores(
        genes,
        [str(gene) for gene in wide.columns],
        by_arm,
        symbols,
        name,
        genes_of_table(table, cells),
        left_out,
    )


def scores_of_anndata(
    adata: AnnData,
    layers: Sequence[str] | None,
    name: str,
    in_cells: GenesInCells | None = None,
) -> Scores:
    """Scores of an AnnData: obs = knock-outs, var = responders, a layer a score.

    Parameters
    ----------
    adata
        obs names, or obs column ``gene_id``, are the knocked-out genes, var names the responders;
        symbols are in obs ``gene`` and var ``symbol`` where they are there. Several observations
        of one gene, such as one a cell, are averaged.
    layers
        Which layers, ``X`` included, larger meaning that a gene is to have changed more; the arms
        by default.
    name
        What they are called.
    in_cells
        Where genes stand in the cells that the scores are from, if that is known.

    Raises
    ------
    OptionError
        When layers are to be named, or one is not there.
    """
    there = (["X"] if adata.X is not None else []) + list(adata.layers)
    chosen = list(layers or [layer for layer in there if layer in ARMS])
    missing = [layer for layer in chosen if layer not in there]
    if missing or not chosen:
        said = f"has no layer {missing[0]!r}" if missing else "has no layer that is an arm"
        raise OptionError(
            f"{name} {said}; name the scores with --layer (larger: changed more). It has: "
            f"{', '.join(there)}."
        )
    obs_ids = [str(gene) for gene in adata.obs.get("gene_id", adata.obs_names)]
    obs_symbols = [str(gene) for gene in adata.obs.get("gene", obs_ids)]
    responders = [str(gene) for gene in adata.var_names]
    symbols = dict(zip(responders, map(str, adata.var.get("symbol", responders)), strict=True))
    symbols |= dict(zip(obs_ids, obs_symbols, strict=True))
    together = {gene for gene in obs_ids if "+" in gene}
    genes = [gene for gene in dict.fromkeys(obs_ids) if gene not in together]
    if len(set(responders)) != len(responders):
        raise InputError(f"{name} names a responder twice; make its var names unique.")
    if not genes or not responders:
        raise InputError(f"{name} holds no knock-out of one gene, or no responder.")
    row_of = {gene: row for row, gene in enumerate(genes)}
    rows = np.array([row_of.get(gene, -1) for gene in obs_ids])
    found = {
        layer: _averaged(adata.X if layer == "X" else adata.layers[layer], rows, len(genes), name)
        for layer in chosen
    }
    left_out = sorted({symbols[gene] for gene in together})
    return Scores(genes, responders, found, symbols, name, in_cells, left_out)


def _averaged(layer: Any, rows: npt.NDArray[np.int_], number: int, name: str) -> Array:
    """Mean over the observations of each knock-out that have a number."""
    dense = layer.toarray() if hasattr(layer, "toarray") else np.asarray(layer)
    if dense.dtype.kind not in "iuf":
        raise OptionError(f"{name}: a layer of {dense.dtype} holds no scores; name another.")
    values = dense.astype(np.float64)
    if len(rows) == number and (rows == np.arange(number)).all():
        return np.where(np.isfinite(values), values, np.nan)
    finite = np.isfinite(values)
    sums, counts = np.zeros((2, number, values.shape[1]))
    single = rows >= 0
    np.add.at(sums, rows[single], np.where(finite, values, 0.0)[single])
    np.add.at(counts, rows[single], finite[single])
    return np.asarray(np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0))


def genes_of_sweep(sweep: Sweep) -> GenesInCells:
    """Where genes stand in a sweep's cells: those that were knocked out or read."""
    parts, cells = [], sweep.store.cells()
    for index in cells:
        layout = sweep.store.layout(index)
        tokens = np.concatenate([layout.responders, layout.knocked_out])
        ranks = np.concatenate([layout.responder_ranks, layout.knocked_out_ranks])
        parts.append(pd.DataFrame({"token": tokens, "rank": ranks, "of": layout.genes_in_cell})
                     .drop_duplicates("token"))  # fmt: skip
    rows = pd.concat(parts, ignore_index=True)
    rows["gene"] = sweep.genes.loc[rows["token"], "gene_id"].astype(str).to_numpy()
    return _in_cells(rows, len(cells), len(cells))


def genes_of_table(table: pd.DataFrame, cells: int) -> GenesInCells:
    """The same of a knock-out run, whose table has the cells with a knocked-out gene only."""
    plain = table[["cell", "gene_id", "gene_rank", "responder_id", "responder_rank"]]
    of = plain.groupby("cell", observed=True)[["gene_rank", "responder_rank"]].max().max(axis=1) + 1
    responders = plain[["cell", "responder_id", "responder_rank"]]
    genes = plain[["cell", "gene_id", "gene_rank"]]
    named = ["cell", "gene", "rank"]
    rows = pd.concat(
        [part.set_axis(named, axis=1).drop_duplicates().astype({"gene": str, "cell": str})
         for part in (responders, genes)],
        ignore_index=True,
    ).drop_duplicates(["cell", "gene"])  # fmt: skip
    rows["of"] = of.rename(index=str).loc[rows["cell"]].to_numpy()
    return _in_cells(rows, len(of), cells)


def _in_cells(rows: pd.DataFrame, read: int, asked: int) -> GenesInCells:
    """Numbers of genes from rows of gene, rank and genes in the cell."""
    rows = rows.assign(level=1 - rows["rank"] / rows["of"])
    rows["squared"] = rows["level"] ** 2
    grouped = rows.groupby("gene")
    mean = grouped["level"].sum() / read
    variance = (grouped["squared"].sum() / read - mean**2).clip(lower=0.0)
    table = pd.DataFrame(
        {"cells": grouped.size(), "rank": grouped["rank"].mean(), EXPRESSION: mean,
         VARIANCE: variance}
    )  # fmt: skip
    return GenesInCells(asked, table)
