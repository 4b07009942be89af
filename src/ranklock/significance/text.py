"""Claims in words, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ranklock.estimates.result import Screen
from ranklock.significance.responders import Responders
from ranklock.significance.shift_tables import CELL_SHIFT
from ranklock.significance.shifts import Knockouts
from ranklock.statistics.significance import FALSE_DISCOVERIES

_PLACEBO = "shift"
_EACH_A_REPLICATE = (
    "note: each cell counts as a replicate; where cells come from several donors, name their "
    "column with --donor."
)
_ASKED = {
    "goal": "change of the cosine from {start} to {goal}",
    "classifier": "change of the logit of {label}",
    "potency": "mean effect on all other genes",
    "gene set": "mean effect on {genes}",
}
_CHOSEN = {
    "largest": "of the largest estimates", "suspicious": "suspicious",
    "random": "at random",
}  # fmt: skip


def describe_responders(found: Responders, top: int = 10, genes: Sequence[str] = ()) -> list[str]:
    """What was found, and how far to believe it, a line each.

    Parameters
    ----------
    found
        The claims.
    top
        How many of the surest pairs to list.
    genes
        Only those of these knock-outs, by symbol or Ensembl ID; all by default.
    """
    manifest = found.manifest
    donor = manifest["asked"]["donor"]
    replicates = f"replicates: {manifest['replicates']} {donor}" if donor else "each a replicate"
    lines = [
        f"Specific effects in {manifest['cells']} cells ({replicates}), significant at a "
        f"false-discovery rate of {FALSE_DISCOVERIES:.0%}:"
    ]
    width = max(len(arm) for arm in found.arms)
    for row in found.calibration.itertuples(index=False):
        note = ", the placebo" if row.arm == _PLACEBO else ""
        lines.append(
            f"  {row.arm:{width}}  {row.found:,} of {row.tested:,} pairs{note}; with knock-outs "
            f"swapped for rank-matched ones {row.swapped_found:,}"
        )
    arm = found.first_arm
    claims = found.claims(arm)
    if genes:
        claims = claims[claims["gene"].isin(list(genes)) | claims["gene_id"].isin(list(genes))]
    if len(claims):
        lines.append(f"Surest under {arm}, of {len(claims):,} that move more than expected:")
        for row in claims.head(top).itertuples(index=False):
            pair = f"{row.gene} → {row.responder}"
            lines.append(
                f"  {pair:28} ×{10**row.specific:.2f} of what is expected  q {row.q:.1e}  "
                f"{row.n_cells} cells"
            )
    else:
        lines.append(f"Under {arm}, no pair moves significantly more than expected.")
    return lines + _notes(found.statements, len(found.arms), donor)


def describe_knockouts(found: Knockouts, top: int = 10) -> list[str]:
    """Which knock-outs shift cells, and how far to believe it, a line each.

    Parameters
    ----------
    found
        The tested shifts.
    top
        How many of the surest knock-outs to list of each quantity.
    """
    manifest = found.manifest
    donor = manifest["asked"]["donor"]
    replicates = f"replicates: {manifest['replicates']} {donor}" if donor else "each a replicate"
    lines = [
        f"Shifts beyond rank-matched knock-outs in {manifest['cells']} cells ({replicates}), "
        f"significant at a false-discovery rate of {FALSE_DISCOVERIES:.0%}:"
    ]
    labels = [f"{row.arm}, {row.quantity}" for row in found.calibration.itertuples(index=False)]
    width = max(len(label) for label in labels)
    for label, row in zip(labels, found.calibration.itertuples(index=False), strict=True):
        note = ", the placebo" if row.arm == _PLACEBO else ""
        lines.append(
            f"  {label:{width}}  {row.found:,} of {row.tested:,} genes{note}; with knock-outs "
            f"swapped for rank-matched ones {row.swapped_found:,}"
        )
    arm = "hold" if "hold" in found.arms else found.arms[0]
    quantities = dict.fromkeys(found.calibration["quantity"])
    for quantity in quantities:
        rows = found.claims(arm, quantity)
        if rows.empty:
            lines.append(f"Under {arm}, no knock-out stands out ({quantity}).")
            continue
        lines.append(f"Surest under {arm}, {quantity}:")
        for row in rows.head(top).itertuples(index=False):
            beyond = (
                f"×{10**row.specific:.2f}" if quantity == CELL_SHIFT else f"{row.specific:+.1e}"
            )
            lines.append(
                f"  {row.gene:12} {row.shift:+.2e}  {beyond} beyond rank-matched  q {row.q:.1e}  "
                f"{row.n_cells} cells"
            )
    return lines + _notes(manifest["statements"], len(labels), donor)


def describe_screen(found: Screen, top: int = 10) -> list[str]:
    """What a screen found, how far to believe it, and what it missed, a line each.

    Parameters
    ----------
    found
        The screen, finished or not.
    top
        How many of the largest effects to list.
    """
    manifest = found.manifest
    asked, plan = manifest["asked"], manifest["plan"]
    lines = [
        f"Screen of {plan['knockouts']:,} knock-outs in {plan['cells']:,} cells: "
        + _ASKED[asked["question"]].format(
            label=asked.get("label"), genes=", ".join(asked.get("genes", [])[:5]),
            **{end: asked.get("states", {}).get(end) for end in ("start", "goal")},
        )
    ]  # fmt: skip
    if not found.complete:
        done = f"{found.parts.done()} of {plan['parts']}"
        return [*lines, f"Unfinished: {done} parts are estimated; the same command goes on."]
    table = found.table
    sign = "+" if asked["question"] in ("goal", "classifier") else ""
    chosen = table["chosen"].value_counts()
    of = [f"{chosen[why]} {said}" for why, said in _CHOSEN.items() if why in chosen]
    of = [text.replace("suspicious", f"of {manifest['suspects']} suspicious") for text in of]
    lines.append(f"Measured by forwards: {', '.join(of)}")
    lines.append(f"The {min(top, len(table))} largest:")
    shown = table.head(top)
    lines += [_screened(row, sign) for row in shown.itertuples(index=False)]
    if (shown["standard_error"] > shown["effect"].abs() / 2).any():
        lines.append("  where ± is as large as the effect, few cells make it: look at the surest")
    tested = manifest["calibration"]
    if tested["tested"]:
        claims = found.claims()
        surest = claims if sign else claims[claims["specific"] > 0]
        lines.append(
            f"Different from other genes at like ranks, at a false-discovery rate of "
            f"{FALSE_DISCOVERIES:.0%}: {tested['found']:,} of {tested['tested']:,}; with genes "
            f"swapped for rank-matched ones {tested['swapped_found']:,}"
        )
        if len(surest):
            lines.append("The surest:" if sign else f"The surest of {len(surest):,} that do more:")
        for row in surest.head(top).itertuples(index=False):
            beyond = f"{row.specific:+.1e} beyond" if sign else f"×{10**row.specific:.2f} of"
            lines.append(f"{_screened(row, sign)}  {beyond} theirs")
    if asked["donor"] is not None:
        lines.append("  ± is over cells, q over donors")
    missed = manifest["missed"]
    correlation = missed["correlation"]
    if correlation["value"] is not None:
        lines.append(
            f"Among {missed['sampled']} others at random: rank correlation of estimate and exact "
            f"effect {correlation['value']:.3f}{_interval(correlation)}; {missed['as_large']} of "
            f"them among the largest {asked['verify']}"
        )
    recalls = [
        f"{recall['value']:.0%} of the largest {recall['top']}{_interval(recall, '.0%')}"
        for recall in missed["recall"] if recall["value"] is not None
    ]  # fmt: skip
    if recalls:
        lines.append(f"Estimated to be among those measured: {', '.join(recalls)}")
    lines += [f"note: {sentence}" for sentence in manifest["statements"]]
    return lines + [_EACH_A_REPLICATE] * (asked["donor"] is None and plan["cells"] > 1)


def _screened(row: Any, sign: str) -> str:
    error = "" if row.standard_error != row.standard_error else f" ± {row.standard_error:.1e}"
    how = f"exact in {row.verified_in} of" if row.verified_in else "estimated in"
    q = "" if row.q != row.q else f"  q {row.q:.1e}"
    cells = "cell" if row.n_cells == 1 else "cells"
    return f"  {row.gene:12} {row.effect:{sign}.2e}{error}  {how} {row.n_cells} {cells}{q}"


def _interval(numbers: Mapping[str, float | None], shape: str = ".3f") -> str:
    low, high = numbers["low"], numbers["high"]
    return "" if low is None or high is None else f" [{low:{shape}}, {high:{shape}}]"


def _notes(statements: Mapping[str, Sequence[str]], of: int, donor: str | None) -> list[str]:
    """Each statement once, with what it is about where that is not everything."""
    by_statement: dict[str, list[str]] = {}
    for name, sentences in statements.items():
        for sentence in sentences:
            by_statement.setdefault(sentence, []).append(name)
    lines = [
        f"note: {sentence}" + (f" ({'; '.join(names)})" if len(names) < of else "")
        for sentence, names in by_statement.items()
    ]
    return lines + [_EACH_A_REPLICATE] * (donor is None)
