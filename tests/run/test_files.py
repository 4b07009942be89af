import errno
import os

import pytest

from ranklock.run.files import system_reason, write_whole


def test_a_file_appears_whole(tmp_path):
    write_whole(tmp_path / "a", lambda path: path.write_text("whole"))
    assert (tmp_path / "a").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("partial", [None, "b"])
def test_what_fails_leaves_what_was_there(tmp_path, partial):
    (tmp_path / "a").write_text("before")

    def half(path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a", half, partial and tmp_path / partial)
    assert (tmp_path / "a").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("sync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (order.append("name"), replace(*names)))
    write_whole(tmp_path / "a", lambda path: path.write_text("whole"))
    assert order == ["sync", "name"]


def test_the_system_says_why():
    assert system_reason(OSError(errno.EIO, "Input/output error")) == "Input/output error"
    wrapped = RuntimeError("Can't write (file write failed: error message = 'No space left')")
    assert system_reason(wrapped) == "No space left"
    assert system_reason(RuntimeError("some\nlines")) == "some"
