import errno
import json
import shutil
from dataclasses import replace

import filelock
import numpy as np
import pytest
import zarr

from ranklock.errors import OutputError
from ranklock.run import old_store as module
from ranklock.run.old_store import CellLayout, DamagedChunkError, Store, locked

FIELDS, NUMBERS = ("hold", "shift"), ("hold_cell_shift",)


def layout(index=0, knockouts=10, responders=7):
    return CellLayout(
        index,
        f"cell {index}",
        12,
        np.arange(100, 100 + knockouts, dtype=np.int32),
        np.arange(knockouts, dtype=np.int32),
        np.arange(200, 200 + responders, dtype=np.int32),
        np.arange(responders, dtype=np.int32),
    )


def block_of(cell, block, seed=0):
    rows = cell.rows(block)
    size = rows.stop - rows.start
    draw = np.random.default_rng([seed, cell.index, block])
    effects = {f: draw.normal(size=(size, len(cell.responders))).astype("f4") for f in FIELDS}
    return effects, {f: draw.normal(size=size) for f in NUMBERS}


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 4)
    (tmp_path / "run").mkdir()
    made = Store(tmp_path / "run" / "effects.zarr", FIELDS, NUMBERS, "this sweep")
    made.prepare()
    return made


def written(store, cell):
    for block in cell.blocks:
        store.write(cell, block, *block_of(cell, block))


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_is_written_is_read(store):
    cell = layout()
    assert [*cell.blocks] == [0, 1, 2]
    assert store.done(cell) == []
    written(store, cell)
    assert store.done(cell, verify=True) == [0, 1, 2]
    again = store.layout(0)
    assert (again.name, again.genes_in_cell) == ("cell 0", 12)
    np.testing.assert_array_equal(again.knocked_out, cell.knocked_out)
    for block in cell.blocks:
        effects, numbers = block_of(cell, block)
        np.testing.assert_array_equal(store.effects(again, block)["shift"], effects["shift"])
        (hold,) = store.effects(again, block, ["hold"]).values()
        np.testing.assert_array_equal(hold, effects["hold"])
        found = store.knockouts(again)["hold_cell_shift"][cell.rows(block)]
        np.testing.assert_array_equal(found, numbers["hold_cell_shift"])


def test_zarr_opens_it_without_us(store):
    written(store, layout())
    group = zarr.open_group(store.folder, mode="r")
    assert group["0/effects"].shape == (2, 10, 7)
    assert group["0/effects"].attrs["fields"] == list(FIELDS)
    assert group["0/effects"].metadata.dimension_names == ("field", "knocked_out", "responder")


def test_cells_without_responders_have_their_own_numbers(store):
    cell = layout(responders=0)
    written(store, cell)
    assert store.done(cell, verify=True) == [0, 1, 2]
    assert not (store.folder / "0" / "effects").exists()


def test_each_flipped_byte_of_a_block_is_found_and_the_block_can_be_written_again(store):
    cell = layout()
    written(store, cell)
    whole = files(store.folder)
    for array in ("effects/c/0/2/0", "knockouts/c/0/2"):
        path = store.folder / "0" / array
        for place in range(0, path.stat().st_size, 7):
            content = bytearray(whole[f"0/{array}"])
            content[place] ^= 0x10
            path.write_bytes(content)
            assert store.done(cell, verify=True) == [0, 1], place
        store.write(cell, 2, *block_of(cell, 2))
        assert files(store.folder) == whole


def test_a_reader_says_which_chunk_is_damaged(store):
    cell = layout()
    written(store, cell)
    path = store.folder / "0" / "effects" / "c" / "0" / "1" / "0"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedChunkError, match=r"effects/c/0/1/0 is damaged .* command again"):
        store.effects(cell, 1)
    assert store.effects(cell, 0)


@pytest.mark.parametrize("lost", ["effects/c/0/1/0", "knockouts/c/0/1"])
def test_half_a_block_is_no_block(store, lost):
    cell = layout()
    written(store, cell)
    (store.folder / "0" / lost).unlink()
    assert store.done(cell) == [0, 2]


def test_what_a_killed_writer_left_is_cleared_up(store):
    cell = layout()
    written(store, cell)
    whole = files(store.folder)
    shutil.copytree(store.folder / "0", store.folder / ".unfinished-0-abc")
    (store.folder / "0" / "knockouts" / "c" / "0" / "1.abc.partial").write_bytes(b"half")
    store.clear_up(cell)
    assert files(store.folder) == whole


@pytest.mark.parametrize("what", ["zarr.json", "responders/c/0", "effects/zarr.json"])
def test_a_group_that_is_damaged_or_another_cells_is_made_anew(store, what):
    cell = layout()
    written(store, cell)
    whole = files(store.folder)
    (store.folder / "0" / what).write_bytes(b"{}")
    store.clear_up(cell)
    assert store.done(cell) == []
    written(store, cell)
    assert files(store.folder) == whole
    store.clear_up(layout(knockouts=9))
    assert store.done(cell) == []


def test_what_another_sweep_stored_is_not_taken_over(store):
    cell = layout()
    written(store, cell)
    for other in (
        replace(store, sweep="another"),
        replace(store, effect_fields=FIELDS[::-1]),
        replace(store, knockout_fields=("mask_cell_shift",)),
    ):
        other.clear_up(cell)
        assert store.done(cell) == []
        written(store, cell)


@pytest.mark.parametrize("what", ["[2, 10, 7]", "[2, 4, 7]"])
def test_an_array_that_says_another_shape_is_made_anew(store, what):
    cell = layout()
    written(store, cell)
    whole = files(store.folder)
    path = store.folder / "0" / "effects" / "zarr.json"
    parsed = json.loads(path.read_text())
    if what == "[2, 10, 7]":
        assert parsed["shape"] == [2, 10, 7]
        parsed["shape"] = [2, 10, 17]
    else:
        assert parsed["chunk_grid"]["configuration"]["chunk_shape"] == [2, 4, 7]
        parsed["chunk_grid"]["configuration"]["chunk_shape"] = [2, 8, 7]
    path.write_text(json.dumps(parsed))
    store.clear_up(cell)
    assert store.done(cell) == []
    written(store, cell)
    assert files(store.folder) == whole


def test_a_group_appears_whole_or_not_at_all(store, monkeypatch):
    made = Store._make_group

    def fails(self, folder, cell):
        made(self, folder, cell)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "_make_group", fails)
    with pytest.raises(OSError, match="No space"):
        store.write(layout(), 0, *block_of(layout(), 0))
    assert [path.name for path in store.folder.iterdir()] == ["zarr.json"]


def test_a_cell_is_one_writers(store):
    with (
        store.cell_locked(3) as mine,
        Store(store.folder, FIELDS, NUMBERS, "this sweep").cell_locked(3) as other,
    ):
        assert mine
        assert not other
        with store.cell_locked(4) as another:
            assert another
    with store.cell_locked(3) as mine:
        assert mine


def test_a_file_system_without_locks_is_said_to_have_none(tmp_path, monkeypatch):
    def none(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    with pytest.raises(OutputError, match="has no locks"), locked(tmp_path / "a" / "b.lock"):
        pass
