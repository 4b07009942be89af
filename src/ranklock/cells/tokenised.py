"""Cells that were tokenised before: Geneformer's ``.dataset`` folders, and parquet."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.cells.cells import Cells, Tokens
from ranklock.cells.selection import Selection
from ranklock.errors import InputError, RanklockWarning
from ranklock.genes.vocabulary import (
    CLS,
    CLS_TOKEN,
    EOS,
    EOS_TOKEN,
    MASK,
    MASK_TOKEN,
    PAD,
    PAD_TOKEN,
    Vocabulary,
    token_vocabulary,
)

_INPUT_IDS = "input_ids"


def read_dataset(path: Path, vocabulary: Vocabulary | None, selection: Selection) -> Cells:
    """Read a Hugging Face dataset folder, as Geneformer's tokeniser writes it."""
    from datasets import Dataset, load_from_disk

    try:
        dataset = load_from_disk(str(path))
    # The library raises anything from FileNotFoundError to ArrowInvalid on a broken folder.
    except Exception as error:
        raise InputError(
            f"{path} is not a Hugging Face dataset folder ({error}); name the .dataset folder "
            "that Geneformer's tokeniser wrote."
        ) from error
    if not isinstance(dataset, Dataset):
        raise InputError(f"{path} holds several splits; name the folder of one of them.")
    _need_input_ids(dataset.column_names, path)
    described = dataset.remove_columns(_INPUT_IDS).with_format("pandas")
    obs = described[:] if described.column_names else pd.DataFrame(index=range(len(dataset)))
    rows = selection.choose(obs, str(path))
    sequences = dataset.select(rows).with_format("numpy")[_INPUT_IDS]
    return _cells(sequences, obs.iloc[rows], vocabulary, path, selection)


def read_parquet(path: Path, vocabulary: Vocabulary | None, selection: Selection) -> Cells:
    """Read a parquet file with a column ``input_ids``; its other columns become ``obs``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        columns = file.schema_arrow.names
        _need_input_ids(columns, path)
        obs = pq.read_table(path, columns=[c for c in columns if c != _INPUT_IDS]).to_pandas()
        if not len(obs.columns) and not len(obs):
            obs = pd.DataFrame(index=range(file.metadata.num_rows))
        rows = selection.choose(obs, str(path))
        sequences = [
            tokens
            for group, inside in _by_row_group(file, rows)
            for tokens in file.read_row_group(group, columns=[_INPUT_IDS])
            .column(_INPUT_IDS)
            .take(inside)
            .to_pylist()
        ]
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a readable parquet file ({error}).") from error
    return _cells(sequences, obs.iloc[rows], vocabulary, path, selection)


def _by_row_group(file: Any, rows: npt.NDArray[np.int_]) -> Iterator[tuple[int, Any]]:
    """Row groups that hold some of the rows, and which of their own rows those are."""
    start = 0
    for group in range(file.metadata.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        inside = rows[(rows >= start) & (rows < end)] - start
        if len(inside):
            yield group, inside
        start = end


def _need_input_ids(columns: list[str], path: Path) -> None:
    if _INPUT_IDS not in columns:
        raise InputError(f"{path} has no column {_INPUT_IDS!r}; it has: {', '.join(columns)}.")


def _cells(
    sequences: Any,
    obs: pd.DataFrame,
    vocabulary: Vocabulary | None,
    path: Path,
    selection: Selection,
) -> Cells:
    obs = obs.copy()
    obs.index = obs.index.astype(str)
    arrays = [_as_tokens(s, f"{path}, cell {n}") for s, n in zip(sequences, obs.index, strict=True)]
    padding = PAD_TOKEN if vocabulary is None else vocabulary.special.get(PAD, -1)
    arrays = [tokens[: _length_without_padding(tokens, padding)] for tokens in arrays]
    if vocabulary is None:
        vocabulary = _without_vocabulary(arrays, path)
    cls, eos = (vocabulary.special.get(name, -1) for name in (CLS, EOS))
    framed = [_stands_between(tokens, cls, eos) for tokens in arrays]
    if any(framed) and not all(framed):
        name = obs.index[framed.index(False)]
        raise InputError(
            f"{path}: some cells stand between <cls> and <eos> and others, like {name}, do not; "
            "tokenise them all in one way."
        )
    ranked = tuple(tokens[1:-1] if framed[0] else tokens for tokens in arrays)
    reading = {"selection": selection.described()}
    return Cells(ranked, obs, vocabulary, framed[0], str(path), reading=reading)


def _stands_between(tokens: Tokens, first: int, last: int) -> bool:
    return len(tokens) >= 2 and bool(tokens[0] == first and tokens[-1] == last)


def _as_tokens(sequence: Any, where: str) -> Tokens:
    if sequence is None:
        raise InputError(f"{where} has no tokens.")
    tokens = np.asarray(sequence)
    if not len(tokens):
        return np.zeros(0, dtype=np.int32)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise InputError(f"{where}: {_INPUT_IDS} must be whole numbers.")
    if tokens.min() < 0 or tokens.max() > np.iinfo(np.int32).max:
        raise InputError(f"{where}: token {tokens.min()} to {tokens.max()} is out of range.")
    return tokens.astype(np.int32)


def _length_without_padding(tokens: Tokens, padding: int) -> int:
    kept = np.flatnonzero(tokens != padding)
    return int(kept[-1]) + 1 if len(kept) else 0


def _without_vocabulary(arrays: list[Tokens], path: Path) -> Vocabulary:
    # In V1's dictionary 2 and 3 are genes, but no set of cells has the one on top and the other
    # at the bottom of every ranking.
    framed = all(_stands_between(tokens, CLS_TOKEN, EOS_TOKEN) for tokens in arrays)
    specials = f"{PAD} is {PAD_TOKEN}, {MASK} is {MASK_TOKEN}"
    specials += f", {CLS} is {CLS_TOKEN}, {EOS} is {EOS_TOKEN}" if framed else ""
    warnings.warn(
        f"{path}: no vocabulary given, so tokens serve as names; {specials} is taken from "
        "Geneformer's dictionaries.",
        RanklockWarning,
        stacklevel=2,
    )
    largest = max((int(tokens.max()) for tokens in arrays if len(tokens)), default=0)
    return token_vocabulary(largest, special_frame=framed)
