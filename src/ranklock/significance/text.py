"""Tests in words, for a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from ranklock.arms import ARMS, Role, role_of
from ranklock.significance.combinations import TABLE as COMBINATIONS_TABLE
from ranklock.significance.responders import Responders
from ranklock.significance.results import Results, sections_in
from ranklock.significance.shift_tables import UNSIGNED
from ranklock.significance.shifts import Shifts
from ranklock.statistics.significance import FALSE_DISCOVERIES

_NAMED = 4  # tests that a note names, at most
_EACH_A_REPLICATE = (
    "note: each cell counts as a replicate; where cells come from several donors, name their "
    "column with --donor."
)


def describe_tests(folder: str | Path, top: int = 10) -> list[str]:
    """What the tests in a folder found, and how far to believe it, a line each.

    Parameters
    ----------
    folder
        That ``ranklock test`` or ``save`` wrote.
    top
        How many of the surest to list of each kind.

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
    """Which responders stand out, and how far to believe it, a line each."""
    return [
        f"Specific effects in {_cells(responders)}:",
        *_found(responders, "pairs"),
        *_surest(responders, _surest_pairs, top),
        *_notes(responders),
    ]


def describe_shifts(shifts: Shifts, top: int = 10) -> list[str]:
    """Which perturbations shift cells, and how far to believe it, a line each."""
    return [
        f"Shifts beyond rank-matched perturbations in {_cells(shifts)}:",
        *_found(shifts, "genes"),
        *_surest(shifts, _surest_shifts, top),
        *_notes(shifts),
    ]


def _found(results: Results, tested: str) -> list[str]:
    """How many findings each test has, and has with perturbations swapped."""
    width = max(map(len, results.tests))
    column, _ = results.COUNTED
    lines = []
    for (label, test), row in zip(results.tests.items(), _rows(results.calibration), strict=True):
        signed = len(test) > 2 and test[2] not in UNSIGNED
        larger = "" if signed else f" ({getattr(row, column):,} larger than expected)"
        placebo = ", the placebo" if _is_placebo(row.arm) else ""
        lines.append(
            f"  {label:{width}}  {row.found:,} of {row.tested:,} {tested}{larger}{placebo}; with "
            f"perturbations swapped for rank-matched ones {row.swapped_found:,}"
        )
    return lines


def _surest(results: Any, lines_of: Callable[..., list[str]], top: int) -> list[str]:
    """The surest of every test under the arm that findings rest on."""
    return [
        line
        for label, test in results.tests.items()
        if test[1] == results.first_arm
        for line in lines_of(results, label, top, *test)
    ]


def _surest_pairs(responders: Responders, label: str, top: int, kind: str, arm: str) -> list[str]:
    findings = responders.findings(arm, kind)
    if findings.empty:
        return [f"Under {label}, no pair moves significantly more than expected."]
    lines = [f"Surest under {label}, of {len(findings):,} that move more than expected:"]
    for row in _rows(findings.head(top)):
        pair = f"{row.gene} → {row.responder}"
        lines.append(
            f"  {pair:28} ×{10**row.specific:.2f} of what is expected  q {row.q:.1e}  "
            f"{row.n_cells} cells"
        )
    return lines


def _surest_shifts(
    shifts: Shifts, label: str, top: int, kind: str, arm: str, quantity: str
) -> list[str]:
    """The surest genes of a test, each with its shift under the kinds beside it."""
    findings = shifts.findings(arm, quantity, kind)
    if findings.empty:
        return [f"Under {label}: no perturbation stands out."]
    lines = [f"Surest under {label}:"]
    alike = shifts.table[(shifts.table["arm"] == arm) & (shifts.table["quantity"] == quantity)]
    for row in _rows(findings.head(top)):
        beyond = f"×{10**row.specific:.2f}" if quantity in UNSIGNED else f"{row.specific:+.1e}"
        beside = "".join(
            f"  ({rival.kind}: {rival.shift:+.2e})"
            for rival in _rows(alike[(alike["gene"] == row.gene) & (alike["kind"] != kind)])
        )
        lines.append(
            f"  {row.gene:12} {row.shift:+.2e}  {beyond} beyond rank-matched  q {row.q:.1e}  "
            f"{row.n_cells} cells{beside}"
        )
    return lines


def describe_combinations(table: pd.DataFrame, top: int = 10) -> list[str]:
    """Sets of genes against the sums of their genes' own shifts, a line each."""
    lines = ["Genes perturbed together, against the sum of what each does alone:"]
    for row in _rows(table.head(top)):
        q = f"q {row.q:.1e}" if row.q == row.q else "not tested"
        lines.append(
            f"  {row.kind} {row.arm:8} {row.gene:24} {row.shift:.2e} against "
            f"{row.sum_of_singles:.2e} ({row.beyond_sum:+.1e}, {q}, {row.n_cells} cells)"
        )
    return lines


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples(index=False))


def _cells(results: Results) -> str:
    donor = results.manifest["asked"]["donor"]
    replicates = (
        f"replicates: {results.manifest['replicates']} {donor}" if donor else "each a replicate"
    )
    return (
        f"{results.manifest['cells']} cells ({replicates}), significant at a false-discovery rate "
        f"of {FALSE_DISCOVERIES:.0%}"
    )


def _is_placebo(arm: str) -> bool:
    return arm in ARMS and role_of(arm) is Role.PLACEBO


def _notes(results: Results) -> list[str]:
    """Each statement once, with what it is about where that is not everything."""
    labels: dict[str, list[str]] = {}
    for label, sentences in results.statements.items():
        for sentence in sentences:
            labels.setdefault(sentence, []).append(label)
    lines, tests = [], len(results.tests)
    for sentence, about in labels.items():
        named = "; ".join(about) if len(about) <= _NAMED else f"of {len(about)} of {tests} tests"
        lines.append(f"note: {sentence}" + (f" ({named})" if len(about) < tests else ""))
    return lines + [_EACH_A_REPLICATE] * (results.manifest["asked"]["donor"] is None)
