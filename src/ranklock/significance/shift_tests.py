"""Shifts of whole cells: what a shift has beyond that of other perturbations at like ranks.

A cell shift falls with the perturbed gene's rank, under `delete` for want of genes below it and
under `hold` because the model attends to high ranks. Within each cell a smooth function of rank is
taken off, and then what the nearest perturbations in rank predict: a line through twelve on either
side, robust and without the perturbation itself. What is left, a **specific shift**, is a
difference from **rank-matched perturbations** of the same cell. It is tested over cells, or over
donors.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.significance.pairs import MOSTLY_UNDER, neighbours
from ranklock.significance.specific import BOUND, REACH
from ranklock.statistics.grouped import GroupedMoments
from ranklock.statistics.replicates import Tested, means_tested
from ranklock.statistics.significance import FALSE_DISCOVERIES
from ranklock.statistics.smooth import rank_smooth
from ranklock.statistics.two_way import clipped, matched_rows

Array = npt.NDArray[np.float64]


def specific_shifts(
    shifts: npt.ArrayLike, ranks: npt.ArrayLike, genes: int, known: npt.ArrayLike = 0.0
) -> Array:
    """Compare each perturbation of a cell with those at like ranks.

    Parameters
    ----------
    shifts
        On the scale on which they are compared, shape (perturbations,); NaN where there is none.
    ranks
        Perturbed ranks, shape (perturbations,), in any order.
    genes
        Number of genes in the cell; more than the largest rank.
    known
        What is known to be specific to each perturbation from other cells, shape (perturbations,):
        it is taken off where a perturbation serves as another's control.

    Returns
    -------
    Shift minus what rank-matched perturbations predict, the same in units of their spread (between
    −5 and 5), and the share of the rank-matched perturbations whose specific shift is smaller;
    shape (3, perturbations), NaN where there are none.

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
        return out
    expected = np.broadcast_to(np.asarray(known, np.float64), values.shape)[rows]
    usual = values[rows] - expected
    residuals = usual - rank_smooth(usual, places[rows])
    column, every = residuals[:, None], np.ones((len(rows), 1), bool)
    matched = matched_rows(clipped(column, every), places[rows], [every], REACH)
    specific = expected + (column - matched.predicted)[:, 0]
    out[0, rows] = specific
    unit = matched.unit[:, 0]
    safe = np.where(unit > 0, unit, 1.0)
    out[1, rows] = np.clip(np.where(unit > 0, specific / safe, 0.0), -BOUND, BOUND)
    out[2, rows] = _percentiles(specific)
    return out


def _percentiles(values: Array) -> Array:
    """Share of the values within reach that are smaller, ties by half; NaN for a lone value."""
    padded = np.pad(values, REACH, constant_values=np.nan)
    near = np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH + 1)
    column = values[:, None]
    neighbours_near = np.isfinite(near).sum(1) - 1
    below = (near < column).sum(1) + 0.5 * ((near == column).sum(1) - 1)
    share = below / np.maximum(neighbours_near, 1)
    return np.asarray(np.where(neighbours_near > 0, share, np.nan))


def with_specific(table: pd.DataFrame, min_cells: int, seed: int) -> pd.DataFrame:
    """Shifts with what is specific to each, and the same with perturbations swapped.

    Parameters
    ----------
    table
        One row a cell and perturbation, as :mod:`ranklock.significance.shift_tables` makes them,
        of one kind, arm and quantity.
    min_cells, seed
        As of :func:`shifts_tested`, and of the swaps.

    Returns
    -------
    The table in order of cell and rank, with ``specific``, ``standardised``, ``percentile`` and
    ``swapped``, the standardised shift of a rank-matched perturbation of the same cell.

    Notes
    -----
    Twice: what stands out in a first pass is taken off where it serves as a control in the second,
    so that a gene beside one of large effect is not found to have a small one.
    """
    return _compared(table, _standing_out([table], min_cells, seed), seed)


def specific_tested(
    tables: Callable[[], Iterable[pd.DataFrame]], min_cells: int, seed: int
) -> tuple[pd.DataFrame, Array]:
    """Test shifts of more cells than memory holds: :func:`with_specific`, then the test.

    ``tables`` gives the shifts of whole cells, table by table, every time that it is called.
    """
    known = _standing_out(tables(), min_cells, seed)
    return shifts_tested((_compared(table, known, seed) for table in tables()), min_cells)


def _standing_out(tables: Iterable[pd.DataFrame], min_cells: int, seed: int) -> Mapping[str, float]:
    """Specific shift of each gene that a first pass finds significant."""
    tested, _ = shifts_tested((_compared(table, {}, seed) for table in tables), min_cells)
    rows = tested[tested["q"] <= FALSE_DISCOVERIES]
    return dict(zip(rows["gene_id"], rows["specific"], strict=True))


def _compared(table: pd.DataFrame, known: Mapping[str, float], seed: int) -> pd.DataFrame:
    """Shifts in order of cell and rank, with what is specific to each and to one swapped for it."""
    table = table.sort_values(["cell", "gene_rank", "gene_id"], kind="stable", ignore_index=True)
    columns = np.full((4, len(table)), np.nan)
    scaled, ranks = table["scaled"].to_numpy(np.float64), table["gene_rank"].to_numpy()
    expected = table["gene_id"].map(known).fillna(0.0).to_numpy(np.float64)
    for cell, rows in table.groupby("cell", sort=False, observed=True).indices.items():
        # A cell's swaps do not depend on which cells come before it.
        draw = np.random.default_rng([seed, zlib.crc32(str(cell).encode())])
        genes = int(ranks[rows].max()) + 1
        shifts = specific_shifts(scaled[rows], ranks[rows], genes, expected[rows])
        columns[:, rows] = *shifts, shifts[1, neighbours(len(rows), draw)]
    names = ("specific", "standardised", "percentile", "swapped")
    return table.assign(**dict(zip(names, columns, strict=True)))


def shifts_tested(
    tables: Iterable[pd.DataFrame], min_cells: int, null: frozenset[str] = frozenset()
) -> tuple[pd.DataFrame, Array]:
    """Test the specific shifts of every perturbed gene over replicates.

    Parameters
    ----------
    tables
        From :func:`with_specific`, each of whole cells.
    min_cells
        Fewest cells of a gene that is tested.
    null
        Genes, by ``gene_id``, to test against as well.

    Returns
    -------
    One row a gene, the smallest p first, and the p-values of the same genes with perturbations
    swapped for rank-matched ones.
    """
    names = ["specific", "standardised", "swapped", *(["beyond_null"] if null else [])]
    plain, tested, by_donor = GroupedMoments(), GroupedMoments(), GroupedMoments()
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

    def test(name: str) -> Tested:
        return means_tested(mean[name], variance[name], count[name], testable)

    cells["specific"] = mean["specific"]
    cells["standard_error"] = np.sqrt(variance["specific"] / count["specific"])
    specific = test("standardised")
    cells["t"], cells["p"], cells["q"] = specific.t, specific.p, specific.q
    cells["n_replicates"] = count["specific"]
    if null:
        cells["beyond_null"] = mean["beyond_null"]
        beyond = test("beyond_null")
        cells["t_null"], cells["p_null"], cells["q_null"] = beyond.t, beyond.p, beyond.q
        cells["in_null"] = cells.index.isin(null)
    order = ["p", "gene_id"]
    table = cells.reset_index().sort_values(order, kind="stable", ignore_index=True)
    return table, test("swapped").p


def _beyond(table: pd.DataFrame, null: frozenset[str]) -> pd.DataFrame:
    """With ``beyond_null``, where there is a list of genes to test against."""
    if not null:
        return table
    of_null = table[table["gene_id"].isin(null)].groupby("cell", observed=True)["specific"]
    level = table["cell"].astype(object).map(of_null.mean())
    return table.assign(beyond_null=table["specific"] - level.astype(float))
