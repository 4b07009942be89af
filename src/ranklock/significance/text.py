"""Tests in words, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ranklock.arms import ARMS, Role, role_of
from ranklock.significance.combinations import NAME as COMBINATIONS
from ranklock.significance.combinations import TABLE as COMBINATIONS_TABLE
from ranklock.significance.responders import NAME as RESPONDERS
from ranklock.significance.responders import Responders, read_responders
from ranklock.significance.results import sections_in
from ranklock.significance.shift_tables import UNSIGNED
from ranklock.significance.shifts import NAME as SHIFTS
from ranklock.significance.shifts import Shifts, read_shifts
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
        if name == RESPONDERS:
            lines += describe_responders(read_responders(folder), top)
        elif name == SHIFTS:
            lines += describe_shifts(read_shifts(folder), top)
        elif name == COMBINATIONS:
            lines += describe_combinations(pd.read_parquet(Path(folder) / COMBINATIONS_TABLE), top)
    return lines


def describe_responders(responders: Responders, top: int = 10) -> list[str]:
    """Which responders stand out, and how far to believe it, a line each.

    Parameters
    ----------
    responders
        The tested pairs.
    top
        How many of the surest pairs to list of each kind of perturbation.
    """
    donor = responders.manifest["asked"]["donor"]
    lines = [f"Specific effects in {_cells(responders.manifest, donor)}:"]
    calibration = responders.calibration
    for label, row in zip(_padded(responders.tests), _rows(calibration), strict=True):
        lines.append(
            f"  {label}  {row.found:,} of {row.tested:,} pairs ({row.larger:,} larger than "
            f"expected){_role(row.arm)}; with perturbations swapped for rank-matched ones "
            f"{row.swapped_found:,}"
        )
    arm = responders.first_arm
    for label, (kind, _) in responders.tests.items():
        if responders.tests[label][1] != arm:
            continue
        findings = responders.findings(arm, kind)
        if findings.empty:
            lines.append(f"Under {label}, no pair moves significantly more than expected.")
            continue
        lines.append(f"Surest under {label}, of {len(findings):,} that move more than expected:")
        for row in _rows(findings.head(top)):
            pair = f"{row.gene} → {row.responder}"
            lines.append(
                f"  {pair:28} ×{10**row.specific:.2f} of what is expected  q {row.q:.1e}  "
                f"{row.n_cells} cells"
            )
    return lines + _notes(responders.statements, len(calibration), donor)


def describe_shifts(shifts: Shifts, top: int = 10) -> list[str]:
    """Which perturbations shift cells, and how far to believe it, a line each.

    Parameters
    ----------
    shifts
        The tested shifts.
    top
        How many of the surest genes to list of each kind and quantity.
    """
    donor = shifts.manifest["asked"]["donor"]
    lines = [f"Shifts beyond rank-matched perturbations in {_cells(shifts.manifest, donor)}:"]
    calibration = shifts.calibration
    for label, row in zip(_padded(shifts.tests), _rows(calibration), strict=True):
        larger = f" ({row.findings:,} larger than expected)" if row.quantity in UNSIGNED else ""
        lines.append(
            f"  {label}  {row.found:,} of {row.tested:,} genes{larger}{_role(row.arm)}; with "
            f"perturbations swapped for rank-matched ones {row.swapped_found:,}"
        )
    arm = shifts.first_arm
    for label, test in shifts.tests.items():
        if test[1] == arm:
            lines += _surest(shifts, label, test, top)
    return lines + _notes(shifts.manifest["statements"], len(calibration), donor)


def _surest(shifts: Shifts, label: str, test: tuple[str, str, str], top: int) -> list[str]:
    """The surest genes of a test, each with its shift under the kinds beside it."""
    kind, arm, quantity = test
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
    """Sets of genes against the sums of their genes' own shifts, a line each.

    Parameters
    ----------
    table
        From :func:`ranklock.combinations`.
    top
        How many to list.
    """
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


def _cells(manifest: Mapping[str, object], donor: str | None) -> str:
    replicates = f"replicates: {manifest['replicates']} {donor}" if donor else "each a replicate"
    return (
        f"{manifest['cells']} cells ({replicates}), significant at a false-discovery rate of "
        f"{FALSE_DISCOVERIES:.0%}"
    )


def _padded(labels: Mapping[str, object]) -> list[str]:
    width = max(map(len, labels))
    return [f"{label:{width}}" for label in labels]


def _role(arm: str) -> str:
    return ", the placebo" if arm in ARMS and role_of(arm) is Role.PLACEBO else ""


def _notes(statements: Mapping[str, Sequence[str]], tests: int, donor: str | None) -> list[str]:
    """Each statement once, with what it is about where that is not everything."""
    labels: dict[str, list[str]] = {}
    for label, sentences in statements.items():
        for sentence in sentences:
            labels.setdefault(sentence, []).append(label)
    lines = []
    for sentence, about in labels.items():
        named = "; ".join(about) if len(about) <= _NAMED else f"of {len(about)} of {tests} tests"
        lines.append(f"note: {sentence}" + (f" ({named})" if len(about) < tests else ""))
    return lines + [_EACH_A_REPLICATE] * (donor is None)
