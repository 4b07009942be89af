import filelock
import pytest

from ranklock.errors import OutputError
from ranklock.run.locks import locked


def test_one_at_a_time(tmp_path):
    with locked(tmp_path / "a.lock") as held, locked(tmp_path / "a.lock") as other:
        assert held
        assert not other
    with locked(tmp_path / "a.lock") as held:
        assert held


def test_a_file_system_without_locks_is_said_to_have_none(tmp_path, monkeypatch):
    def none(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    with pytest.raises(OutputError, match="has no locks"), locked(tmp_path / "a" / "b.lock"):
        pass
