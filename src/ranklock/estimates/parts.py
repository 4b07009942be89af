"""Estimates of a screen on disk: a parquet file for some cells, each whole or not there.

A part holds consecutive cells. It is written in one step and carries checksums and the digest of
the screen that it belongs to, so that a screen that was killed goes on with the parts that are
missing or damaged, and several processes may each take their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ranklock.errors import OutputError
from ranklock.run.files import write_whole
from ranklock.run.old_store import locked

FOLDER = "estimates"
_SCREEN = b"ranklock screen"
_SCHEMA = pa.schema(
    {
        "cell": pa.int32(),
        "token": pa.int32(),
        "gene_rank": pa.int32(),
        "estimate": pa.float32(),
        "gross": pa.float32(),
        "peak": pa.float32(),
        "dominance": pa.float32(),
        "agreement": pa.float32(),
    }
)
COLUMNS = tuple(_SCHEMA.names)


@dataclass(frozen=True)
class Estimates:
    """The parts of a screen.

    Attributes
    ----------
    folder
        The screen's.
    parts
        How many there are.
    screen
        Digest of what makes the screen this one.
    """

    folder: Path
    parts: int
    screen: str

    @property
    def locks(self) -> Path:
        """Folder of the locks that keep processes apart."""
        return self.folder / ".locks"

    def path(self, part: int) -> Path:
        """File of a part."""
        return self.folder / FOLDER / f"part-{part:06d}.parquet"

    @contextmanager
    def part_locked(self, part: int) -> Iterator[bool]:
        """Keep other processes off a part; False when another one is at it."""
        with locked(self.locks / f"part-{part}.lock") as mine:
            yield mine

    def write(self, part: int, table: pd.DataFrame) -> None:
        """Store a part, with the columns ``COLUMNS``."""
        arrow = pa.Table.from_pandas(table[list(COLUMNS)], _SCHEMA, preserve_index=False)
        arrow = arrow.replace_schema_metadata({_SCREEN: self.screen.encode()})
        path = self.path(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(
            path,
            lambda to: pq.write_table(arrow, to, compression="zstd", write_page_checksum=True),
            partial=self.locks / path.name,
        )

    def is_sound(self, part: int) -> bool:
        """Whether a part is there, belongs to this screen, and reads as it was written."""
        try:
            self.read(part)
        except OutputError:
            return False
        return True

    def done(self) -> int:
        """How many parts are there."""
        return sum(self.path(part).is_file() for part in range(self.parts))

    def read(self, part: int, columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
        """One row a cell and gene, in order of cell and rank.

        Raises
        ------
        OutputError
            When it is missing, damaged, or of another screen.
        """
        path = self.path(part)
        try:
            arrow = pq.read_table(path, columns=list(columns), page_checksum_verification=True)
        except (OSError, ValueError) as error:  # pyarrow's errors are these
            raise OutputError(
                f"{path} is missing or damaged; run the screen's command again: it computes that "
                "part anew."
            ) from error
        if (arrow.schema.metadata or {}).get(_SCREEN) != self.screen.encode():
            raise OutputError(f"{path} is of another screen; run the screen's command again.")
        table: pd.DataFrame = arrow.to_pandas()
        return table

    def tables(self, columns: Sequence[str] = COLUMNS) -> Iterator[pd.DataFrame]:
        """Part after part, in constant memory."""
        for part in range(self.parts):
            yield self.read(part, columns)
