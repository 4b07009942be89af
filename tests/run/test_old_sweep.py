import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr.storage._local

import ranklock
from ranklock.errors import InputError, OptionError, OutputError, RanklockWarning
from ranklock.run import old_store as store_module
from ranklock.run.old_sweep_folder import at_work
from tests.helpers import cells_of, checkpoint, vocabulary
from tests.results.test_store import files

# Effects of states that each err by 2e-5 (tests/engine/test_batches.py), as in test_blocks.py.
ATOL = 1e-4


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return ranklock.load_model(tiny_checkpoint, device="cpu")


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(store_module, "BLOCK", 4)


@pytest.fixture
def cells():
    return cells_of([11, 6, 30], vocabulary())


def sweep(cells, model, out, *arguments, **options):
    return ranklock.sweep(cells, model, out, *arguments, **{"progress": False, **options})


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")
@pytest.mark.parametrize("special", [False, True])
def test_effects_are_those_of_knockout(tmp_path, model, special):
    cells = cells_of([40, 12, 7], vocabulary(special_frame=special), special_frame=special)
    genes = [int(token) for token in cells.ranked[0][[0, 5, 17, 39]]]
    arms = ("delete", "hold", "attention-mask", "mask", "shift")
    found = sweep(cells, model, tmp_path / "sweep", arms=arms)
    run = ranklock.knockout(cells, model, genes, arms, progress=False)
    for place in range(run.effects.n_obs):
        row = run.effects[place]
        one = found.cell(str(row.obs["cell"].iloc[0]))
        mine = one[
            one.obs["gene"] == row.obs["gene"].iloc[0], row.var_names.intersection(one.var_names)
        ]
        row = row[:, mine.var_names]
        for layer in set(run.effects.layers) - {"responder_rank"}:
            expected = np.asarray(row.layers[layer], dtype=float)
            numbers = np.asarray(mine.layers[layer], dtype=float)
            if layer == "artefact_share":  # of what moved by less than rounding it is anything
                moved = np.asarray(row.layers["delete_displacement"]) > 1e-2
                expected, numbers = expected[moved], numbers[moved]
            atol = 100 * ATOL if layer == "artefact_share" else ATOL
            np.testing.assert_allclose(numbers, expected, atol=atol)
        for column in ("artefact_share", "hold_before", "mask_after", "shift_cell_shift"):
            np.testing.assert_allclose(mine.obs[column], row.obs[column].astype(float), atol=ATOL)
    shifts = found.cell_shifts()
    merged = shifts.merge(run.cell_shifts, on=["cell", "gene", "arm"], suffixes=("", "_knockout"))
    assert len(merged) == len(run.cell_shifts)
    np.testing.assert_allclose(merged["displacement"], merged["displacement_knockout"], atol=ATOL)
    assert (merged["gene_rank"] == merged["gene_rank_knockout"]).all()


def test_every_gene_of_every_cell_is_knocked_out(tmp_path, model, cells, small_blocks):
    found = sweep(cells, model, tmp_path / "run")
    assert found.complete
    assert found.progress() == (3 + 2 + 8, 13)
    table = found.knockouts()
    assert table.groupby("cell", observed=True).size().to_dict() == {
        "cell0": 11, "cell1": 6, "cell2": 30,
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".locks", "cell_shifts.parquet", "cells.parquet", "effects.h5ad", "effects.zarr",
        "genes.parquet", "manifest.json",
    ]  # fmt: skip


def test_two_sweeps_write_the_same_files(tmp_path, model, cells):
    for name in "ab":
        sweep(cells, model, tmp_path / name)
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize("read", ["genes", "cell"])
def test_what_is_not_asked_for_is_not_stored(tmp_path, model, cells, read):
    both = sweep(cells, model, tmp_path / "both")
    found = sweep(cells, model, tmp_path / "part", read=read)
    other = {"genes": "cell", "cell": "genes"}[read]
    assert (tmp_path / "part" / "effects.h5ad").exists() is (read == "genes")
    with pytest.raises(InputError, match=f"read {read} only .* not {other}"):
        found.cell_shifts() if read == "genes" else found.effects()
    for column in set(found.knockouts().columns) - {"cell", "gene", "gene_id"}:
        np.testing.assert_allclose(
            found.knockouts()[column], both.knockouts()[column], atol=ATOL, equal_nan=True
        )


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")
def test_lists_of_genes_and_responders(tmp_path, model, cells):
    genes = [int(t) for t in (*cells.ranked[0][:2], cells.ranked[2][7])]
    responders = [int(t) for t in cells.ranked[1][:3]]
    whole = sweep(cells, model, tmp_path / "whole")
    found = sweep(cells, model, tmp_path / "part", genes, responders=responders)
    some = sweep(cells, model, tmp_path / "genes", genes, responders=responders, read="genes")
    assert set(found.knockouts()["gene"]) <= {cells.vocabulary.symbol(t) for t in genes}
    assert [found.cell(index).n_vars > 0 for index in found.store.cells()].count(True) == len(
        some.store.cells()
    )
    for index in found.store.cells():
        mine, all_of_it = found.cell(index), whole.cell(index)
        assert set(mine.var["token"]) == set(responders) & set(cells.ranked[index].tolist())
        part = all_of_it[all_of_it.obs["gene"].isin(mine.obs["gene"]), mine.var_names]
        for arm in found.arms:
            np.testing.assert_allclose(mine.layers[arm], part.layers[arm], atol=ATOL)
            if mine.n_vars:
                third = some.cell(index).layers[arm]
                np.testing.assert_allclose(third, part.layers[arm], atol=ATOL)
        shift = mine.obs["hold_cell_shift"].to_numpy()
        np.testing.assert_allclose(shift, part.obs["hold_cell_shift"].to_numpy(), atol=ATOL)


def test_what_does_not_fit_is_refused_before_the_first_forward(tmp_path, model, cells, monkeypatch):
    def forward(*_):
        raise AssertionError("a forward was run")

    monkeypatch.setattr("ranklock.engine.forward._attend", forward)
    for asked, message in (
        ({"genes": ["GENE999"]}, "'GENE999' .unknown"),
        ({"arms": ("remove",)}, "no arm 'remove'"),
        ({"precision": "tf32"}, "cpu does not compute in tf32"),
        ({"read": "everything"}, "none of genes, cell, both"),
        ({"layer": 3}, "--layer goes from"),
        ({"responders": []}, "No gene was named"),
    ):
        with pytest.raises(InputError, match=message):
            sweep(cells, model, tmp_path / "run", **asked)
    monkeypatch.setattr("ranklock.run.old_sweep_plan.available_memory", lambda _: 1000)
    with pytest.raises(InputError, match="of memory on cpu and .* are free; take fewer arms"):
        sweep(cells, model, tmp_path / "run")
    monkeypatch.setattr("ranklock.run.old_sweep_plan.available_memory", lambda _: 1 << 50)
    monkeypatch.setattr("ranklock.run.old_sweep_plan.free_disk", lambda _: 1000)
    with pytest.raises(OutputError, match="The results take about .* take about 0 cells"):
        sweep(cells, model, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_lone_genes_cannot_respond(tmp_path, model):
    with pytest.raises(InputError, match="test cells: no cell has two genes"):
        sweep(cells_of([1, 1], vocabulary()), model, tmp_path / "run")
    with pytest.warns(RanklockWarning, match="1 of 2 cells have fewer than two genes"):
        found = sweep(cells_of([1, 2], vocabulary()), model, tmp_path / "run")
    assert found.knockouts()["cell"].tolist() == ["cell1", "cell1"]


# Stopping and going on


class StopError(Exception):
    """Stands for whatever ends a run."""


def stop_after(monkeypatch, blocks, error):
    """Let so many blocks be stored, then fail while the next one is written."""
    put, written = zarr.storage._local._put, []

    def failing(path, value, **options):
        if path.match("knockouts/c/0/*"):
            written.append(path)
            if len(written) > blocks:
                raise error
        return put(path, value, **options)

    monkeypatch.setattr(zarr.storage._local, "_put", failing)


@pytest.mark.parametrize("blocks", [0, 1, 5, 12])
def test_a_stopped_sweep_goes_on_and_ends_the_same(
    tmp_path, model, cells, small_blocks, monkeypatch, blocks
):
    sweep(cells, model, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, blocks, StopError())
        with pytest.raises(StopError):
            sweep(cells, model, tmp_path / "run")
    stopped = ranklock.read_sweep(tmp_path / "run")
    assert not stopped.complete
    assert stopped.progress() == (blocks, 13)
    computed = count_blocks(monkeypatch)
    assert sweep(cells, model, tmp_path / "run").complete
    assert len(computed) == 13 - blocks
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def count_blocks(monkeypatch):
    module = import_module("ranklock.run.old_sweep")  # the package's name is the function
    computed, measure = [], module.measure_block

    def counted(*arguments, **options):
        computed.append(arguments[1])
        return measure(*arguments, **options)

    monkeypatch.setattr(module, "measure_block", counted)
    return computed


def test_a_full_disk_stops_cleanly_and_keeps_what_was_done(
    tmp_path, model, cells, small_blocks, monkeypatch
):
    sweep(cells, model, tmp_path / "whole")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        stop_after(patch, 5, full)
        with pytest.raises(OutputError, match="No space left on device.*what was done is kept"):
            sweep(cells, model, tmp_path / "run")
    assert ranklock.read_sweep(tmp_path / "run").progress() == (5, 13)
    assert not list((tmp_path / "run").rglob("*.partial"))
    sweep(cells, model, tmp_path / "run")
    assert files(tmp_path / "run") == files(tmp_path / "whole")


_LIMITED = """
import resource, sys
from pathlib import Path
import ranklock
from tests.helpers import cells_of, vocabulary
model = ranklock.load_model(sys.argv[1], device="cpu")
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    ranklock.sweep(cells_of([40], vocabulary()), model, sys.argv[2], progress=False)
except ranklock.OutputError as error:
    print(error)
"""


def test_a_file_system_that_really_takes_no_more(tmp_path, tiny_checkpoint):
    """The system itself refuses files over 4,000 bytes: the effects' chunk is larger."""
    out = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tiny_checkpoint), str(tmp_path / "run")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "File too large); what was done is kept" in out.stdout
    assert not list((tmp_path / "run").rglob("*.partial"))


@pytest.mark.parametrize("array", ["effects", "knockouts"])
def test_a_damaged_chunk_is_computed_again_on_demand(
    tmp_path, model, cells, small_blocks, monkeypatch, array
):
    sweep(cells, model, tmp_path / "run")
    whole = files(tmp_path / "run")
    (path,) = [p for p in (tmp_path / "run" / "effects.zarr" / "2" / array / "c" / "0").rglob("*")
               if p.is_file() and "3" in p.relative_to(tmp_path / "run").parts[-2:]]  # fmt: skip
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(OutputError, match="is damaged .* run the sweep's command again"):
        ranklock.read_sweep(tmp_path / "run").effects()
    computed = count_blocks(monkeypatch)
    sweep(cells, model, tmp_path / "run")
    assert len(computed) == 1
    assert files(tmp_path / "run") == whole


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")
def test_another_experiment_does_not_go_on_here(tmp_path, model, cells):
    sweep(cells, model, tmp_path / "run")
    before = files(tmp_path / "run")
    other = ranklock.load_model(checkpoint(tmp_path / "other", spread=0.3, seed=9), device="cpu")
    gene = int(cells.ranked[0][0])
    for changed, what in (
        ({"model": other}, "checkpoint"),
        ({"cells": cells_of([11, 6, 30], vocabulary(), seed=5)}, "cells"),
        ({"cells": cells_of([11, 6, 30], vocabulary(61))}, "vocabulary, cells"),
        ({"layer": 0}, "layer"),
        ({"arms": ("delete", "hold", "shift")}, "arms"),
        ({"arms": ("hold", "delete", "mask", "shift")}, "arms"),  # fields have an order
        ({"genes": [gene]}, "genes"),
        ({"responders": [gene]}, "responders"),
        ({"read": "genes"}, "what is read"),
    ):
        asked = {"cells": cells, "model": model, **changed}
        with pytest.raises(OutputError, match=rf"begun differently \({what}\).*--overwrite"):
            sweep(asked.pop("cells"), asked.pop("model"), tmp_path / "run", **asked)
    arm = ranklock.ARMS["hold"]
    with pytest.MonkeyPatch.context() as patch:
        changed = type(arm)("hold", arm.edit, ranklock.ARMS["shift"].positions, arm.isolates)
        patch.setitem(ranklock.ARMS, "hold", changed)
        with pytest.raises(OutputError, match=r"begun differently \(arms\)"):
            sweep(cells, model, tmp_path / "run")
    assert files(tmp_path / "run") == before


def test_overwrite_replaces_a_sweep_and_nothing_else(tmp_path, model, cells):
    sweep(cells, model, tmp_path / "run")
    found = sweep(cells[:2], model, tmp_path / "run", overwrite=True)
    assert found.store.cells() == [0, 1]
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"also holds notes\.txt"):
        sweep(cells, model, tmp_path / "run", overwrite=True)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.tex").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="holds something other than a sweep"):
            sweep(cells, model, tmp_path / "else", overwrite=overwrite)
    with pytest.raises(OutputError, match="is a file"):
        sweep(cells, model, tmp_path / "else" / "thesis.tex")


def test_a_users_own_tables_are_not_taken_for_ours(tmp_path, model, cells):
    for name in ("cells.parquet", "genes.parquet"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match="holds something other than a sweep"):
        sweep(cells, model, tmp_path)
    assert (tmp_path / "cells.parquet").read_text() == "mine"


def test_a_sweep_that_is_being_worked_on_is_not_replaced(tmp_path, model, cells):
    sweep(cells, model, tmp_path / "run")
    before = files(tmp_path / "run")
    with at_work(tmp_path / "run"), pytest.raises(OutputError, match="Another process is at work"):
        sweep(cells, model, tmp_path / "run", layer=0, overwrite=True)
    assert files(tmp_path / "run") == before
    assert sweep(cells, model, tmp_path / "run", layer=0, overwrite=True).complete


def test_overwrite_goes_on_with_an_unfinished_sweep_that_is_the_same(
    tmp_path, model, cells, small_blocks, monkeypatch
):
    with monkeypatch.context() as patch:
        stop_after(patch, 5, StopError())
        with pytest.raises(StopError):
            sweep(cells, model, tmp_path / "run")
    computed = count_blocks(monkeypatch)
    sweep(cells, model, tmp_path / "run", overwrite=True)
    assert len(computed) == 13 - 5


@pytest.mark.parametrize("lost", ["manifest.json", "everything but the store"])
def test_a_store_without_its_manifest_is_computed_anew(tmp_path, model, cells, lost, monkeypatch):
    sweep(cells, model, tmp_path / "run")
    names = {"manifest.json", "effects.h5ad", "cell_shifts.parquet"}
    for name in names if lost == "manifest.json" else names | {"genes.parquet", "cells.parquet"}:
        (tmp_path / "run" / name).unlink()
    sweep(cells, model, tmp_path / "other", layer=0)
    sweep(cells, model, tmp_path / "run", layer=0)
    assert files(tmp_path / "run") == files(tmp_path / "other")


def test_what_a_kill_left_of_the_tables_is_cleared_up(tmp_path, model, cells):
    sweep(cells, model, tmp_path / "run")
    whole = files(tmp_path / "run")
    (tmp_path / "run" / ".locks" / "manifest.json").write_text("half")
    (tmp_path / "run" / ".locks" / "process-abc.lock").write_text("")
    (tmp_path / "run" / "genes.parquet").write_bytes(b"")
    (tmp_path / "run" / "cell_shifts.parquet").unlink()
    with pytest.raises(OutputError, match=r"genes\.parquet is missing or damaged; run the sweep's"):
        ranklock.read_sweep(tmp_path / "run").knockouts()
    sweep(cells, model, tmp_path / "run")
    assert files(tmp_path / "run") == whole


def test_a_disk_that_cannot_be_read_is_not_called_full(tmp_path, model, cells, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, 0, OSError(errno.EIO, os.strerror(errno.EIO)))
        with pytest.raises(OutputError, match=r"\(Input/output error\).*kept\. Run the same"):
            sweep(cells, model, tmp_path / "run")


def test_nan_says_which_cell_and_keeps_what_was_done(tmp_path, model, cells, monkeypatch):
    from ranklock.engine import blocks

    measure, seen = blocks.measure, []

    def breaks(before, after, *rest, **options):
        seen.append(before)
        if len(seen) > 1 and len(before) == 6:
            next(iter(after.values()))[:] = torch.nan
        return measure(before, after, *rest, **options)

    monkeypatch.setattr(blocks, "measure", breaks)
    with pytest.raises(InputError, match="NaN or infinity for cell cell1 of test cells"):
        sweep(cells, model, tmp_path / "run")
    assert ranklock.read_sweep(tmp_path / "run").store.cells() == [0]


def test_one_knockout_too_large_for_memory_is_said_to_be(tmp_path, model, cells, monkeypatch):
    def no_device(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("ranklock.engine.blocks._states_read", no_device)
    with pytest.raises(InputError, match=r"cell cell0 \(11 genes, 4 arms\) does not fit into the"):
        sweep(cells, model, tmp_path / "run")


# Several processes. Forked children share what is imported, and start in milliseconds.


def child(checkpoint_folder, out, lengths, log=None):
    """What a forked process does: one thread, as OpenMP's do not survive a fork."""
    torch.set_num_threads(1)
    store_module.BLOCK = 4
    model = ranklock.load_model(checkpoint_folder, device="cpu")
    module = import_module("ranklock.run.old_sweep")
    measure = module.measure_block

    def logged(*arguments, **options):
        if log is not None:
            with Path(log).open("a") as stream:
                stream.write(".")
        return measure(*arguments, **options)

    module.measure_block = logged
    sweep(cells_of(lengths, vocabulary()), model, out)


def start(*arguments):
    process = multiprocessing.get_context("forkserver").Process(target=child, args=arguments)
    process.start()
    return process


@pytest.fixture(scope="module", autouse=True)
def fork_server():
    multiprocessing.get_context("forkserver").set_forkserver_preload(
        ["tests.experiments.test_sweep", "transformers", "anndata"]
    )


LENGTHS = [50, 44, 38, 50, 47, 41]


def test_killed_twenty_times_it_ends_with_the_same_files(tmp_path, tiny_checkpoint, small_blocks):
    """SIGKILL at random moments, from before the manifest to the last tables."""
    whole = tmp_path / "whole"
    process = start(tiny_checkpoint, whole, LENGTHS)
    process.join()
    assert process.exitcode == 0
    expected, blocks = files(whole), ranklock.read_sweep(whole).progress()[1]
    draw, kills, rounds = random.Random(0), 0, 0
    while kills < 20:
        rounds += 1
        out, log = tmp_path / f"run{rounds}", tmp_path / f"log{rounds}"
        here, done = 0, 0
        while True:
            process = start(tiny_checkpoint, out, LENGTHS, log)
            if draw.random() < 0.8:  # else it may be killed before it has done anything
                wait_for(out, process)
            process.join(draw.uniform(0.0, 0.4))
            if process.exitcode is not None:
                assert process.exitcode == 0
                break
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            here += 1
            if (out / "manifest.json").exists():
                before, done = done, ranklock.read_sweep(out).progress()[0]
                assert done >= before
        assert files(out) == expected
        assert len(log.read_text()) <= blocks + here  # at most one block again for each kill
        kills += here
    assert kills >= 20


def wait_for(out, process):
    """Until a process has begun to write: most of its first second is spent on imports."""

    def results():
        try:
            return {path for path in out.rglob("*") if ".locks" not in path.parts}
        except FileNotFoundError:  # a folder that was renamed while it was looked at
            return known

    known = set()
    known = results()
    while process.exitcode is None and not results() - known:
        time.sleep(0.005)


def test_two_processes_share_the_cells(tmp_path, tiny_checkpoint, small_blocks):
    logs = [tmp_path / "log0", tmp_path / "log1"]
    start(tiny_checkpoint, tmp_path / "whole", LENGTHS).join()
    both = [start(tiny_checkpoint, tmp_path / "run", LENGTHS, log) for log in logs]
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert files(tmp_path / "run") == files(tmp_path / "whole")
    computed = [len(log.read_text()) if log.exists() else 0 for log in logs]
    assert sum(computed) == ranklock.read_sweep(tmp_path / "run").progress()[1]


def test_a_cell_that_another_process_has_is_left_to_it(tmp_path, model, cells, capsys):
    sweep(cells[:2], model, tmp_path / "first")
    store = ranklock.read_sweep(tmp_path / "first").store
    mine = store_module.Store(tmp_path / "run" / "effects.zarr", store.effect_fields,
                              store.knockout_fields, "")  # fmt: skip
    mine.locks.mkdir(parents=True)
    with mine.cell_locked(1):
        found = sweep(cells, model, tmp_path / "run")
        assert found.store.cells() == [0, 2]
        assert not found.complete
        assert "another process is at work on 1 of the cells" in capsys.readouterr().err
    assert sweep(cells, model, tmp_path / "run").complete


def test_the_plan_is_in_the_first_lines_and_in_the_manifest(tmp_path, model, cells, capsys):
    found = sweep(cells, model, tmp_path / "run", progress=True)
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first == "Plan: 47 knock-outs in 3 cells × 4 arms = 191 forwards of 1 layer"
    assert "FLOP in float32 on cpu; memory: about" in second
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["plan"]["forwards"] == 191
    plan = ranklock.plan_sweep(cells, model)
    assert plan.flop == found.manifest["plan"]["flop"]
    assert plan.measure_rate() > 0
    assert plan.describe(rate=1e9)[-1].startswith("Time: about 0 s at 1 GFLOP/s")


def test_a_faster_format_has_a_higher_floor(tmp_path, model, cells):
    from ranklock.models.precision import offered_precisions

    if "bfloat16" not in offered_precisions("cpu"):
        with pytest.raises(OptionError, match="cpu does not compute in bfloat16"):
            sweep(cells, model, tmp_path / "half", precision="bfloat16")
        pytest.skip("this CPU does not compute in bfloat16")
    whole = sweep(cells, model, tmp_path / "whole")
    half = sweep(cells, model, tmp_path / "half", precision="bfloat16")
    assert half.floor.displacement > 100 * whole.floor.displacement
    assert half.manifest["machine"]["precision"] == "bfloat16"
    difference = np.abs(half.cell(2).layers["shift_displacement"]
                        - whole.cell(2).layers["shift_displacement"])  # fmt: skip
    assert np.nanmax(difference) < 3 * half.floor.displacement
    with pytest.raises(OutputError, match=r"begun differently \(precision\)"):
        sweep(cells, model, tmp_path / "half")


def test_cells_that_lack_a_gene_are_said_to(tmp_path, model, cells):
    gene = int(next(t for t in cells.ranked[2] if t not in cells.ranked[0]))
    with pytest.warns(RanklockWarning, match="lack it; they are left out"):
        found = sweep(cells, model, tmp_path / "run", [gene])
    assert found.manifest["skipped"][0]["cells_without_it"] >= 1
