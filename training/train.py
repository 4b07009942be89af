"""Train the demo's model: ``python -m training.train``.

A ``BertForMaskedLM`` with Geneformer's objective (15 % of the genes of a cell are masked and
predicted from the rest) on 600 of the demo's 700 cells. Two runs on one machine give the same
file. Takes some minutes on two cores.

To see more than 600 rankings, each visit of a cell thins its counts at random, as shallower
sequencing would, and encodes what is left. The other 100 cells are never thinned and never trained
on; the model is judged by them.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from ranklock.cells import read_cells
from ranklock.cells.cells import Tokens
from ranklock.cells.encoding import rank_genes
from ranklock.demo import cells_file, model_folder, vocabulary_file
from ranklock.genes.vocabulary import MASK, PAD, Vocabulary, gene_arrays, write_vocabulary
from training.model_card import write_model_card

if TYPE_CHECKING:
    import torch
    from transformers import BertForMaskedLM

    Cell = Tokens

INPUT_SIZE = 512
MASKED = 0.15
_NORMALISED_TO = 1e4


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what comes out of the training."""

    steps: int = 3000
    cells_per_step: int = 16
    learning_rate: float = 2e-3
    warm_up: int = 200
    weight_decay: float = 0.05
    least_kept: float = 0.6
    width: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 256
    dropout: float = 0.05
    seed: int = 0
    threads: int = 2


def demo_vocabulary(cells: anndata.AnnData) -> Vocabulary:
    """Vocabulary of the training cells: genes in the order of the file, medians as Geneformer's.

    The file names genes by symbol only, so here the symbols stand in for Ensembl IDs.
    """
    training = cells[cells.obs["split"] == "training"]
    totals = training.obs["n_counts"].to_numpy(dtype=np.float64)
    scaled = sp.csc_matrix(sp.diags(_NORMALISED_TO / totals) @ training.X)
    special = {PAD: 0, MASK: 1}
    tokens, medians = {}, {}
    for column, gene in enumerate(cells.var_names):
        values = scaled.data[scaled.indptr[column] : scaled.indptr[column + 1]]
        tokens[gene] = column + len(special)
        # A gene that no training cell has is never seen; one count in a usual cell stands in.
        medians[gene] = float(np.median(values)) if len(values) else _NORMALISED_TO / 3000
    return Vocabulary(tokens, special, medians, source=str(vocabulary_file()))


def new_model(recipe: Recipe, vocabulary: Vocabulary) -> BertForMaskedLM:
    """An untrained model."""
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(
        BertConfig(
            vocab_size=vocabulary.largest_token + 1,
            hidden_size=recipe.width,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            intermediate_size=recipe.feed_forward,
            hidden_act="relu",
            max_position_embeddings=INPUT_SIZE,
            hidden_dropout_prob=recipe.dropout,
            attention_probs_dropout_prob=0.0,
            pad_token_id=vocabulary.special[PAD],
            type_vocab_size=1,
        )
    )


def mask_genes(
    batch: list[Tokens], vocabulary: Vocabulary, draw: np.random.Generator, *, judge: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Mask genes for the model to predict.

    Parameters
    ----------
    batch
        Ranked genes of some cells.
    vocabulary
        Where ``<pad>`` and ``<mask>`` come from.
    draw
        Source of randomness.
    judge
        Whether to mask every chosen gene. For training, BERT leaves a tenth of them as they are and
        replaces a tenth by any gene.

    Returns
    -------
    Tokens as the model sees them, padded, shape (cells, longest), and which were chosen.
    """
    longest = max(map(len, batch))
    tokens = np.full((len(batch), longest), vocabulary.special[PAD], dtype=np.int64)
    for row, genes in zip(tokens, batch, strict=True):
        row[: len(genes)] = genes
    present = tokens != vocabulary.special[PAD]
    chosen = present & (draw.random(tokens.shape) < MASKED)
    fate = draw.random(tokens.shape)
    hidden = chosen & (judge | (fate < 0.8))
    swapped = chosen & ~hidden & (fate < 0.9)
    first, last = min(vocabulary.tokens.values()), max(vocabulary.tokens.values())
    tokens[swapped] = draw.integers(first, last + 1, size=int(swapped.sum()))
    tokens[hidden] = vocabulary.special[MASK]
    return tokens, chosen


def logits(model: BertForMaskedLM, tokens: npt.NDArray[np.int64], chosen: Any) -> torch.Tensor:
    """Scores of all tokens at the chosen places only; the head is most of the arithmetic."""
    import torch

    ids = torch.from_numpy(tokens)
    hidden = model.bert(ids, attention_mask=(ids != model.config.pad_token_id).long())
    scores: torch.Tensor = model.cls(hidden.last_hidden_state[torch.from_numpy(chosen)])
    return scores


def thin(
    counts: npt.NDArray[np.int32], least_kept: float, draw: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Counts as shallower sequencing would have found them."""
    return draw.binomial(counts, draw.uniform(least_kept, 1.0)).astype(np.float64)


def train(recipe: Recipe, cells: anndata.AnnData, vocabulary: Vocabulary) -> BertForMaskedLM:
    """Train a model on the training cells."""
    import torch

    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    draw = np.random.default_rng(recipe.seed)
    tokens, medians = gene_arrays(vocabulary, cells.var_names)
    counts = cells[cells.obs["split"] == "training"].X.toarray()
    model = new_model(recipe, vocabulary).train()
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(
            (step + 1) / recipe.warm_up,
            (recipe.steps - step) / (recipe.steps - recipe.warm_up),
        ),
    )
    started, recent = time.monotonic(), []
    for step in range(recipe.steps):
        rows = draw.choice(len(counts), size=recipe.cells_per_step, replace=False)
        batch = [rank_genes(thin(counts[row], recipe.least_kept, draw), tokens, medians)[0]
                 for row in rows]  # fmt: skip
        seen, chosen = mask_genes(batch, vocabulary, draw, judge=False)
        target = np.zeros_like(seen)
        for row, genes in zip(target, batch, strict=True):
            row[: len(genes)] = genes
        scores = logits(model, seen, chosen)
        loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(target[chosen]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent.append(loss.item())
        if (step + 1) % 100 == 0:
            print(
                f"step {step + 1} of {recipe.steps}: loss {np.mean(recent[-100:]):.3f}, "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
    return model.eval()


@dataclass(frozen=True)
class Judgement:
    """Share of masked genes of held-out cells that each way of guessing names rightly."""

    masked_genes: int
    model: float
    commonest_at_position: float
    commonest_at_position_not_in_cell: float
    commonest_overall: float


def judge(
    model: BertForMaskedLM,
    training: list[Tokens],
    held_out: list[Tokens],
    vocabulary: Vocabulary,
    *,
    rounds: int = 10,
    seed: int = 1,
) -> Judgement:
    """Judge a model by the masked genes of held-out cells, beside guesses that need no model.

    The third guess is stricter than a position's commonest gene: the commonest gene there that
    the cell does not already show elsewhere.
    """
    import torch

    at_position: dict[int, Counter[int]] = {}
    overall: Counter[int] = Counter()
    for genes in training:
        overall.update(genes.tolist())
        for position, token in enumerate(genes.tolist()):
            at_position.setdefault(position, Counter())[token] += 1
    commonest = {position: _by_frequency(seen) for position, seen in at_position.items()}
    everywhere = _by_frequency(overall)
    draw = np.random.default_rng(seed)
    right = np.zeros(4)
    total = 0
    for _ in range(rounds):
        for genes in held_out:
            seen, chosen = mask_genes([genes], vocabulary, draw, judge=True)
            if not chosen.any():
                continue
            with torch.inference_mode():
                guesses = logits(model, seen, chosen).argmax(-1).tolist()
            shown = set(seen[0].tolist())
            for guess, position in zip(guesses, np.flatnonzero(chosen[0]).tolist(), strict=True):
                truth = int(genes[position])
                at_rank = commonest.get(position, everywhere)
                unseen = next((token for token in at_rank if token not in shown), at_rank[0])
                candidates = (guess, at_rank[0], unseen, everywhere[0])
                right += [candidate == truth for candidate in candidates]
                total += 1
    return Judgement(total, *(right / total).tolist())


def _by_frequency(seen: Counter[int]) -> list[int]:
    return [token for token, _ in seen.most_common()]


def main() -> None:
    """Train, judge, and write model, vocabulary and model card into the package."""
    recipe = Recipe()
    cells = anndata.read_h5ad(cells_file())
    vocabulary = demo_vocabulary(cells)
    write_vocabulary(vocabulary, vocabulary_file())
    started = time.monotonic()
    model = train(recipe, cells, vocabulary)
    minutes = (time.monotonic() - started) / 60
    encoded = read_cells(cells, vocabulary)
    split = encoded.obs["split"].to_numpy()
    training = [encoded.ranked[row] for row in np.flatnonzero(split == "training")]
    held_out = [encoded.ranked[row] for row in np.flatnonzero(split == "held-out")]
    judgement = judge(model, training, held_out, vocabulary)
    model.save_pretrained(model_folder(), safe_serialization=True)
    print(json.dumps(judgement.__dict__, indent=1))
    write_model_card(recipe, judgement, model, minutes)


if __name__ == "__main__":
    main()
