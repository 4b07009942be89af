"""A constructed world: genes that come and go in modules, and models that know it or do not.

Cells have each module whole or not at all. In the model that knows, all tokens of a module have one
direction and other genes hardly any, and every token attends to all alike: removing one gene moves
the cell away from its module, which is where cells that lack the gene lie. In the model that is
mistaken, the gene that is knocked out has the direction of the next module.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import BertForMaskedLM

from ranklock.cells import Cells
from tests import helpers

MODULES, SIZE, GENES, WIDTH = 11, 5, 60, 32
FIRST = [f"GENE{module * SIZE}" for module in range(MODULES)]  # the gene of each that is judged


def cells(number: int = 240, seed: int = 0) -> Cells:
    draw = np.random.default_rng(seed)
    vocabulary = helpers.vocabulary(GENES)
    tokens = np.array(sorted(vocabulary.tokens.values()), dtype=np.int32)
    ranked = []
    for _ in range(number):
        there = draw.random(GENES) < 0.6
        there[: MODULES * SIZE] = np.repeat(draw.random(MODULES) < 0.5, SIZE)
        ranked.append(draw.permutation(tokens[there]))
    obs = pd.DataFrame(
        {"donor": [f"d{row % 6}" for row in range(number)], "type": ["a", "b"] * (number // 2)},
        index=[f"cell{row}" for row in range(number)],
    )
    return Cells(tuple(ranked), obs, vocabulary, False, source="constructed cells", complete=True)


def checkpoint(folder: Path, *, mistaken: bool = False) -> Path:
    helpers.checkpoint(folder, width=WIDTH, layers=2, spread=0.3)
    model = BertForMaskedLM.from_pretrained(folder)
    draw = np.random.default_rng(1)
    embeddings = 0.02 * draw.normal(size=(64, WIDTH))
    module_of = np.repeat(np.arange(MODULES), SIZE)
    if mistaken:
        module_of[::SIZE] = (module_of[::SIZE] + 1) % MODULES
    embeddings[2 : 2 + MODULES * SIZE] += draw.normal(size=(MODULES, WIDTH))[module_of]
    with torch.no_grad():
        bert = model.bert
        bert.embeddings.word_embeddings.weight.copy_(torch.from_numpy(embeddings))
        bert.embeddings.position_embeddings.weight *= 0.01
        bert.embeddings.token_type_embeddings.weight.zero_()
        for layer in bert.encoder.layer:
            layer.attention.self.query.weight.zero_()  # all attend to all alike
            layer.attention.self.value.weight.copy_(torch.eye(WIDTH))
            layer.attention.output.dense.weight.copy_(torch.eye(WIDTH))
            layer.output.dense.weight *= 0.1
    model.save_pretrained(folder)
    return folder
