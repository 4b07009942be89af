import importlib.util
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ranklock.errors import OutputError
from ranklock.run import store as store_module
from ranklock.run.store import EFFECTS, IMPOSTORS, MOST_PARTS, SHIFTS, Store, stored_tables

NAMES = pa.dictionary(pa.int32(), pa.string())
WITH_EFFECTS = stored_tables(effects=True, impostors=False)
ALONE = stored_tables(effects=False, impostors=False)
ALL_TABLES = stored_tables(effects=True, impostors=True)


def tables_of(shard, *, rows=5, responders=7):
    """Shifts and effects of a shard, of random numbers."""
    draw = np.random.default_rng(shard)
    cells = pa.array([f"cell{shard}"] * rows).dictionary_encode().cast(NAMES)
    shifts = pa.table({"cell": cells, "cosine_distance": draw.normal(size=rows)})
    numbers = draw.normal(size=rows * responders).astype("f4")
    lists = pa.ListArray.from_arrays(
        pa.array(np.arange(rows + 1) * responders, pa.int32()), pa.array(numbers)
    )
    effects = pa.table({"cell": cells, "hold_cosine_distance": lists})
    return {SHIFTS: shifts, EFFECTS: effects}


@pytest.fixture(autouse=True)
def few_parts(monkeypatch):
    monkeypatch.setattr(store_module, "MOST_PARTS", 3)


@pytest.fixture
def store(tmp_path):
    """Seven shards in three parts, none of them there."""
    made = Store(tmp_path / "run", "this run", 7, WITH_EFFECTS)
    made.prepare()
    return made


def write(store, shards):
    for shard in shards:
        store.write(shard, tables_of(shard))


def filled(store):
    for part in store.parts:
        write(store, store.shards_of(part))
        store.finish_part(part)
    return store


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != ".locks"
    }


def forget_what_was_checked():
    """What is seen as checked is known by name, size and time; tests change files faster."""
    store_module._verified.cache_clear()


def test_what_is_written_is_read(store):
    filled(store)
    for table in (SHIFTS, EFFECTS):
        paths = store.files(table)
        assert [path.parent.name for path in paths] == ["parts"] * 3
        read = pa.concat_tables(store.read(path) for path in paths)
        expected = pa.concat_tables(tables_of(shard)[table] for shard in range(7))
        assert read.to_pydict() == expected.to_pydict()
        assert sum(store.rows(path) for path in paths) == 35


def test_one_column_can_be_read_without_the_others(store):
    path = filled(store).files(EFFECTS)[0]
    assert store.read(path, ["cell"]).column_names == ["cell"]
    group = store.row_group(path, 1, ["hold_cosine_distance"])
    assert group.equals(tables_of(1)[EFFECTS].select(["hold_cosine_distance"]))
    assert [table.num_rows for table in store.batches(path)] == [5, 5, 5]  # a shard at a time


def test_a_part_is_one_file_a_table_and_leaves_nothing_else(store):
    filled(store)
    assert set(files(store.folder)) == {
        f"parts/{table}-{part:04d}.parquet" for table in (SHIFTS, EFFECTS) for part in range(3)
    }
    store.clear_up()
    assert not (store.folder / ".shards").exists()


def test_shards_that_are_not_a_part_yet_are_read_too(store):
    write(store, [0, 1, 2])
    store.finish_part(0)
    write(store, [4])
    assert [path.parent.name for path in store.files(SHIFTS)] == ["parts", ".shards"]
    assert store.missing(1) == [3, 5]
    assert [store.is_finished(part) for part in store.parts] == [True, False, False]


def test_shifts_alone(tmp_path):
    store = Store(tmp_path / "run", "this run", 1, ALONE)
    store.prepare()
    store.write(0, tables_of(0))
    store.finish_part(0)
    assert list(files(store.folder)) == ["parts/shifts-0000.parquet"]
    assert store.is_finished(0)


def test_impostors_are_a_table_beside_and_shifts_come_last(tmp_path, monkeypatch):
    assert ALL_TABLES == (EFFECTS, IMPOSTORS, SHIFTS)
    assert stored_tables(effects=False, impostors=True) == (IMPOSTORS, SHIFTS)
    store = Store(tmp_path / "run", "this run", 1, ALL_TABLES)
    store.prepare()
    of_impostors = pa.table({"displacement": [1.0, 2.0]})
    written, write_file = [], Store.write_file
    monkeypatch.setattr(
        Store, "write_file", lambda *args: (written.append(args[1].name), write_file(*args))
    )
    store.write(0, tables_of(0) | {IMPOSTORS: of_impostors})
    store.finish_part(0)
    assert written[2::3] == ["shifts-00000000.parquet", "shifts-0000.parquet"]
    assert store.read(store.files(IMPOSTORS)[0]).equals(of_impostors)
    (store.folder / "parts" / "impostors-0000.parquet").unlink()
    assert not store.is_finished(0)
    assert store.missing(0) == [0]


@pytest.mark.parametrize(
    ("shards", "tables"),
    [(1, WITH_EFFECTS), (90, WITH_EFFECTS), (91, ALL_TABLES), (10**6, ALONE)],
)
def test_the_number_of_files_does_not_grow_with_the_run(monkeypatch, tmp_path, shards, tables):
    monkeypatch.setattr(store_module, "MOST_PARTS", MOST_PARTS)
    store = Store(tmp_path, "this run", shards, tables)
    assert len(store.parts) <= 90
    covered = [shard for part in store.parts for shard in store.shards_of(part)]
    assert covered == list(range(shards))


@pytest.mark.parametrize("table", [SHIFTS, EFFECTS])
def test_each_flipped_byte_of_a_part_is_found(store, table):
    filled(store)
    whole = files(store.folder)
    path = store.folder / "parts" / f"{table}-0001.parquet"
    content = whole[f"parts/{path.name}"]
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        forget_what_was_checked()
        with pytest.raises(OutputError, match=f"{path.name} is missing or damaged"):
            store.read(path)
    forget_what_was_checked()
    assert store.missing(1) == [3, 4, 5]
    write(store, [3, 4, 5])
    store.finish_part(1)
    assert files(store.folder) == whole


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_part_that_is_cut_short_is_found(store, kept):
    path = filled(store).files(EFFECTS)[0]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(OutputError, match="run the same command again"):
        store.read(path)
    assert store.missing(0) == [0, 1, 2]


def test_bytes_that_were_added_are_found(store):
    path = filled(store).files(EFFECTS)[0]
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(OutputError, match="missing or damaged"):
        store.read(path)


@pytest.mark.parametrize("lost", ["effects-00000001", "shifts-00000001"])
def test_half_a_shard_is_no_shard(store, lost):
    write(store, [0, 1, 2])
    (store.folder / ".shards" / f"{lost}.parquet").unlink()
    assert store.missing(0) == [1]
    assert len(files(store.folder)) == 4


def test_a_damaged_part_whose_shards_are_still_there_needs_none_of_them_again(store):
    write(store, [0, 1, 2])
    before = files(store.folder)
    store.finish_part(0)
    whole = files(store.folder)
    for name, content in before.items():  # a kill between the part and the end of its shards
        (store.folder / name).write_bytes(content)
    path = store.folder / "parts" / "shifts-0000.parquet"
    path.write_bytes(b"PAR1")
    assert store.missing(0) == []
    store.finish_part(0)
    assert files(store.folder) == whole


def test_what_another_run_stored_is_not_taken_over(store):
    filled(store)
    other = replace(store, run="another run")
    with pytest.raises(OutputError, match="of another run"):
        other.read(other.files(SHIFTS)[0])
    assert other.missing(0) == [0, 1, 2]
    assert not other.is_finished(0)


def test_files_of_another_run_are_taken_away_by_their_names(store):
    filled(store)
    less = Store(store.folder, "another run", 2, ALONE)
    less.clear_foreign()
    assert set(files(store.folder)) == {"parts/shifts-0000.parquet", "parts/shifts-0001.parquet"}


def test_a_part_is_one_processs(store):
    with store.part_locked(1) as held, replace(store).part_locked(1) as other:
        assert held
        assert not other
        with store.part_locked(2) as another:
            assert another
    with store.part_locked(1) as held:
        assert held


def test_one_fsync_a_file(store, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(handle), fsync(handle)))
    store.write(0, tables_of(0))
    assert len(synced) == 2


def test_pages_have_checksums_and_pandas_opens_a_part_as_it_is(store):
    path = filled(store).files(EFFECTS)[0]
    frame = pd.read_parquet(path, page_checksum_verification=True)
    assert frame["cell"].tolist() == [f"cell{shard}" for shard in range(3) for _ in range(5)]
    assert len(frame["hold_cosine_distance"][0]) == 7
    # A byte within a page, the digest aside: the page's own checksum says so.
    content = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    content[column.data_page_offset + column.total_compressed_size - 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="checksum|CRC|corrupt"):
        pd.read_parquet(path, page_checksum_verification=True)


@pytest.mark.skipif(not importlib.util.find_spec("duckdb"), reason="DuckDB is not installed")
def test_duckdb_opens_the_parts(store):
    import duckdb

    filled(store)
    parts = f"{store.folder}/parts/effects-*.parquet"
    numbers = duckdb.sql(f"select cell, len(hold_cosine_distance) from '{parts}'").fetchall()
    assert sorted(numbers) == [(f"cell{shard}", 7) for shard in range(7) for _ in range(5)]


@pytest.mark.skipif(not importlib.util.find_spec("polars"), reason="polars is not installed")
def test_polars_opens_the_parts(store):
    import polars

    filled(store)
    frame = polars.read_parquet(store.folder / "parts" / "effects-*.parquet")
    assert frame["cell"].cast(str).to_list() == [f"cell{i}" for i in range(7) for _ in range(5)]
    assert frame["hold_cosine_distance"].list.len().to_list() == [7] * 35
