"""Count noise beside effects, in words."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ranklock.quantities import counted
from ranklock.run import fields as f
from ranklock.run.count_noise import DRAWS, GENES_DROPPED, KEPT
from ranklock.run.count_noise_tables import is_measured, of_cells

if TYPE_CHECKING:
    from ranklock.run.run import Run

_CELLS_SAID = 24  # whose effects on genes are read for the medians that are said
_GENES, _CELL = "genes", "cell"


def describe_count_noise(run: Run) -> list[str]:
    """Median effects of each arm, and how many times as far thinning moves the same; a line each.

    Parameters
    ----------
    run
        The run; nothing is said of one without count noise.

    Notes
    -----
    Numbers are medians over cells of each cell's median, over its genes and perturbations. Effects
    on genes are read of some cells alone, spread over all, and the noise beside them is of these.
    """
    if not is_measured(run):
        return []
    medians = median_effects(run)
    noise = medians.loc[""]
    by_counts = run.count_noise["thinned"].iloc[0] != GENES_DROPPED
    what = f"cell's counts are thinned by {1 - KEPT:.0%}, as sequencing a little less deeply would"
    if not by_counts:
        what = "cell, for want of counts, loses one gene in a hundred at random"
    lines = [
        "",
        f"Count noise: how far the same moves when each {what} (mean of {counted(DRAWS, 'draw')}).",
        "Cosine distances, medians over cells; × says how many times as far as the effect count "
        "noise goes:",
        f"  {'':<24}" + "".join(f"{read:<24}" for read in medians).rstrip(),
        f"  {'count noise':<24}" + "".join(f"{number:<24.1e}" for number in noise).rstrip(),
    ]
    for name, effects in medians.drop(index="").iterrows():
        entries = [_times(effects[read], noise[read]) for read in medians]
        lines.append(f"  {name:<24}" + "".join(f"{entry:<24}" for entry in entries).rstrip())
    return [
        *lines, "An effect far below count noise is exact and may still be of no consequence.",
    ]  # fmt: skip


def median_effects(run: Run) -> pd.DataFrame:
    """Median count noise, and median size of the effects of each arm, of all that is read.

    Parameters
    ----------
    run
        A run with count noise.

    Returns
    -------
    One row an arm (of each kind of perturbation, where there are several), that of the count noise
    first, under the name ``""``. Columns ``genes`` and ``cell`` (cosine distance), and
    ``towards <state>`` (change of the cosine); NaN where nothing is known.
    """
    arms = {
        _name(run, kind, arm): (kind, arm)
        for kind, of_kind in run.manifest.arms.items()
        for arm in of_kind
    }
    columns = {_GENES: _of_genes(run)} if f.GENES in run.reads else {}
    if f.CELL in run.reads:
        noise, shifts = of_cells(run), run.shifts
        reads = {_CELL: "cosine_distance"}
        reads |= {f"towards {state}": f.towards(state) for state in run.states}
        for read, column in reads.items():
            sizes = shifts.assign(size=shifts[column].abs()).groupby(["kind", "arm"], observed=True)
            by_arm = {arm: rows[["cell", "size"]] for arm, rows in sizes}
            columns[read] = {"": float(noise[column].median())} | {
                name: _typical(by_arm[arm]) for name, arm in arms.items() if arm in by_arm
            }
    return pd.DataFrame(columns, index=["", *arms])


def _of_genes(run: Run) -> dict[str, float]:
    table = run.count_noise
    genes = table[table["token"].notna()]
    names = genes["cell"].astype(str)
    cells = names.unique()
    spread = np.linspace(0, len(cells) - 1, min(len(cells), _CELLS_SAID)).astype(int)
    chosen = cells[spread].tolist()
    sizes = genes.loc[names.isin(chosen), ["cell", "cosine_distance"]]
    medians: dict[str, list[float]] = {}
    for _, of_cell in groupby(run.blocks(cells=chosen), key=lambda block: block.row):
        distances: dict[str, list[np.ndarray[tuple[int], np.dtype[np.float32]]]] = {}
        for block in of_cell:
            for arm, numbers in block.distances.items():
                name = _name(run, block.kind, arm)
                distances.setdefault(name, []).append(numbers[np.isfinite(numbers)])
        for name, parts in distances.items():
            effects = np.concatenate(parts)
            if len(effects):
                medians.setdefault(name, []).append(float(np.median(effects)))
    noise = {"": _typical(sizes.set_axis(["cell", "size"], axis=1))}
    return noise | {name: float(np.median(of_cells)) for name, of_cells in medians.items()}


def _typical(sizes: pd.DataFrame) -> float:
    """Median over cells of each cell's median."""
    return float(sizes.groupby("cell", observed=True)["size"].median().median())


def _name(run: Run, kind: str, arm: str) -> str:
    return arm if len(run.kinds) == 1 else f"{kind} {arm}"


def _times(effect: float, noise: float) -> str:
    if np.isnan(effect):
        return "–"
    if not effect > 0 or np.isnan(noise):
        return f"{effect:.1e}"
    ratio = noise / effect
    digits = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"
    return f"{effect:.1e} (×{digits})"
