import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ranklock.arms import KNOCK_OUT_ARMS, MOVE_ARMS, NOT_RANKED, baseline
from ranklock.engine.cost import GroupShape, forward_flop, group_flop, peak_memory
from ranklock.engine.groups import Reading
from ranklock.engine.method import FLOAT32, Method
from ranklock.engine.tasks import measure_groups
from ranklock.kinds import find_kind, rank_by_quarters
from ranklock.models import load_model
from ranklock.models.head import load_head
from tests.engine.groups import group_of
from tests.helpers import classifier, knock_out, move, vocabulary

GENES, LAYERS, WIDTH, LABELS = 320, 4, 32, 3
WORDS = vocabulary(400)
CELL = baseline(np.arange(2, 2 + GENES, dtype=np.int32), WORDS, special_frame=False)
DEFAULT = ("delete", "hold", "mask", "shift")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return classifier(
        tmp_path_factory.mktemp("wide"), labels=LABELS, tokens=404, positions=400, layers=LAYERS,
        width=WIDTH, heads=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def head(folder):
    return load_head(folder)


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


TWO_FORWARDS = Method(displacement=False, precision="float32")


def counted(model, group, reading, method=TWO_FORWARDS):
    """torch's own counter looks at every product that is carried out."""
    with FlopCounterMode(display=False, custom_mapping=_MORE) as counter:
        measure_groups(model, [group], reading, method=method)
    inputs = 1 + sum(map(len, group.arms.values()))
    of_head = 2 * inputs * WIDTH * (WIDTH + LABELS) if reading.head else 0  # which no plan counts
    return counter.get_total_flops() - of_head


def reading_of(depth, head=None, *, cell=False):
    return Reading(depth, cell=cell, special_frame=False, head=head)


def planned(model, arm, group, reading, to_ranks=(), inserted=0):
    ranks = tuple(int(ranks[0]) if len(ranks) else NOT_RANKED for ranks in group.perturbed)
    shape = GroupShape(len(group.baseline), ranks, len(group.responders), tuple(to_ranks), inserted)
    return group_flop(model, [arm], shape, reading.depth, logits=reading.head is not None)


RANKS = [range(10, 26), range(0, 320, 20), [5], range(200, 264)]


@pytest.mark.parametrize("name", [*DEFAULT, "delete-backfill"])
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("read", [GENES, 20])
def test_the_plan_of_knock_outs_counts_what_torch_counts(model, name, ranks, read):
    arm = KNOCK_OUT_ARMS[name]
    changes = [knock_out(CELL, [rank]) for rank in ranks]
    group = group_of(CELL, changes, {name: arm}, WORDS, responders=range(read), below=[330])
    reading = reading_of(3)
    flop, plan = counted(model, group, reading), planned(model, arm, group, reading)
    if arm.backfill:  # whose next gene is one more pair of token and position
        assert plan == pytest.approx(flop, rel=0.02)
    else:
        assert plan == flop


@pytest.mark.parametrize("depth", [0, 1, 3, LAYERS])
@pytest.mark.parametrize("ranks", [range(10, 26), [5]])
def test_the_plan_of_logits_counts_all_layers(model, head, depth, ranks):
    arm = KNOCK_OUT_ARMS["delete"]
    changes = [knock_out(CELL, [rank]) for rank in ranks]
    group = group_of(CELL, changes, {"delete": arm}, WORDS)
    reading = reading_of(depth, head)
    assert planned(model, arm, group, reading) == counted(model, group, reading)


@pytest.mark.parametrize("depth", [0, 1, LAYERS])
def test_a_baseline_is_one_forward(model, depth):
    group = group_of(CELL, [knock_out(CELL, [5])], {"mask": KNOCK_OUT_ARMS["mask"]}, WORDS)
    flop = counted(model, group, reading_of(depth, cell=True))
    assert 2 * forward_flop(model, GENES, GENES, depth) == flop  # it, and one of a task


def of_moves(goals, name, **options):
    arm = MOVE_ARMS[name]
    return arm, group_of(CELL, [move(CELL, goal) for goal in goals], {name: arm}, WORDS, **options)


@pytest.mark.parametrize("name", list(MOVE_ARMS))
@pytest.mark.parametrize("ranks", [range(10, 26), range(1, 320, 20), [5], range(200, 264)])
@pytest.mark.parametrize("goal", [0, 315])
def test_the_plan_of_moves_to_one_rank_counts_what_torch_counts(model, name, ranks, goal):
    arm, group = of_moves([{int(CELL.tokens[rank]): goal} for rank in ranks], name)
    reading = reading_of(3)
    plan = planned(model, arm, group, reading, [goal] * len(ranks))
    flop = counted(model, group, reading)
    if name == "move":  # one pair of token and position more than there is
        assert flop <= plan <= 1.001 * flop
    else:
        assert plan == flop


@pytest.mark.parametrize("name", list(MOVE_ARMS))
@pytest.mark.parametrize(
    "kind", ["activate:1", "inhibit:2", "to-rank:100", "up to somewhere", "anywhere"]
)
@pytest.mark.parametrize("ranks", [range(72, 88), range(90, 110), range(200, 264)])
def test_the_plan_of_other_moves_is_never_less_and_seldom_more(model, name, kind, ranks):
    draw = np.random.default_rng(0)
    ranks = np.array([rank for rank in ranks if rank != 100])
    match kind:
        case "up to somewhere":  # as counts times a factor do it
            goals = ranks - draw.integers(1, 20, len(ranks))
        case "anywhere":
            goals = (ranks + draw.integers(1, GENES, len(ranks))) % GENES
        case "to-rank:100":
            goals = np.full(len(ranks), 100)
        case _:
            goals = rank_by_quarters(ranks, find_kind(kind).quarters, GENES)
    moves = zip(CELL.tokens[ranks].tolist(), goals.tolist(), strict=True)
    arm, group = of_moves([{token: goal} for token, goal in moves], name)
    reading = reading_of(3)
    flop = counted(model, group, reading)
    plan = planned(model, arm, group, reading, goals.tolist())
    assert flop <= plan <= 1.25 * flop


@pytest.mark.parametrize("name", list(MOVE_ARMS))
@pytest.mark.parametrize("present", [[], [3, 200]], ids=["all lack it", "some lack it"])
def test_the_plan_of_genes_that_are_put_in_is_never_less(model, name, present):
    tokens = [*CELL.tokens[present].tolist(), *range(330, 342)]
    arm, group = of_moves([{token: 1} for token in tokens], name)
    reading = reading_of(3)
    plan = planned(model, arm, group, reading, [1] * len(tokens), inserted=1)
    flop = counted(model, group, reading)
    assert flop <= plan <= 1.01 * flop


@pytest.mark.parametrize("name", [*DEFAULT, "delete-backfill"])
@pytest.mark.parametrize("read", [GENES, 20])
def test_the_plan_of_displacements_is_what_torch_counts_but_for_sums_and_what_is_put_in(
    model, name, read
):
    arm = KNOCK_OUT_ARMS[name]
    ranks = range(10, 26)
    changes = [knock_out(CELL, [rank]) for rank in ranks]
    group = group_of(CELL, changes, {name: arm}, WORDS, responders=range(read), below=[330])
    shape = GroupShape(len(CELL), tuple(ranks), read)
    plan = group_flop(model, [arm], shape, 3, displacement=True)
    # Sums over weights are columns of a product, eight beside those of a head; gone and added keys
    # have products of their own.
    assert plan < counted(model, group, reading_of(3), FLOAT32) < 1.2 * plan


_MEASURE = """
import re, sys
from pathlib import Path
import numpy as np
from ranklock.models import load_model
from ranklock.arms import baseline, find_arms
from ranklock.engine.cost import GroupShape, peak_memory
from ranklock.engine.groups import Reading
from ranklock.engine.method import Method
from ranklock.engine.tasks import measure_groups
from ranklock.kinds import KNOCK_OUT
from tests.engine.groups import group_of
from tests.helpers import knock_out, vocabulary
model = load_model(sys.argv[1], device="cpu")
words = vocabulary(2500)
cell = baseline(np.arange(2, 2050, dtype=np.int32), words, special_frame=False)
arms = find_arms(None, KNOCK_OUT)
ranks = range(1000, 1045, 4)
group = group_of(cell, [knock_out(cell, [rank]) for rank in ranks],
                 {arm.name: arm for arm in arms}, words)
method = Method(sys.argv[2] == "displacement", sys.argv[3])
measure_groups(model, [group], Reading(2, cell=True, special_frame=False), method=method)
# Not getrusage: what that says survives an exec, so it would be the parent's.
used = 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
print(used, peak_memory(model, arms, GroupShape(2048, tuple(ranks), 2048), method))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("forwards", "precision"),
    [("displacement", "float32"), ("displacement", "bfloat16"), ("two forwards", "float32")],
)
def test_a_full_cell_under_all_arms_takes_less_than_planned_and_than_4_gib(
    tmp_path, forwards, precision
):
    """V1's width, heads and input size; memory does not grow with layers, so it has few."""
    folder = classifier(tmp_path, tokens=2502, positions=2048, layers=3, width=256, heads=4)
    out = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(folder), forwards, precision],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    used, planned = map(int, out.stdout.split())
    assert used < planned
    assert planned < 4 << 30


@pytest.mark.parametrize("method", [FLOAT32, TWO_FORWARDS], ids=str)
def test_memory_grows_with_what_is_asked(model, method):
    def memory(names, tokens, batch_size=None):
        shape = GroupShape(tokens, tuple(range(64)), tokens)
        arms = [KNOCK_OUT_ARMS[name] for name in names]
        return peak_memory(model, arms, shape, method, batch_size)

    assert memory(DEFAULT, 4096) > memory(["hold"], 4096) > memory(["hold"], 512)
    assert memory(DEFAULT, 512, batch_size=1) < memory(DEFAULT, 512)


@pytest.mark.parametrize("method", [FLOAT32, TWO_FORWARDS], ids=str)
def test_the_memory_of_a_batch_is_that_of_tasks_of_many_cells(model, method):
    """One task a cell: a batch holds those of many cells, as it would hold many of one."""
    arms = [KNOCK_OUT_ARMS["hold"]]

    def memory(tasks, **options):
        shape = GroupShape(512, tuple(range(0, 512, 512 // tasks)), 512)
        return peak_memory(model, arms, shape, method, **options)

    assert memory(1, of_all_cells=1) == memory(1) < memory(1, of_all_cells=4)
    # Of four cells instead of one, a displacement forward has four baselines.
    assert memory(1, of_all_cells=4) >= memory(4)
    assert method.displacement or memory(1, of_all_cells=4) == memory(4)
    assert memory(1, batch_size=1, of_all_cells=4) == memory(1)
