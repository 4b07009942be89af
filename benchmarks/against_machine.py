"""Achieved FLOP/s of a run against torch.matmul's best: `python benchmarks/against_machine.py`.

Operations are those that the plan counts (tests hold that against torch's own counter); time is
that of everything a run does, readouts and writing included. The best is that of torch.matmul at
the run's own shapes, in turns with it.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from common import checkpoint, machine, random_cells, timed, workspace

import ranklock
from ranklock.engine.batches import usual_batch_size
from ranklock.run.asked import Asked
from ranklock.run.execute import execute
from ranklock.run.plan import make_plan


def best_matmul(model: ranklock.Model, tokens: int) -> float:
    """The most FLOP/s of torch.matmul over the shapes of a layer of a batch."""
    batch = usual_batch_size(model, tokens)
    rows, width, wide = batch * tokens, model.width, model.feed_forward
    heads, head = batch * model.heads, model.width // model.heads
    shapes = [
        ((rows, width), (width, 3 * width)),
        ((rows, width), (width, width)),
        ((rows, width), (width, wide)),
        ((rows, wide), (wide, width)),
        ((heads, tokens, head), (heads, head, tokens)),
        ((heads, tokens, tokens), (heads, tokens, head)),
    ]
    best = 0.0
    for left, right in shapes:
        a, b = torch.randn(left, device=model.device), torch.randn(right, device=model.device)
        flop = 2 * a.numel() * right[-1]
        out = torch.matmul(a, b)
        seconds = min(timed(torch.matmul, a, b, out=out) for _ in range(10))
        best = max(best, flop / seconds)
    return best


def main() -> None:
    """Print both rates and their ratio, for each length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", default="256,512,2048")
    parser.add_argument("--genes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--architecture", default="V1-10M")
    asked = parser.parse_args()
    print(machine())
    with workspace() as folder, torch.inference_mode():
        model = ranklock.load_model(checkpoint(Path(folder) / "model", asked.architecture))
        for tokens in map(int, asked.tokens.split(",")):
            cells = random_cells([tokens], model)
            middle = cells.ranked[0][tokens // 3 : tokens // 3 + asked.genes]
            plan = make_plan(cells, model, Asked(genes=tuple(map(str, middle)), read=("genes",)))
            rates: dict[str, list[float]] = {"run": [], "matmul": []}
            for turn in range(asked.rounds + 1):
                best = best_matmul(model, tokens)
                out = Path(folder) / f"{tokens}-{turn}"
                seconds = timed(execute, plan, out, progress=False)
                best = max(best, best_matmul(model, tokens))
                if turn:  # the first one warms up
                    rates["run"].append(plan.flop / seconds)
                    rates["matmul"].append(best)
            ratios = [run / best for run, best in zip(*rates.values(), strict=True)]
            print(
                f"{tokens:5d} tokens, 4 arms: run {statistics.median(rates['run']) / 1e9:.0f} "
                f"GFLOP/s, torch.matmul {statistics.median(rates['matmul']) / 1e9:.0f} GFLOP/s; "
                f"ratio {statistics.median(ratios):.2f} (rounds: {min(ratios):.2f} to "
                f"{max(ratios):.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
