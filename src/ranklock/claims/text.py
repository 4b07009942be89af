"""Claims in words, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ranklock.claims.responders import FALSE_DISCOVERIES, Responders

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
    by_statement: dict[str, list[str]] = {}
    for name, sentences in found.statements.items():
        for sentence in sentences:
            by_statement.setdefault(sentence, []).append(name)
    lines += [
        f"note: {sentence}" + (f" ({', '.join(arms)})" if len(arms) < len(found.arms) else "")
        for sentence, arms in by_statement.items()
    ]
    if donor is None:
        lines.append(
            "note: each cell counts as a replicate; where cells come from several donors, name "
            "their column with --donor."
        )
    return lines
