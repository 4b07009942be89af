"""Embeddings of states that a user has already: from memory, a table, or a ``.pt`` file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.errors import InputError

_TABLES = (".csv", ".tsv", ".txt", ".parquet")


def given_vectors(
    embeddings: Mapping[str, Any] | pd.DataFrame | str | Path, states: Sequence[str], width: int
) -> npt.NDArray[np.float64]:
    """Embeddings of some states.

    Parameters
    ----------
    embeddings
        State → vector (a list, an array or a tensor); a table with a row a state (named by the
        index or the first column) or a column a state; or the file of one: ``.csv``, ``.tsv``,
        ``.txt`` (tabs), ``.parquet``, or ``.pt`` with a dictionary of tensors, in which nothing is
        executed.
    states
        The states.
    width
        Width of the model.

    Returns
    -------
    Shape (states, width).

    Raises
    ------
    InputError
        When the file cannot be read, a state is missing, or a vector is not one of the model's
        width, is not finite, or is zero.
    """
    source = str(embeddings) if isinstance(embeddings, str | Path) else "the embeddings given"
    if isinstance(embeddings, str | Path):
        embeddings = _read(Path(embeddings))
    if isinstance(embeddings, pd.DataFrame):
        embeddings = _by_state(embeddings, states)
    vectors_of = {str(state): vector for state, vector in embeddings.items()}
    missing = [state for state in states if state not in vectors_of]
    if missing:
        raise InputError(
            f"{source}: no embedding of {', '.join(missing)}; there are "
            f"{', '.join([*vectors_of][:20]) or 'none'}."
        )
    return np.stack([_vector(vectors_of[s], width, f"{source}, {s}") for s in states])


def _read(path: Path) -> Mapping[str, Any] | pd.DataFrame:
    if path.suffix in (".pt", ".pth"):
        return _read_tensors(path)
    if path.suffix not in _TABLES:
        raise InputError(
            f"{path}: embeddings of states are read from {', '.join(_TABLES)} and .pt files, not "
            "pickles, which can execute anything; of Geneformer's .pkl that you trust, make one by "
            "torch.save(pickle.load(open('states.pkl', 'rb')), 'states.pt')."
        )
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep="," if path.suffix == ".csv" else "\t")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a table of embeddings ({error}).") from error


def _read_tensors(path: Path) -> Mapping[str, Any]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # What a broken or foreign file makes torch raise is of many kinds.
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} cannot be read as a dictionary of tensors ({reason}).") from error
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path} holds a {type(content).__name__}; save a dictionary: state → tensor."
        )
    return content


def _by_state(table: pd.DataFrame, states: Sequence[str]) -> dict[str, Any]:
    """State → vector, of a table with a row or a column a state."""
    by_column = {str(name): table.iloc[:, place] for place, name in enumerate(table.columns)}
    if set(states) <= set(by_column):
        return by_column
    by_index = dict(zip(table.index.astype(str), table.to_numpy(), strict=True))
    if set(states) <= set(by_index) or not len(table.columns):
        return by_index
    first = table.iloc[:, 0].astype(str)
    return dict(zip(first, table.iloc[:, 1:].to_numpy(), strict=True))


def _vector(values: Any, width: int, where: str) -> npt.NDArray[np.float64]:
    try:
        vector = np.array(values.tolist() if hasattr(values, "tolist") else values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: not a vector of numbers ({error}).") from error
    vector = vector.reshape(-1) if vector.ndim == 2 and 1 in vector.shape else vector
    if vector.shape != (width,):
        raise InputError(
            f"{where}: shape {vector.shape}, but the model's embeddings are {width} wide."
        )
    if not np.isfinite(vector).all() or not vector.any():
        what = "zero" if np.isfinite(vector).all() else "not finite"
        raise InputError(f"{where}: the embedding is {what}.")
    return vector
