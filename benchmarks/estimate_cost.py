"""What a million cells cost to screen and to sweep: arithmetic from a measured rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from common import checkpoint, machine, random_cells, timed
from screen_recall import hold_plan, run_blocks

import ranklock
from ranklock.engine.cost import screen_flop
from ranklock.estimates.attribution import Question, screen_cell
from ranklock.run.old_plan import baseline_of
from ranklock.run.old_sweep_plan import SweepPlan

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
    cell = baseline_of(cells, 0, model)
    goal = np.random.default_rng(0).normal(size=model.width)

    def plan(knockouts: int) -> SweepPlan:
        ranks = np.linspace(0, tokens - 1, knockouts).round().astype(int).tolist()
        return hold_plan(cells, 0, model, ranks, goal, "cell")

    whole, timed_plan = plan(tokens), plan(_TIMED)
    ways = {
        "screen, goal": screen_flop(model, tokens, tokens, depth, 1),
        "screen, 8 probes": screen_flop(model, tokens, tokens, depth, 8),
        "screen, 32 probes": screen_flop(model, tokens, tokens, depth, 32),
        f"verify {verify}": plan(verify).flop,
        "exact hold sweep": whole.flop,
    }
    question = Question(goal=goal)
    took = timed(screen_cell, model, cell, question, depth, special_frame=False)
    rates = {
        "screen": ways["screen, goal"] / took,
        "sweep": timed_plan.flop / timed(run_blocks, timed_plan, [0]),
    }
    print(
        f"{architecture}, {tokens} tokens, second to last layer. Measured on {machine()}: a screen "
        f"for a goal {took:.1f} s, {rates['screen'] / 1e9:.0f} GFLOP/s; knock-outs "
        f"{rates['sweep'] / 1e9:.0f} GFLOP/s, float32.\n"
        f"Assumed, not measured: {gpu_tflops:g} TFLOP/s a GPU, kept up throughout.\n\n"
        f"| way | TFLOP a cell | of the sweep's | hours for {_CELLS:,} cells, this machine | "
        f"one GPU, assumed | {gpus} GPUs, assumed |\n|---|---|---|---|---|---|"
    )
    for way, flop in ways.items():
        rate = rates["screen" if way.startswith("screen") else "sweep"]
        here = flop * _CELLS / rate / 3600
        one = flop * _CELLS / (gpu_tflops * 1e12) / 3600
        print(
            f"| {way} | {flop / 1e12:,.3g} | 1/{whole.flop / flop:,.0f} | {here:,.0f} | "
            f"{one:,.1f} | {one / gpus:,.2f} |"
        )
