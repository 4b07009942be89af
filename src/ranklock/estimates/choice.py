"""Which knock-outs are measured exactly: the largest, the suspicious, and some at random.

An attribution fails in two ways (Kramár et al., AtP*, arXiv:2403.00745). A key that holds nearly
all of some query's attention has no derivative there; and parts of different layers and heads may
cancel to first order though the whole does not. The first shows in the largest attention that a
gene gets, the second in the sum of the parts' absolute values. A third failure is a gene that
writes more into others than all else that they hold: norms behind it then hide what it does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.statistics.grouped import GroupedMoments

SATURATED = 0.95  # of a query's attention on one key: its removal is no small change
DOMINANT = 1.0  # of what others hold: a norm makes of its removal anything but a line
DISAGREEING = 0.9  # correlation of derivative and removal below which a cell is looked at
LARGEST, SUSPICIOUS, RANDOM = "largest", "suspicious", "random"


def gene_means(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Estimates of each gene over cells, by token, ascending, from tables as parts hold them.

    ``estimate``, ``gross`` and ``gene_rank`` (means), ``deviation`` (of the estimate between
    cells), ``peak`` and ``dominance`` (maxima), and ``n_cells``.
    """
    moments = GroupedMoments()
    peaks: list[pd.DataFrame] = []
    for table in tables:
        moments.add(table["token"], table[["estimate", "gross", "gene_rank"]])
        by_token = table.groupby("token")
        most = by_token[["peak", "dominance"]].max()
        peaks = [pd.concat([*peaks, most]).groupby(level=0).max()]
    means = moments.means()
    return means.assign(
        deviation=np.sqrt(moments.variances()["estimate"]),
        peak=peaks[0]["peak"],
        dominance=peaks[0]["dominance"],
        n_cells=moments.counts()["gene_rank"],
    ).rename_axis("token")


def choose_genes(
    means: pd.DataFrame, verify: int, recheck: int, min_cells: int, seed: int
) -> tuple[pd.Series, int]:
    """Which genes are measured exactly, and why.

    Of genes in ``min_cells`` or more: the ``verify`` largest by absolute estimate, of suspicious
    ones half as many at most, and of the others ``recheck`` at random.

    Returns
    -------
    Token → ``largest``, ``suspicious`` or ``random``; and how many suspicious ones there were.
    """
    eligible = means[means["n_cells"] >= min_cells]
    by_size = eligible["estimate"].abs().sort_values(ascending=False, kind="stable")
    largest = by_size.index[:verify]
    unchosen = eligible.drop(largest)
    suspects = _suspects(eligible, unchosen, verify)
    suspicious = suspects[: -(-verify // 2)]
    remainder = unchosen.index.drop(suspicious).to_numpy()
    drawn = np.random.default_rng(seed).permutation(remainder)[:recheck]
    tokens = np.concatenate([largest, suspicious, np.sort(drawn)]).astype(int)
    reasons = np.repeat([LARGEST, SUSPICIOUS, RANDOM], [len(largest), len(suspicious), len(drawn)])
    return pd.Series(reasons, pd.Index(tokens, name="token"), dtype=object), len(suspects)


def _suspects(eligible: pd.DataFrame, unchosen: pd.DataFrame, verify: int) -> list[int]:
    """Suspicious genes, each once: the worst of every kind in turn."""
    gross = eligible["gross"].sort_values(ascending=False, kind="stable").index[:verify]
    marks = {
        "dominance": unchosen["dominance"] >= DOMINANT,
        "peak": unchosen["peak"] >= SATURATED,
        "gross": pd.Series(unchosen.index.isin(gross), unchosen.index),
    }
    kinds = [
        unchosen[mark].sort_values(name, ascending=False, kind="stable").index.tolist()
        for name, mark in marks.items()
    ]
    in_turn = (token for worst in zip_longest(*kinds) for token in worst if token is not None)
    return list(dict.fromkeys(in_turn))


def order_of_cells(names: Sequence[str], seed: int) -> npt.NDArray[np.uint64]:
    """A random order of cells that depends on their names and not on their places."""
    digests = (hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in names)
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)


def choose_pairs(
    tables: Iterable[pd.DataFrame], genes: npt.ArrayLike, order: npt.NDArray[np.uint64], most: int
) -> pd.DataFrame:
    """In which cells the chosen genes are knocked out.

    Of each gene, ``most`` cells: the first in the order that have it, a random sample of these. Of
    cells where derivative and removal disagree, as many again, with all of the chosen genes in
    them.

    Returns
    -------
    The rows of the tables, in order of cell and rank, with ``sampled``, whether they are of the
    random sample.
    """
    sample = doubtful = pd.DataFrame()
    for table in tables:
        rows = table[table["token"].isin(np.asarray(genes))]
        rows = rows.assign(order=order[rows["cell"].to_numpy()])
        ordered = pd.concat([sample, rows]).sort_values("order", kind="stable")
        sample = ordered.groupby("token", sort=False).head(most)
        doubtful = pd.concat([doubtful, rows[rows["agreement"] < DISAGREEING]])
        first = doubtful.drop_duplicates("cell").sort_values("order")["cell"][:most]
        doubtful = doubtful[doubtful["cell"].isin(first)]
    pairs = pd.concat([sample.assign(sampled=True), doubtful.assign(sampled=False)])
    pairs = pairs.drop_duplicates(["cell", "token"]).drop(columns="order")
    return pairs.sort_values(["cell", "gene_rank"], ignore_index=True)
