import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ranklock.arms import ARMS, DEFAULT_ARMS
from ranklock.engine.blocks import Reading, measure_baseline, measure_block
from ranklock.engine.cost import (
    BlockShape,
    block_flop,
    forward_flop,
    peak_memory,
    screen_flop,
)
from ranklock.estimates.attribution import Question, screen_cell
from ranklock.models import load_model
from tests.engine.test_blocks import a_block
from tests.helpers import checkpoint, vocabulary


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = checkpoint(
        tmp_path_factory.mktemp("wide"), tokens=404, positions=400, layers=4, width=32, heads=2
    )
    return load_model(folder, device="cpu")


def _addmm(_, rows, columns, **__):
    return 2 * rows[0] * rows[1] * columns[1]


def _attention(queries, keys, *_, **__):
    inputs, heads, rows, width = queries
    return 4 * inputs * heads * rows * keys[2] * width


# Two products that torch's counter does not know by these names.
_MORE = {
    torch.ops.aten.addmm_: _addmm,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
}


def counted(work):
    with FlopCounterMode(display=False, custom_mapping=_MORE) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("arm", [*DEFAULT_ARMS, "delete-backfill"])
@pytest.mark.parametrize("ranks", [range(10, 26), range(0, 320, 20), [5], range(200, 264)])
@pytest.mark.parametrize("read", [320, 20])
def test_the_plan_counts_what_torch_counts(model, arm, ranks, read):
    """torch's own counter looks at every product that is carried out."""
    cell, block = a_block(320, ranks, vocabulary(400), arms=(arm,), input_size=400)
    reading = Reading(np.arange(read), False, False)
    before = measure_baseline(model, cell, reading, 3)
    found = counted(lambda: measure_block(model, block, reading, before, 3))
    shape = BlockShape(320, tuple(ranks), read)
    expected = block_flop(model, ARMS[arm], shape, 3)
    if arm == "delete-backfill":  # whose next gene is one more pair of token and position
        assert expected == pytest.approx(found, rel=0.02)
    else:
        assert expected == found


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_a_baseline_is_one_forward(model, depth):
    cell, _ = a_block(320, [5], vocabulary(400), input_size=400)
    reading = Reading(np.arange(320), True, False)
    found = counted(lambda: measure_baseline(model, cell, reading, depth))
    assert forward_flop(model, 320, 320, depth) == found


_MEASURE = """
import re, sys
from pathlib import Path
import numpy as np
from ranklock.models import load_model
from ranklock.arms import DEFAULT_ARMS, find_arms
from ranklock.engine.blocks import Reading, measure_baseline, measure_block
from ranklock.engine.cost import BlockShape, peak_memory
from tests.engine.test_blocks import a_block
from tests.helpers import vocabulary
model = load_model(sys.argv[1], device="cpu")
ranks = range(1000, 1045)
cell, block = a_block(2048, ranks, vocabulary(2500), input_size=2048)
reading = Reading(np.arange(2048), True, False)
before = measure_baseline(model, cell, reading, 2)
measure_block(model, block, reading, before, 2)
# Not getrusage: what that says survives an exec, so it would be the parent's.
used = 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
shape = BlockShape(2048, tuple(ranks), 2048)
print(used, peak_memory(model, find_arms(DEFAULT_ARMS), shape, "float32"))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_a_full_cell_under_all_arms_takes_less_than_planned_and_than_4_gib(tmp_path):
    """V1's width, heads and input size; memory does not grow with layers, so it has few."""
    folder = checkpoint(tmp_path, tokens=2502, positions=2048, layers=3, width=256, heads=4)
    out = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(folder)], capture_output=True, text=True, check=True
    )
    used, planned = map(int, out.stdout.split())
    assert used < planned
    assert planned < 4 << 30


def test_memory_grows_with_what_is_asked(model):
    def memory(arms, tokens):
        shape = BlockShape(tokens, tuple(range(64)), tokens)
        return peak_memory(model, [ARMS[arm] for arm in arms], shape, "float32")

    assert memory(DEFAULT_ARMS, 4096) > memory(["hold"], 4096) > memory(["hold"], 512)


@pytest.mark.parametrize("probes", [0, 3, 11])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("read", [320, 20])
def test_a_screen_counts_what_torch_counts(model, probes, depth, read):
    cell, _ = a_block(320, [5], vocabulary(400), input_size=400)
    responders = cell.tokens[:read].astype(np.int32)
    question = Question(goal=np.ones(32))
    if probes:
        question = Question(probes=probes, responders=responders)
    found = counted(lambda: screen_cell(model, cell, question, depth, special_frame=False))
    rows = read if probes else 320
    expected = screen_flop(model, 320, rows, depth, question.numbers)
    assert expected == pytest.approx(found, rel=0.03)


_MEASURE_SCREEN = """
import re, sys
from pathlib import Path
from ranklock.engine.cost import screen_memory
from ranklock.estimates.attribution import Question, screen_cell
from ranklock.models import load_model
from tests.engine.test_blocks import a_block
from tests.helpers import vocabulary
model = load_model(sys.argv[1], device="cpu")
cell, _ = a_block(2048, [5], vocabulary(2500), input_size=2048)
screen_cell(model, cell, Question(probes=8), 3, special_frame=False)
used = 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
print(used, screen_memory(model, 2048, 3, 8, "float32"))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_a_full_cells_screen_takes_less_than_planned(tmp_path):
    folder = checkpoint(tmp_path, tokens=2502, positions=2048, layers=4, width=256, heads=4)
    out = subprocess.run(
        [sys.executable, "-c", _MEASURE_SCREEN, str(folder)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    used, planned = map(int, out.stdout.split())
    assert used < planned
    assert planned < 4 << 30
