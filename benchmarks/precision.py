"""Seconds per perturbed input, displacement against float32 forwards: `python benchmarks/precision.py`.

The displacement in every format that the device offers (float64 aside), and two forwards in
float32, take turns in one process: knock-outs of one cell under all arms, the unperturbed cell
included. V1's size reads all genes, V2's `<cls>` alone, both of the second to last layer.

The bound of the displacement is what its products would take at the rate that torch.matmul reaches
on their shapes in that format: a forward's linear maps, and twice its attention. The bound of two
forwards is a forward's operations. The share is the bound over the time. Both count neither the
unperturbed cell nor what the inputs of a cell share in the first layer of two forwards.

`--processor-time` is for a machine that others use too: one thread, and its own seconds.
"""  # noqa: E501

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from common import in_turns, machine, synchronise, workspace
from knock_outs import ARMS, Case, circumstances, random_v2, trained_or_random
from torch.profiler import ProfilerActivity, profile

from ranklock.engine.cost import forward_flop
from ranklock.engine.groups import Reading, TaskGroup
from ranklock.engine.method import Method
from ranklock.engine.tasks import measure_groups
from ranklock.models.precision import computing_in, offered_precisions, stored_as

FORWARDS = Method(displacement=False, precision="float32")
# As many rows as go through a layer together on a CPU; a GPU is as fast with them.
_ROWS = 8192
_REPEATS = 10
# torch's fused attention does its softmax too.
_PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::_scaled_dot_product")


Clock = Callable[[], float]


@dataclass(frozen=True)
class Work:
    """Operations of an input: of its linear maps, and of attention's products in a forward."""

    linear: int
    attention: int


def work_of(case: Case, reading: Reading, rows: int) -> Work:
    """Operations of a plain forward of an input of which some rows are read."""
    shape = (case.model, len(case.cell), rows, reading.depth)
    whole = forward_flop(*shape)
    attention = forward_flop(*shape, attention=2) - whole
    return Work(whole - attention, attention)


@dataclass(frozen=True)
class Rates:
    """Operations a second of torch.matmul: of linear maps, and of attention's products."""

    linear: float
    attention: float

    def seconds(self, work: Work, *, displacement: bool) -> float:
        """What an input's products take at least."""
        return work.linear / self.linear + (1 + displacement) * work.attention / self.attention


def rates(case: Case, precision: str, clock: Clock = time.perf_counter) -> Rates:
    """What torch.matmul reaches in a format, at the shapes of a layer."""
    model, tokens = case.model, len(case.cell)
    width, wide, head = model.width, model.feed_forward, model.width // model.heads
    inputs = max(1, _ROWS // tokens)
    heads = inputs * model.heads
    linear = [(width, 3 * width), (width, width), (width, wide), (wide, width)]
    attention = [(tokens, head, tokens), (tokens, tokens, head)]
    with computing_in(precision):
        return Rates(
            max(_rate((inputs * tokens, left), (left, right), case, precision, clock)
                for left, right in linear),
            max(_rate((heads, rows, left), (heads, left, right), case, precision, clock)
                for rows, left, right in attention),
        )  # fmt: skip


def _rate(
    left: tuple[int, ...], right: tuple[int, ...], case: Case, precision: str, clock: Clock
) -> float:
    kind, device = stored_as(precision), case.model.device
    a, b = torch.randn(left, device=device).to(kind), torch.randn(right, device=device).to(kind)
    out = torch.matmul(a, b)
    seconds = min(_timed(clock, partial(torch.matmul, a, b, out=out)) for _ in range(_REPEATS))
    return 2 * a.numel() * right[-1] / seconds


def share_of_products(call: Callable[[], object]) -> float:
    """Which part of a call's time in torch's operators goes into products, on a CPU."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        call()
    seconds = {event.key: event.self_cpu_time_total for event in profiled.key_averages()}
    in_products = sum(s for name, s in seconds.items() if name.startswith(_PRODUCTS))
    return float(in_products / sum(seconds.values()))


def compare(
    case: Case, knock_outs: int, rounds: int, *, genes: bool, clock: Clock = time.perf_counter
) -> dict[Method, float]:
    """Time a case by every method; the fewest seconds per input of each."""
    reading = case.reading(cell=not genes)
    group = case.group(case.ranks(knock_outs), genes=genes)
    inputs = len(group) * len(ARMS)
    precisions = [p for p in offered_precisions(case.model.device) if p != "float64"]
    methods = [*(Method(displacement=True, precision=p) for p in precisions), FORWARDS]
    ways = {
        str(method): partial(_seconds, case, group, reading, method, clock) for method in methods
    }
    for method in methods:  # warms up
        _seconds(case, case.group(case.ranks(1), genes=genes), reading, method, clock)
    on_cpu = case.model.device == "cpu"
    products = {name: share_of_products(way) for name, way in ways.items() if on_cpu}
    seconds = in_turns(ways, rounds)
    best = {method: min(seconds[str(method)]) / inputs for method in methods}
    print(
        f"\n**{case.name}**, {'gene' if genes else '<cls>'} level, {inputs} inputs ({len(group)} "
        f"knock-outs × {len(ARMS)} arms), best of {rounds} rounds\n\n"
        "| | ms per input | times as fast as two forwards in float32 (rounds) | torch.matmul, "
        "GFLOP/s: linear, attention | bound, ms | share reached | of the time in products |\n"
        "|---|---|---|---|---|---|---|"
    )
    work = work_of(case, reading, reading.rows(len(group.responders)))
    for method in methods:
        reached = rates(case, method.precision, clock)
        bound = reached.seconds(work, displacement=method.displacement)
        in_products = f"{products[str(method)]:.0%}" if on_cpu else "not measured"
        print(
            f"| {method} | {1e3 * best[method]:.1f} | {_speed(method, best, seconds)} | "
            f"{reached.linear / 1e9:.0f}, {reached.attention / 1e9:.0f} | {1e3 * bound:.1f} | "
            f"{bound / best[method]:.0%} | {in_products} |",
            flush=True,
        )
    return best


def _speed(method: Method, best: Mapping[Method, float], seconds: Mapping[str, list[float]]) -> str:
    of_rounds = zip(seconds[str(FORWARDS)], seconds[str(method)], strict=True)
    ratios = [of_forwards / of_method for of_forwards, of_method in of_rounds]
    return (
        f"{best[FORWARDS] / best[method]:.2f} ({min(ratios):.2f} to {max(ratios):.2f}, median "
        f"{statistics.median(ratios):.2f})"
    )


def _seconds(case: Case, group: TaskGroup, reading: Reading, method: Method, clock: Clock) -> float:
    return _timed(clock, partial(measure_groups, case.model, [group], reading, method=method))


def _timed(clock: Clock, work: Callable[[], object]) -> float:
    synchronise()
    started = clock()
    work()
    synchronise()
    return clock() - started


def main() -> None:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="V1-512,V1-2048,V2-755")
    parser.add_argument("--knock-outs", type=int, default=8, help="in each cell")
    parser.add_argument("--knock-outs-v2", type=int, default=4, help="of V2's size")
    parser.add_argument("--processor-time", action="store_true", help="on one thread")
    asked = parser.parse_args()
    clock = time.perf_counter
    if asked.processor_time:
        torch.set_num_threads(1)
        clock = time.process_time
    print(f"{machine()}; {circumstances()}")
    if asked.processor_time:
        print("Seconds are those of the process on one thread.")
    with workspace() as name:
        folder = Path(name)
        cases: dict[str, tuple[Callable[[], Case], int, bool]] = {
            "V1-512": (partial(trained_or_random, 512, folder), asked.knock_outs, True),
            "V1-2048": (partial(trained_or_random, 2048, folder), asked.knock_outs, True),
            "V2-755": (partial(random_v2, 755, folder), asked.knock_outs_v2, False),
        }
        for only in asked.only.split(","):
            make, knock_outs, genes = cases[only]
            compare(make(), knock_outs, asked.rounds, genes=genes, clock=clock)
    print(f"\nAt the end: {circumstances()}")


if __name__ == "__main__":
    main()
