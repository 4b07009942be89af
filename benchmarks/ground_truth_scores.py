"""How well scores of pairs (factor, responder) rank the links of a known network."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.covariance import LedoitWolf
from sklearn.metrics import average_precision_score, roc_auc_score

REDRAWN = 500


def candidates(edges: pd.DataFrame, factors: list[str], genes: list[str]) -> pd.DataFrame:
    """Every pair of a factor and another gene: ``direct`` link, and ``any`` path of links."""
    graph = nx.DiGraph(list(edges[["source", "target"]].itertuples(index=False, name=None)))
    reached = {f: nx.descendants(graph, f) if f in graph else set() for f in factors}
    rows = [(f, g, graph.has_edge(f, g), g in reached[f]) for f in factors for g in genes if f != g]
    return pd.DataFrame(rows, columns=["gene", "responder", "direct", "any"])


def early_precision(scores: np.ndarray, true: np.ndarray) -> float:
    """Share of true links among as many of the first pairs as there are links."""
    first = np.argsort(-scores, kind="stable")[: int(true.sum())]
    return float(true[first].mean())


def judge(pairs: pd.DataFrame, score: str, truth: str, seed: int = 0) -> dict[str, object]:
    """AUROC, average precision and early precision, with 95 % intervals over redrawn factors.

    Pairs without a score are left out; ``pairs`` says how many are judged.
    """
    known = pairs[pairs[score].notna()]
    draw = np.random.default_rng(seed)
    parts = {
        factor: (part[score].to_numpy(), part[truth].to_numpy())
        for factor, part in known.groupby("gene")
    }
    names = list(parts)

    def measures(of: list[str]) -> tuple[float, ...]:
        values, true = (np.concatenate([parts[name][k] for name in of]) for k in (0, 1))
        if true.all() or not true.any():
            return np.nan, np.nan, np.nan
        return (
            float(roc_auc_score(true, values)),
            float(average_precision_score(true, values)),
            early_precision(values, true),
        )

    redrawn = [measures(list(draw.choice(names, len(names)))) for _ in range(REDRAWN)]
    low, high = np.nanpercentile(redrawn, [2.5, 97.5], axis=0)
    result: dict[str, object] = {"pairs": len(known), "true": int(known[truth].sum())}
    for index, what in enumerate(("auroc", "average_precision", "early_precision")):
        result[what] = measures(names)[index]
        result[f"{what}_low"], result[f"{what}_high"] = float(low[index]), float(high[index])
    return result


def co_expression(counts: np.ndarray, genes: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """|Spearman| and |partial correlation| of log-normalised counts, genes × genes."""
    logs = np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e4)
    rho = np.abs(stats.spearmanr(logs).statistic)
    ranks = stats.rankdata(logs, axis=0)
    precision = LedoitWolf().fit((ranks - ranks.mean(0)) / ranks.std(0).clip(1e-12)).precision_
    scale = np.sqrt(np.diag(precision))
    partial = np.abs(precision / np.outer(scale, scale))
    return (pd.DataFrame(np.nan_to_num(m), genes, genes) for m in (rho, partial))


def precision_of_findings(pairs: pd.DataFrame) -> dict[str, object]:
    """Of pairs that are findings, how many are links, beside all that were tested."""
    tested = pairs[pairs["tested"].eq(True)]
    found = tested[tested["finding"].eq(True)]
    row: dict[str, object] = {"tested": len(tested), "findings": len(found)}
    for truth in ("direct", "any"):
        row[truth] = float(found[truth].mean()) if len(found) else None
        row[f"{truth}_base"] = float(tested[truth].mean()) if len(tested) else None
    return row
