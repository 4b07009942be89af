from __future__ import annotations

import pytest

import ranklock
from ranklock.run import planned, store
from ranklock.run.fields import GENES
from ranklock.run.files import write_whole
from ranklock.run.run import FIGURES, Run

DRAW = Run.draw


def sketch(run, partial_folder=None):
    """In place of the figure, which takes longer than everything else of a small run."""
    for name in FIGURES if GENES in run.reads else ():
        write_whole(
            run.folder / name, lambda path: path.write_text("a figure"),
            None if partial_folder is None else partial_folder / name,
        )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def sketched_figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "draw", sketch)
        yield


@pytest.fixture
def real_figures(monkeypatch):
    monkeypatch.setattr(Run, "draw", DRAW)


@pytest.fixture(scope="session")
def model(tiny_checkpoint):
    return ranklock.load_model(tiny_checkpoint, device="cpu")


@pytest.fixture
def small_shards(monkeypatch):
    """Shards of four tasks, and at most five parts."""
    monkeypatch.setattr(planned, "_SHARD_TASKS", 4)
    monkeypatch.setattr(planned, "_TASKS_TOGETHER", 1)
    monkeypatch.setattr(store, "MOST_PARTS", 5)
