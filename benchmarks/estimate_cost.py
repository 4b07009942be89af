"""What a million cells cost, estimated and exactly: arithmetic from a measured rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from common import checkpoint, machine, random_cells, timed
from estimate_recall import hold_plan, shifts_of

import ranklock
from ranklock.estimates.attribution import Question, estimate_cell
from ranklock.estimates.cost import estimate_flop
from ranklock.run.plan import Plan, unperturbed_cell

_CELLS = 1_000_000
_TIMED = 2  # knock-outs that the rate of forwards is measured on


def arithmetic(
    folder: Path, architecture: str, tokens: int, verify: int, gpu_tflops: float, gpus: int
) -> None:
    """Print operations and hours, at the rate measured here and at one that is assumed.

    Parameters
    ----------
    folder
        For a checkpoint with random weights: no time depends on them.
    architecture, tokens
        Of the model and of every cell.
    verify
        Knock-outs of each cell that are verified.
    gpu_tflops, gpus
        Assumed rate of a GPU in 10¹² operations a second, and number of them.
    """
    model = ranklock.load_model(checkpoint(folder, architecture))
    cells, depth = random_cells([tokens], model), model.layers - 1
    cell = unperturbed_cell(cells, 0, model)
    goal = np.random.default_rng(0).normal(size=model.width)

    def plan(knockouts: int) -> Plan:
        ranks = np.linspace(0, tokens - 1, knockouts).round().astype(int).tolist()
        return hold_plan(cells, 0, model, ranks, goal)

    run, few = plan(tokens), plan(_TIMED)
    ways = {
        "estimate, goal": estimate_flop(model, tokens, tokens, depth, 1),
        "estimate, 8 probes": estimate_flop(model, tokens, tokens, depth, 8),
        "estimate, 32 probes": estimate_flop(model, tokens, tokens, depth, 32),
        f"verify {verify}": plan(verify).flop,
        "exact run": run.flop,
    }
    question = Question(goal=goal)
    took = timed(estimate_cell, model, cell, question, depth, special_frame=False)
    estimate_rate = ways["estimate, goal"] / took
    run_rate = few.flop / timed(shifts_of, few, range(_TIMED))
    print(
        f"{architecture}, {tokens} tokens, second to last layer. Measured on {machine()}: "
        f"estimates for a goal {took:.1f} s, {estimate_rate / 1e9:.0f} GFLOP/s; knock-outs "
        f"{run_rate / 1e9:.0f} GFLOP/s, float32.\n"
        f"Assumed, not measured: {gpu_tflops:g} TFLOP/s a GPU, kept up throughout.\n\n"
        f"| way | TFLOP a cell | of the run's | hours for {_CELLS:,} cells, this machine | "
        f"one GPU, assumed | {gpus} GPUs, assumed |\n|---|---|---|---|---|---|"
    )
    for way, flop in ways.items():
        rate = estimate_rate if way.startswith("estimate") else run_rate
        hours = flop * _CELLS / rate / 3600
        on_gpu = flop * _CELLS / (gpu_tflops * 1e12) / 3600
        print(
            f"| {way} | {flop / 1e12:,.3g} | 1/{run.flop / flop:,.0f} | {hours:,.0f} | "
            f"{on_gpu:,.1f} | {on_gpu / gpus:,.2f} |"
        )
