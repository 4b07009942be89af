"""Shifts of knock-outs as a tidy table, from a sweep, from knock-outs, or from anyone's table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ranklock.errors import InputError, OptionError
from ranklock.run.old_sweep_result import Sweep
from ranklock.significance.log_effects import replicates_of

CELL_SHIFT, GOAL, BEYOND = "cell shift", "towards goal", "goal beyond alternatives"
COLUMNS = ("cell", "replicate", "gene", "gene_id", "gene_rank", "arm", "quantity", "shift",
           "scaled", "under_noise_floor")  # fmt: skip
_SMALLEST = 1e-16  # of a distance without a noise floor: the rounding of float64
_NEEDED = ("cell", "gene", "gene_rank", "shift")


def shifts_of_sweep(
    sweep: Sweep, arms: Sequence[str] | None = None, donor: str | None = None
) -> pd.DataFrame:
    """Every shift that a sweep read: of the cell embedding, and towards states.

    Returns
    -------
    One row a cell, knock-out, arm and quantity, with the columns ``cell``, ``replicate``,
    ``gene``, ``gene_id``, ``gene_rank``, ``arm``, ``quantity``, ``shift``, ``scaled`` (log10 of a
    cell shift, else the shift; NaN under the noise floor) and ``under_noise_floor``.

    Raises
    ------
    InputError
        When the sweep did not read the cell embedding, or has no such arm or column.
    """
    if sweep.manifest["asked"]["read"] == "genes":
        raise InputError(
            f"{sweep.folder} read effects on genes only; run the sweep with --read both or cell."
        )
    chosen = tuple(dict.fromkeys(arms or sweep.arms))
    missing = [arm for arm in chosen if arm not in sweep.arms]
    if missing:
        raise OptionError(
            f"{sweep.folder} has no arm {missing[0]!r}; it has: {', '.join(sweep.arms)}."
        )
    replicates = replicates_of(sweep, donor)
    wide = sweep.knockouts()
    names = wide["cell"].astype(str)
    common = pd.DataFrame(
        {
            "cell": names,
            "replicate": replicates[names].to_numpy(),
            "gene": wide["gene"].astype(str),
            "gene_id": wide["gene_id"].astype(str),
            "gene_rank": wide["gene_rank"],
        }
    )
    parts = []
    for arm in chosen:
        under = wide[f"{arm}_cell_displacement"] <= sweep.floor.cell_displacement
        prefix = f"{arm}_towards_"
        states = [str(name).removeprefix(prefix) for name in wide if str(name).startswith(prefix)]
        values = {CELL_SHIFT: wide[f"{arm}_cell_shift"]}
        values |= {f"towards {state}": wide[prefix + state] for state in states}
        others = [state for state in states if state != "goal"]
        if "goal" in states and others:
            alternatives = wide[[prefix + state for state in others]].mean(axis=1)
            values[BEYOND] = wide[f"{prefix}goal"] - alternatives
        for quantity, shift in values.items():
            floor = sweep.floor.cell_shift
            scaled = np.log10(np.maximum(shift, max(floor, _SMALLEST)))
            parts.append(
                common.assign(
                    arm=arm, quantity=quantity, shift=shift,
                    scaled=np.where(under, np.nan, scaled if quantity == CELL_SHIFT else shift),
                    under_noise_floor=under,
                )
            )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def shifts_of_table(path: Path, donor: str | None = None) -> pd.DataFrame:
    """Shifts of a table that was made elsewhere, or of a knock-out's ``cell_shifts.parquet``.

    Parameters
    ----------
    path
        A .csv, .tsv or .parquet with the columns ``cell``, ``gene``, ``gene_rank`` (from 0) and
        ``shift`` (or ``cosine_distance``); if there, ``arm``, ``gene_id`` and ``quantity``.
    donor
        Column that names donors.

    Raises
    ------
    InputError
        When it cannot be read, lacks a column, or holds what is no number.
    """
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, sep="\t" if path.suffix in (".tsv", ".txt") else ",")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table ({error}).") from error
    if "shift" not in table and "cosine_distance" in table:
        table = table.rename(columns={"cosine_distance": "shift"})
    missing = [name for name in (*_NEEDED, *([donor] if donor else [])) if name not in table]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]!r} (it has {', '.join(map(str, table))}); a table "
            f"of shifts has the columns {', '.join(_NEEDED)}."
        )
    for name in ("gene_rank", "shift"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = numbers.isna() & table[name].notna()
        if wrong.any():
            raise InputError(
                f"{path}: {table[name][wrong].iloc[0]!r} in column {name!r} is no number."
            )
        table[name] = numbers
    table = table[table["shift"].notna() & table["gene_rank"].notna()]
    if table.empty:
        raise InputError(f"{path} holds no shift.")
    _check_rows(table, path)
    shift = table["shift"].to_numpy(np.float64)
    quantity = table.get("quantity", pd.Series(CELL_SHIFT, table.index)).astype(str)
    if ((shift < 0) & (quantity == CELL_SHIFT)).any():
        quantity = quantity.mask(quantity == CELL_SHIFT, GOAL)  # distances have no sign
    of_cells = (quantity == CELL_SHIFT).to_numpy()
    under = table.get("under_noise_floor", pd.Series(False, table.index)).astype(bool).to_numpy()
    under |= of_cells & (shift <= _SMALLEST)
    scaled = np.where(of_cells, np.log10(np.maximum(shift, _SMALLEST)), shift)
    scaled = np.where(under, np.nan, scaled)
    cell = table["cell"].astype(str)
    return pd.DataFrame(
        {
            "cell": cell,
            "replicate": table[donor].astype(str) if donor else cell,
            "gene": table["gene"].astype(str),
            "gene_id": table.get("gene_id", table["gene"]).astype(str),
            "gene_rank": table["gene_rank"].astype(int),
            "arm": table.get("arm", pd.Series("delete", table.index)).astype(str),
            "quantity": quantity,
            "shift": shift,
            "scaled": scaled,
            "under_noise_floor": under,
        }
    ).reset_index(drop=True)


def _check_rows(table: pd.DataFrame, path: Path) -> None:
    """Refuse ranks that are none, and knock-outs that stand there twice."""
    if (table["gene_rank"] < 0).any():
        raise InputError(f"{path}: gene_rank goes from 0, the highest; it holds negative ranks.")
    of = [name for name in ("cell", "gene", "arm", "quantity") if name in table]
    twice = table.duplicated(of)
    if twice.any():
        row = table[twice].iloc[0]
        raise InputError(
            f"{path}: {row['gene']} stands twice in cell {row['cell']}, with the same "
            f"{' and '.join(of)}; leave one row of each."
        )
