"""Runs in words, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ranklock.arms import whole_of
from ranklock.audits.folder import Audit
from ranklock.effects import pooled_artefact_share
from ranklock.moves import SAID
from ranklock.run.old_sweep_result import Sweep


def describe_summary(manifest: Mapping[str, Any]) -> list[str]:
    """What knock-outs or moves found, a line each.

    Parameters
    ----------
    manifest
        Of a :class:`ranklock.Run`.
    """
    lines: list[str] = []
    both = whole_of(manifest["asked"]["arms"])
    for entry in manifest["summary"]:
        lines += ["", _headline(entry)]
        medians = [key for key in next(iter(entry["arms"].values())) if key != "median_cell_shift"]
        heads = "".join(f"{key.replace('_', ' '):>15}" for key in medians)
        lines.append(f"  {'arm':<16}{heads}{'cell shift':>15}   (cosine distance)")
        for arm, row in entry["arms"].items():
            numbers = [row[key] for key in (*medians, "median_cell_shift")]
            shown = "".join(f"{'–' if n is None else format(n, '.2e'):>15}" for n in numbers)
            lines.append(f"  {arm:<16}{shown}")
        if entry["artefact_share"] is not None:
            lines.append(
                f"  Artefact share of {both}: {entry['artefact_share']:.3f} of the genes' squared "
                "displacement is rank shift."
            )
    floor = manifest["noise_floor"]["cosine_distance"]
    return [*lines, "", f"Noise floor: {floor:.1e}; smaller effects are marked under_noise_floor."]


def _headline(entry: Mapping[str, Any]) -> str:
    cells = "1 cell" if entry["cells"] == 1 else f"{entry['cells']} cells"
    if "perturbation" not in entry:
        return f"{entry['gene']} knocked out of {cells}, at {_ranks(entry['ranks'])}"
    line = f"{entry['gene']} {SAID[entry['perturbation']]} in {cells}"
    if entry["ranks"] is not None:
        line += f", from {_ranks(entry['ranks'])}"
    if entry["inserted"]:
        line += f" (put into {entry['inserted']} that lacked it)"
    return f"{line} to {_ranks(entry['to_ranks'])}"


def _ranks(ends: Sequence[int]) -> str:
    return f"rank {ends[0]}" if ends[0] == ends[1] else f"ranks {ends[0]} to {ends[1]}"


def describe_sweep(found: Sweep, top: int = 10) -> list[str]:
    """What a sweep found so far, a line each.

    Parameters
    ----------
    found
        The sweep.
    top
        How many knock-outs to list.
    """
    done, blocks = found.progress()
    plan = found.manifest["plan"]
    lines = [
        f"{plan['knockouts']:,} knock-outs in {plan['cells']:,} cells, arms "
        f"{', '.join(found.arms)}: "
        + ("complete" if done == blocks else f"{done} of {blocks} blocks done")
    ]
    if not done:
        return [*lines, "Run the sweep's command again to go on."]
    table = found.knockouts()
    lines += _arm_table(table, found.arms)
    if "artefact_share" in table:
        squared = table["total_squared"].to_numpy()
        share = pooled_artefact_share(table["artefact_share"].to_numpy() * squared, squared)
        lines.append(
            f"Artefact share of delete: {share:.3f} of the genes' squared displacement is rank "
            "shift."
        )
    floor = found.floor
    lines.append(
        f"Noise floor ({found.manifest['machine']['precision']}): "
        f"{floor.cosine_distance:.1e} for genes, {floor.cell_shift:.1e} for the cell embedding."
    )
    lines += _top_knockouts(table, found.arms, top)
    lines.append(f"Results: {found.folder}")
    return lines


def describe_knockout_of(found: Sweep, gene: str, top: int = 10) -> list[str]:
    """What moves most when one gene is knocked out, a line each."""
    means = found.effects(genes=[gene])
    row = means.obs.iloc[0]
    lines = [
        f"{row['gene']} ({row['gene_id']}) knocked out of {row['n_cells']} cells, at mean rank "
        f"{row['mean_gene_rank']:.0f}"
    ]
    if "artefact_share" in row:
        lines.append(f"Artefact share of delete: {row['artefact_share']:.3f}")
    symbols = means.var["symbol"].astype(str).to_numpy()
    columns = []
    for arm in found.arms:
        effect = np.nan_to_num(np.asarray(means.layers[arm][0]), nan=-1.0)
        order = np.argsort(-effect, kind="stable")[:top]
        under = np.asarray(means.layers[f"{arm}_under_noise_floor"][0])
        columns.append(
            [f"{symbols[i]} {effect[i]:.1e}{'*' if under[i] else ''}"
             for i in order if effect[i] >= 0]
        )  # fmt: skip
    lines.append("Responders that move most (mean cosine distance; * under the noise floor):")
    lines.append("  " + "".join(f"{arm:<24}" for arm in found.arms).rstrip())
    for place in range(max(map(len, columns), default=0)):
        cells = [column[place] if place < len(column) else "" for column in columns]
        lines.append("  " + "".join(f"{cell:<24}" for cell in cells).rstrip())
    return lines


def _arm_table(table: pd.DataFrame, arms: Sequence[str]) -> list[str]:
    lines = ["  arm              median before   median after    cell shift   (cosine distance)"]
    for arm in arms:
        numbers = [
            float(table[column].median()) if column in table else float("nan")
            for column in (f"{arm}_before", f"{arm}_after", f"{arm}_cell_shift")
        ]
        shown = "".join(f"{'–' if np.isnan(n) else format(n, '.2e'):>15}" for n in numbers)
        lines.append(f"  {arm:<16}{shown}")
    return lines


def _top_knockouts(table: pd.DataFrame, arms: Sequence[str], top: int) -> list[str]:
    """Knock-outs that shift the cell most, arm beside arm."""
    shown = [arm for arm in arms if f"{arm}_cell_shift" in table]
    if not shown:
        return []
    means = table.groupby("gene", observed=True)[[f"{arm}_cell_shift" for arm in shown]].mean()
    ranked = [means[f"{arm}_cell_shift"].nlargest(top) for arm in shown]
    lines = ["Knock-outs that shift the cell most (mean cosine distance):"]
    lines.append("  " + "".join(f"{arm:<24}" for arm in shown).rstrip())
    for place in range(min(top, len(means))):
        row = [f"{one.index[place]} {one.iloc[place]:.1e}" for one in ranked]
        lines.append("  " + "".join(f"{entry:<24}" for entry in row).rstrip())
    return lines


def describe_audit(found: Audit, out: Path) -> list[str]:
    """The verdict, a line a question, and where the report is."""
    lines = [
        f"{number}. {entry['asks']}\n   {entry['answer']}"
        for number, entry in enumerate(found.content["verdict"], start=1)
    ]
    return [*lines, f"Report:  {out / found.report.name}", f"Numbers: {out / 'audit.json'}"]
