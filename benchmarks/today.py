"""How it is done today, re-created from a description of Geneformer's InSilicoPerturber.

The whole checkpoint with its language-model head runs for every input, all hidden states are kept,
batches are padded, cosines are taken in float32 with torch, and results are appended to
dictionaries of lists in Python. Cells are lists in memory, which favours this side: in Geneformer
they are a dataset on disk that every step maps over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import BertForMaskedLM

Similarities = dict[tuple[int, int], list[float]]
STRETCH = 16_384  # tokens in a forward, at most: the logits of all of them are kept


def load(path: object, attention: str | None, device: str) -> BertForMaskedLM:
    """The checkpoint as the perturber loads it, its hidden states kept."""
    model = BertForMaskedLM.from_pretrained(
        path, output_hidden_states=True, attn_implementation=attention
    )
    return model.eval().to(device)


def embeddings_of(
    model: BertForMaskedLM, cells: Sequence[Sequence[int]], layer: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states of a padded batch, and which of its tokens are there."""
    longest = max(map(len, cells))
    tokens = torch.zeros(len(cells), longest, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, cell in enumerate(cells):
        tokens[row, : len(cell)] = torch.tensor(cell)
        mask[row, : len(cell)] = 1
    tokens, mask = tokens.to(model.device), mask.to(model.device)
    with torch.no_grad():
        outputs = model(input_ids=tokens, attention_mask=mask)
    hidden = outputs.hidden_states[model.config.num_hidden_layers + layer]
    del outputs
    return hidden, mask


def mean_over_genes(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Cell embeddings: the mean over a cell's tokens."""
    return (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


def shifts_towards(
    model: BertForMaskedLM,
    cells: Sequence[Sequence[int]],
    gene: int,
    states: dict[str, torch.Tensor],
    batch: int,
    layer: int = -1,
) -> dict[str, dict[tuple[int, str], list[float]]]:
    """Shifts towards states when a gene is deleted, of the cells that have it, longest first."""
    shifts: dict[str, dict[tuple[int, str], list[float]]] = {
        state: defaultdict(list) for state in states
    }
    with_gene = sorted((cell for cell in cells if gene in cell), key=len, reverse=True)
    for start in range(0, len(with_gene), batch):
        originals = with_gene[start : start + batch]
        perturbed = [[token for token in cell if token != gene] for cell in originals]
        before = mean_over_genes(*embeddings_of(model, originals, layer))
        after = mean_over_genes(*embeddings_of(model, perturbed, layer))
        for state, embedding in states.items():
            rise = torch.cosine_similarity(after, embedding[None]) - torch.cosine_similarity(
                before, embedding[None]
            )
            shifts[state][gene, "cell_emb"] += rise.tolist()
    return shifts


def similarities_of_cell(
    model: BertForMaskedLM,
    cell: Sequence[int],
    ranks: Sequence[int],
    batch: int,
    layer: int = -1,
) -> Similarities:
    """Similarities of all pairs, gene deleted × gene affected, of some ranks of one cell."""
    similarities: Similarities = defaultdict(list)
    original = embeddings_of(model, [cell], layer)[0][0]
    for start in range(0, len(ranks), batch):
        deleted = ranks[start : start + batch]
        perturbed = [[*cell[:rank], *cell[rank + 1 :]] for rank in deleted]
        hidden, _ = embeddings_of(model, perturbed, layer)
        compared = torch.stack(
            [torch.cat([original[:rank], original[rank + 1 :]]) for rank in deleted]
        )
        cosines = torch.cosine_similarity(hidden, compared, dim=2)
        for row, rank in enumerate(deleted):
            for column, affected in enumerate(perturbed[row]):
                similarities[cell[rank], affected].append(cosines[row, column].item())
    return similarities
