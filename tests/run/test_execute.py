import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ranklock
from ranklock.arms import KNOCK_OUT_ARMS, Positions
from ranklock.errors import InputError, OptionError, OutputError
from ranklock.run import execute as execute_module
from ranklock.run import planned
from ranklock.run import store as store_module
from ranklock.run.execute import _Clock
from ranklock.run.run import Run, open_run, read_run
from ranklock.run.store import Store
from ranklock.run.work import work_folder
from tests.helpers import cells_of, checkpoint, vocabulary
from tests.run.conftest import sketch


class StopError(Exception):
    """Stands for whatever ends a run."""


@pytest.fixture
def cells():
    return cells_of([11, 6, 30], vocabulary())


SHARDS = 12  # of the 47 genes of these cells, in parts of three


def perturb(cells, model, out, genes="all", do="knock-out", **options):
    return ranklock.perturb(cells, model, genes, do, out=out, **{"progress": False, **options})


def files(folder):
    """What a run's folder holds; of locks, only what should not be there."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "setup.lock"
    }


def count_shards(monkeypatch):
    """List of the shards that are computed from now on."""
    computed, compute = [], execute_module._computed

    def counted(plan, shard, batch_size):
        computed.append(shard)
        return compute(plan, shard, batch_size)

    monkeypatch.setattr(execute_module, "_computed", counted)
    return computed


def stop_after(monkeypatch, shards, error):
    """Let so many shards be stored, then fail while the next one is written."""
    write, written = Store.write, []

    def failing(store, shard, *tables):
        written.append(shard)
        if len(written) > shards:
            raise error
        write(store, shard, *tables)

    monkeypatch.setattr(Store, "write", failing)


# What is written


def test_a_finished_run_is_a_few_files(model, cells, tmp_path, small_shards):
    run = perturb(cells, model, tmp_path / "run")
    assert run.complete
    assert run.progress() == (47, 47)
    assert set(files(tmp_path / "run")) == {
        "manifest.json", "cells.parquet", "genes.parquet", "perturbations.parquet",
        "rank_shift.png", "rank_shift.svg",
        *(f"parts/{table}-{part:04d}.parquet" for table in ("effects", "shifts")
          for part in range(4)),
    }  # fmt: skip
    assert run.shifts.groupby("cell", observed=True)["gene"].nunique().to_dict() == {
        "cell0": 11, "cell1": 6, "cell2": 30,
    }  # fmt: skip


def test_at_most_200_files_however_many_shards(model, tmp_path, monkeypatch):
    monkeypatch.setattr(planned, "_SHARD_TASKS", 1)
    monkeypatch.setattr(planned, "_TASKS_TOGETHER", 1)
    run = perturb(cells_of([40] * 5, vocabulary()), model, tmp_path / "run", arms=("hold",))
    assert run.manifest.planned.shards == 200
    assert len(files(tmp_path / "run")) <= 200
    assert run.shifts.groupby("cell", observed=True).size().tolist() == [40] * 5


def test_two_runs_write_the_same_files(model, cells, tmp_path, real_figures):
    for name in "ab":
        perturb(cells[:1], model, tmp_path / name)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert (tmp_path / "a" / "rank_shift.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("read", ["genes", "cell"])
def test_what_is_not_read_is_not_stored(model, cells, tmp_path, read):
    both = perturb(cells, model, tmp_path / "both")
    part = perturb(cells, model, tmp_path / "part", read=read)
    assert (tmp_path / "part" / "parts" / "effects-0000.parquet").exists() is (read == "genes")
    assert (tmp_path / "part" / "rank_shift.png").exists() is (read == "genes")
    missing = {"cosine_distance": "genes", "median_shifted": "cell"}
    for column, without in missing.items():
        assert (column in part.shifts) is (read != without)
    shared = [name for name in part.shifts if part.shifts[name].dtype == float]
    np.testing.assert_allclose(part.shifts[shared], both.shifts[shared], atol=1e-4)
    if read == "cell":
        with pytest.raises(InputError, match="read cell only, not genes; run it with --read genes"):
            _ = part.table


def test_what_does_not_fit_leaves_no_folder(model, cells, tmp_path, monkeypatch):
    monkeypatch.setattr(planned, "free_disk", lambda _: 10)
    with pytest.raises(OutputError, match="The results take about"):
        perturb(cells, model, tmp_path / "run")
    monkeypatch.setattr(planned, "available_memory", lambda _: 10)
    with pytest.raises(InputError, match="of memory on cpu"):
        perturb(cells, model, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_folder_lives_as_long_as_its_object(model, cells):
    run = perturb(cells, model, None)
    folder = run.folder
    assert {path.name for path in folder.iterdir()} & {"parts", "rank_shift.png"} == {"parts"}
    assert len(run.table)
    del run
    assert not folder.exists()


def test_a_run_in_memory_that_fails_leaves_nothing(model, cells, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stop_after(monkeypatch, 0, StopError())
    with pytest.raises(StopError):
        perturb(cells, model, None)
    assert not list(tmp_path.iterdir())


def test_the_plan_is_said_first(model, cells, tmp_path, capsys):
    run = perturb(cells, model, tmp_path / "run", progress=True)
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("Plan: 47 tasks (knock-out) in 3 cells, arms delete, hold, mask, shift")
    assert second.startswith("Work: ")
    assert run.manifest.planned.forwards == 191


def test_results_do_not_depend_on_the_batch_beyond_rounding(model):
    cells = cells_of([30, 40], vocabulary())
    one, many = (perturb(cells, model, None, batch_size=size) for size in (1, 32))
    # Products of another shape sum in another order, so each displacement is off by some roundings
    # (float32's 6e-8) of itself, however small it is: what is 0 stays 0.
    for column in ("displacement", "cosine_distance"):
        np.testing.assert_allclose(many.table[column], one.table[column], rtol=1e-4, atol=0)


def test_a_faster_format_says_what_it_costs(model, cells, tmp_path):
    from ranklock.models.precision import offered_precisions

    if "bfloat16" not in offered_precisions("cpu"):
        with pytest.raises(OptionError, match="cpu does not compute in bfloat16"):
            perturb(cells, model, tmp_path / "half", precision="bfloat16")
        pytest.skip("this CPU does not compute in bfloat16")
    exact = perturb(cells, model, tmp_path / "exact", precision="float64")
    half = perturb(cells, model, tmp_path / "half", precision="bfloat16", accuracy=0.1)
    assert half.manifest.made_from.machine.precision == "bfloat16"
    assert str(half.manifest.computed.method) == "displacement in bfloat16"
    measured = {(e.arm, e.quantity): e for e in half.manifest.computed.accuracy.errors}
    before, after = exact.table, half.table
    for arm in ("delete", "hold", "shift"):
        of_arm = (before["arm"] == arm) & (before["displacement"] > 0)
        off = abs(after["displacement"] - before["displacement"])[of_arm]
        relative = off / before["displacement"][of_arm]
        error = measured[arm, "displacement"]
        # A few tasks speak for all of them: within a factor of three.
        assert relative.median() < 3 * error.median
        assert relative.quantile(0.95) < 3 * error.percentile_95
        # Of 47 tasks, each above the worst of the sample's with a probability of one in five.
        tasks = relative.groupby([before["cell"], before["gene"]], observed=True).median()
        assert (tasks > error.in_worst_task).mean() < 0.5
    with pytest.raises(OutputError, match="other values of precision"):
        perturb(cells, model, tmp_path / "half")
    with pytest.raises(InputError, match=r"errs by .* 1e-05 % is allowed: take --precision"):
        perturb(cells, model, tmp_path / "strict", precision="bfloat16", accuracy=1e-7)


# Stopping and going on


@pytest.mark.parametrize("shards", [0, 1, 5, 11])
def test_a_stopped_run_goes_on_and_ends_the_same(
    model, cells, tmp_path, small_shards, monkeypatch, shards
):
    perturb(cells, model, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, shards, StopError())
        with pytest.raises(StopError):
            perturb(cells, model, tmp_path / "run")
    stopped = read_run(tmp_path / "run")
    assert not stopped.complete
    assert "unfinished" in repr(stopped)
    assert stopped.progress() == (4 * shards, 47)
    if shards:
        assert len(stopped.shifts) == 4 * 4 * shards
        assert len(list(stopped.blocks())) >= 1
    else:
        with pytest.raises(OutputError, match="no finished shard yet"):
            _ = stopped.shifts
    computed = count_shards(monkeypatch)
    assert perturb(cells, model, tmp_path / "run").complete
    assert len(computed) == SHARDS - shards
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def small(model, out, **options):
    """Ten tasks in three shards, which are two parts."""
    return perturb(cells_of([6, 4], vocabulary()), model, out, **options)


@pytest.fixture
def two_parts(small_shards, monkeypatch):
    monkeypatch.setattr(store_module, "MOST_PARTS", 2)


def assert_readable(run):
    """What an unfinished run says is there can be read, shifts and effects alike."""
    done, _ = run.progress()
    assert sum(len(block) for block in run.blocks()) == done
    if done:
        assert len(run.shifts) == 4 * done


def failing_at(number, name, error):
    """A function of ``os`` that fails when it is called that often."""
    function, calls = getattr(os, name), []

    def failing(*arguments, **options):
        calls.append(arguments)
        if len(calls) == number:
            raise error
        return function(*arguments, **options)

    return failing, calls


@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_stopped_at_every_write_it_ends_the_same(model, tmp_path, two_parts, monkeypatch, name):
    with monkeypatch.context() as patch:
        counting, calls = failing_at(0, name, StopError())
        patch.setattr(os, name, counting)
        small(model, tmp_path / "whole")
    # Three tables, the manifest twice, two figures, and shifts and effects of 3 shards and 2 parts.
    assert len(calls) == 3 + 2 + 2 + 2 * (3 + 2)
    for number in range(1, len(calls) + 1):
        out = tmp_path / f"run{number}"
        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing_at(number, name, StopError())[0])
            with pytest.raises(StopError):
                small(model, out)
        if (out / "manifest.json").exists():
            assert_readable(read_run(out))
        assert small(model, out).complete
        assert files(out) == files(tmp_path / "whole")


def test_a_full_disk_at_every_write_stops_cleanly_and_loses_nothing(
    model, tmp_path, two_parts, monkeypatch
):
    small(model, tmp_path / "whole")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    stored = 0
    out = tmp_path / "run"
    stops = 0
    while stored < 10:
        stops += 1
        with monkeypatch.context() as patch:
            # Each time room for a shard more: what was stored before is not written again.
            patch.setattr(os, "fsync", failing_at(3, "fsync", full)[0])
            said = r"\(No space left on device\); what was done is kept. Make room"
            with pytest.raises(OutputError, match=said):
                small(model, out)
        assert not list((out / ".locks").glob("*.parquet"))  # nothing that was half written
        if (out / "manifest.json").exists():
            done = read_run(out).progress()[0]
            assert done >= stored
            stored = done
    assert stops > 3
    small(model, out)
    assert files(out) == files(tmp_path / "whole")


LIMITED = """
import resource, sys
import ranklock
from tests.helpers import cells_of, vocabulary
model = ranklock.load_model(sys.argv[1], device="cpu")
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
try:
    ranklock.perturb(cells_of([40], vocabulary()), model, out=sys.argv[2], progress=False)
except ranklock.OutputError as error:
    print(error)
"""


def test_a_file_system_that_really_takes_no_more(tiny_checkpoint, tmp_path):
    """The system itself refuses files over 9,000 bytes: the effects' part is larger."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tiny_checkpoint), str(tmp_path / "run")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "File too large); what was done is kept. Run the same command again" in done.stdout
    assert not list((tmp_path / "run").rglob("effects*"))


def test_a_disk_that_cannot_be_written_is_not_called_full(model, cells, tmp_path, monkeypatch):
    stop_after(monkeypatch, 0, OSError(errno.EIO, os.strerror(errno.EIO)))
    with pytest.raises(OutputError, match=r"\(Input/output error\).*kept\. Run the same"):
        perturb(cells, model, tmp_path / "run")


@pytest.mark.parametrize("table", ["effects", "shifts"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_damaged_part_is_computed_again_and_no_other(
    model, cells, tmp_path, small_shards, monkeypatch, table, share
):
    perturb(cells, model, tmp_path / "run")
    whole = files(tmp_path / "run")
    path = tmp_path / "run" / "parts" / f"{table}-0002.parquet"
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)
    store_module._verified.cache_clear()
    with pytest.raises(OutputError, match=f"{path.name} is missing or damaged.*command again"):
        _ = read_run(tmp_path / "run").table
    computed = count_shards(monkeypatch)
    assert perturb(cells, model, tmp_path / "run").complete
    assert computed == [6, 7, 8]
    assert files(tmp_path / "run") == whole


@pytest.mark.parametrize("content", [None, b"", b"PAR1"])
@pytest.mark.parametrize("name", ["genes", "cells", "perturbations"])
def test_a_table_that_is_lost_or_damaged_is_written_anew(model, cells, tmp_path, name, content):
    perturb(cells, model, tmp_path / "run")
    whole = files(tmp_path / "run")
    path = tmp_path / "run" / f"{name}.parquet"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(OutputError, match=f"{path.name} is missing or damaged; run the same"):
        _ = getattr(read_run(tmp_path / "run"), name)
    perturb(cells, model, tmp_path / "run")
    assert files(tmp_path / "run") == whole


def test_what_a_kill_left_is_cleared_up(model, cells, tmp_path):
    perturb(cells, model, tmp_path / "run")
    whole = files(tmp_path / "run")
    for name in ("manifest.json", "shifts-0000.parquet", "process-abc.lock", "part-0.lock"):
        (tmp_path / "run" / ".locks" / name).write_text("")
    (tmp_path / "run" / ".shards").mkdir()
    perturb(cells, model, tmp_path / "run")
    left = set(files(tmp_path / "run")) - set(whole)
    # What is half written has the name of the file that it was to be, and is written over.
    assert left <= {".locks/manifest.json", ".locks/shifts-0000.parquet"}


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")
def test_parts_without_their_manifest_are_those_of_no_run(model, cells, tmp_path):
    """As a kill leaves them while another run is taken away."""
    lacking = ["NOSUCHGENE", cells.vocabulary.symbol(int(cells.ranked[0][0]))]
    perturb(cells, model, tmp_path / "run", lacking)
    assert (tmp_path / "run" / "left_out.csv").exists()
    (tmp_path / "run" / "manifest.json").unlink()
    perturb(cells, model, tmp_path / "run", layer=0, read="cell")
    perturb(cells, model, tmp_path / "other", layer=0, read="cell")
    assert files(tmp_path / "run") == files(tmp_path / "other")


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")
def test_another_experiment_does_not_go_on_here(model, cells, tmp_path, monkeypatch):
    cells = replace(cells, obs=cells.obs.assign(state=["a", "a", "b"], other=["a", "a", "c"]))
    states = ranklock.States("state", "a", "b")
    start = {"states": states, "do": ["knock-out", "overexpress"]}
    perturb(cells, model, tmp_path / "run", **start)
    before = files(tmp_path / "run")
    other = ranklock.load_model(checkpoint(tmp_path / "other", spread=0.3, seed=9), device="cpu")
    gene = cells.vocabulary.symbol(int(cells.ranked[0][0]))
    renamed = replace(cells.vocabulary, tokens={
        gene.replace("ENSG", "ENSX"): token for gene, token in cells.vocabulary.tokens.items()
    }, symbols={}, medians={})  # fmt: skip
    elsewhere = replace(cells_of([11, 6, 30], vocabulary(), seed=5), obs=cells.obs)
    vectors = {"b": np.arange(1.0, 17.0)}
    for changed, what in (
        ({"model": other}, "checkpoint"),
        ({"cells": elsewhere}, "cells"),
        ({"cells": replace(cells, vocabulary=renamed)}, "vocabulary"),
        ({"layer": 0}, "layer"),
        ({"arms": ("delete", "hold", "shift", "move")}, "arms"),
        ({"arms": ("hold", "delete", "mask", "shift", "move")}, "arms"),  # fields have an order
        ({"do": ["knock-out"]}, "arms"),
        ({"do": ["knock-out", "to-rank:1"]}, "arms"),
        ({"genes": [gene]}, "perturbations"),
        ({"responders": [gene]}, "responders"),
        ({"read": "cell"}, "what is read"),
        ({"states": ranklock.States("state", "a", "b", embeddings=vectors)}, "states"),
        ({"states": ranklock.States("other", "a", "c")}, "states"),
        ({"states": None}, "states"),
    ):
        asked = {"cells": cells, "model": model, **start, **changed}
        with pytest.raises(OutputError, match=rf"other values of .*{what}.*--overwrite"):
            perturb(asked.pop("cells"), asked.pop("model"), tmp_path / "run", **asked)
    for module, name, other_value, what in (
        (execute_module, "NUMERICS", 99, "numerics"),
        (execute_module, "STORE_VERSION", 99, "format"),
        (planned, "_SHARD_TASKS", 3, "tasks"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, other_value)
            with pytest.raises(OutputError, match=f"other values of {what}"):
                perturb(cells, model, tmp_path / "run", **start)
    with monkeypatch.context() as patch:
        moved = replace(KNOCK_OUT_ARMS["hold"], positions=Positions.RENUMBERED)
        patch.setitem(KNOCK_OUT_ARMS, "hold", moved)
        with pytest.raises(OutputError, match="other values of arms"):
            perturb(cells, model, tmp_path / "run", **start)
    assert files(tmp_path / "run") == before
    assert perturb(cells, model, tmp_path / "run", **start).complete


def test_overwrite_replaces_a_run_and_nothing_else(model, cells, tmp_path):
    perturb(cells, model, tmp_path / "run")
    run = perturb(cells[:2], model, tmp_path / "run", overwrite=True)
    assert run.cells.index.tolist() == ["cell0", "cell1"]
    perturb(cells[:2], model, tmp_path / "other")
    assert files(tmp_path / "run") == files(tmp_path / "other")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"also holds notes\.txt"):
        perturb(cells, model, tmp_path / "run", overwrite=True)


def test_a_users_own_tables_are_not_taken_for_ours(model, cells, tmp_path):
    for name in ("cells.parquet", "genes.parquet"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match="holds something other than the run"):
        perturb(cells, model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.parquet", "genes.parquet"]


def test_a_run_that_is_being_worked_on_is_not_replaced(model, cells, tmp_path):
    run = perturb(cells, model, tmp_path / "run")
    before = files(tmp_path / "run")
    with (
        work_folder(tmp_path / "run", "run", run.manifest.identity, execute_module.OWN),
        pytest.raises(OutputError, match="Another process is at work"),
    ):
        perturb(cells, model, tmp_path / "run", layer=0, overwrite=True)
    assert files(tmp_path / "run") == before
    assert perturb(cells, model, tmp_path / "run", layer=0, overwrite=True).complete


def test_overwrite_goes_on_with_an_unfinished_run_that_is_the_same(
    model, cells, tmp_path, small_shards, monkeypatch
):
    with monkeypatch.context() as patch:
        stop_after(patch, 5, StopError())
        with pytest.raises(StopError):
            perturb(cells, model, tmp_path / "run")
    computed = count_shards(monkeypatch)
    perturb(cells, model, tmp_path / "run", overwrite=True)
    assert len(computed) == SHARDS - 5


# What goes wrong in a forward


def test_nan_says_which_cell_and_keeps_what_was_done(
    model, cells, tmp_path, small_shards, monkeypatch
):
    measure = execute_module.measure_groups

    def breaks(model, groups, *rest, **options):
        measured = measure(model, groups, *rest, **options)
        for group, numbers in zip(groups, measured, strict=True):
            if len(group.baseline) == 6:
                numbers.genes.moved["hold"][:] = np.nan
        return measured

    monkeypatch.setattr(execute_module, "measure_groups", breaks)
    with pytest.raises(InputError, match="NaN or infinity for cell cell1 of test cells.*is kept"):
        perturb(cells, model, tmp_path / "run")
    assert read_run(tmp_path / "run").progress() == (8, 47)


def test_weights_that_overflow_are_reported(tmp_path):
    folder = checkpoint(tmp_path)
    weights = load_file(folder / "model.safetensors")
    for name in ("intermediate.dense", "output.dense"):
        weights[f"bert.encoder.layer.0.{name}.weight"] *= 1e30
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="NaN or infinity for cell cell0"):
        perturb(cells_of([10], vocabulary()), ranklock.load_model(folder, device="cpu"), None)


def test_a_task_too_large_for_memory_is_said_to_be(model, cells, tmp_path, monkeypatch):
    def no_device(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("ranklock.engine.displaced.displaced_layer", no_device)
    with pytest.raises(InputError, match=r"cell cell2 \(30 genes\) does not fit into the memory"):
        perturb(cells, model, tmp_path / "run")


# Several processes. Forked children share what is imported, and start in milliseconds.

LENGTHS = [24, 18, 21, 15]


def child(folder, out, lengths, log=None, dies_at=0, name="replace"):
    """What a forked process does: one thread, as OpenMP's do not survive a fork."""
    torch.set_num_threads(1)
    planned._SHARD_TASKS, planned._TASKS_TOGETHER = 4, 1
    store_module.MOST_PARTS, Run.draw = 5, sketch
    compute = execute_module._computed

    def logged(*arguments):
        if log is not None:
            with Path(log).open("a") as stream:
                stream.write(".")
        return compute(*arguments)

    function, calls = getattr(os, name), []

    def deadly(*arguments, **options):
        calls.append(arguments)
        if len(calls) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)

    execute_module._computed = logged
    setattr(os, name, deadly)
    model = ranklock.load_model(folder, device="cpu")
    perturb(cells_of(lengths, vocabulary()), model, out)


def start(*arguments, **options):
    process = multiprocessing.get_context("forkserver").Process(
        target=child, args=arguments, kwargs=options
    )
    process.start()
    return process


@pytest.fixture(scope="module")
def fork_server():
    multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["tests.run.test_execute", "transformers", "anndata"]
    )


@pytest.fixture(scope="module")
def whole(fork_server, tiny_checkpoint, tmp_path_factory):
    """The same run, undisturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    process = start(tiny_checkpoint, out, LENGTHS)
    process.join()
    assert process.exitcode == 0
    return out


def test_killed_twenty_times_it_ends_with_the_same_files(
    whole, tiny_checkpoint, tmp_path, small_shards
):
    """SIGKILL at random moments, from before the manifest to the last part."""
    expected, shards = files(whole), read_run(whole).manifest.planned.shards
    draw, kills, rounds = random.Random(0), 0, 0
    while kills < 20:
        rounds += 1
        out, log = tmp_path / f"run{rounds}", tmp_path / f"log{rounds}"
        here = done = 0
        while True:
            process = start(tiny_checkpoint, out, LENGTHS, log)
            if draw.random() < 0.8:  # else it may be killed before it has done anything
                wait_for_results(out, process)
            process.join(draw.uniform(0.0, 0.15))
            if process.exitcode is not None:
                assert process.exitcode == 0
                break
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            here += 1
            if (out / "manifest.json").exists():
                before, done = done, read_run(out).progress()[0]
                assert done >= before
        assert files(out) == expected
        assert len(log.read_text()) <= shards + here  # at most one shard again for each kill
        kills += here
    assert kills >= 20


def wait_for_results(out, process):
    """Until a process has begun to write: most of its first second is spent on loading."""

    def results():
        try:
            return {path for path in out.rglob("*") if ".locks" not in path.parts}
        except FileNotFoundError:  # a folder that was renamed while it was looked at
            return known

    known = set()
    known = results()
    while process.exitcode is None and not results() - known:
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_killed_at_every_write_it_ends_with_the_same_files(
    fork_server, tiny_checkpoint, tmp_path, name
):
    lengths = [6, 4]
    start(tiny_checkpoint, tmp_path / "whole", lengths).join()
    for number in range(1, 100):
        out = tmp_path / f"run{number}"
        process = start(tiny_checkpoint, out, lengths, dies_at=number, name=name)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        process = start(tiny_checkpoint, out, lengths)
        process.join()
        assert process.exitcode == 0
        assert files(out) == files(tmp_path / "whole")
    assert number == 1 + 3 + 2 + 2 + 2 * (3 + 3)


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_one_folder(whole, tiny_checkpoint, tmp_path, small_shards, processes):
    logs = [tmp_path / f"log{number}" for number in range(processes)]
    running = [start(tiny_checkpoint, tmp_path / "run", LENGTHS, log) for log in logs]
    for process in running:
        process.join()
        assert process.exitcode == 0
    assert files(tmp_path / "run") == files(whole)
    computed = [len(log.read_text()) if log.exists() else 0 for log in logs]
    assert sum(computed) == read_run(whole).manifest.planned.shards


def test_a_part_that_another_process_has_is_left_to_it(
    model, cells, tmp_path, small_shards, capsys, monkeypatch
):
    with monkeypatch.context() as patch:
        stop_after(patch, 0, StopError())
        with pytest.raises(StopError):
            perturb(cells, model, tmp_path / "run")
    store = open_run(tmp_path / "run").store
    with store.part_locked(1):
        run = perturb(cells, model, tmp_path / "run", progress=True)
        assert not run.complete
        assert [store.is_finished(part) for part in store.parts] == [True, False, True, True]
        assert "another process is at work on this run" in capsys.readouterr().err
    assert perturb(cells, model, tmp_path / "run").complete


def test_the_process_that_ends_last_finishes_the_run(model, cells, tmp_path, monkeypatch):
    """Though another one looks, just then, whether all is there."""
    finish_part, threads = Store.finish_part, []

    def looked_at(store, part):
        finish_part(store, part)
        looking = threading.Event()

        def look():
            identity = open_run(tmp_path / "run").manifest.identity
            folder = work_folder(tmp_path / "run", "run", identity, execute_module.OWN)
            with folder as work, work.setup_lock():
                looking.set()
                time.sleep(0.3)

        threads.append(threading.Thread(target=look))
        threads[-1].start()
        looking.wait()

    monkeypatch.setattr(Store, "finish_part", looked_at)
    assert perturb(cells, model, tmp_path / "run").complete
    for thread in threads:
        thread.join()


# The time left


class Shards:
    """As much of a plan as a clock looks at: ten shards of one second at 1 GFLOP/s each."""

    flop, flop_of_shard = 1e10, (1e9,) * 10


def test_work_that_was_there_is_no_progress(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(execute_module, "_WORTH_SAYING", 0.0)
    clock = _Clock(Shards(), shown=True)
    for shard in range(6):
        now[0] += 0.01  # looking whether a shard is sound
        clock.pass_over(shard)
    now[0] += 3.0
    clock.did(6)
    said = capsys.readouterr().err
    assert said == "Time: about 9 s left, at 333 MFLOP/s\n"


def test_the_time_left_after_a_resume_is_that_of_what_is_left(
    model, cells, tmp_path, small_shards, monkeypatch
):
    with monkeypatch.context() as patch:
        stop_after(patch, 8, StopError())
        with pytest.raises(StopError):
            perturb(cells, model, tmp_path / "run")
    calls = []

    class Told:
        def __init__(self, total, unit, *, shown):
            assert (total, unit) == (47, "tasks")

        def __enter__(self):
            return lambda more, done_before=False: calls.append((more, done_before))

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(execute_module, "show_progress", Told)
    perturb(cells, model, tmp_path / "run")
    assert [done for _, done in calls] == [True] * 8 + [False] * 4
    assert sum(more for more, _ in calls) == 47


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")
def test_donors_and_left_out_genes_are_in_the_manifest_and_beside_it(model, cells, tmp_path):
    cells = replace(cells, obs=cells.obs.assign(donor=["a", "b", "b"]))
    genes = ["NOSUCHGENE", cells.vocabulary.symbol(int(cells.ranked[2][0]))]
    run = perturb(cells, model, tmp_path / "run", genes, donor="donor")
    assert run.manifest.asked.donor == "donor"
    assert [gene.name for gene in run.manifest.genes_left_out] == ["NOSUCHGENE"]
    left_out = (tmp_path / "run" / "left_out.csv").read_text().splitlines()
    assert left_out[0] == "name,gene_id,reason,nearest,cells,cells_with_it"
    assert left_out[1].startswith("NOSUCHGENE,,unknown,")
    written = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert written["genes_left_out"][0]["name"] == "NOSUCHGENE"
