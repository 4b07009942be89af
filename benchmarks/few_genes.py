"""Few genes in many cells, towards a goal, against today's way: `python benchmarks/few_genes.py`.

Two shapes: 5 genes × 200 cells × 512 tokens, and 1 gene × 1,000 cells of 200 genes. Arm `delete`,
cell level, float32. Ours is the whole of `ranklock.perturb`, with its plan, noise floor and files;
today's way is that of `today.py`. Both take turns in one process, and find the same numbers.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import today
import torch
from common import (
    Clock,
    checkpoint,
    fastest_batch,
    in_turns,
    machine,
    random_cells,
    ratio,
    timed,
    workspace,
)

import ranklock
from ranklock.engine import batches, displaced, tasks, two_forwards
from ranklock.engine.first_layer import FirstLayer
from ranklock.models.encoder import Encoder
from ranklock.run.fields import towards_as_geneformer

GOAL = "goal"
# Forwards are what runs layers; planning, packing, inner products and files are outside of them.
FORWARDS = (
    (displaced, "layer_baselines"), (displaced, "displaced_layer"),
    (displaced, "embedded_displacement"), (two_forwards, "run_layers"), (batches, "run_layers"),
    (tasks, "first_layer"), (FirstLayer, "states"), (Encoder, "embed"),
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """What is perturbed."""

    genes: int
    cells: int
    tokens: int


SHAPES = (Shape(5, 200, 512), Shape(1, 1000, 200))


def main() -> None:
    """Print both times and their ratio, for each shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", type=float, default=1.0, help="of the cells, for a quick look")
    parser.add_argument("--architecture", default="V1-10M")
    parser.add_argument("--attention", help="eager or sdpa; default: what transformers takes")
    asked = parser.parse_args()
    print(machine())
    with workspace() as folder:
        path = checkpoint(Path(folder) / "model", asked.architecture)
        model = ranklock.load_model(path)
        plain = today.load(path, asked.attention, model.device)
        print(
            f"{asked.architecture}, attention of today's way: {plain.config._attn_implementation}, "
            "towards a goal, arm delete; ranklock in --precision auto"
        )
        for shape in SHAPES:
            cells = max(1, round(shape.cells * asked.part))
            compare(plain, model, Shape(shape.genes, cells, shape.tokens), asked.rounds, folder)


def compare(
    plain: today.BertForMaskedLM, model: ranklock.Model, shape: Shape, rounds: int, folder: str
) -> None:
    """Time both ways on the same cells, in turns."""
    genes = list(range(2, 2 + shape.genes))
    cells = random_cells([shape.tokens] * shape.cells, model, shared=genes)
    tokens = [ranked.tolist() for ranked in cells.ranked]
    goal = torch.randn(model.width, generator=torch.Generator().manual_seed(0))
    states = ranklock.States("state", ("start",), GOAL, embeddings={GOAL: goal})
    embeddings = {GOAL: goal.to(model.device)}
    out = Path(folder) / "run"
    shifts: dict[int, list[float]] = {}
    outside = []

    def perturb_as_today(genes: list[int], tokens: list[list[int]], batch: int) -> None:
        for gene in genes:
            rises = today.shifts_towards(plain, tokens, gene, embeddings, batch)
            shifts[gene] = rises[GOAL][gene, "cell_emb"]

    def seconds_a_cell(batch: int) -> float:
        return timed(perturb_as_today, genes[:1], tokens[:batch], batch) / batch

    def perturb(precision: str = "auto") -> float:
        shutil.rmtree(out, ignore_errors=True)
        with Clock(*FORWARDS) as clock:
            seconds = timed(
                ranklock.perturb, cells, model, list(map(str, genes)), arms=["delete"],
                read=("cell",), states=states, out=out, precision=precision, progress=False,
            )  # fmt: skip
        outside.append(1 - clock.seconds / seconds)
        return seconds

    perturb()
    seconds_a_cell(1)
    # Today's way takes the batch that suits it best here, of those that fit its memory.
    sizes = [size for size in (1, 8, 32, 100) if size * shape.tokens <= today.STRETCH]
    batch = fastest_batch(seconds_a_cell, sizes)
    outside.clear()
    ways = {"today": lambda: timed(perturb_as_today, genes, tokens, batch), "ranklock": perturb}
    seconds = in_turns(ways, rounds)
    method, of_time = ranklock.read_run(out).manifest.computed.method, np.median(outside)
    perturb("float32")  # not what was timed: today's way rounds as float32 does
    check(ranklock.read_run(out), shifts)
    print(
        f"{shape.genes} genes × {shape.cells} cells × {shape.tokens} tokens: today "
        f"{np.median(seconds['today']):.1f} s (batches of {batch}), ranklock "
        f"{np.median(seconds['ranklock']):.1f} s; {ratio(seconds['today'], seconds['ranklock'])}; "
        f"{of_time:.1%} of ranklock's time outside the forwards; computed as {method}",
        flush=True,
    )


def check(run: ranklock.Run, shifts: dict[int, list[float]]) -> None:
    """Both ways found the same, to the rounding of cosines in float32."""
    rows = run.shifts.set_index("gene")[towards_as_geneformer(GOAL)]
    for gene, values in shifts.items():
        # Cells of one length are in the order in which they were given, on both sides.
        rises = rows[run.genes.loc[gene, "symbol"]].to_numpy()
        worst = np.abs(rises - np.array(values)).max()
        assert worst < 2e-6, f"the two ways differ by {worst} for gene {gene}"


if __name__ == "__main__":
    main()
