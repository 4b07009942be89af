"""A run's numbers on disk: Parquet parts, each written whole or not at all.

A shard's shifts and effects are written as it is done, the shifts last: they say that it is there.
Shards that belong to one part become its file when they are all there, so that the number of files
does not grow with the run. Pages carry checksums, and a file carries the digest of its own bytes.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ranklock.errors import OutputError
from ranklock.run.files import write_whole
from ranklock.run.locks import locked

PARTS, SHARDS, LOCKS = "parts", ".shards", ".locks"
SHIFTS, EFFECTS, IMPOSTORS = "shifts", "effects", "impostors"
STORE_VERSION = 3
# A run has no more parts than this: with shifts and effects, and tables beside, under 200 files.
MOST_PARTS = 60

_RUN, _DIGEST = "ranklock run", "ranklock digest"
_BLANK = "0" * 64


def stored_tables(*, effects: bool, impostors: bool) -> tuple[str, ...]:
    """Names of the tables of a run, in the order in which they are written."""
    return (*(EFFECTS,) * effects, *(IMPOSTORS,) * impostors, SHIFTS)


@dataclass(frozen=True)
class Store:
    """The parts of a run.

    Attributes
    ----------
    folder
        The run's.
    run
        Digest of what makes the run this one; a file that bears another is none of its own.
    shards
        How many there are.
    tables
        Names of the stored tables, in the order in which they are written; shifts last.
    """

    folder: Path
    run: str
    shards: int
    tables: tuple[str, ...]

    @property
    def locks(self) -> Path:
        """Folder of the locks that keep processes apart."""
        return self.folder / LOCKS

    @property
    def part_size(self) -> int:
        """Shards in a part."""
        return max(1, -(-self.shards // MOST_PARTS))

    @property
    def parts(self) -> range:
        """Numbers of the parts."""
        return range(-(-self.shards // self.part_size))

    def shards_of(self, part: int) -> range:
        """Shards of a part."""
        first = part * self.part_size
        return range(first, min(first + self.part_size, self.shards))

    def prepare(self) -> None:
        """Make the folders."""
        for name in (PARTS, SHARDS, LOCKS):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    @contextmanager
    def part_locked(self, part: int) -> Iterator[bool]:
        """Keep other processes off a part; False when another one is at it."""
        with locked(self.locks / f"part-{part}.lock") as held:
            yield held

    def missing(self, part: int) -> list[int]:
        """Shards of a part that are not there, or not as they were written.

        The part must be locked: what is damaged is taken away.
        """
        if all(self.is_sound(self._part(table, part)) for table in self.tables):
            return []
        for table in self.tables:
            self._part(table, part).unlink(missing_ok=True)
        missing = []
        for shard in self.shards_of(part):
            if not all(self.is_sound(self._shard(table, shard)) for table in self.tables):
                missing.append(shard)
                for table in self.tables:
                    self._shard(table, shard).unlink(missing_ok=True)
        return missing

    def write(self, shard: int, contents: Mapping[str, pa.Table]) -> None:
        """Store the tables of a shard, shifts last."""
        for table in self.tables:
            content = contents[table]
            self.write_file(self._shard(table, shard), content.schema, [content])

    def finish_part(self, part: int) -> None:
        """Put the shards of a part, which are all there, into its files; shifts last."""
        for table in self.tables:
            if not self._part(table, part).is_file():
                paths = [self._shard(table, shard) for shard in self.shards_of(part)]
                schema = pq.read_schema(paths[0])
                self.write_file(
                    self._part(table, part), schema, (self.read(path) for path in paths)
                )
        for table in self.tables:
            for shard in self.shards_of(part):
                self._shard(table, shard).unlink(missing_ok=True)

    def is_finished(self, part: int) -> bool:
        """Whether the files of a part are there."""
        return all(self._part(table, part).is_file() for table in self.tables)

    def clear_foreign(self) -> None:
        """Take away files that are none of this run's, by their names."""
        own = {self._part(table, part) for table in self.tables for part in self.parts}
        own |= {self._shard(table, shard) for table in self.tables for shard in range(self.shards)}
        for name in (PARTS, SHARDS):
            for path in (self.folder / name).iterdir():
                if path not in own:
                    path.unlink()

    def clear_up(self) -> None:
        """Take away what only a run that is at work needs."""
        shutil.rmtree(self.folder / SHARDS, ignore_errors=True)
        for path in self.locks.glob("part-*.lock"):
            path.unlink(missing_ok=True)

    def files(self, table: str) -> list[Path]:
        """Files of a table that are there, in the order of their shards."""
        paths = []
        for part in self.parts:
            if self._part(SHIFTS, part).is_file():
                paths.append(self._part(table, part))
            else:
                shards = self.shards_of(part)
                done = [shard for shard in shards if self._shard(SHIFTS, shard).is_file()]
                paths += [self._shard(table, shard) for shard in done]
        return paths

    def rows(self, path: Path) -> int:
        """Rows of one of the files."""
        return int(pq.read_metadata(path).num_rows)

    def read(self, path: Path, columns: Sequence[str] | None = None) -> pa.Table:
        """One of the files.

        Parameters
        ----------
        path
            As of :meth:`files`.
        columns
            Which columns; all by default.

        Raises
        ------
        OutputError
            When it is missing, damaged, or of another run.
        """
        return pa.concat_tables(self.batches(path, columns))

    def batches(self, path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The same, a shard at a time.

        Raises
        ------
        OutputError
            As of :meth:`read`.
        """
        with self._opened(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=columns)

    def row_group(self, path: Path, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One shard of a file.

        Raises
        ------
        OutputError
            As of :meth:`read`.
        """
        with self._opened(path) as file:
            return file.read_row_group(group, columns=columns)

    @contextmanager
    def _opened(self, path: Path) -> Iterator[pq.ParquetFile]:
        try:
            self._check(path)
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                yield file
        except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are these
            raise OutputError(
                f"{path} is missing or damaged ({str(error).splitlines()[0][:100]}); run the same "
                "command again: it finds what is damaged and computes that anew."
            ) from error

    def _part(self, table: str, part: int) -> Path:
        return self.folder / PARTS / f"{table}-{part:04d}.parquet"

    def _shard(self, table: str, shard: int) -> Path:
        return self.folder / SHARDS / f"{table}-{shard:08d}.parquet"

    def is_sound(self, path: Path) -> bool:
        """Whether a file is there, of this run, and as it was written."""
        try:
            for _ in self.batches(path):
                pass
        except OutputError:
            return False
        return True

    def _check(self, path: Path) -> None:
        status = path.stat()
        run = _verified(path, status.st_mtime_ns, status.st_size)
        if run != self.run:
            raise ValueError("it is of another run")

    def write_file(self, path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
        """Write a file of this run, whole or not at all, with a row group a table."""
        write_whole(
            path,
            partial(_write_parquet, schema=schema, tables=tables, run=self.run),
            partial=self.locks / path.name,
        )


def _write_parquet(path: Path, schema: pa.Schema, tables: Iterable[pa.Table], run: str) -> None:
    lists = [field.name for field in schema if pa.types.is_list(field.type)]
    texts = [field.name for field in schema if field.name not in lists]
    with pq.ParquetWriter(
        path, schema, compression="zstd", compression_level=1, write_page_checksum=True,
        use_dictionary=texts,
    ) as writer:  # fmt: skip
        for table in tables:
            writer.write_table(table, row_group_size=max(table.num_rows, 1))
        writer.add_key_value_metadata({_RUN: run, _DIGEST: _BLANK})
    _seal(path)


def _seal(path: Path) -> None:
    """Write the digest of a file's bytes into its footer, in the place that was left blank."""
    with path.open("r+b") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        place = _place_of_digest(path, stream.seek(0, 2))
        stream.seek(place)
        stream.write(digest.encode())


def _place_of_digest(path: Path, size: int) -> int:
    """Where the digest stands in a file: in the last bytes, behind its own name."""
    with path.open("rb") as stream:
        stream.seek(size - 8)
        length = int.from_bytes(stream.read(4), "little")  # of the footer, as Parquet has it
        start = max(size - 8 - length, 0)
        stream.seek(start)
        footer = stream.read(length)
    name = footer.rfind(_DIGEST.encode())
    if name < 0:
        raise ValueError("it bears no digest")
    # Thrift writes the length of the value, one byte and a kind, between name and value.
    place = name + len(_DIGEST) + 2
    return start + place


@lru_cache(maxsize=4096)
def _verified(path: Path, changed: int, size: int) -> str:
    """Digest of the run that a file belongs to, once its bytes are those that were written."""
    place = _place_of_digest(path, size)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        left = place
        while left:
            block = stream.read(min(left, 1 << 20))
            if not block:
                raise ValueError("it is cut short")
            digest.update(block)
            left -= len(block)
        written = stream.read(len(_BLANK))
        digest.update(_BLANK.encode())
        digest.update(stream.read())
    if digest.hexdigest().encode() != written:
        raise ValueError("its bytes are not those that were written")
    run: bytes = (pq.read_metadata(path).metadata or {}).get(_RUN.encode(), b"")
    return run.decode()
