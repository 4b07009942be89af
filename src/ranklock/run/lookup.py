"""Genes of a run by the names that people use."""

from __future__ import annotations

import difflib

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.errors import InputError
from ranklock.genes.names import without_version


def rows_named(
    table: pd.DataFrame, name: str, symbols: str, source: object
) -> npt.NDArray[np.bool_]:
    """Rows of a table that a name stands for, as a mask.

    Parameters
    ----------
    table
        With a column ``gene_id``, and one of symbols.
    name
        A symbol in any case, or an Ensembl ID with or without version; of a set, joined with ``+``.
    symbols
        Name of the column of symbols.
    source
        What the table is of, for the message.

    Raises
    ------
    InputError
        When there is none; with the nearest names.
    """
    wanted = without_version(str(name).strip())
    ids, texts = table["gene_id"].astype(str), table[symbols].astype(str)
    named: npt.NDArray[np.bool_] = ((ids == wanted) | (texts == wanted)).to_numpy()
    if not named.any():
        named = (texts.str.casefold() == wanted.casefold()).to_numpy()
    if not named.any():
        folded = {text.upper(): text for text in np.unique(texts)}
        close = difflib.get_close_matches(wanted.upper(), folded, n=3, cutoff=0.6)
        nearest = f" Nearest: {', '.join(folded[match] for match in close)}." if close else ""
        raise InputError(f"There is no gene {name} in {source}.{nearest}")
    return named
