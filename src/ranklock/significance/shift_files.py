"""Shifts of cells from a table that was made elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from ranklock.errors import InputError
from ranklock.significance.replicates import as_names, without_donor
from ranklock.significance.shift_tables import (
    CELL_SHIFT,
    COLUMNS,
    GOAL,
    SMALLEST,
    TOWARDS,
    UNSIGNED,
    scaled,
)

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
# What the numbers may be called → whether they are similarities, which are turned into distances.
_NUMBERS = {"shift": False, "cosine_distance": False, "cosine_similarity": True}
_ROUNDING = 1e-6  # of a cosine in float32
_SIMILAR = 0.5  # median above which cosines are similarities: no gene turns half of its cells round
_ENSEMBL_ID = re.compile(r"ENS[A-Z]*G\d+(\.\d+)?")


def shifts_of_file(path: Path, donor: str | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Shifts of a table that was made elsewhere, and sentences on what was assumed and left out.

    Parameters
    ----------
    path
        A .csv, .tsv or .parquet with the columns ``cell``, ``gene``, ``gene_rank`` (from 0) and
        ``shift`` (or ``cosine_distance``, or ``cosine_similarity``); if there, ``gene_id``,
        ``kind``, ``arm``, ``quantity`` and ``under_noise_floor``.
    donor
        Column that names donors.

    Returns
    -------
    As of :func:`ranklock.significance.shift_tables.shifts_of_run`; ``gene_id`` is NaN where the
    table names no Ensembl ID.

    Raises
    ------
    InputError
        When it cannot be read, lacks a column, or holds what cannot be tested as what it is called.
    """
    table = _read(path)
    column = next((name for name in _NUMBERS if name in table), "shift")
    needed = ["cell", "gene", "gene_rank", column, *([donor] if donor else [])]
    missing = [name for name in needed if name not in table]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]!r} (it has {', '.join(map(str, table))}); a table "
            "of shifts has the columns cell, gene, gene_rank, shift."
        )
    numbers = {name: _numbers(table[name], path) for name in ("gene_rank", column)}
    rows = numbers["gene_rank"].notna() & numbers[column].notna()
    if not rows.any():
        raise InputError(f"{path} holds no shift.")
    statements = []
    if not rows.all():
        statements.append(
            f"{int((~rows).sum()):,} of {len(rows):,} rows have no rank or no {column} and are "
            "left out."
        )
    table, ranks, shift = table[rows], numbers["gene_rank"][rows], numbers[column][rows]
    if _NUMBERS[column]:
        shift = 1.0 - shift
        statements.append(f"{column} was turned into cosine distances, 1 − {column}.")
    shifts = pd.DataFrame(
        {
            **{name: _required(table[name], path) for name in ("cell", "gene")},
            "replicate": as_names(table[donor or "cell"]),
            "gene_id": _gene_ids(table),
            "gene_rank": _ranks(ranks, path),
            "kind": _text(table, "kind", "knock-out"),
            "arm": _text(table, "arm", "delete"),
            "quantity": _text(table, "quantity", CELL_SHIFT),
            "shift": shift,
            "under_noise_floor": _marks(table, path),
        }
    )
    _refuse_twice(shifts, path)
    _refuse_similarities(shifts, path)
    distances = shifts["quantity"].isin(UNSIGNED)
    shifts["shift"] = _rounded(shifts["shift"], distances, path, statements)
    shifts["under_noise_floor"] |= distances & (shifts["shift"] <= SMALLEST)
    shifts = _with_replicates(shifts, donor, path, statements)
    for quantity, part in shifts.groupby("quantity", sort=False):
        shifts.loc[part.index, "scaled"] = scaled(
            part["shift"], str(quantity), 0.0, part["under_noise_floor"]
        )
    return shifts[list(COLUMNS)], statements


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep="," if path.suffix == ".csv" else "\t", low_memory=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table ({error}).") from error


def _numbers(values: pd.Series, path: Path) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce").astype(np.float64)
    wrong = (numbers.isna() & values.notna()) | np.isinf(numbers)
    if wrong.any():
        raise InputError(
            f"{path}: {str(values[wrong].iloc[0])!r} in column {values.name!r} is no number."
        )
    return numbers


def _required(values: pd.Series, path: Path) -> pd.Series:
    names = as_names(values)
    if names.isna().any():
        raise InputError(
            f"{path}: {int(names.isna().sum()):,} rows name no {values.name}; name it or leave "
            "them out."
        )
    return names


def _gene_ids(table: pd.DataFrame) -> pd.Series:
    """Ensembl IDs: of their own column, or of genes that are named by them."""
    genes = as_names(table["gene"])
    if "gene_id" in table:
        return as_names(table["gene_id"])
    return genes.where(genes.str.fullmatch(_ENSEMBL_ID))


def _ranks(ranks: pd.Series, path: Path) -> pd.Series:
    if (ranks < 0).any() or (ranks % 1 != 0).any():
        raise InputError(
            f"{path}: gene_rank counts from 0, the highest, in whole numbers; it holds "
            f"{ranks[(ranks < 0) | (ranks % 1 != 0)].iloc[0]:g} (no negative ranks)."
        )
    return ranks.astype(int)


def _text(table: pd.DataFrame, column: str, default: str) -> pd.Series:
    if column not in table:
        return pd.Series(default, table.index)
    return as_names(table[column]).fillna(default)


def _marks(table: pd.DataFrame, path: Path) -> pd.Series:
    """Which shifts are under the noise floor; none where nobody says so."""
    if "under_noise_floor" not in table:
        return pd.Series(False, table.index)
    names = as_names(table["under_noise_floor"]).fillna("false").str.casefold()
    marks = names.map({"true": True, "1": True, "false": False, "0": False})
    if marks.isna().any():
        raise InputError(
            f"{path}: {names[marks.isna()].iloc[0]!r} in column 'under_noise_floor' is neither "
            "true nor false."
        )
    return marks.astype(bool)


def _refuse_twice(shifts: pd.DataFrame, path: Path) -> None:
    names = ["cell", "gene", "kind", "arm", "quantity"]
    twice = shifts[shifts.duplicated(["gene_id", *names])]
    if len(twice):
        cell, gene, kind, arm, quantity = (str(twice[name].iloc[0]) for name in names)
        raise InputError(
            f"{path}: {gene} stands twice in cell {cell} ({kind}, {arm}, {quantity}); leave one "
            "row of each."
        )


def _refuse_similarities(shifts: pd.DataFrame, path: Path) -> None:
    """Refuse cosines before or after a perturbation where their change is meant."""
    for (kind, arm, quantity), rows in shifts.groupby(["kind", "arm", "quantity"], sort=False):
        median, highest = rows["shift"].median(), rows["shift"].max()
        is_cosine = quantity in UNSIGNED or str(quantity).startswith(TOWARDS)
        if is_cosine and median > _SIMILAR and highest <= 1 + _ROUNDING:
            raise InputError(
                f"{path}: the shifts of {kind} under {arm} (median {median:.3g}) look like cosine "
                "similarities, as Geneformer writes them, and are no distances and no changes. "
                "Call the column of a cell's similarity to itself 'cosine_similarity', and 1 − "
                "that is tested; of similarities to a state, write the change."
            )


def _rounded(
    shift: pd.Series, distances: pd.Series, path: Path, statements: list[str]
) -> pd.Series:
    """Shifts whose distances are no less than zero: float32 rounds some of those to just below."""
    negative = shift[distances & (shift < 0)]
    if negative.empty:
        return shift
    if negative.min() < -_ROUNDING:
        raise InputError(
            f"{path}: a distance has no sign, and {negative.min():.3g} is none. Say in a column "
            f"'quantity' what the shifts are: {CELL_SHIFT!r}, or {GOAL!r}."
        )
    statements.append(
        f"{len(negative):,} of {int(distances.sum()):,} distances are negative by rounding "
        f"({negative.min():.1e} the lowest) and count as zero."
    )
    return shift.clip(lower=0.0).where(distances, shift)


def _with_replicates(
    shifts: pd.DataFrame, donor: str | None, path: Path, statements: list[str]
) -> pd.DataFrame:
    """Rows whose donor is known."""
    known = shifts.dropna(subset="replicate").reset_index(drop=True)
    if known.empty:
        raise InputError(f"No row of {path} has a {donor}; name another column.")
    cells = known["cell"].drop_duplicates()
    statements += without_donor(shifts["cell"].nunique(), cells, donor)
    return known
