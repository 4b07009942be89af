"""Estimates against exact runs and today's loop: `python benchmarks/estimate.py`.

Prints, in one run: seconds to estimate one full-length cell beside the engine's exact `hold` of all
of its knock-outs and beside today's loop (``today.py``), taking turns in one process; then how many
of the largest exact effects are among the k largest estimates, on the demo and, with `--long`, on
one full-length cell of ``../shared``, whose exact run takes minutes.

    python benchmarks/estimate.py                     # speed, and recall on the demo
    python benchmarks/estimate.py --long --figure docs/images/estimate_recall.png
    python benchmarks/estimate.py --arithmetic        # a million cells, V2-104M at 4,096 tokens
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import today
import torch
from common import checkpoint, machine, random_cells, timed, workspace
from estimate_cost import arithmetic
from estimate_recall import curve, figure, hold_plan, mean_embedding, shifts_of, tables
from transformers import BertForMaskedLM

import ranklock
from ranklock import demo
from ranklock.cells import Cells
from ranklock.estimates.attribution import Question, estimate_cell
from ranklock.run.plan import unperturbed_cell

SHARED = Path(__file__).resolve().parents[2] / "shared"
_START, _GOAL = "CD14+ Monocyte", "CD19+ B"  # states of the demo's cells
_GOAL_CELLS = 20  # of ../shared, which names no states
_QUESTIONS = {"goal": 0, "8 probes": 8, "32 probes": 32}
_VERIFIED = (50, 75)
_STRETCH = 64  # knock-outs of the exact run that are timed together


def full_length(folder: Path) -> tuple[Cells, int, Path]:
    """Cells, the row of one that is as long as the input, and a checkpoint for them."""
    if SHARED.is_dir():
        file = SHARED / "data" / "genecorpus_500_cells.parquet"
        cells = ranklock.read_cells(file, SHARED / "data")
        row = int(np.argmax([len(genes) for genes in cells.ranked]))
        return cells, row, SHARED / "models" / "geneformer-mini-6L"
    path = checkpoint(folder / "model")
    return random_cells([2048] * 4, ranklock.load_model(path)), 0, path


def goal_of_others(cells: Cells, row: int, model: ranklock.Model) -> np.ndarray:
    """Mean cell embedding of some other cells, shape (width,)."""
    rest = np.setdiff1d(np.arange(len(cells)), [row])
    return mean_embedding(cells, np.random.default_rng(0).permutation(rest)[:_GOAL_CELLS], model)


def speed(
    cells: Cells,
    row: int,
    path: Path,
    rounds: int,
    stretches: int | None,
    knockouts: int,
) -> None:
    """Time one cell in turns, and print seconds and ratios.

    Parameters
    ----------
    cells, row, path
        The cell, and the checkpoint.
    rounds
        Turns; medians of them are printed.
    stretches
        Stretches of 64 knock-outs of the exact run that are timed a round; all when None.
    knockouts
        Knock-outs that today's loop does a round.
    """
    model = ranklock.load_model(path, device="cpu")
    # Stored in float16, which transformers would keep and a CPU is slow at.
    plain = BertForMaskedLM.from_pretrained(
        path, output_hidden_states=True, dtype=torch.float32
    ).eval()
    cell, depth = unperturbed_cell(cells, row, model), model.layers - 1
    genes = len(cell)
    goal = goal_of_others(cells, row, model)
    plan = hold_plan(cells, row, model, range(genes), goal)
    every = [range(start, min(start + _STRETCH, genes)) for start in range(0, genes, _STRETCH)]
    places = _spread(len(every), stretches or len(every))
    timed_tasks = [every[place] for place in places]
    count = sum(map(len, timed_tasks))
    tokens = cell.tokens.tolist()
    ranks = _spread(genes, knockouts)
    # Today's loop takes the batch that suits it best here, of those that fit its memory.
    today.similarities_of_cell(plain, tokens, ranks[:1], 1)
    batches = [
        batch for batch in (1, 8) if batch <= min(len(ranks), max(1, today.STRETCH // genes))
    ]
    batch = min(
        batches, key=lambda size: timed(today.similarities_of_cell, plain, tokens, ranks, size)
    )
    verify = {k: hold_plan(cells, row, model, _spread(genes, k), goal) for k in _VERIFIED}

    def estimates(probes: int) -> None:
        question = Question(probes=probes) if probes else Question(goal=goal)
        estimate_cell(model, cell, question, depth, special_frame=cells.special_frame)

    def exact() -> None:
        for tasks in timed_tasks:
            shifts_of(plan, tasks)

    estimates(0)
    shifts_of(verify[_VERIFIED[0]], range(1))
    rounds_of: list[dict[str, float]] = []
    for _ in range(rounds):
        took = {name: timed(estimates, probes) for name, probes in _QUESTIONS.items()}
        for k, few in verify.items():
            took[f"verify {k}"] = timed(shifts_of, few, range(len(few.tasks)))
        took["run"] = timed(exact) * genes / count
        seconds = timed(today.similarities_of_cell, plain, tokens, ranks, batch)
        took["today"] = seconds * genes / len(ranks)
        rounds_of.append(took)
    print(
        f"{path.name}, one cell of {genes} genes, float32, second to last layer; {rounds} rounds\n"
        f"exact run of the engine (hold), cell embedding read: {count} knock-outs a round"
        + ("" if count == genes else f", scaled to {genes}")
        + f"\ntoday's loop (delete, {plain.dtype}, attention {plain.config._attn_implementation}, "
        f"batches of {batch}): {len(ranks)} knock-outs a round, scaled to {genes}\n"
    )
    print(speed_table(rounds_of), flush=True)


def speed_table(rounds_of: list[dict[str, float]]) -> str:
    """Median seconds, and median ratios with their range over rounds."""

    def ratio(way: str, parts: tuple[str, ...]) -> str:
        ratios = [took[way] / sum(took[part] for part in parts) for took in rounds_of]
        return f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"

    def median(*parts: str) -> float:
        return statistics.median(sum(took[part] for part in parts) for took in rounds_of)

    lines = ["| what | s | exact run / it | today's loop / it |", "|---|---|---|---|"]
    for name in _QUESTIONS:
        for parts in ((name,), *((name, f"verify {k}") for k in _VERIFIED)):
            lines.append(
                f"| estimate {' + '.join(parts)} | {median(*parts):.2f} | {ratio('run', parts)} | "
                f"{ratio('today', parts)} |"
            )
    lines.append(f"| exact run | {median('run'):.1f} | 1 | {ratio('today', ('run',))} |")
    lines.append(f"| today's loop | {median('today'):.1f} | {ratio('run', ('today',))} | 1 |")
    return "\n".join(lines)


def demo_curve(number: int) -> pd.DataFrame:
    """The curve of some of the demo's cells."""
    cells = ranklock.read_cells(demo.cells_file(), demo.vocabulary_file())
    model = ranklock.load_model(demo.model_folder(), device="cpu")
    states = cells.obs["cell_type"].to_numpy()
    goal = mean_embedding(cells, np.flatnonzero(states == _GOAL), model)
    started = np.flatnonzero(states == _START)
    rows = np.sort(np.random.default_rng(0).permutation(started)[:number]).tolist()
    return curve("demo", cells, rows, model, [goal] * len(rows))


def _spread(total: int, number: int) -> list[int]:
    """Of some places as many, evenly spread."""
    return np.unique(np.linspace(0, total - 1, min(number, total)).round().astype(int)).tolist()


def main() -> None:
    """Print speed and recall, or the arithmetic."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="of timing; 0 leaves it out")
    parser.add_argument("--stretches", type=int, default=2, help="of the exact run, a round")
    parser.add_argument("--full", action="store_true", help="time all of the exact run")
    parser.add_argument("--knockouts", type=int, default=8, help="of today's loop, a round")
    parser.add_argument("--cells", type=int, default=10, help="of the demo; 0 leaves it out")
    parser.add_argument("--long", action="store_true", help="recall on a full-length cell too")
    parser.add_argument("--figure", type=Path, metavar="PATH", help="write the curve's figure")
    parser.add_argument("--points", type=Path, metavar="CSV", help="write the curve's points")
    parser.add_argument("--arithmetic", action="store_true", help="a million cells, and no more")
    parser.add_argument("--architecture", default="V2-104M", help="of the arithmetic")
    parser.add_argument("--tokens", type=int, default=4096, help="of the arithmetic")
    parser.add_argument("--gpu-tflops", type=float, default=200.0, help="assumed rate of a GPU")
    parser.add_argument("--gpus", type=int, default=64, help="number of GPUs assumed")
    asked = parser.parse_args()
    with workspace() as folder:
        if asked.arithmetic:
            arithmetic(
                Path(folder) / "model", asked.architecture, asked.tokens, _VERIFIED[0],
                asked.gpu_tflops, asked.gpus,
            )  # fmt: skip
            return
        print(machine(), flush=True)
        cells, row, path = full_length(Path(folder))
        if asked.rounds:
            stretches = None if asked.full else asked.stretches
            speed(cells, row, path, asked.rounds, stretches, asked.knockouts)
        points = []
        if asked.cells:
            points.append(demo_curve(asked.cells))
            print(f"\n{tables(points[-1])}", flush=True)
        if asked.long:
            model = ranklock.load_model(path, device="cpu")
            goal = goal_of_others(cells, row, model)
            points.append(curve("full length", cells, [row], model, [goal]))
            print(f"\n{tables(points[-1])}")
    if points and asked.points:
        pd.concat(points).to_csv(asked.points, index=False)
    if points and asked.figure:
        figure(pd.concat(points, ignore_index=True), asked.figure)


if __name__ == "__main__":
    main()
