"""A run in words, for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from ranklock.effects import artefact_share
from ranklock.kinds import find_kind
from ranklock.quantities import counted
from ranklock.run import fields as f
from ranklock.run.count_noise_text import describe_count_noise
from ranklock.run.run import Run

_FEW = 4  # perturbations that are told one by one
_SHIFTS = {
    "median_shifted": "genes shifted",
    "median_unshifted": "the others",
    "cosine_distance": "cell shift",
}


def describe_run(run: Run, top: int = 10) -> list[str]:
    """What a run found so far, a line each.

    Parameters
    ----------
    run
        The run.
    top
        How many perturbations to list.
    """
    planned = run.manifest.planned
    lines = [
        f"{counted(planned.tasks, 'task')} ({', '.join(run.kinds)}) in "
        f"{counted(planned.cells, 'cell')}, arms "
        f"{', '.join(run.arms)}: "
        + ("complete" if run.complete else "{:,} of {:,} done".format(*run.progress()))
    ]
    lines += _states(run)
    if not run.complete and not run.progress()[0]:
        return [*lines, "Run the same command again to go on."]
    shifts = run.shifts
    for kind in run.kinds:
        of_kind = shifts[shifts["kind"] == kind]
        genes = of_kind["gene_id"].unique()
        if len(genes) <= _FEW:
            for gene in genes:
                lines += ["", *_told(run, of_kind[of_kind["gene_id"] == gene], kind)]
        else:
            lines += ["", f"{kind} of {len(genes):,} genes", *_arm_table(run, of_kind)]
            lines += _shares(run, of_kind)
            lines += _largest(run, of_kind, top)
        lines += _towards(run, of_kind, top)
        lines += _classes(run, of_kind, top)
    lines += _both_directions(run, top)
    lines += ["", run.manifest.computed.accuracy.said()]
    lines += describe_count_noise(run)
    left_out = len(run.manifest.genes_left_out)
    if left_out:
        lines.append(f"Genes left out: {left_out}, with the reasons in left_out.csv")
    return lines


def describe_gene(run: Run, gene: str, top: int = 10) -> list[str]:
    """What moves most when one gene is perturbed, a line each."""
    run.check_reads(f.GENES)
    lines: list[str] = []
    perturbed = run.perturbations.loc[run.perturbations_named(gene), "gene_id"]
    done = set(run.shifts.loc[run.shifts["gene_id"].isin(perturbed), "kind"])
    for kind in (kind for kind in run.kinds if kind in done):
        averages = run.effects(kind=kind, genes=[gene], average=True)
        row = averages.obs.iloc[0]
        line = (
            f"{row['gene']} ({row['gene_id']}) {find_kind(kind).participle} in "
            f"{counted(int(row['n_cells']), 'cell')}"
        )
        if np.isfinite(row["mean_gene_rank"]):  # else it was put into cells that lacked it
            line += f", at mean rank {row['mean_gene_rank']:.0f}"
        lines.append(line)
        if "artefact_share" in row:
            lines.append(f"Artefact share: {row['artefact_share']:.3f}")
        symbols = averages.var["symbol"].astype(str).to_numpy()
        counts = np.asarray(averages.layers["n_cells"][0])
        arms = run.arms_of(None, kind)
        columns = []
        for arm in arms:
            effect = np.nan_to_num(np.asarray(averages.layers[arm][0]), nan=-1.0)
            columns.append([
                f"{symbols[i]} {effect[i]:.1e} ({counts[i]})"
                for i in np.argsort(-effect, kind="stable")[:top] if effect[i] >= 0
            ])  # fmt: skip
        lines.append("Responders that move most (mean cosine distance, in so many cells):")
        lines += _side_by_side(arms, columns)
    return lines


def _told(run: Run, rows: pd.DataFrame, kind: str) -> list[str]:
    """One perturbation: where it was done, and what its arms moved."""
    first = rows.drop_duplicates("cell")
    number = len(first)
    cells = counted(number, "cell")
    line = f"{first['gene'].iloc[0]} {find_kind(kind).participle} in {cells}"
    ranks = first["gene_rank"].dropna()
    if len(ranks):
        line += f", at {_span(ranks)} of {_span(first['genes_in_cell'], '')}"
    if first["to_rank"].notna().any():
        line += f", to {_span(first['to_rank'].dropna())}"
    inserted = int(first["inserted"].sum())
    if inserted:
        line += f" (put into {inserted} that lacked it)"
    return [line, *_arm_table(run, rows), *_shares(run, rows)]


def _span(numbers: pd.Series, word: str = "rank") -> str:
    low, high = int(numbers.min()), int(numbers.max())
    if low == high:
        return f"{word} {low}".strip()
    return f"{word}s {low} to {high}" if word else f"{low} to {high}"


def _arm_table(run: Run, rows: pd.DataFrame) -> list[str]:
    shown = [name for name in _SHIFTS if name in rows]
    if not shown:
        return []
    heads = "".join(f"{_SHIFTS[name]:>15}" for name in shown)
    lines = [f"  {'arm':<16}{heads}   (median cosine distance)"]
    for arm in run.arms_of(None, str(rows["kind"].iloc[0])):
        medians = rows.loc[rows["arm"] == arm, shown].median()
        numbers = "".join(f"{'–' if np.isnan(n) else format(n, '.2e'):>15}" for n in medians)
        lines.append(f"  {arm:<16}{numbers}")
    return lines


def _shares(run: Run, rows: pd.DataFrame) -> list[str]:
    if "shift_along_total" not in rows:
        return []
    lines = []
    for arm in run.manifest.decomposed:
        sums = rows.loc[rows["arm"] == arm, ["shift_along_total", "displacement_squared"]].sum()
        share = float(artefact_share(*(np.asarray(number) for number in sums)))
        if np.isfinite(share):
            lines.append(
                f"  Artefact share of {arm}: {share:.3f} of the genes' squared displacement is "
                "rank shift."
            )
    return lines


def _means(rows: pd.DataFrame, column: str, arm: str) -> pd.DataFrame:
    """Mean over cells of a column of each gene under an arm, and in how many cells."""
    grouped = rows[rows["arm"] == arm].groupby("gene", observed=True)[column]
    return pd.DataFrame({"mean": grouped.mean(), "cells": grouped.count()}).dropna()


def _largest(run: Run, rows: pd.DataFrame, top: int) -> list[str]:
    """Perturbations that shift the cell most, arm beside arm."""
    if "cosine_distance" not in rows:
        return []
    arms = run.arms_of(None, str(rows["kind"].iloc[0]))
    columns = [
        [f"{gene} {row['mean']:.1e} ({row['cells']:.0f})" for gene, row in
         _means(rows, "cosine_distance", arm).nlargest(top, "mean").iterrows()]
        for arm in arms
    ]  # fmt: skip
    head = "Those that shift the cell most (mean cosine distance, in so many cells):"
    return [head, *_side_by_side(arms, columns)]


def _towards(run: Run, rows: pd.DataFrame, top: int) -> list[str]:
    """Perturbations that turn the cell most towards each state, and away from it."""
    lines = []
    arms = run.arms_of(None, str(rows["kind"].iloc[0]))
    for state in run.states:
        columns = []
        for arm in arms:
            means = _means(rows, f.towards(state), arm).sort_values("mean", ascending=False)
            ends = means if len(means) <= top else pd.concat(
                [means.head(-(-top // 2)), means.tail(top // 2)]
            )  # fmt: skip
            columns.append([f"{gene} {row['mean']:+.1e} ({row['cells']:.0f})"
                            for gene, row in ends.iterrows()])  # fmt: skip
        lines.append(
            f"Towards {_state_name(run, state)}, + nearer (mean rise of the cosine, cells):"
        )
        lines += _side_by_side(arms, columns)
    return lines


def _classes(run: Run, rows: pd.DataFrame, top: int) -> list[str]:
    """Perturbations that change a class's probability most."""
    lines = []
    arms = run.arms_of(None, str(rows["kind"].iloc[0]))
    for label in run.labels:
        change = rows[f.probability(label, "after")] - rows[f.probability(label, "before")]
        rows = rows.assign(change=change)
        columns = []
        for arm in arms:
            means = _means(rows, "change", arm)
            order = means["mean"].abs().sort_values(ascending=False).index[:top]
            columns.append([f"{gene} {means.loc[gene, 'mean']:+.1e}" for gene in order])
        lines.append(f"Probability of {label} (mean change):")
        lines += _side_by_side(arms, columns)
    return lines


def _both_directions(run: Run, top: int) -> list[str]:
    """Genes that were knocked out and moved: both shifts towards each state, side by side."""
    if len(run.kinds) < 2 or not run.states:
        return []
    lines: list[str] = []
    shifts = run.shifts
    for state in run.states:
        table = pd.DataFrame({
            kind: _means(shifts[shifts["kind"] == kind], f.towards(state), arm)["mean"]
            for kind in run.kinds
            for arm in run.arms_of(None, kind)[:1]
        }).dropna()  # fmt: skip
        if table.empty:
            continue
        order = table.abs().min(axis=1).sort_values(ascending=False).index[:top]
        lines.append(
            f"Both ways towards {_state_name(run, state)} (mean rise of the cosine, the first arm "
            "of each):"
        )
        lines.append("  " + f"{'gene':<16}" + "".join(f"{kind:>16}" for kind in table))
        lines += [
            f"  {gene:<16}" + "".join(f"{table.loc[gene, kind]:>+16.1e}" for kind in table)
            for gene in order
        ]
    return ["", *lines] if lines else []


def _states(run: Run) -> list[str]:
    """How many cells are behind every state."""
    states = run.manifest.states
    if states is None:
        return []
    lines = [f"From {' or '.join(states.asked.start)} ({states.asked.key}):"]
    for name in states.names:
        counts = [entry for entry in states.cells if entry.state == _state_name(run, name)]
        if not counts:
            lines.append(f"  towards {_state_name(run, name)}: embeddings from "
                         f"{states.asked.embeddings}")  # fmt: skip
        for entry in counts:
            donor = "" if entry.donor is None else f" of {entry.donor}"
            drawn = "" if entry.cells == entry.drawn_of else f" (of {entry.drawn_of:,})"
            lines.append(f"  towards {entry.state}{donor}: {states.asked.average} of "
                         f"{entry.cells:,} cells{drawn}")  # fmt: skip
    lines += [
        f"  left out: {entry.cells:,} cells of {entry.donor or 'no donor'}"
        for entry in states.left_out
    ]
    return lines


def _state_name(run: Run, name: str) -> str:
    states = run.manifest.states
    goal = states is not None and name == states.names[0]
    return states.asked.goal if states is not None and goal else name


def _side_by_side(heads: Iterable[str], columns: Sequence[Sequence[str]]) -> list[str]:
    width = max([24, *(len(entry) + 2 for column in columns for entry in column)])
    lines = ["  " + "".join(f"{head:<{width}}" for head in heads).rstrip()]
    for place in range(max(map(len, columns), default=0)):
        row = [column[place] if place < len(column) else "" for column in columns]
        lines.append("  " + "".join(f"{entry:<{width}}" for entry in row).rstrip())
    return lines
