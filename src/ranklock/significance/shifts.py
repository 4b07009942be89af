"""Which knock-outs shift cells more than others at like ranks do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ranklock.errors import InputError, OptionError, OutputError
from ranklock.page.style import draw
from ranklock.run.folder import read_folder, write_folder
from ranklock.run.old_sweep_result import OF_A_SCREEN, Sweep
from ranklock.significance.mixture import two_components
from ranklock.significance.shift_figure import shifts_figure
from ranklock.significance.shift_tables import CELL_SHIFT, shifts_of_sweep, shifts_of_table
from ranklock.significance.shift_tests import (
    MOSTLY_UNDER,
    calibration_of,
    shifts_tested,
    with_specific,
)
from ranklock.statistics.replicates import FEWEST_REPLICATES
from ranklock.statistics.significance import FALSE_DISCOVERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE, SHIFTS, CALIBRATION = "knockouts.parquet", "shifts.parquet", "calibration.parquet"
COMMAND = "knockouts"


@dataclass(frozen=True, eq=False, repr=False)
class Knockouts:
    """Shifts of knock-outs against rank-matched ones, tested over cells or donors.

    Attributes
    ----------
    table
        One row a gene, arm and quantity, the smallest p first within these:

        ``arm``, ``quantity``: ``cell shift``, ``towards goal``, ``towards <alternative>`` or
        ``goal beyond alternatives``. ``gene``, ``gene_id``.
        ``shift``, ``shift_deviation``: mean over cells, as it was measured, and standard deviation.
        ``specific``: what it has beyond rank-matched knock-outs, log10 for cell shifts; mean over
        replicates. ``standard_error``: of it.
        ``t``, ``p``, ``q``: moderated t, two-sided p, false-discovery rate within arm and quantity.
        ``percentile``: mean share of rank-matched knock-outs that shift less.
        ``impact``: probability of the impact component; ``impact_share``: share of cells in it.
        ``n_cells``, ``n_replicates``, ``gene_rank``, ``under_noise_floor`` (share of cells).
        Against a list of genes: ``beyond_null``, ``t_null``, ``p_null``, ``q_null``, ``in_null``.
    shifts
        One row a cell, knock-out, arm and quantity: ``shift`` and ``specific``.
    calibration
        One row an arm and quantity: ``tested``, ``found``, and how the same tests come out with
        knock-outs swapped for rank-matched ones; and the mixture's ``bic_gain``.
    manifest
        What was asked, of what, and ``statements``: what could not be told.
    """

    table: pd.DataFrame
    shifts: pd.DataFrame
    calibration: pd.DataFrame
    manifest: dict[str, Any]

    def __repr__(self) -> str:
        found = ", ".join(
            f"{row.found} under {row.arm} ({row.quantity})"
            for row in self.calibration.itertuples(index=False)
        )
        return f"Knockouts: {found} (false-discovery rate 5%)"

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms."""
        return tuple(self.manifest["asked"]["arms"])

    def claims(self, arm: str = "hold", quantity: str = CELL_SHIFT) -> pd.DataFrame:
        """Significant knock-outs of an arm, the surest first."""
        rows = self.table[(self.table["arm"] == arm) & (self.table["quantity"] == quantity)]
        return rows[rows["q"] <= FALSE_DISCOVERIES]

    def figure(self) -> Figure:
        """Cell shift against rank, before and after, as a matplotlib figure."""
        return shifts_figure(self.table, list(self.arms))

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write a folder, whole or not at all; :func:`ranklock.read_knockouts` opens it.

        Raises
        ------
        OutputError
            When it exists and may not be replaced, or cannot be written.
        """
        tables = {TABLE: self.table, SHIFTS: self.shifts, CALIBRATION: self.calibration}
        writers: dict[str, Any] = {
            name: partial(_write_table, table) for name, table in tables.items()
        }
        figure = self.figure()
        writers |= {f"shifts.{kind}": partial(draw, figure) for kind in ("png", "svg")}
        folder = Path(folder)
        write_folder(folder, self.manifest, writers, overwrite=overwrite)
        return folder


def knockouts(
    source: Sweep | str | Path,
    arms: Sequence[str] | None = None,
    *,
    null: Sequence[str] = (),
    donor: str | None = None,
    min_cells: int = 5,
    seed: int = 0,
) -> Knockouts:
    """Find which knock-outs shift cells more than rank-matched ones, or turn them to a state.

    Parameters
    ----------
    source
        A sweep; or the path of a table of shifts (see
        :func:`ranklock.significance.shift_tables.shifts_of_table`), old results of ``delete`` included.
    arms
        Names of arms; all by default.
    null
        Genes to compare with beside the rank-matched ones: symbols or Ensembl IDs.
    donor
        Column that names donors or samples: they are the replicates then. Cells are, by default.
    min_cells
        Genes in fewer cells are not tested.
    seed
        Of the swaps of the null and of the mixture's start.

    Raises
    ------
    InputError
        When the source holds no shifts, or no such column, arm or gene.

    Examples
    --------
    >>> import ranklock
    >>> found = ranklock.knockouts(ranklock.read_sweep("genome-wide"))  # doctest: +SKIP
    >>> found.claims("hold").head()  # doctest: +SKIP
    """
    if min_cells < 1:
        raise OptionError(f"min_cells is {min_cells}; a gene is in one cell at least.")
    if isinstance(source, Sweep):
        if source.manifest["asked"]["genes"] == OF_A_SCREEN:
            raise InputError(
                f"{source.folder} holds what a screen measured: its knock-outs were chosen for "
                "their effects, so that none is a fair control of another. The screen's own table "
                "tests every gene's estimate."
            )
        measured = shifts_of_sweep(source, arms, donor)
    else:
        measured = shifts_of_table(Path(source), donor)
        if arms is not None:
            measured = measured[measured["arm"].isin(arms)]
        if measured.empty:
            raise OptionError(f"{source} has no rows of {', '.join(arms or ())}.")
    null_ids = _null_ids(null, measured)
    tables, shifts, calibrations = [], [], []
    statements: dict[str, list[str]] = {}
    for (arm, quantity), rows in measured.groupby(["arm", "quantity"], sort=False):
        specific = with_specific(rows, min_cells, seed)
        table, swapped = shifts_tested([specific], min_cells, null_ids)
        mixture = two_components(table["specific"], specific["specific"], seed)
        table["impact"] = np.nan if mixture is None else mixture.impact
        table["impact_share"] = np.nan
        if mixture is not None:
            inside = specific.assign(inside=mixture.of_values > 0.5).dropna(subset="specific")
            shares = inside.groupby("gene_id", observed=True)["inside"].mean()
            table["impact_share"] = table["gene_id"].map(shares).astype(float)
        table.insert(0, "arm", arm)
        table.insert(1, "quantity", quantity)
        tables.append(table)
        shifts.append(specific.drop(columns=["scaled", "swapped"]))
        bic = np.nan if mixture is None else mixture.bic_gain
        calibrations.append(
            {"arm": arm, "quantity": quantity, **calibration_of(table, swapped), "bic_gain": bic}
        )
        statements[f"{arm}, {quantity}"] = _statements(
            specific, table, min_cells, mixture is not None and mixture.separated
        )
    table = pd.concat(tables, ignore_index=True)
    first = ["arm", "quantity", "gene", "shift", "specific", "standard_error", "t", "p", "q"]
    table = table[[*first, *(name for name in table if name not in first)]]
    used = list(dict.fromkeys(measured["arm"]))
    manifest = {
        "asked": {
            "command": COMMAND, "arms": used, "null": list(null), "donor": donor,
            "min_cells": min_cells, "seed": seed,
        },
        "source": str(source.folder if isinstance(source, Sweep) else source),
        "cells": int(measured["cell"].nunique()),
        "replicates": int(measured["replicate"].nunique()),
        "statements": statements,
    }  # fmt: skip
    return Knockouts(
        table, pd.concat(shifts, ignore_index=True), pd.DataFrame(calibrations), manifest
    )


def _null_ids(null: Sequence[str], measured: pd.DataFrame) -> frozenset[str]:
    if isinstance(null, str):
        raise OptionError(f"null is a list of genes; write null=[{null!r}].")
    ids = dict(zip(measured["gene"], measured["gene_id"], strict=True))
    known = set(ids.values())
    found = {name if name in known else ids.get(name, "") for name in null} - {""}
    if null and not found:
        raise InputError(
            f"None of the {len(null)} genes of the null ({null[0]}, ...) is knocked out here."
        )
    return frozenset(found)


def _statements(
    shifts: pd.DataFrame, table: pd.DataFrame, min_cells: int, separated: bool
) -> list[str]:
    """What a reader must know before believing the table, a sentence each."""
    found = []
    replicates = shifts["replicate"].nunique()
    if replicates < FEWEST_REPLICATES:
        found.append(
            f"Nothing is tested: there are {replicates} replicates, and a test needs "
            f"{FEWEST_REPLICATES}."
        )
    in_cell = shifts.groupby("cell", observed=True).size()
    if (in_cell < 2).all():
        found.append(
            "One gene was knocked out of each cell, so its shift cannot be compared with that of "
            "others at like ranks; knock out controls beside it (ranklock sweep --controls)."
        )
    elif in_cell.median() < 10:
        found.append(
            f"A cell has {in_cell.median():.0f} knock-outs (median): what is expected at a rank "
            "rests on those few genes."
        )
    if table["under_noise_floor"].ge(MOSTLY_UNDER).all():
        found.append("All shifts are under the noise floor; nothing is tested.")
    elif (table["n_cells"] < min_cells).all():
        found.append(f"No gene is in {min_cells} cells (--min-cells); nothing is tested.")
    if not separated and table["impact"].notna().any():
        found.append(
            "One component describes the knock-outs as well as two (BIC): impact is no more than "
            "a place in one distribution."
        )
    return found


def read_knockouts(folder: str | Path) -> Knockouts:
    """Read tested shifts back from their folder.

    Raises
    ------
    OutputError
        When the folder holds none, or a file in it was damaged or changed.
    """
    folder = Path(folder)
    manifest = read_folder(folder)
    if manifest["asked"]["command"] != COMMAND:
        raise OutputError(f"{folder} holds a {manifest['asked']['command']}, not knockouts.")
    table, shifts, calibration = (
        pd.read_parquet(folder / name) for name in (TABLE, SHIFTS, CALIBRATION)
    )
    rest = {key: value for key, value in manifest.items() if key not in ("files", "format")}
    return Knockouts(table, shifts, calibration, rest)


def _write_table(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, index=False, compression="zstd")
