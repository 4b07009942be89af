"""Is there a first-order form of moves and overexpression? `python benchmarks/estimate_moves.py`.

A move with everyone else's position held (the arm `hold` of moves) changes one token's input: its
position embedding. So the derivative of the cosine to a goal by that input, times the change of the
input, would predict what the move does. This prints how well, for all genes of some of the demo's
cells, moved to the first rank (overexpression) and to the end of the first quarter:

- **one pass**: the derivative of the cosine of the mean over all genes, one backward pass for all;
- **own left out**: the derivative of the cosine of the mean over the *other* genes, as exact cell
  shifts are, which takes a backward pass a gene and so saves nothing;
- each beside the exact change of the same number; and **a part of the move**: the exact change when
  the input goes only some way (`--part`), which shows that the derivative itself is right.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from common import machine
from estimate_recall import mean_embedding
from scipy.stats import pearsonr, spearmanr
from torch import Tensor

import ranklock
from ranklock import demo
from ranklock.arms import MOVE_ARMS, Change, ModelInput, apply
from ranklock.engine.batches import hidden_states
from ranklock.engine.forward import Packed, pack, run_layers
from ranklock.genes.vocabulary import Vocabulary
from ranklock.models.encoder import Encoder, encoder_of
from ranklock.run.plan import unperturbed_cell

Array = npt.NDArray[np.float64]

_START, _GOAL = "CD14+ Monocyte", "CD19+ B"


@dataclass(frozen=True, eq=False)
class Moves:
    """Changes of the cosine to a goal by each gene's move, shape (genes,) each.

    Attributes
    ----------
    one_pass, own_left_out
        To first order, of the mean over all genes and over all others.
    exact, exact_own_left_out
        The same from a forward each.
    part
        Exact, of the mean over all genes, when the input goes only a part of the way; divided by
        that part.
    """

    one_pass: Array
    own_left_out: Array
    exact: Array
    exact_own_left_out: Array
    part: Array


def moves(
    model: ranklock.Model,
    cell: ModelInput,
    vocabulary: Vocabulary,
    goal: Array,
    depth: int,
    rank: int,
    part: float,
) -> Moves:
    """Move every gene of a cell to one rank, to first order and exactly."""
    encoder = encoder_of(model)
    packed = pack([cell], encoder.device)
    destination = torch.full_like(packed.positions, int(cell.positions[0]) + rank)
    with torch.no_grad():
        start = encoder.embed(packed.tokens, packed.positions)
        change = (encoder.embed(packed.tokens, destination) - start).double()
    target = torch.from_numpy(goal)
    one_pass = (_slope(encoder, packed, start, depth, target, None) * change).sum(1).numpy()
    left_out = [
        float(_slope(encoder, packed, start, depth, target, gene)[gene] @ change[gene])
        for gene in range(len(cell))
    ]
    inputs = [
        apply(MOVE_ARMS["hold"], cell, Change((token,), (place,), (rank,)), vocabulary)
        for place, token in enumerate(cell.tokens.tolist())
    ]
    before = hidden_states(model, [cell], depth)[0].astype(float)
    after = [states.astype(float) for states in hidden_states(model, inputs, depth)]

    def turned(states: Array, without: int | None = None) -> float:
        rows = slice(None) if without is None else np.arange(len(states)) != without
        return _cosine(states[rows].mean(0), goal) - _cosine(before[rows].mean(0), goal)

    return Moves(
        one_pass,
        np.array(left_out),
        np.array([turned(states) for states in after]),
        np.array([turned(states, gene) for gene, states in enumerate(after)]),
        np.array([
            turned(_some_way(encoder, packed, start, part * change, depth, gene)) / part
            for gene in range(len(cell))
        ]),
    )  # fmt: skip


def _slope(
    encoder: Encoder, packed: Packed, start: Tensor, depth: int, goal: Tensor, without: int | None
) -> Tensor:
    """Derivative of the cosine by every token's input, shape (tokens, width)."""
    leaf = start.clone().requires_grad_()
    states = run_layers(encoder, leaf, packed.stretches, encoder.layers[:depth]).double()
    kept = states if without is None else torch.cat([states[:without], states[without + 1 :]])
    cosine = torch.nn.functional.cosine_similarity(kept.mean(0), goal, dim=0)
    (slope,) = torch.autograd.grad(cosine, leaf)
    return slope.double()


def _some_way(
    encoder: Encoder, packed: Packed, start: Tensor, change: Tensor, depth: int, gene: int
) -> Array:
    moved = start.clone()
    moved[gene] += change[gene].to(start.dtype)
    with torch.no_grad():
        states = run_layers(encoder, moved, packed.stretches, encoder.layers[:depth])
    return states.double().numpy()


def _cosine(x: Array, y: Array) -> float:
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def main() -> None:
    """Print correlations, a line a cell and rank."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", type=int, default=5, help="of the demo")
    parser.add_argument("--part", type=float, default=0.05, help="of the way, for the small move")
    asked = parser.parse_args()
    print(machine())
    cells = ranklock.read_cells(demo.cells_file(), demo.vocabulary_file())
    model = ranklock.load_model(demo.model_folder(), device="cpu")
    depth = model.layers - 1
    states = cells.obs["cell_type"].to_numpy()
    goal = mean_embedding(cells, np.flatnonzero(states == _GOAL), model)
    started = np.flatnonzero(states == _START)
    rows = np.sort(np.random.default_rng(0).permutation(started)[: asked.cells])
    print(
        f"demo, {_START} to {_GOAL}; Pearson / Spearman of first order and exact\n\n"
        f"| cell | genes | to rank | one pass | own left out | {asked.part:g} of the move |\n"
        "|---|---|---|---|---|---|"
    )
    for row in rows.tolist():
        cell = unperturbed_cell(cells, row, model)
        for rank in (0, len(cell) // 4):
            moved = moves(model, cell, cells.vocabulary, goal, depth, rank, asked.part)
            moving = np.arange(len(cell)) != rank  # the gene at that rank does not move
            pairs = [
                (moved.one_pass, moved.exact),
                (moved.own_left_out, moved.exact_own_left_out),
                (moved.one_pass, moved.part),
            ]
            texts = [_correlations(x[moving], y[moving]) for x, y in pairs]
            print(f"| {row} | {len(cell)} | {rank} | {' | '.join(texts)} |", flush=True)


def _correlations(x: Array, y: Array) -> str:
    return f"{pearsonr(x, y)[0]:.2f} / {spearmanr(x, y)[0]:.2f}"


if __name__ == "__main__":
    main()
