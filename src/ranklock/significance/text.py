"""Tests in words, for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ranklock.significance.claims import TESTED
from ranklock.significance.combinations import TABLE as COMBINATIONS_TABLE
from ranklock.significance.responders import Responders
from ranklock.significance.results import Results, sections_in
from ranklock.significance.shifts import Shifts
from ranklock.statistics.significance import FALSE_DISCOVERIES

_OF_ONE_GENE = 3  # findings that are listed


def describe_tests(folder: str | Path, top: int = 10) -> list[str]:
    """What the tests in a folder found, and how far to believe it, a line each.

    Parameters
    ----------
    folder
        That ``ranklock test`` or ``save`` wrote.
    top
        How many of the largest findings to list of each kind.

    Raises
    ------
    OutputError
        When it holds no tests, or a file in it was damaged or changed.
    """
    lines: list[str] = []
    for name in sections_in(folder):
        if name == Responders.NAME:
            lines += describe_responders(Responders.read(folder), top)
        elif name == Shifts.NAME:
            lines += describe_shifts(Shifts.read(folder), top)
        else:
            lines += describe_combinations(pd.read_parquet(Path(folder) / COMBINATIONS_TABLE), top)
    return lines


def describe_responders(responders: Responders, top: int = 10) -> list[str]:
    """Which responders move more than under impostors, a line each."""
    lines = [
        f"Responders that move more than ×{_minimum(responders)} as far as under impostors "
        f"({_design(responders)}):",
        *_counts(responders, "pairs"),
    ]
    for label, (kind, arm) in responders.tests.items():
        findings = responders.findings(arm, kind)
        if arm != responders.first_arm or findings.empty:
            continue
        # One gene with many findings would fill the list.
        few = findings[findings.groupby("gene", observed=True).cumcount() < _OF_ONE_GENE]
        several = findings["gene"].nunique() > 1
        lines.append(
            f"The largest under {label}{f', at most {_OF_ONE_GENE} a gene' if several else ''}:"
        )
        for row in (few if several else findings).head(top).itertuples(index=False):
            pair = f"{row.gene} → {row.responder}"
            lines.append(f"  {pair:28} {_size(row)}  {_certainty(row)}")
    genes = responders.genes[responders.genes["arm"] == responders.first_arm]
    return [*lines, *_untested(genes), *_notes(responders)]


def describe_shifts(shifts: Shifts, top: int = 10) -> list[str]:
    """Which perturbations shift cells more than impostors do, a line each."""
    lines = [
        f"Shifts of more than ×{_minimum(shifts)} those of impostors ({_design(shifts)}):",
        *_counts(shifts, "genes"),
    ]
    for label, (kind, arm, quantity) in shifts.tests.items():
        findings = shifts.findings(arm, quantity, kind)
        if arm != shifts.first_arm or findings.empty:
            continue
        lines.append(f"The largest under {label}:")
        for row in findings.head(top).itertuples(index=False):
            lines.append(f"  {row.gene:12} {row.shift:+.2e}  {_size(row)}  {_certainty(row)}")
    lines += _directions(shifts.directions, top)
    first = shifts.table[
        (shifts.table["arm"] == shifts.first_arm)
        & (shifts.table["quantity"] == shifts.quantities[0])
    ]
    return [*lines, *_untested(first), *_notes(shifts)]


def _counts(results: Results, claims: str) -> list[str]:
    """What each test found, beside what it finds in the null model."""
    width = max(map(len, results.tests))
    lines = []
    for label, row in zip(results.tests, results.summary.itertuples(index=False), strict=True):
        null = ""
        if row.null_tested is not None and row.null_tested == row.null_tested:
            null = f"; the null model has {int(row.null_found):,} of {int(row.null_tested):,}"
        lines.append(f"  {label:{width}}  {row.found:,} of {row.tested:,} {claims}{null}")
    return lines


def _size(row: Any) -> str:
    if row.fold < 0:
        return f"×{abs(row.fold):.2f} away [{abs(row.fold_high):.2f}, {abs(row.fold_low):.2f}]"
    return f"×{row.fold:.2f} [{row.fold_low:.2f}, {row.fold_high:.2f}]"


def _certainty(row: Any) -> str:
    null = f"  null {row.null_rate:.2g}" if row.null_rate == row.null_rate else ""
    replicates = f", {row.n_replicates} replicates" if row.n_replicates != row.n_cells else ""
    return f"q {row.q:.1e}{null}  {row.n_cells} cells{replicates}"


def _directions(table: pd.DataFrame, top: int) -> list[str]:
    """Genes whose two perturbations go opposite ways in more cells than impostors' do."""
    lines = []
    for (state, kind, other), rows in table.groupby(["state", "kind", "other_kind"], sort=False):
        found = rows[rows["q"] <= FALSE_DISCOVERIES].sort_values("difference", ascending=False)
        lines.append(
            f"{kind} and {other} turn cells opposite ways to {state} in more cells than impostors' "
            f"do: {len(found):,} of {rows['p'].notna().sum():,} genes"
        )
        lines += [
            f"  {row.gene:12} in {row.reversed:.0%} of cells, impostors in "
            f"{row.reversed_of_impostors:.0%}  q {row.q:.1e}  {row.n_cells} cells"
            for row in found.head(top).itertuples(index=False)
        ]
    return lines


def _untested(rows: pd.DataFrame) -> list[str]:
    """How many genes were not tested, and why."""
    reasons = rows.loc[rows["status"] != TESTED, "status"].astype(str).value_counts()
    if reasons.empty:
        return []
    listed = "; ".join(
        f"{count:,}: {reason.removeprefix('not tested: ')}"
        for reason, count in reasons.head(3).items()
    )
    more = "; …" if len(reasons) > 3 else ""
    return [f"Not tested, which says nothing either way: {reasons.sum():,} genes ({listed}{more})"]


def describe_combinations(table: pd.DataFrame, top: int = 10) -> list[str]:
    """Sets of genes against the sums of their genes' own shifts, a line each."""
    lines = ["Genes perturbed together, against the sum of what each does alone:"]
    for row in table.head(top).itertuples(index=False):
        q = f"q {row.q:.1e}" if row.q == row.q else "not tested"
        lines.append(
            f"  {row.kind} {row.arm:8} {row.gene:24} {row.shift:.2e} against "
            f"{row.sum_of_singles:.2e} ({row.beyond_sum:+.1e}, {q}, {row.n_cells} cells)"
        )
    return lines


def _minimum(results: Results) -> str:
    return f"{results.manifest['asked']['minimum']:g}"


def _design(results: Results) -> str:
    manifest = results.manifest
    donor = manifest["asked"]["donor"]
    replicates = f", {manifest['replicates']} {donor} as replicates" if donor else ""
    how = (
        "exact signed-rank tests, Holm" if manifest["asked"]["exact"] else "moderated t tests, FDR"
    )
    return f"{manifest['cells']} cells{replicates}, {manifest['impostors']} impostors, {how} 5 %"


def _notes(results: Results) -> list[str]:
    return [f"note: {note}" for note in results.notes]
