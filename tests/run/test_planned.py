from dataclasses import replace

import numpy as np
import pytest

from ranklock.errors import InputError, OutputError
from ranklock.run import planned
from ranklock.run.asked import Asked
from ranklock.run.plan import make_plan
from tests.helpers import cells_of, vocabulary


@pytest.fixture
def cells():
    return cells_of([11, 6, 30], vocabulary())


def test_shards_are_consecutive_tasks_and_hold_each_once(model, cells, monkeypatch):
    monkeypatch.setattr(planned, "_TASKS_TOGETHER", 1)
    for name, value in (("_SHARD_TASKS", 4), ("_SHARD_FLOP", 3e5), ("_SHARD_BYTES", 9000)):
        whole = make_plan(cells, model, Asked())
        assert whole.shards == 1
        with monkeypatch.context() as patch:
            patch.setattr(planned, name, value)
            plan = make_plan(cells, model, Asked())
            assert plan.shards > 3
            tasks = [task for shard in range(plan.shards) for task in plan.tasks_of(shard)]
            assert tasks == list(range(47))
            assert all(len(plan.tasks_of(shard)) for shard in range(plan.shards))


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")
def test_a_shard_holds_seconds_of_work_and_megabytes_of_results(model):
    """One knock-out of many cells, or many of one: whatever the shape."""
    many = cells_of([20] * 400, vocabulary())
    few = make_plan(many, model, Asked(genes=(str(many.ranked[0][0]),), read=("cell",)))
    assert few.shards == 1
    assert len(few.cells_used) > 100


def test_a_task_larger_than_a_shard_is_one_but_those_of_a_cell_go_together(
    model, cells, monkeypatch
):
    monkeypatch.setattr(planned, "_SHARD_FLOP", 1.0)
    assert make_plan(cells, model, Asked()).shards == 3
    monkeypatch.setattr(planned, "_TASKS_TOGETHER", 1)
    assert make_plan(cells, model, Asked()).shards == 47


def test_a_million_tasks_are_planned_in_seconds_and_are_few_shards(model):
    """Of which the store makes at most 180 files."""
    cells = cells_of([50] * 200, vocabulary())
    plan = make_plan(cells, model, Asked(do=("knock-out", "overexpress"), read=("cell",)))
    tasks = plan.tasks
    times = 10**6 // len(tasks) + 1
    more = [np.tile(getattr(tasks, name), times) for name in
            ("cell", "perturbation", "rank", "to_rank", "shown")]  # fmt: skip
    large = replace(plan, tasks=type(tasks)(*more))
    assert len(large.tasks) >= 10**6
    assert large.shards < 1000


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")
def test_groups_are_of_one_cell_kind_and_baseline(model, cells):
    asked = Asked(
        genes=tuple(str(t) for t in cells.ranked[1][:3]),
        do=("knock-out", "to-rank:4"),
        arms=("hold",),
    )
    plan = make_plan(cells, model, asked)
    groups = plan.groups_of(range(len(plan.tasks)))
    assert [task for group in groups for task in group] == list(range(len(plan.tasks)))
    for group in groups:
        assert len({plan.tasks.cell[task] for task in group}) == 1
        assert len({plan.kind_of(task) for task in group}) == 1
    pairs = [(plan.tasks.cell[g.start], plan.kind_of(g.start).name) for g in groups]
    assert len(set(pairs)) == len(pairs)
    part = plan.groups_of(range(1, 3))
    assert [task for group in part for task in group] == [1, 2]


def test_what_it_takes(model, cells):
    plan = make_plan(cells, model, Asked())
    assert plan.forwards == 4 * 47 + 3
    assert plan.flop == pytest.approx(sum(plan.flop_of_shard))
    assert plan.measure_rate() > 0
    more = make_plan(cells, model, Asked(arms=("hold",)))
    assert more.flop < plan.flop
    assert more.disk < plan.disk
    assert make_plan(cells, model, Asked(read=("cell",))).disk < plan.disk / 2
    both = make_plan(cells, model, Asked(arms=("hold", "attention-mask")))
    assert both.forwards == more.forwards  # one is the other, computed once


def test_the_disk_that_it_takes_is_about_what_it_writes(model, tmp_path):
    from ranklock.run.execute import execute

    cells = cells_of([50] * 8, vocabulary())
    for asked in (Asked(), Asked(read=("cell",)), Asked(arms=("hold",), read=("genes",))):
        plan = make_plan(cells, model, asked)
        run = execute(plan, tmp_path / "-".join(asked.read + asked.arms), progress=False)
        written = sum(path.stat().st_size for path in (run.folder / "parts").iterdir())
        assert 0.4 < plan.disk / written < 2.5


def test_said_in_words(model, cells, tmp_path):
    plan = make_plan(cells, model, Asked())
    first, second, third = plan.describe(rate=1e9, folder=tmp_path)
    assert first == (
        "Plan: 47 tasks (knock-out) in 3 cells, arms delete, hold, mask, shift: 191 forwards of "
        "1 layer"
    )
    assert "FLOP as displacement in float32 on cpu, 1 shard; memory: about" in second
    assert "MiB of " in second.split("disk: about")[1]
    assert third == "Time: about 0 s at 1 GFLOP/s"


def test_what_does_not_fit_is_refused_with_what_would(model, cells, tmp_path, monkeypatch):
    plan = make_plan(cells, model, Asked())
    plan.check_fits(tmp_path)
    monkeypatch.setattr(planned, "free_disk", lambda _: plan.disk // 2)
    with pytest.raises(OutputError, match=r"results take about .* take about 1 cells \(--sample\)"):
        plan.check_fits(tmp_path)
    plan.check_fits(tmp_path, already=plan.disk)  # nearly all of it is there
    plan.check_fits(None)
    monkeypatch.setattr(planned, "available_memory", lambda _: 1000)
    with pytest.raises(InputError, match="of memory on cpu and .* are free; take fewer arms"):
        plan.check_fits(None)
