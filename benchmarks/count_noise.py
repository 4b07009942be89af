"""How much of count noise is genes changing places? Thinned cells, encoded anew and in place.

    python benchmarks/count_noise.py                     # 24 of the demo's monocytes
    python benchmarks/count_noise.py --cells 129

Each cell's counts are thinned by 1 %, five times. Encoded anew, the genes that are left get the
positions of their new ranks. Held, each gene that is left keeps the position that it had: what then
moves the others is that genes are gone, and no rank shift. Prints medians over cells of each cell's
median over its genes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

import ranklock
from ranklock.arms import baseline, capacity
from ranklock.cells import Cells
from ranklock.cells.thinning import holds_counts, thinned_genes
from ranklock.effects import cosine_distance
from ranklock.engine.batches import hidden_states
from ranklock.models import Model
from ranklock.models.encoder import output_of_layer
from ranklock.run.count_noise import DRAWS, KEPT


def measure(cells: Cells, model: Model, *, kept: float = KEPT) -> dict[str, float]:
    """Medians over cells: cosine distance anew and held, and the part of genes that change rank."""
    special = cells.special_frame
    most = capacity(model.input_size, special_frame=special)
    of_cells = []
    for row in range(len(cells)):
        cell = baseline(cells.ranked[row][:most], cells.vocabulary, special_frame=special)
        place = {token: index for index, token in enumerate(cell.tokens.tolist())}
        inputs, places = [cell], []
        for number in range(DRAWS):
            genes = thinned_genes(cells, row, number, kept=kept, by_counts=holds_counts(cells))
            genes = np.array([g for g in genes[:most].tolist() if g in place], dtype=np.int32)
            anew = baseline(genes, cells.vocabulary, special_frame=special)
            places.append(np.array([place[token] for token in anew.tokens.tolist()]))
            inputs += [anew, replace(anew, positions=cell.positions[places[-1]])]
        before, *after = hidden_states(model, inputs, output_of_layer(model, -1))
        moved = np.mean([np.mean(i.positions != cell.positions[p])
                         for i, p in zip(inputs[1::2], places, strict=True)])  # fmt: skip
        medians = [
            [np.median(cosine_distance(before[p], s)) for p, s in zip(places, part, strict=True)]
            for part in (after[0::2], after[1::2])
        ]
        of_cells.append([*np.mean(medians, axis=1), moved])
    names = ("encoded anew", "positions held", "genes that change rank")
    return dict(zip(names, np.median(of_cells, axis=0).tolist(), strict=True))


def main() -> None:
    """Measure on the demo's monocytes, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    select = ranklock.Selection(
        where={"cell_type": ("CD14+ Monocyte",)}, sample=options.cells, seed=options.seed
    )
    cells = ranklock.read_cells(
        ranklock.demo.cells_file(), ranklock.demo.vocabulary_file(), select=select
    )
    found = measure(cells, ranklock.load_model(ranklock.demo.model_folder(), device="cpu"))
    ratio = found["encoded anew"] / found["positions held"]
    print(f"{len(cells)} cells, counts thinned by {1 - KEPT:.0%}, mean of {DRAWS} draws")
    print(f"genes that change rank: {found['genes that change rank']:.0%}")
    for name in ("encoded anew", "positions held"):
        print(f"{name + ':':<16}{found[name]:.1e}")
    print(f"anew / held:    {ratio:,.0f}")


if __name__ == "__main__":
    main()
