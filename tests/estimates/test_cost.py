import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ranklock.arms import baseline
from ranklock.estimates.attribution import Question, estimate_cell
from ranklock.estimates.cost import estimate_flop
from ranklock.models import load_model
from tests.helpers import cells_of, checkpoint, vocabulary


def a_cell(length):
    names = vocabulary(length + 50)
    return baseline(cells_of([length], names).ranked[0], names, special_frame=False)


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


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = checkpoint(
        tmp_path_factory.mktemp("wide"), tokens=404, positions=400, layers=4, width=32, heads=2
    )
    return load_model(folder, device="cpu")


@pytest.mark.parametrize("probes", [0, 3, 11])
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("read", [320, 20])
def test_the_plan_counts_what_torch_counts(model, probes, depth, read):
    cell = a_cell(320)
    question = Question(goal=np.ones(32))
    if probes:
        question = Question(probes=probes, responders=cell.tokens[:read].astype(np.int32))
    with FlopCounterMode(display=False, custom_mapping=_MORE) as counter:
        estimate_cell(model, cell, question, depth, special_frame=False)
    rows = read if probes else 320
    expected = estimate_flop(model, 320, rows, depth, question.numbers)
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.03)


_MEASURE = """
import re, sys
from pathlib import Path
from ranklock.estimates.attribution import Question, estimate_cell
from ranklock.estimates.cost import estimate_memory
from ranklock.models import load_model
from tests.estimates.test_cost import a_cell
model = load_model(sys.argv[1], device="cpu")
estimate_cell(model, a_cell(2048), Question(probes=8), 3, special_frame=False)
# Not getrusage: what that says survives an exec, so it would be the parent's.
used = 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
print(used, estimate_memory(model, 2048, 3, 8, "float32"))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_a_full_cell_takes_less_than_planned(tmp_path):
    folder = checkpoint(tmp_path, tokens=2502, positions=2048, layers=4, width=256, heads=4)
    out = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(folder)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    used, planned = map(int, out.stdout.split())
    assert used < planned
    assert planned < 4 << 30
