"""A sweep on disk: a zarr group a cell, a chunk a block of knock-outs, each written in one step.

A block is there when both of its chunks are: its effects, then its knock-outs' own numbers, each
forced to the disk before the next. Whatever kills a run leaves whole blocks, and at most one that
is computed again. Every chunk carries a checksum, which reading it verifies.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from ranklock.errors import OutputError

STORE_VERSION = 1
BLOCK = 64  # knock-outs in a chunk: what a kill can cost

EFFECTS, SHIFTS = "effects", "knockouts"
_CODECS = (ZstdCodec(level=1), Crc32cCodec())
_UNFINISHED = ".unfinished-"

Tokens = npt.NDArray[np.int32]


def store_format() -> list[int]:
    """What a store must have been written with to be read."""
    return [STORE_VERSION, BLOCK]


Field = npt.NDArray[np.float32] | npt.NDArray[np.float64]


class DamagedChunkError(OutputError):
    """A chunk that is not what was written."""


@dataclass(frozen=True, eq=False)
class CellLayout:
    """What a sweep stores of one cell.

    Attributes
    ----------
    index, name
        Row of the cell among the sweep's, and its name.
    genes_in_cell
        Genes that the model is shown.
    knocked_out, knocked_out_ranks
        Token and rank of each knocked-out gene, highest rank first, shape (knock-outs,).
    responders, responder_ranks
        The same of the responders that are stored, shape (responders,).
    """

    index: int
    name: str
    genes_in_cell: int
    knocked_out: Tokens
    knocked_out_ranks: Tokens
    responders: Tokens
    responder_ranks: Tokens

    @property
    def blocks(self) -> range:
        """Numbers of its blocks."""
        return range(-(-len(self.knocked_out) // BLOCK))

    def rows(self, block: int) -> slice:
        """Knock-outs of a block."""
        return slice(block * BLOCK, min((block + 1) * BLOCK, len(self.knocked_out)))


@dataclass(frozen=True)
class Store:
    """Effects of a sweep, in a folder.

    Attributes
    ----------
    folder
        The zarr group's.
    effect_fields
        Names of what is stored of each knock-out and responder.
    knockout_fields
        Names of what is stored of each knock-out.
    sweep
        Digest of what makes the sweep this one; what bears another is none of its own.
    """

    folder: Path
    effect_fields: tuple[str, ...]
    knockout_fields: tuple[str, ...]
    sweep: str

    @property
    def locks(self) -> Path:
        """Folder of the locks that keep processes apart."""
        return self.folder.parent / ".locks"

    def prepare(self) -> None:
        """Make the store where there is none, and clear away what a killed run left half done."""
        self.locks.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "zarr.json").is_file():
            zarr.create_group(self.folder, overwrite=False, attributes={"version": STORE_VERSION})
            force_to_disk(self.folder / "zarr.json")

    @contextmanager
    def cell_locked(self, index: int) -> Iterator[bool]:
        """Keep other processes off a cell; False when another one is at it."""
        with locked(self.locks / f"{index}.lock") as mine:
            yield mine

    def write(
        self,
        cell: CellLayout,
        block: int,
        effects: Mapping[str, Field],
        knockouts: Mapping[str, Field],
    ) -> None:
        """Store a block.

        Parameters
        ----------
        cell, block
            Which block.
        effects
            Field → numbers of shape (knock-outs, responders).
        knockouts
            Field → numbers of shape (knock-outs,).
        """
        group = self._group_of(cell)
        rows = cell.rows(block)
        # zarr would read what is there to write a part of it; and the second says it is whole.
        for array in (SHIFTS, EFFECTS):
            self._chunk(cell.index, array, block).unlink(missing_ok=True)
        if self._has_effects(cell):
            group[EFFECTS][:, rows] = np.stack([effects[f] for f in self.effect_fields])
            force_to_disk(self._chunk(cell.index, EFFECTS, block))
        group[SHIFTS][:, rows] = np.stack([knockouts[f] for f in self.knockout_fields])
        force_to_disk(self._chunk(cell.index, SHIFTS, block))

    def done(self, cell: CellLayout, *, verify: bool = False) -> list[int]:
        """Blocks of a cell that are there.

        Parameters
        ----------
        cell
            The cell.
        verify
            Read every one against its checksum, and leave damaged ones out.
        """
        there = [
            block
            for block in cell.blocks
            if self._chunk(cell.index, SHIFTS, block).is_file()
            and (not self._has_effects(cell) or self._chunk(cell.index, EFFECTS, block).is_file())
        ]
        return [block for block in there if not verify or self._is_sound(cell, block)]

    def clear_up(self, cell: CellLayout) -> None:
        """Remove what a killed writer left half written, and a group that is not the cell's.

        The cell must be locked.
        """
        for path in self.folder.glob(f"{_UNFINISHED}{cell.index}-*"):
            shutil.rmtree(path, ignore_errors=True)
        group = self.folder / str(cell.index)
        for path in group.rglob("*.partial"):  # zarr's name for a chunk on its way
            path.unlink(missing_ok=True)
        if group.exists() and not self._is_group_of(cell):
            shutil.rmtree(group)

    def cells(self) -> list[int]:
        """Cells of which anything is stored."""
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())

    def layout(self, index: int) -> CellLayout:
        """Layout of a stored cell."""
        group = self._open(index)
        with _reading(self.folder / str(index)):
            arrays = {name: np.asarray(group[name][:]) for name in _LAYOUT_ARRAYS}
            return CellLayout(
                index, str(group.attrs["name"]), int(str(group.attrs["genes_in_cell"])), **arrays
            )

    def effects(
        self, cell: CellLayout, block: int, fields: Sequence[str] | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Effects of a block: field → numbers of shape (knock-outs, responders).

        Raises
        ------
        DamagedChunkError
            When what is read is not what was written.
        """
        wanted = self.effect_fields if fields is None else tuple(fields)
        rows = cell.rows(block)
        if not self._has_effects(cell):
            nothing = np.zeros((rows.stop - rows.start, 0), np.float32)
            return dict.fromkeys(wanted, nothing)
        with _reading(self._chunk(cell.index, EFFECTS, block)):
            array = self._open(cell.index)[EFFECTS]
            if fields is None:
                return dict(zip(wanted, array[:, rows], strict=True))
            return {f: array[self.effect_fields.index(f), rows] for f in wanted}

    def knockouts(self, cell: CellLayout) -> dict[str, npt.NDArray[np.float64]]:
        """Numbers of every knock-out of a cell; NaN for those that are not done."""
        with _reading(self.folder / str(cell.index) / SHIFTS):
            return dict(zip(self.knockout_fields, self._open(cell.index)[SHIFTS][:], strict=True))

    def _has_effects(self, cell: CellLayout) -> bool:
        return bool(self.effect_fields) and len(cell.responders) > 0

    def _is_group_of(self, cell: CellLayout) -> bool:
        try:
            there = self.layout(cell.index)
            with _reading(self.folder / str(cell.index)):
                group = self._open(cell.index)
                bears = group.attrs.get("sweep")
                kinds = {SHIFTS: _kind_of(group[SHIFTS])}
                if self._has_effects(cell):
                    kinds[EFFECTS] = _kind_of(group[EFFECTS])
        except DamagedChunkError:
            return False
        expected = {name: self._kind(cell, name) for name in kinds}
        return (
            (there.name, there.genes_in_cell) == (cell.name, cell.genes_in_cell)
            and all(np.array_equal(getattr(there, n), getattr(cell, n)) for n in _LAYOUT_ARRAYS)
            and (bears, kinds) == (self.sweep, expected)
        )

    def _is_sound(self, cell: CellLayout, block: int) -> bool:
        try:
            with _reading(self.folder):
                group = self._open(cell.index)
                group[SHIFTS][:, cell.rows(block)]
                if self._has_effects(cell):
                    group[EFFECTS][:, cell.rows(block)]
        except DamagedChunkError:
            return False
        return True

    def _chunk(self, index: int, array: str, block: int) -> Path:
        place = ("0", str(block), "0") if array == EFFECTS else ("0", str(block))
        return self.folder.joinpath(str(index), array, "c", *place)

    def _open(self, index: int, *, to_write: bool = False) -> zarr.Group:
        with _reading(self.folder / str(index)):
            return zarr.open_group(self.folder / str(index), mode="r+" if to_write else "r")

    def _group_of(self, cell: CellLayout) -> zarr.Group:
        """The cell's group; a new one appears with all that it holds, or not at all."""
        final = self.folder / str(cell.index)
        if not final.exists():
            unfinished = self.folder / f"{_UNFINISHED}{cell.index}-{uuid.uuid4().hex}"
            try:
                self._make_group(unfinished, cell)
                for path in unfinished.rglob("*"):
                    force_to_disk(path)
                unfinished.rename(final)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
            force_to_disk(self.folder)
        return self._open(cell.index, to_write=True)

    def _make_group(self, folder: Path, cell: CellLayout) -> None:
        group = zarr.create_group(
            folder,
            attributes={
                "name": cell.name,
                "genes_in_cell": cell.genes_in_cell,
                "sweep": self.sweep,
            },
        )
        for name in _LAYOUT_ARRAYS:
            group.create_array(
                name, data=np.asarray(getattr(cell, name), np.int32), compressors=_CODECS
            )
        for name, fields in ((SHIFTS, self.knockout_fields), (EFFECTS, self.effect_fields)):
            if name == EFFECTS and not self._has_effects(cell):
                continue
            kind = self._kind(cell, name)
            group.create_array(
                name,
                shape=kind["shape"],
                chunks=kind["chunks"],
                shards=kind["shards"],
                dtype=kind["dtype"],
                dimension_names=("field", "knocked_out", "responder")[: len(kind["shape"])],
                attributes={"fields": list(fields)},
                fill_value=np.nan,
                compressors=_CODECS,
                config={"write_empty_chunks": True},
            )

    def _kind(self, cell: CellLayout, name: str) -> dict[str, Any]:
        """Shape, pieces, type and fields of one of a cell's arrays."""
        knockouts, responders = len(cell.knocked_out), len(cell.responders)
        rows = min(BLOCK, knockouts)
        if name == SHIFTS:
            fields = len(self.knockout_fields)
            return {
                "shape": (fields, knockouts),
                "chunks": (fields, rows),
                "shards": None,
                "dtype": "float64",
                "fields": list(self.knockout_fields),
            }
        fields = len(self.effect_fields)
        return {
            "shape": (fields, knockouts, responders),
            # One file a block, in which each field can be read without the others.
            "chunks": (1, rows, responders),
            "shards": (fields, rows, responders),
            "dtype": "float32",
            "fields": list(self.effect_fields),
        }


_LAYOUT_ARRAYS = ("knocked_out", "knocked_out_ranks", "responders", "responder_ranks")


def _kind_of(array: zarr.Array) -> dict[str, Any]:
    return {
        "shape": array.shape,
        "chunks": array.chunks,
        "shards": array.shards,
        "dtype": str(array.dtype),
        "fields": array.attrs.get("fields"),
    }


@contextmanager
def locked(path: Path, *, wait: float = 0.0) -> Iterator[bool]:
    """Hold a lock that the system takes back when the process ends, however it ends.

    Parameters
    ----------
    path
        The lock's file.
    wait
        How long to wait for it, in seconds.

    Yields
    ------
    Whether it is held.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=wait)
    except filelock.Timeout:
        yield False
        return
    except NotImplementedError as error:
        raise OutputError(
            f"The file system of {path.parent.parent} has no locks, without which two processes "
            "could write one store; name a folder on another with --out."
        ) from error
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def _reading(place: Path) -> Iterator[None]:
    """Say that a chunk is damaged where zarr says that its bytes make no sense."""
    try:
        yield
    # A wrong checksum is a ValueError; a damaged zarr.json is that, KeyError or TypeError.
    # What a failing disk says is an OSError.
    except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise DamagedChunkError(
            f"{place} is damaged ({str(error).splitlines()[0][:120]}); run the sweep's command "
            "again: it finds what is damaged and computes that anew."
        ) from error


def force_to_disk(path: Path) -> None:
    """Make the system write a file and its name before anything else is done."""
    for place in (path, path.parent):
        with suppress(PermissionError):  # Windows opens no folders
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
