"""Runs in words, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ranklock.effects import pooled_artefact_share
from ranklock.questions.folder import Audit
from ranklock.results.sweep import Sweep


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
