"""Estimates in words, for a terminal."""

from __future__ import annotations

from math import isfinite
from typing import Any

from ranklock.estimates.manifest import (
    CLASSIFIER,
    GENE_SET,
    GOAL,
    POTENCY,
    SIGNED,
    Manifest,
    Missed,
    Outcome,
)
from ranklock.estimates.result import Estimates
from ranklock.statistics.intervals import Estimate
from ranklock.statistics.missed import Recall

_ASKED = {
    GOAL: "change of the cosine from {start} to {goal}",
    CLASSIFIER: "change of the logit of {label}",
    POTENCY: "mean effect on all other genes",
    GENE_SET: "mean effect on {genes}",
}
_CHOSEN = {
    "largest": "{} of the largest estimates",
    "suspicious": "{} of {} suspicious",
    "random": "{} at random",
}
_NAMED = 5  # genes of a set


def describe_estimates(estimates: Estimates, top: int = 10) -> list[str]:
    """What was estimated, the ``top`` effects, how far to believe it, and what it missed."""
    manifest = estimates.manifest
    asked, planned, outcome = manifest.asked, manifest.planned, manifest.outcome
    lines = [
        f"{planned.knockouts:,} knock-outs estimated in {planned.cells:,} cells: "
        + _question(manifest)
    ]
    if outcome is None:
        done = f"{estimates.parts.done()} of {planned.parts}"
        return [*lines, f"Unfinished: {done} parts are estimated; the same command goes on."]
    sign = "+" if asked.question in SIGNED else ""
    lines += _largest(estimates, outcome, top, sign)
    lines += _missed(outcome.missed, asked.measuring.verify)
    lines += [f"note: {sentence}" for sentence in outcome.statements]
    lines.append(
        "note: a large effect is no finding: whether any gene in its place would have it, say "
        "`ranklock perturb --gene ... --impostors 12` and `ranklock test`."
    )
    return lines


def _question(manifest: Manifest) -> str:
    asked, states = manifest.asked, manifest.states
    start, goal = ("", "") if states is None else (states.asked.start, states.asked.goal)
    return _ASKED[asked.question].format(
        start=" or ".join(start), goal=goal, label=asked.label,
        genes=", ".join(asked.genes[:_NAMED]) + ", …" * (len(asked.genes) > _NAMED),
    )  # fmt: skip


def _largest(estimates: Estimates, outcome: Outcome, top: int, sign: str) -> list[str]:
    table = estimates.table
    numbers = table["chosen"].value_counts()
    chosen = [
        text.format(numbers[reason], outcome.suspects)
        for reason, text in _CHOSEN.items()
        if reason in numbers
    ]
    shown = table.head(top)
    lines = [f"Measured by forwards: {', '.join(chosen)}", f"The {len(shown)} largest:"]
    lines += [_gene(row, sign) for row in shown.itertuples(index=False)]
    if (shown["standard_error"] > shown["effect"].abs() / 2).any():
        lines.append("  where ± is as large as the effect, few cells make it")
    return lines


def _missed(missed: Missed, verify: int) -> list[str]:
    lines = []
    correlation = missed.correlation
    if isfinite(correlation.value):
        lines.append(
            f"Among {missed.sampled} others at random: rank correlation of estimate and exact "
            f"effect {correlation.value:.3f}{_interval(correlation)}; {missed.as_large} of them "
            f"among the largest {verify}"
        )
    recalls = [
        f"{recall.value:.0%} of the largest {recall.top}{_interval(recall, '.0%')}"
        for recall in missed.recall
        if isfinite(recall.value)
    ]
    if recalls:
        lines.append(f"Estimated to be among those measured: {', '.join(recalls)}")
    return lines


def _gene(row: Any, sign: str) -> str:
    error = f" ± {row.standard_error:.1e}" if isfinite(row.standard_error) else ""
    how = f"exact in {row.verified_in} of" if row.verified_in else "estimated in"
    cells = "cell" if row.n_cells == 1 else "cells"
    return f"  {row.gene:12} {row.effect:{sign}.2e}{error}  {how} {row.n_cells} {cells}"


def _interval(number: Estimate | Recall, shape: str = ".3f") -> str:
    known = isfinite(number.low) and isfinite(number.high)
    return f" [{number.low:{shape}}, {number.high:{shape}}]" if known else ""
