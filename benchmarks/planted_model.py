"""A rank-value BERT trained on cells of a planted network, and whether it learned the network.

The training is that of the demo's model (:mod:`training.train`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import torch

import ranklock
from ranklock.cells import Cells, read_cells
from ranklock.genes.vocabulary import MASK, write_vocabulary

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where training/ is

from training.train import Recipe, demo_vocabulary, judge, train

# Cells show some 100 genes, so batches of 64 cells of a small model take a tenth of a second.
RECIPE = Recipe(
    steps=8000, cells_per_step=64, learning_rate=2e-3, warm_up=300, weight_decay=0.01,
    least_kept=0.9, width=96, layers=3, heads=4, feed_forward=192, dropout=0.0,
)  # fmt: skip
_RESPONDERS_AT_ONCE = 64


def trained(folder: Path, cells: anndata.AnnData, recipe: Recipe = RECIPE) -> tuple[Path, Path]:
    """Folder of the model and file of its vocabulary; trained where they are not there yet."""
    model, vocabulary = folder / "model", folder / "vocabulary.json"
    if not (model / "model.safetensors").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        known = demo_vocabulary(cells)
        write_vocabulary(known, vocabulary)
        train(recipe, cells, known).save_pretrained(model, safe_serialization=True)
    return model, vocabulary


def masked_accuracy(model: Path, cells: anndata.AnnData, vocabulary: Path) -> dict[str, float]:
    """Share of masked genes of held-out cells that are named rightly, and by guesses."""
    from transformers import BertForMaskedLM

    known = ranklock.read_vocabulary(vocabulary)
    encoded = read_cells(cells, known)
    split = encoded.obs["split"].to_numpy()
    parts = [[encoded.ranked[row] for row in np.flatnonzero(split == name)]
             for name in ("training", "held-out")]  # fmt: skip
    judged = judge(BertForMaskedLM.from_pretrained(model), *parts, known, rounds=3)
    return dict(judged.__dict__)


def log_probability_changes(
    model: Path, cells: Cells, factors: list[str], responders: list[str], *, device: str = "cpu"
) -> dict[str, Any]:
    """How much less likely a masked responder becomes without a factor, ranks held.

    In each cell every responder is masked in turn, and its log-probability at its own place is read
    with the factor there and with it gone (``hold``). Needs no embedding: it asks the model the
    question that it was trained on.

    Returns
    -------
    ``change``: mean over cells of log p with - log p without, shape (factors, responders), NaN
    where no cell has both; ``table``: the same as a tidy table.
    """
    from transformers import BertForMaskedLM

    bert = BertForMaskedLM.from_pretrained(model).to(device).eval()
    vocabulary = cells.vocabulary
    mask = vocabulary.special[MASK]
    sources = {vocabulary.token(name): row for row, name in enumerate(factors)}
    targets = {vocabulary.token(name): column for column, name in enumerate(responders)}
    total, count = np.zeros((2, len(factors), len(responders)))
    for genes in cells.ranked:
        places = np.array([p for p, token in enumerate(genes.tolist()) if token in targets])
        with_all = _log_p(bert, genes, places, None, mask)
        columns = np.array([targets[int(genes[p])] for p in places])
        for place, token in enumerate(genes.tolist()):
            if token not in sources:
                continue
            rest = places != place
            without = _log_p(bert, genes, places[rest], place, mask)
            total[sources[token], columns[rest]] += with_all[rest] - without
            count[sources[token], columns[rest]] += 1
    with np.errstate(invalid="ignore"):
        change = total / count
    row, column = np.nonzero(count)
    table = pd.DataFrame(
        {
            "gene_id": np.array(factors)[row],
            "responder_id": np.array(responders)[column],
            "change": change[row, column],
        }
    )
    return {"change": change, "table": table}


def _log_p(
    bert: Any, genes: np.ndarray, places: np.ndarray, without: int | None, mask: int
) -> np.ndarray:
    """Log-probability of the gene at each place, masked there, without one gene, ranks held."""
    kept = np.array([p for p in range(len(genes)) if p != without])
    positions = torch.from_numpy(kept)[None]
    log_p = []
    for start in range(0, len(places), _RESPONDERS_AT_ONCE):
        masked = places[start : start + _RESPONDERS_AT_ONCE]
        tokens = np.repeat(genes[None, kept].astype(np.int64), len(masked), axis=0)
        at = np.searchsorted(kept, masked)
        tokens[np.arange(len(masked)), at] = mask
        with torch.inference_mode():
            hidden = bert.bert(
                torch.from_numpy(tokens), position_ids=positions.expand(len(masked), -1)
            ).last_hidden_state[torch.arange(len(masked)), torch.from_numpy(at)]
            scores = bert.cls(hidden).log_softmax(-1)
        wanted = torch.from_numpy(genes[masked].astype(np.int64))
        log_p.append(scores[torch.arange(len(masked)), wanted].double().numpy())
    return np.concatenate(log_p) if log_p else np.zeros(0)
