import errno
import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from ranklock.errors import OutputError
from ranklock.run.locks import locked
from ranklock.run.work import bytes_in, read_work, work_folder, work_through, writing

IDENTITY = {"checkpoint": "a", "layer": 1}
OWN = {"results"}


def work(folder, identity=IDENTITY, *, kind="run", **how):
    return work_folder(folder, kind, identity, OWN, **how)


def finished(folder, identity=IDENTITY, **content):
    with work(folder, identity) as here:
        (folder / "results").write_text("numbers")
        here.write_manifest({"complete": True, **content})


def test_the_same_call_goes_on(tmp_path):
    with work(tmp_path / "run") as here:
        assert here.manifest is None
        here.write_manifest({"complete": False})
    with work(tmp_path / "run") as here:
        assert here.manifest["identity"] == IDENTITY
        assert here.manifest["format"] == "ranklock-run"


def test_an_identity_is_what_json_makes_of_it(tmp_path):
    finished(tmp_path / "run", {"layers": (1, 2)})
    with work(tmp_path / "run", {"layers": [1, 2]}) as here:
        assert here.manifest["complete"]


def test_another_identity_is_refused_with_what_differs(tmp_path):
    finished(tmp_path / "run")
    said = "begun with other values of checkpoint; name another folder with --out, or replace it"
    with (
        pytest.raises(OutputError, match=said),
        work(tmp_path / "run", {**IDENTITY, "checkpoint": "b"}),
    ):
        pass
    with (
        pytest.raises(OutputError, match="values of seed"),
        work(tmp_path / "run", {**IDENTITY, "seed": 1}),
    ):
        pass
    with (
        pytest.raises(OutputError, match="values of layer"),
        work(tmp_path / "run", {"checkpoint": "a"}),
    ):
        pass
    assert (tmp_path / "run" / "results").read_text() == "numbers"


def test_overwrite_replaces_another_or_a_finished_one(tmp_path):
    finished(tmp_path / "run")
    for identity in ({"checkpoint": "b"}, {"checkpoint": "b"}):
        with work(tmp_path / "run", identity, overwrite=True) as here:
            assert here.manifest is None
            assert not (tmp_path / "run" / "results").exists()
        finished(tmp_path / "run", identity)


def test_overwrite_goes_on_with_unfinished_work_that_is_the_same(tmp_path):
    finished(tmp_path / "run", complete=False)
    with work(tmp_path / "run", overwrite=True) as here:
        assert here.manifest is not None
        assert (tmp_path / "run" / "results").exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("holds", ["results", "thesis.tex", "manifest.json"])
def test_what_a_user_has_there_is_not_taken_for_ours(tmp_path, overwrite, holds):
    (tmp_path / holds).write_text("mine")
    with (
        pytest.raises(OutputError, match="holds something other than the run"),
        work(tmp_path, overwrite=overwrite),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [holds]
    assert (tmp_path / holds).read_text() == "mine"


def test_overwrite_leaves_what_no_run_wrote(tmp_path):
    finished(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    said = r"also holds notes\.txt, which no run wrote"
    with pytest.raises(OutputError, match=said), work(tmp_path / "run", {}, overwrite=True):
        pass
    with pytest.raises(OutputError, match=said), work(tmp_path / "run", overwrite=True):
        pass


def test_work_of_another_kind_is_something_else(tmp_path):
    finished(tmp_path / "run")
    assert read_work(tmp_path / "run", "audit") is None
    with (
        pytest.raises(OutputError, match="something other than the audit"),
        work(tmp_path / "run", kind="audit"),
    ):
        pass


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="is a file"), work(tmp_path / "thesis.tex"):
        pass


def test_what_another_process_is_at_work_on_is_not_replaced(tmp_path):
    finished(tmp_path / "run")
    with (
        work(tmp_path / "run"),
        pytest.raises(OutputError, match="Another process is at work"),
        work(tmp_path / "run", {}, overwrite=True),
    ):
        pass
    assert (tmp_path / "run" / "results").exists()
    with work(tmp_path / "run", {}, overwrite=True):
        pass


def test_killed_processes_are_forgotten_and_others_are_not(tmp_path):
    with work(tmp_path / "run") as here:
        (here.locks / "process-gone.lock").write_text("")
        here.forget_killed_processes()
        assert [path.name != "process-gone.lock" for path in here.locks.glob("process-*")] == [True]
    assert not list((tmp_path / "run" / ".locks").glob("process-*"))


def test_one_process_sets_up_at_a_time(tmp_path):
    with work(tmp_path / "run") as here, here.setup_lock() as held:
        assert held
        with here.setup_lock(wait=0.0) as other:
            assert not other
        with pytest.raises(OutputError, match="wait for it"), here.setup_lock(wait=0.01):
            pass


def test_what_was_left_half_way_is_gone_on_with(tmp_path):
    """Killed before the manifest, or while an old one was taken away: locks and our own names."""
    (tmp_path / "run" / ".locks").mkdir(parents=True)
    (tmp_path / "run" / "results").write_text("half")
    with work(tmp_path / "run") as here:
        assert here.manifest is None


KILLED_WHILE_CLEARING = """
import os, sys
from pathlib import Path
from ranklock.run import work
unlink = Path.unlink
def dies(path, *arguments, **options):
    unlink(path, *arguments, **options)
    if path.name == "manifest.json":
        os._exit(9)
Path.unlink = dies
with work.work_folder(sys.argv[1], "run", {"checkpoint": "b"}, {"results"}, overwrite=True):
    pass
"""


def test_killed_while_clearing_up_no_finished_work_is_left(tmp_path):
    finished(tmp_path / "run")
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_CLEARING, str(tmp_path / "run")])
    assert done.returncode == 9
    assert (tmp_path / "run" / "results").exists()
    assert read_work(tmp_path / "run", "run") is None
    with work(tmp_path / "run", {"checkpoint": "b"}) as here:
        assert here.manifest is None


def test_a_manifest_is_whole_or_not_there(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    finished(tmp_path / "run", numbers=[1, 2])
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    said = r"No space left on device\); what was done is kept. Make"
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=said), work(tmp_path / "run") as here:
        here.write_manifest({"numbers": [3]})
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before
    assert json.loads(before)["numbers"] == [1, 2]
    assert [path.name for path in (tmp_path / "run" / ".locks").glob("manifest*")] == []


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "Make room, and run"),
        (errno.EDQUOT, "Make room"),
        (errno.EIO, "kept. Run the"),
    ],
)
def test_what_the_system_said_and_what_to_do(tmp_path, code, said):
    with pytest.raises(OutputError, match=f"{os.strerror(code)}.*{said}"), writing(tmp_path):
        raise OSError(code, os.strerror(code))


class Locks:
    """Parts that others hold for as many looks as is said."""

    def __init__(self, held):
        self.held = held

    @contextmanager
    def __call__(self, part):
        looks = self.held.get(part, 0)
        self.held[part] = looks - 1
        yield looks <= 0


def test_parts_that_others_hold_are_looked_at_again():
    done = []
    assert work_through(range(4), Locks({1: 1, 2: 2}), done.append) == 0
    assert done == [0, 3, 1, 2]


def test_where_others_hold_all_that_is_left_it_is_theirs():
    done = []
    assert work_through(range(4), Locks({1: 9, 2: 1}), done.append) == 1
    assert done == [0, 3, 2]
    assert work_through([], Locks({}), done.append) == 0


def test_bytes_of_a_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(b"12345")
    assert bytes_in(tmp_path) == 5 + (tmp_path / "deep").stat().st_size
    assert bytes_in(tmp_path / "nowhere") == 0


def test_locks_of_the_folder_are_the_systems(tmp_path):
    with work(tmp_path / "run") as here:
        (path,) = here.locks.glob("process-*.lock")
        with locked(path) as free:
            assert not free


def test_a_process_that_tries_whether_it_can_write_here_disturbs_none(tmp_path):
    # Four processes that began one run at once: one saw another's trial, and took it for foreign.
    folder = tmp_path / "run"
    with work(folder) as here:
        (folder / ".ranklock-trial").mkdir()
        with work(folder) as beside:
            assert beside.manifest is None
        here.write_manifest({"complete": False})
        with work(folder) as beside:
            assert not beside.manifest["complete"]
