"""Embeddings of states as a run keeps them: another process, and a resumed one, takes the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ranklock.models import Model

STATES = "states.parquet"
_KEY, _DIGEST = b"ranklock states", b"ranklock digest"


def key_of(states: str, model: Model, depth: int, precision: str) -> str:
    """Digest of what embeddings depend on: states' cells, checkpoint, layer and number format."""
    parts = (states, model.sha256, str(depth), precision)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def write_states(
    path: Path,
    vectors: npt.NDArray[np.float64],
    groups: tuple[str | None, ...],
    names: tuple[str, ...],
    key: str,
) -> None:
    """Write embeddings, a row a group and state: ``donor``, ``state``, ``embedding``.

    Parameters
    ----------
    path
        Where to.
    vectors
        Shape (groups, states, width).
    groups, names
        Donor of each group, and name of each state.
    key
        From :func:`key_of`.
    """
    table = pa.table(
        {
            "donor": pa.array([group for group in groups for _ in names], pa.string()),
            "state": pa.array([name for _ in groups for name in names], pa.string()),
            "embedding": pa.array(
                list(vectors.reshape(-1, vectors.shape[-1])), pa.list_(pa.float64())
            ),
        }
    )
    table = table.replace_schema_metadata({_KEY: key.encode(), _DIGEST: _digest(vectors)})
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)


def read_states(path: Path, key: str, groups: int) -> npt.NDArray[np.float64] | None:
    """Embeddings that were written, shape (groups, states, width); None where they are others."""
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        about = table.schema.metadata or {}
        rows = np.array(table["embedding"].to_pylist(), dtype=np.float64)
        vectors = rows.reshape(groups, -1, rows.shape[-1])
    except (OSError, ValueError, TypeError, LookupError, NotImplementedError):  # pyarrow's errors
        return None
    known = about.get(_KEY) == key.encode() and about.get(_DIGEST) == _digest(vectors)
    return vectors if known else None


def _digest(vectors: npt.NDArray[np.float64]) -> bytes:
    return hashlib.sha256(vectors.astype("<f8").tobytes()).hexdigest().encode()
