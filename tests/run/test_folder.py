import errno
import json
import os

import pytest

from ranklock.errors import OutputError
from ranklock.run.folder import check_folder, read_folder, write_folder


def text(content):
    return lambda path: path.write_text(content)


def write(folder, content="one", **how):
    write_folder(folder, {"asked": {}}, {"a.txt": text(content)}, overwrite=False, **how)


def full_disk(path):
    path.write_text("half of it")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_writes_whole_and_reads_back(tmp_path):
    write(tmp_path / "deep" / "run")
    assert read_folder(tmp_path / "deep" / "run")["asked"] == {}
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["run"]


def test_an_existing_run_is_kept_unless_told_otherwise(tmp_path):
    run = tmp_path / "run"
    write(run)
    with pytest.raises(OutputError, match="exists already.*--overwrite"):
        write(run, "two")
    assert (run / "a.txt").read_text() == "one"
    write_folder(run, {}, {"b.txt": text("two")}, overwrite=True)
    assert sorted(p.name for p in run.iterdir()) == ["b.txt", "manifest.json"]
    assert list(tmp_path.iterdir()) == [run]


@pytest.mark.parametrize("manifest", [None, "{}", "[]", "no", '{"format": "other", "files": {}}'])
def test_overwrite_replaces_nothing_but_runs(tmp_path, manifest):
    (tmp_path / "thesis.tex").write_text("years of work")
    if manifest:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(OutputError, match="other than a run of Ranklock"):
        check_folder(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_an_empty_folder_is_written_to(tmp_path):
    write(tmp_path)
    assert read_folder(tmp_path)


def test_a_full_disk_leaves_nothing_of_the_new_run_and_all_of_the_old(tmp_path):
    run = tmp_path / "run"
    write(run)
    with pytest.raises(OutputError, match="No space left on device.*before is untouched"):
        write_folder(run, {}, {"a.txt": text("two"), "b.txt": full_disk}, overwrite=True)
    assert (run / "a.txt").read_text() == "one"
    assert read_folder(run)
    assert list(tmp_path.iterdir()) == [run]


def test_what_h5py_says_of_a_full_disk_becomes_one_line(tmp_path):
    def full(_):
        raise RuntimeError(
            "Can't close file (file write failed: time = Mon\n, filename = 'effects.h5ad', errno = "
            "28, error message = 'No space left on device', buf = 0x55)"
        )

    with pytest.raises(OutputError, match=r"\(No space left on device\); nothing"):
        write_folder(tmp_path / "run", {}, {"a.h5ad": full}, overwrite=False)


def test_a_crash_of_a_writer_leaves_nothing(tmp_path):
    def crash(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_folder(tmp_path / "run", {}, {"a.txt": crash}, overwrite=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("interruption", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt()])
@pytest.mark.parametrize("fails_at", range(5))
def test_if_the_new_run_cannot_take_its_place_the_old_one_has_it_back(
    tmp_path, monkeypatch, interruption, fails_at
):
    run = tmp_path / "run"
    write_folder(run, {}, {"a.txt": text("one"), "b.txt": text("one")}, overwrite=False)
    rename, calls = type(run).rename, []

    def fails_once(self, target):
        calls.append(target)
        if len(calls) == fails_at + 1:
            raise interruption
        return rename(self, target)

    monkeypatch.setattr(type(run), "rename", fails_once)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        write_folder(run, {}, {"a.txt": text("two"), "c.txt": text("two")}, overwrite=True)
    monkeypatch.undo()
    assert read_folder(run)
    assert {path.name: path.read_text() for path in run.glob("*.txt")} == {
        "a.txt": "one", "b.txt": "one",
    }  # fmt: skip
    assert sorted(p.name for p in run.iterdir()) == ["a.txt", "b.txt", "manifest.json"]


def test_a_file_that_no_run_wrote_is_not_lost(tmp_path):
    run = tmp_path / "run"
    write(run)
    (run / "my_analysis.ipynb").write_text("hours of work")
    with pytest.raises(OutputError, match="also holds my_analysis.ipynb"):
        check_folder(run, overwrite=True)


def test_a_manifest_cannot_name_files_elsewhere(tmp_path):
    run, precious = tmp_path / "run", tmp_path / "precious.txt"
    precious.write_text("mine")
    write(run)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["files"]["../precious.txt"] = ""
    (run / "manifest.json").write_text(json.dumps(manifest))
    write_folder(run, {}, {"a.txt": text("two")}, overwrite=True)
    assert precious.read_text() == "mine"


def test_a_link_to_a_run_stays_a_link(tmp_path):
    write(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    write_folder(tmp_path / "link", {}, {"a.txt": text("two")}, overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "run" / "a.txt").read_text() == "two"


def test_the_folder_one_stands_in_stays_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    write(type(tmp_path)("."))
    assert tmp_path.stat().st_ino == before
    assert read_folder(type(tmp_path)("."))


def test_a_check_leaves_nothing_behind(tmp_path):
    check_folder(tmp_path / "x" / "y" / "run", overwrite=False)
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        check_folder(tmp_path / "file", overwrite=False)
    with pytest.raises(OutputError, match="file is a file"):
        check_folder(tmp_path / "file" / "run", overwrite=False)
    with pytest.raises(OutputError, match="cannot be written"):
        check_folder(type(tmp_path)("/proc/ranklock/run"), overwrite=False)


def test_damage_is_noticed(tmp_path):
    run = tmp_path / "run"
    write(run)
    (run / "a.txt").write_text("0ne")
    with pytest.raises(OutputError, match="changed or damaged"):
        read_folder(run)
    (run / "a.txt").unlink()
    with pytest.raises(OutputError, match=r"lacks a\.txt"):
        read_folder(run)
    (run / "manifest.json").write_text(json.dumps({})[:1])
    with pytest.raises(OutputError, match="holds no run"):
        read_folder(run)
