"""A sweep against the way it is done today: `python benchmarks/against_today.py`.

Today's way, as Geneformer's InSilicoPerturber does it: delete one token at a time, run the whole
checkpoint with its language-model head, keep all hidden states, take 1 − cosine in float32 with
torch, and append each pair of genes to a dictionary of lists in Python. Same checkpoint, same cell,
same knock-outs, taking turns in one process; the arm is `delete`, the only one there is today.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from common import checkpoint, machine, random_cells, timed, workspace
from transformers import BertForMaskedLM

import ranklock
from ranklock.engine.blocks import measure_baseline, measure_block
from ranklock.run.old_plan import baseline_of
from ranklock.run.old_store import Store
from ranklock.run.old_sweep import effects_of_block
from ranklock.run.old_sweep_plan import plan_sweep


def todays_loop(
    model: BertForMaskedLM, cell: torch.Tensor, ranks: list[int], batch: int, layer: int = -1
) -> dict[tuple[int, int], list[float]]:
    """Similarities of all pairs, gene knocked out × gene affected, as today's loop makes them."""
    similarities: dict[tuple[int, int], list[float]] = defaultdict(list)
    read = model.config.num_hidden_layers + layer
    with torch.no_grad():
        original = model(
            input_ids=cell[None], attention_mask=torch.ones_like(cell[None])
        ).hidden_states[read][0]
    for start in range(0, len(ranks), batch):
        these = ranks[start : start + batch]
        perturbed = torch.stack([torch.cat([cell[:r], cell[r + 1 :]]) for r in these])
        with torch.no_grad():
            outputs = model(input_ids=perturbed, attention_mask=torch.ones_like(perturbed))
        embeddings = outputs.hidden_states[read]
        del outputs
        compared = torch.stack([torch.cat([original[:r], original[r + 1 :]]) for r in these])
        cosines = torch.nn.functional.cosine_similarity(embeddings, compared, dim=2)
        for row, rank in enumerate(these):
            gene = cell[rank].item()
            for column, affected in enumerate(perturbed[row].tolist()):
                similarities[gene, affected].append(cosines[row, column].item())
    return similarities


def main() -> None:
    """Print both times and their ratio, for each length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", default="256,512,2048")
    parser.add_argument("--seconds", type=float, default=15.0, help="for each way and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--architecture", default="V1-10M")
    parser.add_argument("--attention", help="eager or sdpa; default: what transformers takes")
    asked = parser.parse_args()
    print(machine())
    with workspace() as folder:
        path = checkpoint(Path(folder) / "model", asked.architecture)
        model = ranklock.load_model(path)
        plain = BertForMaskedLM.from_pretrained(
            path, output_hidden_states=True, attn_implementation=asked.attention
        ).eval().to(model.device)  # fmt: skip
        print(f"{asked.architecture}, attention of today's loop: "
              f"{plain.config._attn_implementation}, gene level, float32, arm delete")  # fmt: skip
        for tokens in map(int, asked.tokens.split(",")):
            compare(plain, model, tokens, asked.seconds, asked.rounds, Path(folder))


def compare(
    plain: BertForMaskedLM,
    model: ranklock.Model,
    tokens: int,
    seconds: float,
    rounds: int,
    folder: Path,
) -> None:
    """Time both ways on one cell, in turns."""
    cells = random_cells([tokens], model)
    cell = torch.from_numpy(cells.ranked[0].astype(np.int64)).to(model.device)
    ranks = list(range(tokens // 3, tokens // 3 + 64))
    genes = [int(token) for token in cells.ranked[0][ranks]]
    plan = plan_sweep(cells, model, genes, ["delete"], read="genes")
    (layout,) = plan.layouts
    unperturbed = baseline_of(cells, 0, model)
    reading = plan.reading(layout)
    store = Store(folder / f"{tokens}.zarr", plan.effect_fields, plan.knockout_fields, "")
    store.prepare()
    kept = {}

    def ours() -> None:
        before = measure_baseline(model, unperturbed, reading, plan.depth)
        for block in layout.blocks:
            inputs = plan.block(layout, layout.rows(block), unperturbed)
            measured = measure_block(model, inputs, reading, before, plan.depth)
            effects, numbers = effects_of_block(plan, layout, block, measured)
            store.write(layout, block, effects, numbers)
            kept["effects"] = effects["delete"]

    def today(count: int, batch: int) -> None:
        kept["today"] = todays_loop(plain, cell, ranks[:count], batch)

    ours()
    # Today's loop takes the batch that suits it best here, of those that fit its memory.
    todays_loop(plain, cell, ranks[:1], 1)
    per_knockout = {}
    for batch in (1, 8, 32):
        if batch * tokens <= 16384:
            some = ranks[: max(batch, min(8, 2048 // tokens + 1))]
            per_knockout[batch] = timed(todays_loop, plain, cell, some, batch) / len(some)
    batch = min(per_knockout, key=per_knockout.__getitem__)
    count = max(batch, min(64, round(seconds / per_knockout[batch] / batch) * batch))
    times: dict[str, list[float]] = {"today": [], "ours": []}
    for _ in range(rounds):
        times["today"].append(timed(today, count, batch) / count)
        times["ours"].append(timed(ours) / len(ranks))
    check(kept, cells.ranked[0], ranks[:count])
    theirs, mine = (statistics.median(times[way]) for way in ("today", "ours"))
    ratios = [a / b for a, b in zip(times["today"], times["ours"], strict=True)]
    print(
        f"{tokens:5d} tokens: today {theirs:.4f} s a knock-out (batches of {batch}), "
        f"ranklock {mine:.4f} s; {theirs / mine:.1f} times faster "
        f"(rounds: {min(ratios):.1f} to {max(ratios):.1f})",
        flush=True,
    )


def check(kept: dict, ranked: np.ndarray, ranks: list[int]) -> None:
    """Both ways found the same, to the rounding of 1 − cosine in float32."""
    for row, rank in enumerate(ranks):
        ours = np.delete(kept["effects"][row], rank)
        today = [1 - kept["today"][int(ranked[rank]), int(t)][0] for t in np.delete(ranked, rank)]
        worst = np.abs(ours - today).max()
        assert worst < 2e-6, f"the two ways differ by {worst} at rank {rank}"


if __name__ == "__main__":
    main()
