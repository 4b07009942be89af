"""Which cells of a file: one, a range, a random sample, or those with a value in ``obs``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.errors import InputError, OptionError

_MISSING = frozenset({"", "nan", "<na>", "nat"})  # as pandas writes what is missing


@dataclass(frozen=True)
class Selection:
    """A choice of cells; the default is all of them.

    Attributes
    ----------
    rows
        Row numbers, or a slice of them; applied first.
    where
        ``obs`` column → values. A cell must have one of the values in every column; they are
        compared as text.
    sample
        How many cells to draw at random, without replacement, from those left. Fewer are
        drawn where fewer are left.
    seed
        Seed of the draw.
    """

    rows: slice | tuple[int, ...] | None = None
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sample: int | None = None
    seed: int = 0

    def choose(self, obs: pd.DataFrame, source: str) -> npt.NDArray[np.int_]:
        """Row numbers chosen, ascending.

        Raises
        ------
        InputError
            When a row, a column or a value does not exist, or no cell is left.
        """
        everything = np.arange(len(obs))
        if not len(everything):
            raise InputError(f"{source} holds no cells.")
        chosen = self._by_row(everything, source)
        for column, values in self.where.items():
            chosen = chosen[_matches(obs, column, values, source)[chosen]]
        if not len(chosen):
            raise InputError(f"{source}: no cell meets all of the conditions; loosen them.")
        if self.sample is not None:
            if self.sample < 1:
                raise OptionError("--sample draws at least one cell.")
            draw = np.random.default_rng(self.seed)
            chosen = draw.choice(chosen, size=min(self.sample, len(chosen)), replace=False)
        return np.sort(chosen)

    def described(self) -> dict[str, Any]:
        """The choice as a manifest holds it."""
        rows: str | list[int] | None = None
        if isinstance(self.rows, slice):
            ends = [self.rows.start, self.rows.stop, *([self.rows.step] * bool(self.rows.step))]
            rows = ":".join("" if end is None else str(end) for end in ends)
        elif self.rows is not None:
            rows = list(self.rows)
        seed = None if self.sample is None else self.seed
        return {
            "rows": rows,
            "where": {c: list(v) for c, v in self.where.items()},
            "sample": self.sample,
            "seed": seed,
        }

    def _by_row(self, everything: npt.NDArray[np.int_], source: str) -> npt.NDArray[np.int_]:
        if self.rows is None:
            return everything
        if isinstance(self.rows, slice):
            chosen = everything[self.rows]
        else:
            outside = [row for row in self.rows if not 0 <= row < len(everything)]
            if outside:
                raise InputError(
                    f"{source} has cells 0 to {len(everything) - 1}, and none {outside[0]}."
                )
            chosen = np.array(self.rows, dtype=np.int_)
        if not len(chosen):
            raise InputError(f"{source} has {len(everything)} cells; the range holds none of them.")
        return chosen


def _matches(
    obs: pd.DataFrame, column: str, values: tuple[str, ...], source: str
) -> npt.NDArray[np.bool_]:
    if column not in obs:
        columns = ", ".join(map(str, obs.columns)) or "none"
        raise InputError(f"{source} has no obs column {column!r}; there are: {columns}.")
    text = pd.Series(text_of(obs[column]))
    for value in values:
        if not (text == value).any():
            known = text.value_counts().index[:8].tolist()
            more = ", …" if text.nunique() > len(known) else ""
            raise InputError(
                f"{source}: no cell has {column}={value}; values are {', '.join(known)}{more}."
            )
    return np.asarray(text.isin(values), dtype=bool)


def text_of(column: pd.Series) -> npt.NDArray[np.object_]:
    """Values of a column as people write them.

    Parameters
    ----------
    column
        A column of ``obs``, of whatever type.

    Returns
    -------
    Text, shape (cells,); None where the value is missing or was written as ``nan``. Whole numbers
    have no decimal point, also where missing values among them made the column one of floats.
    """
    codes, values = pd.factorize(column)
    # The code of a missing value is -1: the last text.
    texts: npt.NDArray[np.object_] = np.array([*map(_text, values), None], dtype=object)[codes]
    return texts


def _text(value: object) -> str | None:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    text = str(value)
    return None if text.strip().casefold() in _MISSING else text


def parse_range(text: str) -> slice:
    """Read a range of rows as Python writes it: ``0:50``, ``100:``, ``:10``, ``0:100:5``."""
    try:
        numbers = [int(part) if part else None for part in text.split(":")]
    except ValueError:
        numbers = []
    if not 2 <= len(numbers) <= 3:
        raise OptionError(f"{text!r} is not a range; write it as 0:50.")
    return slice(*numbers)


def parse_conditions(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read conditions on ``obs``, each as ``cell_type=NK``; one column may be named repeatedly."""
    conditions: dict[str, tuple[str, ...]] = {}
    for text in texts:
        column, equals, value = text.partition("=")
        if not equals or not column:
            raise OptionError(f"{text!r} is not a condition; write it as column=value.")
        conditions[column] = (*conditions.get(column, ()), value)
    return conditions
