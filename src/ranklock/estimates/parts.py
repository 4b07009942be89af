"""Estimates on disk: a Parquet file for some cells, each whole or not there.

A part holds consecutive cells. It is written in one step and carries checksums and the digest of
the estimates that it belongs to, so that work that was killed goes on with the parts that are
missing or damaged, and several processes may each take their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ranklock.errors import OutputError
from ranklock.run.files import write_whole
from ranklock.run.locks import locked
from ranklock.run.work import LOCKS

FOLDER = "by_cell"
_DIGEST = b"ranklock estimates"
_FIELDS = {
    "cell": (pa.int32(), "row of the cell"),
    "token": (pa.int32(), "of the gene that is knocked out"),
    "gene_rank": (pa.int32(), "its rank in the cell"),
    "estimate": (pa.float32(), "of what its knock-out does, to first order"),
    "gross": (pa.float32(), "the same, were the parts of all layers and heads to add up"),
    "peak": (pa.float32(), "largest attention that it gets from another gene, of 1"),
    "dominance": (pa.float32(), "largest part of what another gene holds that it has written"),
    "agreement": (pa.float32(), "correlation of derivative and removal in the cell"),
}
_SCHEMA = pa.schema(
    pa.field(name, kind, metadata={"meaning": meaning}) for name, (kind, meaning) in _FIELDS.items()
)
COLUMNS = tuple(_FIELDS)
ESTIMATED = COLUMNS[3:]


@dataclass(frozen=True)
class Parts:
    """Estimates of all cells, part by part."""

    folder: Path  # of the estimates
    number: int
    digest: str  # of what makes the estimates these ones

    def path(self, part: int) -> Path:
        """File of a part."""
        return self.folder / FOLDER / f"part-{part:06d}.parquet"

    def lock(self, part: int) -> AbstractContextManager[bool]:
        """Keep other processes off a part; False when another one is at it."""
        return locked(self.folder / LOCKS / f"part-{part}.lock")

    def write(self, part: int, table: pd.DataFrame) -> None:
        """Store a part, with the columns ``COLUMNS``."""
        arrow = pa.Table.from_pandas(table[list(COLUMNS)], _SCHEMA, preserve_index=False)
        arrow = arrow.replace_schema_metadata({_DIGEST: self.digest.encode()})
        path = self.path(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(
            path,
            lambda to: pq.write_table(arrow, to, compression="zstd", write_page_checksum=True),
            partial=self.folder / LOCKS / path.name,
        )

    def is_sound(self, part: int) -> bool:
        """Whether a part is there, belongs to these estimates, and reads as it was written."""
        try:
            self.read(part)
        except OutputError:
            return False
        return True

    def done(self) -> int:
        """How many parts are there."""
        return sum(self.path(part).is_file() for part in range(self.number))

    def read(self, part: int) -> pd.DataFrame:
        """One row a cell and gene, in order of cell and rank.

        Raises
        ------
        OutputError
            When it is missing, damaged, or of other estimates.
        """
        path = self.path(part)
        try:
            arrow = pq.read_table(path, columns=list(COLUMNS), page_checksum_verification=True)
        except (OSError, ValueError) as error:  # pyarrow's errors are these
            raise OutputError(
                f"{path} is missing or damaged; run the command again: it computes that part anew."
            ) from error
        if (arrow.schema.metadata or {}).get(_DIGEST) != self.digest.encode():
            raise OutputError(f"{path} is of other estimates; run the command again.")
        table: pd.DataFrame = arrow.to_pandas()
        return table

    def tables(self) -> Iterator[pd.DataFrame]:
        """Part after part, in constant memory."""
        return map(self.read, range(self.number))
