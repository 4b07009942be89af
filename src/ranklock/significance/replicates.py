"""What a test counts as replicates: cells, or the donors that cells come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ranklock.errors import InputError

# How a missing name is written where text is all there is; compared without case.
_MISSING = frozenset({"", "nan", "none", "na", "n/a", "<na>", "nat", "null"})


def as_names(values: pd.Series) -> pd.Series:
    """Cells, genes or donors as text; NaN where one is missing.

    Parameters
    ----------
    values
        Text or numbers, shape (rows,). A column of integers in which one is missing comes as
        floats: 15.0 is written 15 again.
    """
    names = values.astype(object).map(_as_name, na_action="ignore")
    return names.mask(names.isna() | names.astype(str).str.casefold().isin(_MISSING))


def _as_name(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def replicates_of(cells: pd.DataFrame, donor: str | None, source: object) -> pd.Series:
    """Cell's name → its replicate: the cell itself, or its donor; cells without one are left out.

    Parameters
    ----------
    cells
        Metadata, indexed by the cells' names.
    donor
        Column that names donors; each cell is a replicate without.
    source
        Whose cells they are, for messages.

    Raises
    ------
    InputError
        When there is no such column, or no cell has a donor.
    """
    names = pd.Index(cells.index.astype(str))
    if donor is None:
        return pd.Series(names, index=names)
    if donor not in cells:
        columns = ", ".join(map(str, cells.columns)) or "no columns"
        raise InputError(
            f"The cells of {source} have no column {donor!r} (they have {columns}); name the "
            "column that holds donors or samples."
        )
    donors = pd.Series(as_names(cells[donor]).to_numpy(), index=names).dropna()
    if donors.empty:
        raise InputError(f"No cell of {source} has a {donor}; name another column.")
    return donors


def without_donor(cells: int, replicates: pd.Series, donor: str | None) -> list[str]:
    """A sentence about cells whose donor is not known, where there are some."""
    unknown = cells - len(replicates)
    return [f"{unknown:,} of {cells:,} cells have no {donor} and are left out."] * (unknown > 0)
