"""Directions and cosines against plain Hugging Face forwards in float64."""

import numpy as np
import pytest

import ranklock
from ranklock.arms import find_arms
from ranklock.engine.method import EXACT, FLOAT32
from ranklock.genes.vocabulary import CLS, EOS
from ranklock.kinds import KNOCK_OUT
from ranklock.perturbseq.natural_design import NaturalOptions, design_of
from ranklock.perturbseq.natural_forwards import (
    forwards_of_knock_outs,
    knock_out_cosines,
    lack_directions,
)
from tests import helpers

LAYER = -1  # of two: one layer is run


def advance(more, *, done_before=False):
    del more, done_before


def embedded(folder, cells, genes, positions, without):
    """Mean over genes but one, or <cls>, of one cell; positions of the genes from 0."""
    if not cells.special_frame:
        hidden = helpers.plain_forward(folder, genes, positions, layer=LAYER)
        return hidden[[place for place, gene in enumerate(genes) if gene != without]].mean(axis=0)
    special = cells.vocabulary.special
    end = max(positions, default=-1) + 2
    tokens = [special[CLS], *genes, special[EOS]]
    return helpers.plain_forward(
        folder, tokens, [0, *(place + 1 for place in positions), end], layer=LAYER
    )[0]


@pytest.mark.parametrize("special_frame", [False, True])
def test_directions_and_cosines_are_those_of_plain_forwards(tmp_path, special_frame):
    vocabulary = helpers.vocabulary(12, special_frame=special_frame)
    folder = helpers.checkpoint(tmp_path / "model", tokens=16, spread=0.3)
    model = ranklock.load_model(folder, device="cpu")
    draw = np.random.default_rng(0)
    cells = helpers.cells_of(draw.integers(5, 10, 80).tolist(), vocabulary,
                             special_frame=special_frame)  # fmt: skip
    cells = ranklock.Cells(cells.ranked, cells.obs, vocabulary, special_frame, complete=True)
    tokens = sorted(vocabulary.tokens.values())[:4]
    design = design_of(cells, tokens, 64, NaturalOptions(min_cells=3, held_out=12, max_apart=0.5))
    directions = lack_directions(cells, model, design, 1, advance)
    for gene, direction in zip(design.genes, directions, strict=True):
        expected = np.mean([
            embedded(folder, cells, cells.ranked[lacks].tolist(),
                     list(range(len(cells.ranked[lacks]))), None)
            - embedded(folder, cells, cells.ranked[has].tolist(),
                       list(range(len(cells.ranked[has]))), gene.token)
            for lacks, has in gene.pairs
        ], axis=0)  # fmt: skip
        np.testing.assert_allclose(direction, expected, atol=2e-6 * np.abs(expected).max())
    arms = find_arms(["delete", "hold", "attention-mask"], KNOCK_OUT)
    done = []
    knock_out_cosines(cells, model, design, directions, arms, 1, done.append)
    assert sum(done) == forwards_of_knock_outs(design, arms)
    cosines = {
        method: knock_out_cosines(cells, model, design, directions, arms, 1, advance, method)
        for method in (EXACT, FLOAT32)
    }
    compared = 0
    for place, row in enumerate(design.held_out):
        genes = cells.ranked[row].tolist()
        for column, gene in enumerate(design.genes):
            if gene.token not in genes:
                assert np.isnan(cosines[EXACT]["hold"][place, column]).all()
                continue
            kept = [rank for rank, token in enumerate(genes) if token != gene.token]
            left = [genes[rank] for rank in kept]
            before = embedded(folder, cells, genes, list(range(len(genes))), gene.token)
            for arm, positions in (("hold", kept), ("delete", list(range(len(left))))):
                if special_frame and arm == "hold":  # <eos> keeps its place too
                    special = vocabulary.special
                    after = helpers.plain_forward(
                        folder, [special[CLS], *left, special[EOS]],
                        [0, *(rank + 1 for rank in kept), len(genes) + 1], layer=LAYER,
                    )[0]  # fmt: skip
                else:
                    after = embedded(folder, cells, left, positions, gene.token)
                moved = after - before
                expected = directions @ moved / np.linalg.norm(moved)
                expected /= np.linalg.norm(directions, axis=1)
                got = cosines[EXACT][arm][place, column]
                np.testing.assert_allclose(got, expected, atol=1e-9)
                np.testing.assert_allclose(
                    cosines[FLOAT32][arm][place, column], expected, atol=1e-4
                )
                compared += 1
    assert compared > 10
    np.testing.assert_array_equal(cosines[FLOAT32]["attention-mask"], cosines[FLOAT32]["hold"])
