"""Claims in words, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ranklock.claims.knockouts import Knockouts
from ranklock.claims.responders import Responders
from ranklock.claims.shift_tables import CELL_SHIFT
from ranklock.statistics.significance import FALSE_DISCOVERIES

_PLACEBO = "shift"


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
    if donor is None:
        lines.append(
            "note: each cell counts as a replicate; where cells come from several donors, name "
            "their column with --donor."
        )
    return lines
