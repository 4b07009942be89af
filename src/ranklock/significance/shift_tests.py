"""Shifts of whole knock-outs: what a shift has beyond that of others at like ranks.

A cell shift falls with the knocked-out gene's rank, under `delete` for want of genes below it and
under `hold` because the model attends to high ranks. Within each cell a smooth function of rank is
taken off, and then what the nearest knock-outs in rank predict: a line through twelve on either
side, robust and without the knock-out itself. What is left, a **specific shift**, is a difference
from **rank-matched knock-outs** of the same cell. It is tested over cells, or over donors.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ranklock.significance.pairs import neighbours
from ranklock.significance.specific import BOUND, REACH
from ranklock.statistics.grouped import GroupedMoments
from ranklock.statistics.replicates import means_tested
from ranklock.statistics.significance import FALSE_DISCOVERIES, false_discovery_rates
from ranklock.statistics.smooth import rank_smooth
from ranklock.statistics.two_way import clipped, matched_rows

Array = npt.NDArray[np.float64]
MOSTLY_UNDER = 0.5  # of its cells under the noise floor: never significant


@dataclass(frozen=True, eq=False)
class SpecificShifts:
    """Of the knock-outs of one cell under one arm, each of shape (knock-outs,).

    Attributes
    ----------
    specific
        Shift minus what rank-matched knock-outs predict; NaN where there are none.
    standardised
        The same in units of their spread, between −5 and 5.
    percentile
        Share of the rank-matched knock-outs whose specific shift is smaller.
    """

    specific: Array
    standardised: Array
    percentile: Array


def specific_shifts(
    shifts: npt.ArrayLike, ranks: npt.ArrayLike, genes: int, known: npt.ArrayLike = 0.0
) -> SpecificShifts:
    """Compare each knock-out of a cell with those at like ranks.

    Parameters
    ----------
    shifts
        On the scale on which they are compared, shape (knock-outs,); NaN where there is none.
    ranks
        Perturbed ranks, shape (knock-outs,), in any order.
    genes
        Number of genes in the cell; more than the largest rank.
    known
        What is known to be specific to each knock-out from other cells, shape (knock-outs,): it is
        taken off where a knock-out serves as another's control.

    Notes
    -----
    Ranks count as log((r + ½) / (n − r − ½)): the shift of the ranks moves n − r genes, so near
    the last ranks its logarithm falls without bound, and along this it falls in a line.
    """
    values, given = np.asarray(shifts, np.float64), np.asarray(ranks, np.float64)
    places = np.log((given + 0.5) / (genes - given - 0.5))
    out = np.full((3, len(values)), np.nan)
    rows = np.flatnonzero(np.isfinite(values))
    rows = rows[np.argsort(places[rows], kind="stable")]
    if len(rows) < 2:
        return SpecificShifts(*out)
    own = np.broadcast_to(np.asarray(known, np.float64), values.shape)[rows]
    usual = values[rows] - own
    residuals = usual - rank_smooth(usual, places[rows])
    column, every = residuals[:, None], np.ones((len(rows), 1), bool)
    matched = matched_rows(clipped(column, every), places[rows], [every], REACH)
    specific = own + (column - matched.predicted)[:, 0]
    out[0, rows] = specific
    unit = matched.unit[:, 0]
    safe = np.where(unit > 0, unit, 1.0)
    out[1, rows] = np.clip(np.where(unit > 0, specific / safe, 0.0), -BOUND, BOUND)
    out[2, rows] = _percentiles(specific)
    return SpecificShifts(*out)


def _percentiles(values: Array) -> Array:
    """Share of the values within reach that are smaller, ties by half; NaN for a lone one."""
    padded = np.pad(values, REACH, constant_values=np.nan)
    near = np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH + 1)
    own = values[:, None]
    others = np.isfinite(near).sum(1) - 1
    below = (near < own).sum(1) + 0.5 * ((near == own).sum(1) - 1)
    return np.asarray(np.where(others > 0, below / np.maximum(others, 1), np.nan))


def with_specific(table: pd.DataFrame, min_cells: int, seed: int) -> pd.DataFrame:
    """A table of shifts with what is specific to each, and the same with knock-outs swapped.

    Parameters
    ----------
    table
        One row a cell and knock-out, as :mod:`ranklock.significance.shift_tables` makes them, of one arm
        and quantity.
    min_cells
        As of :func:`shifts_tested`.
    seed
        Of the swaps.

    Returns
    -------
    The table in order of cell and rank, with ``specific``, ``standardised``, ``percentile`` and
    ``swapped``, the standardised shift of a rank-matched knock-out of the same cell.

    Notes
    -----
    Twice: what stands out in a first pass is taken off where it serves as a control in the second,
    so that a gene beside one of large effect is not found to have a small one.
    """
    first = _compared(table, {}, seed)
    found, _ = shifts_tested([first], min_cells)
    return _compared(table, _standing_out(found), seed)


def specific_tested(
    tables: Callable[[], Iterable[pd.DataFrame]], min_cells: int, seed: int
) -> tuple[pd.DataFrame, Array]:
    """Test shifts of more cells than memory holds: :func:`with_specific`, then the test.

    Parameters
    ----------
    tables
        Gives the shifts of whole cells, table by table, every time that it is called.
    min_cells, seed
        As there.

    Returns
    -------
    As of :func:`shifts_tested`.
    """
    first, _ = shifts_tested((_compared(table, {}, seed) for table in tables()), min_cells)
    known = _standing_out(first)
    return shifts_tested((_compared(table, known, seed) for table in tables()), min_cells)


def _standing_out(found: pd.DataFrame) -> Mapping[str, float]:
    """Specific shift of each gene that is significant."""
    rows = found[found["q"] <= FALSE_DISCOVERIES]
    return dict(zip(rows["gene_id"], rows["specific"], strict=True))


def _compared(table: pd.DataFrame, known: Mapping[str, float], seed: int) -> pd.DataFrame:
    """Shifts in order of cell and rank, with what is specific to each and to a swapped one."""
    table = table.sort_values(["cell", "gene_rank", "gene_id"], kind="stable", ignore_index=True)
    columns = np.full((4, len(table)), np.nan)
    scaled, ranks = table["scaled"].to_numpy(np.float64), table["gene_rank"].to_numpy()
    own = table["gene_id"].map(known).fillna(0.0).to_numpy(np.float64)
    for cell, rows in table.groupby("cell", sort=False, observed=True).indices.items():
        # A cell's swaps do not depend on which cells come before it.
        draw = np.random.default_rng([seed, zlib.crc32(str(cell).encode())])
        found = specific_shifts(scaled[rows], ranks[rows], int(ranks[rows].max()) + 1, own[rows])
        swapped = found.standardised[neighbours(len(rows), draw)]
        columns[:, rows] = found.specific, found.standardised, found.percentile, swapped
    names = ("specific", "standardised", "percentile", "swapped")
    return table.assign(**dict(zip(names, columns, strict=True)))


def shifts_tested(
    tables: Iterable[pd.DataFrame], min_cells: int, null: frozenset[str] = frozenset()
) -> tuple[pd.DataFrame, Array]:
    """Test the specific shifts of every knocked-out gene over replicates.

    Parameters
    ----------
    tables
        From :func:`with_specific`, with the columns ``replicate``, ``gene``, ``shift`` and
        ``under_noise_floor`` too; each of whole cells.
    min_cells
        Fewest cells of a gene that is tested.
    null
        Genes, by ``gene_id``, to test against as well.

    Returns
    -------
    One row a gene, the smallest p first, and the p-values of the same genes with knock-outs
    swapped for rank-matched ones.
    """
    names = ["specific", "standardised", "swapped", *(["beyond_null"] if null else [])]
    plain, tested = GroupedMoments(), GroupedMoments()
    by_donor = GroupedMoments()
    genes: dict[str, str] = {}
    for table in tables:
        ids = table["gene_id"].astype(str)
        genes |= dict(zip(ids, table["gene"].astype(str), strict=True))
        plain.add(ids, table[["shift", "percentile", "specific", "gene_rank", "under_noise_floor"]])
        rows = _beyond(table, null)[names]
        if table["replicate"].astype(str).equals(table["cell"].astype(str)):
            tested.add(ids, rows)
        else:
            by_donor.add(ids + "\t" + table["replicate"].astype(str), rows)
    donors = by_donor.means()
    if len(donors):
        tested.add(pd.Series(donors.index.str.split("\t").str[0]), donors)
    mean, variance, count = tested.means(), tested.variances(), tested.counts()
    means = plain.means()
    cells = pd.DataFrame(
        {
            "gene": [genes[gene] for gene in means.index],
            "shift": means["shift"],
            "shift_deviation": np.sqrt(plain.variances()["shift"]),
            "percentile": means["percentile"],
            "n_cells": plain.counts()["specific"],
            "gene_rank": means["gene_rank"],
            "under_noise_floor": means["under_noise_floor"],
        },
        index=pd.Index(means.index, name="gene_id"),
    )
    testable = (cells["n_cells"] >= min_cells) & (cells["under_noise_floor"] < MOSTLY_UNDER)

    def test(name: str) -> tuple[Array, Array, Array]:
        found = means_tested(mean[name], variance[name], count[name], testable)
        return found.t, found.p, found.q

    cells["specific"] = mean["specific"]
    cells["standard_error"] = np.sqrt(variance["specific"] / count["specific"])
    cells["t"], cells["p"], cells["q"] = test("standardised")
    cells["n_replicates"] = count["specific"]
    if null:
        cells["beyond_null"] = mean["beyond_null"]
        cells["t_null"], cells["p_null"], cells["q_null"] = test("beyond_null")
        cells["in_null"] = cells.index.isin(null)
    p_swapped = test("swapped")[1]
    order = ["p", "gene_id"]
    return cells.reset_index().sort_values(order, kind="stable", ignore_index=True), p_swapped


def _beyond(table: pd.DataFrame, null: frozenset[str]) -> pd.DataFrame:
    """With ``beyond_null``, where there is a list of genes to test against."""
    if not null:
        return table
    of_null = table[table["gene_id"].isin(null)].groupby("cell", observed=True)["specific"]
    level = table["cell"].astype(object).map(of_null.mean())
    return table.assign(beyond_null=table["specific"] - level.astype(float))


def calibration_of(table: pd.DataFrame, swapped: Array) -> dict[str, Any]:
    """How many tests find something, and how the same come out with knock-outs swapped.

    Parameters
    ----------
    table, swapped
        As :func:`shifts_tested` returns them.
    """
    p, null = table["p"].dropna(), swapped[np.isfinite(swapped)]
    q_null = false_discovery_rates(null)
    return {
        "tested": len(p),
        "found": int((table["q"] <= FALSE_DISCOVERIES).sum()),
        "p_below_5_percent": float((p <= 0.05).mean()) if len(p) else np.nan,
        "swapped_p_below_5_percent": float((null <= 0.05).mean()) if len(null) else np.nan,
        "swapped_distance_from_uniform": float(stats.kstest(null, "uniform").statistic)
        if len(null) else np.nan,
        "swapped_found": int((q_null <= FALSE_DISCOVERIES).sum()),
    }  # fmt: skip
