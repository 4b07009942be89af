"""Cells' metadata in a form that an .h5ad can hold, whatever a user's ``obs`` holds."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

_RESERVED = frozenset({"_index"})


def add_metadata(results: pd.DataFrame, metadata: pd.DataFrame) -> pd.DataFrame:
    """Put the cells' own columns beside those of the results.

    Parameters
    ----------
    results
        Columns of the results.
    metadata
        Columns of the cells, row for row with the results. A name that the results use, or that
        a file cannot hold, gets ``cell_`` before it, and ``/`` becomes ``|``.

    Returns
    -------
    Both, with the index of the results.
    """
    columns: dict[str, Any] = {str(name): results[name] for name in results}
    for position, name in enumerate(metadata.columns):
        columns[_free_name(str(name), columns)] = writable(metadata.iloc[:, position])
    return pd.DataFrame(columns, index=results.index)


def writable(column: pd.Series) -> Any:
    """A column's values as something that an .h5ad can hold: itself where possible, else text.

    Parameters
    ----------
    column
        Any column.

    Returns
    -------
    An array of the same length. Numbers, truth values (with missing ones), and categories of text
    or numbers stay what they are; anything else becomes categories of text, missing where it was.
    """
    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        used = column.cat.remove_unused_categories()
        if pd.api.types.infer_dtype(used.cat.categories) in ("string", "integer", "floating"):
            return used.array
    elif isinstance(kind, np.dtype) and kind.kind in "biuf" and kind != np.float16:
        return column.to_numpy()
    elif pd.api.types.is_extension_array_dtype(kind) and (
        pd.api.types.is_bool_dtype(kind) or pd.api.types.is_integer_dtype(kind)
    ):
        return column.array
    missing = [value is None or (np.ndim(value) == 0 and pd.isna(value)) for value in column]
    text = [None if gone else str(v) for v, gone in zip(column, missing, strict=True)]
    return pd.Categorical(text, categories=sorted({value for value in text if value is not None}))


def _free_name(name: str, taken: Collection[str]) -> str:
    name = name.replace("/", "|") or "unnamed"
    while name in taken or name in _RESERVED:
        name = f"cell_{name}"
    return name


def spreadsheet_safe(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose texts no spreadsheet takes for formulas.

    Parameters
    ----------
    table
        Any table.

    Returns
    -------
    The same, with an apostrophe before texts that begin with ``=``, ``+``, ``-``, ``@``, a tab or a
    line break and are no numbers.
    """
    safe = table.copy(deep=False)
    for name, column in table.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            texts = [_safe(text) for text in column.cat.categories]
            if len(set(texts)) == len(texts):
                safe[name] = column.cat.rename_categories(texts)
        elif column.dtype == object or pd.api.types.is_string_dtype(column.dtype):
            safe[name] = column.map(_safe)
    return safe


def _safe(text: Any) -> Any:
    if not isinstance(text, str) or not text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
