"""Knock-out and overexpression of a gene together: do they turn cells opposite ways.

Reversed signs alone say little: perturbing any gene, up or down, may reverse as often. So it is
asked whether the gene's signs are reversed in more cells than its impostors' are.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from ranklock.arms import edit_arm
from ranklock.kinds import find_kind
from ranklock.run import fields as f
from ranklock.run.run import Run
from ranklock.significance.claims import Rule
from ranklock.statistics.minimum import Means, moderated_test
from ranklock.statistics.significance import false_discovery_rates

_COLUMNS = ["gene", "gene_id", "state", "kind", "other_kind", "arm", "times", "other_times",
            "reversed", "reversed_of_impostors", "difference", "p", "q", "n_cells", "n_replicates",
            "impostor_times", "impostor_other_times"]  # fmt: skip


def directions_of(run: Run, replicates: pd.Series, rule: Rule) -> pd.DataFrame:
    """Whether two kinds of perturbation of a gene turn cells opposite ways.

    Parameters
    ----------
    run
        With states, and two kinds of perturbation.
    replicates
        Cell's name → its replicate.
    rule
        How many cells and replicates a gene needs.

    Returns
    -------
    One row a gene, state and pair of kinds, under the edit alone: ``times`` and ``other_times``,
    the mean shift of each kind in root mean squares of impostors'; ``reversed``: share of cells in
    which the two have opposite signs, and ``reversed_of_impostors``, the same of the impostors that
    stand in the gene's place, each compared with itself; ``difference``, with a one-sided moderated
    t test over replicates (``p``, ``q`` within state and pair) that it is above zero.
    ``impostor_times``, ``impostor_other_times``: lists of the impostors' own. Empty where the run
    has no such pair, or no states.
    """
    pairs = [
        (first, second)
        for first, second in combinations(run.kinds, 2)
        if _opposite(first, second) and _arm(run, first) and _arm(run, second)
    ]
    if not pairs or not run.states:
        return pd.DataFrame(columns=_COLUMNS)
    parts = [_of_pair(run, pair, state, replicates, rule) for pair in pairs for state in run.states]
    return pd.concat(parts, ignore_index=True)[_COLUMNS]


def _opposite(first: str, second: str) -> bool:
    """Whether one takes a gene out and the other moves it up."""
    kinds = {name: find_kind(name) for name in (first, second)}
    return sum(not kind.moves for kind in kinds.values()) == 1


def _arm(run: Run, kind: str) -> str | None:
    return edit_arm(run.compared(kind))


def _of_pair(
    run: Run, pair: tuple[str, str], state: str, replicates: pd.Series, rule: Rule
) -> pd.DataFrame:
    column = f.towards(state)
    genes = _joined(run.shifts, run, pair, [column, f"{column}_{f.FOLD.name}"], [])
    others = _joined(run.impostors, run, pair, [column], ["impostor_id"])
    in_cell = ["cell", "gene_id", "gene"]
    usual = others.assign(
        first=others[column] / _root_mean_square(others, column),
        second=others[f"{column}_other"] / _root_mean_square(others, f"{column}_other"),
        reversed=_reversed(others, column),
    )
    fold = f"{column}_{f.FOLD.name}"
    cells = genes.assign(reversed=_reversed(genes, column)).merge(
        usual.groupby(in_cell, as_index=False).agg(of_impostors=("reversed", "mean")), on=in_cell
    )
    cells["replicate"] = cells["cell"].map(replicates)
    cells = cells.dropna(subset=["replicate", "reversed", "of_impostors"])
    cells["difference"] = cells["reversed"] - cells["of_impostors"]
    table = cells.groupby(["gene_id", "gene"], as_index=False).agg(
        times=(fold, "mean"), other_times=(f"{fold}_other", "mean"),
        reversed=("reversed", "mean"), reversed_of_impostors=("of_impostors", "mean"),
        n_cells=("cell", "nunique"), n_replicates=("replicate", "nunique"),
    )  # fmt: skip
    of_replicates = cells.groupby(["gene_id", "replicate"])["difference"].mean()
    by_gene = of_replicates.groupby("gene_id").agg(["mean", "var", "count"]).loc[table["gene_id"]]
    enough = (table["n_cells"] >= rule.min_cells).to_numpy()
    mean = by_gene["mean"].to_numpy(np.float64)
    means = Means(
        np.where(enough, mean, np.nan),
        by_gene["var"].to_numpy(np.float64),
        by_gene["count"].to_numpy(np.int64),
    )
    p = moderated_test(means, 0.0, rule.fewest).p
    arm = str(_arm(run, pair[0]))
    clouds = usual.groupby("gene_id")[["first", "second"]].agg(list).reindex(table["gene_id"])
    return table.assign(
        difference=mean, p=p, q=false_discovery_rates(p), state=state, arm=arm, kind=pair[0],
        other_kind=pair[1], impostor_times=clouds["first"].to_numpy(),
        impostor_other_times=clouds["second"].to_numpy(),
    )  # fmt: skip


def _joined(
    rows: pd.DataFrame, run: Run, pair: tuple[str, str], columns: list[str], keys: list[str]
) -> pd.DataFrame:
    """Rows of both kinds side by side, those of the second with ``_other``."""
    on = ["cell", "gene_id", "gene", *keys]
    sides = []
    for kind in pair:
        part = rows[(rows["kind"] == kind) & (rows["arm"] == _arm(run, kind))]
        sides.append(part[[*on, *columns]].astype(dict.fromkeys(on, str)))
    return sides[0].merge(sides[1], on=on, suffixes=("", "_other"))


def _root_mean_square(rows: pd.DataFrame, column: str) -> pd.Series:
    """Of the impostors of each task."""
    squares = rows[column].pow(2).groupby([rows["cell"], rows["gene_id"]])
    return squares.transform("mean").pow(0.5)


def _reversed(rows: pd.DataFrame, column: str) -> pd.Series:
    """Whether signs are opposite: 1 or 0, ½ where one is zero, NaN where one is not known."""
    product = np.sign(rows[column]) * np.sign(rows[f"{column}_other"])
    return (1.0 - product) / 2.0
