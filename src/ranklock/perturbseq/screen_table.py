"""A laboratory screen from a table of differential expression, a row a gene and responder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.errors import InputError, OptionError
from ranklock.perturbseq.labels import read_labels
from ranklock.perturbseq.screen import (
    GeneNames,
    Screen,
    best_names,
    described_labels,
    names_as_text,
)
from ranklock.run.folder import file_digest
from ranklock.statistics.significance import false_discovery_rates

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
UNLISTED = ("left-out", "unchanged")

# Names of columns, in lower case without anything but letters and digits, the best first. Those of
# scanpy's rank_genes_groups_df (group, names, logfoldchanges, pvals, pvals_adj), pertpy (variable,
# log_fc, p_value, adj_p_value), SCEPTRE (grna_target, response_id, log_2_fold_change, p_value),
# Seurat (avg_log2FC, p_val, p_val_adj), DESeq2 (log2FoldChange, pvalue, padj), limma and edgeR
# (logFC, P.Value, adj.P.Val, FDR), and plain ones. Bare "source" and "target" are left out: in a
# network the target responds, in a library of guides it is perturbed.
_PERTURBED = (
    "perturbedgene", "perturbation", "perturbed", "targetgene", "genetarget", "grnatarget",
    "guidetarget", "sgrnatarget", "knockedout", "knockout", "knockoutgene", "kogene", "knockdown",
    "pertgene", "pert", "perturbationgene", "guide", "sgrna", "grna", "guideid", "condition",
    "contrast", "comparison", "group",
)  # fmt: skip
_RESPONDER = (
    "responder", "responderid", "responseid", "responsegene", "readoutgene", "affectedgene",
    "ensemblid", "ensemblgeneid", "geneid", "genename", "genesymbol", "symbol", "gene", "names",
    "name", "variable", "feature", "featureid", "featurename", "primerid",
)  # fmt: skip
_EFFECT = (
    "logfoldchange", "logfoldchanges", "log2foldchange", "log2foldchanges", "log2fc", "logfc",
    "lfc", "avglog2fc", "avglogfc", "meanlog2fc", "foldchangelog2", "coef", "beta", "effectsize",
    "effect",
)  # fmt: skip
_ADJUSTED = (
    "pvalsadj", "adjpvalue", "pvalueadj", "padj", "pvaladj", "adjpval", "adjp", "adjustedpvalue",
    "pvalueadjusted", "pvaladjusted", "fdr", "qvalue", "qval", "q", "fdrbh", "fdrbhpvalue",
    "pvaluebh",
)  # fmt: skip
_P = ("pvalue", "pvals", "pval", "p")


@dataclass(frozen=True)
class TableColumns:
    """Columns of a table of differential expression; None where they are to be recognised."""

    perturbed: str | None = None
    responder: str | None = None
    effect: str | None = None
    p: str | None = None
    adjusted_p: str | None = None


def read_screen_table(
    path: str | Path,
    names: GeneNames,
    *,
    columns: TableColumns | None,
    controls: Sequence[str],
    unlisted: str,
) -> Screen:
    """Read a table of differential expression.

    Parameters
    ----------
    path
        ``.csv``, ``.tsv``, ``.txt`` (tabs) or ``.parquet``: a row a perturbed gene and responder.
    names
        Names of the run's genes.
    columns
        Which columns hold what, where their names do not say.
    controls
        Labels of control perturbations, which are left out; the usual ones are recognised.
    unlisted
        ``"left-out"``: a gene without a row was not tested and is not scored. ``"unchanged"``:
        the table lists only what changed, and every gene that it names anywhere was tested under
        every perturbation.

    Raises
    ------
    InputError
        When it cannot be read, lacks a column, or holds what is no number.
    """
    path = Path(path)
    if unlisted not in UNLISTED:
        raise OptionError(f"unlisted={unlisted!r} is none of {', '.join(UNLISTED)}.")
    table = _read(path)
    if table.empty:
        raise InputError(f"{path} holds no rows.")
    used = _columns(table, columns or TableColumns(), names.find, path)
    return _screen(table, names, used, path, controls, unlisted)


def _screen(
    table: pd.DataFrame,
    names: GeneNames,
    used: Mapping[str, str],
    path: Path,
    controls: Sequence[str],
    unlisted: str,
) -> Screen:
    """A screen from the rows of a table whose columns are known."""
    label_names, label_codes = np.unique(
        names_as_text(table[used["perturbed"]]), return_inverse=True
    )
    responder_names, responder_codes = np.unique(
        names_as_text(table[used["responder"]]), return_inverse=True
    )
    responders = [names.call(str(gene)) for gene in responder_names]
    in_screen = set(responders)

    def find(label: str) -> str | None:
        gene = names.call(label)
        return gene if names.find(label) is not None or gene in in_screen else None

    labels = read_labels([str(label) for label in label_names if label], find, controls)
    perturbed = list(dict.fromkeys(labels.genes.values()))
    genes = list(dict.fromkeys(gene for gene in responders if gene))
    row = pd.Index(perturbed).get_indexer([labels.genes.get(str(x), "") for x in label_names])
    column = pd.Index(genes).get_indexer(responders)
    rows = pd.DataFrame({"row": row[label_codes], "column": column[responder_codes]})
    raw = used.get("adjusted_p") or used["p"]
    rows["p"] = _numbers(table, raw, path, least=0.0, most=1.0)
    rows["effect"] = _numbers(table, used["effect"], path) if "effect" in used else np.nan
    rows = rows[(rows["row"] >= 0) & (rows["column"] >= 0) & rows["p"].notna()]
    if rows.empty:
        raise InputError(
            f"{path} has no row of one perturbed gene and a responder with a p value in "
            f"{raw!r} (its perturbations begin with {', '.join(label_names[:3])}); name the "
            "columns (--perturbed-column, --responder-column, --adjusted-p-column)."
        )
    # Several guides of one gene: the smallest p, times their number (Bonferroni).
    grouped = rows.groupby(["row", "column"])
    smallest = rows.loc[grouped["p"].idxmin()]
    guides = grouped.size().to_numpy()
    p = np.full((len(perturbed), len(genes)), np.nan, np.float32)
    effect = np.full_like(p, np.nan)
    p[smallest["row"], smallest["column"]] = np.minimum(smallest["p"] * guides, 1.0)
    effect[smallest["row"], smallest["column"]] = smallest["effect"]
    if "adjusted_p" not in used:
        p = np.array([false_discovery_rates(row) for row in p], dtype=np.float32)
    if unlisted == "unchanged":
        p[np.isnan(p)] = 1.0
    provenance: dict[str, Any] = {
        "columns": dict(used),
        "p": "adjusted by the table" if "adjusted_p" in used
        else "adjusted here (Benjamini and Hochberg, over the genes of each perturbation)",
        "rows": len(table),
        "rows_used": len(rows),
        "rows_of_several_guides": int((guides > 1).sum()),
        "unlisted": unlisted,
        **described_labels(labels),
    }  # fmt: skip
    return Screen(perturbed, genes, effect, p, str(path), file_digest(path), provenance=provenance)


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep="," if path.suffix == ".csv" else "\t")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table ({error}).") from error


def _columns(
    table: pd.DataFrame, asked: TableColumns, find: Callable[[str], str | None], path: Path
) -> dict[str, str]:
    """Role → column, as asked for or as recognised."""
    plain = {str(column): re.sub(r"[^a-z0-9]", "", str(column).lower()) for column in table}
    roles = {"perturbed": _PERTURBED, "responder": _RESPONDER, "effect": _EFFECT,
             "p": _P, "adjusted_p": _ADJUSTED}  # fmt: skip
    used: dict[str, str] = {}
    for role in fields(asked):
        named = getattr(asked, role.name)
        if named is not None and named not in plain:
            raise OptionError(f"{path} has no column {named!r}; it has: {', '.join(plain)}.")
        if named is not None:
            used[role.name] = named
    for role_name, usual in roles.items():
        free = [column for column in plain if column not in used.values()]
        ranked = sorted((usual.index(plain[c]), c) for c in free if plain[c] in usual)
        if role_name in used or not ranked:
            continue
        used[role_name] = ranked[0][1]
        if role_name == "responder" and len(ranked) > 1:
            candidates = {
                column: pd.unique(pd.Series(names_as_text(table[column]))).tolist()
                for _, column in ranked
            }
            used[role_name] = best_names(candidates, find)[0]
    missing = [role for role in ("perturbed", "responder") if role not in used]
    if not {"p", "adjusted_p"} & set(used):
        missing.append("adjusted_p")
    if missing:
        meanings = {"perturbed": "the perturbed gene", "responder": "the responder",
                    "adjusted_p": "p or adjusted p"}  # fmt: skip
        option = f"--{missing[0].replace('_', '-')}-column"
        raise InputError(
            f"{path} has no column that is recognised as {meanings[missing[0]]}; name it with "
            f"{option}. It has: {', '.join(plain)}."
        )
    return used


def _numbers(
    table: pd.DataFrame, column: str, path: Path, least: float = -np.inf, most: float = np.inf
) -> npt.NDArray[np.float64]:
    numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
    invalid = np.isnan(numbers) & table[column].notna().to_numpy()
    invalid |= (numbers < least) | (numbers > most)
    if invalid.any():
        row = int(invalid.argmax())
        raise InputError(
            f"{path}: {table[column].iloc[row]!r} in row {row} of {column!r} is no number from "
            f"{least:g} to {most:g}; name another column, or mend the row."
        )
    return np.asarray(numbers)
