"""Small real checkpoints and vocabularies, and forwards that share no code with Ranklock."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from ranklock.arms import NOT_RANKED, Change, ModelInput
from ranklock.cells import Cells
from ranklock.genes.vocabulary import CLS, EOS, MASK, PAD, Vocabulary

SHARED = Path(__file__).resolve().parents[2] / "shared"


def vocabulary(genes: int = 60, *, special_frame: bool = False) -> Vocabulary:
    special = {PAD: 0, MASK: 1} | ({CLS: 2, EOS: 3} if special_frame else {})
    names = [f"ENSG{number:011d}" for number in range(genes)]
    return Vocabulary(
        tokens={name: len(special) + i for i, name in enumerate(names)},
        special=special,
        medians={name: 1.0 + 0.25 * (i % 7) for i, name in enumerate(names)},
        symbols={f"GENE{i}": name for i, name in enumerate(names)},
        source="test vocabulary",
    )


def checkpoint(
    folder: Path,
    *,
    tokens: int = 64,
    layers: int = 2,
    heads: int = 2,
    width: int = 16,
    positions: int = 64,
    seed: int = 0,
    spread: float = 0.02,
    position_spread: float = 1.0,
    bias_spread: float = 0.0,
    activation: str = "relu",
) -> Path:
    """Write a BertForMaskedLM with random weights.

    ``spread`` is their standard deviation, ``position_spread`` that of the position embeddings
    beside the others', ``bias_spread`` that of the biases and of the norms' weights around 1.
    """
    torch.manual_seed(seed)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=tokens,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=2 * width,
            max_position_embeddings=positions,
            hidden_act=activation,
            initializer_range=spread,
            pad_token_id=0,
        )
    )
    with torch.no_grad():
        model.bert.embeddings.position_embeddings.weight *= position_spread
        for parameter in model.bert.parameters():
            if parameter.ndim == 1 and bias_spread:
                parameter += bias_spread * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def classifier(folder: Path, *, labels: int = 3, spread: float = 0.3, **options: object) -> Path:
    """Write a classifier of cells with random weights, and a pooler that tells states apart."""
    checkpoint(folder / "plain", spread=spread, **options)
    torch.manual_seed(0)
    model = BertForSequenceClassification.from_pretrained(
        folder / "plain", num_labels=labels, id2label={row: f"label{row}" for row in range(labels)}
    )
    with torch.no_grad():
        model.bert.pooler.dense.weight.normal_(std=0.3)
        model.classifier.bias.normal_()
    model.save_pretrained(folder / "tuned")
    return folder / "tuned"


def cells_of(
    lengths: list[int], vocab: Vocabulary, *, special_frame: bool = False, seed: int = 0
) -> Cells:
    draw = np.random.default_rng(seed)
    genes = np.array(sorted(vocab.tokens.values()), dtype=np.int32)
    ranked = tuple(draw.permutation(genes)[:length] for length in lengths)
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(len(lengths))])
    return Cells(ranked, obs, vocab, special_frame, source="test cells")


def counted_cells(
    lengths: list[int],
    vocab: Vocabulary,
    *,
    special_frame: bool = False,
    counts: list[list[int]] | None = None,
    seed: int = 0,
) -> Cells:
    """Cells with counts: of so many genes each, from 1 to 9 unless they are given."""
    draw = np.random.default_rng(seed)
    medians = vocab.median_of_token
    ranked, levels = [], []
    for row, length in enumerate(lengths):
        genes = draw.permutation(sorted(vocab.tokens.values()))[:length].astype(np.int32)
        of_cell = draw.integers(1, 10, length) if counts is None else np.array(counts[row])
        order = np.lexsort((genes, -of_cell / medians[genes]))
        ranked.append(genes[order])
        levels.append(of_cell[order].astype(np.float32))
    obs = pd.DataFrame(index=[f"cell{row}" for row in range(len(lengths))])
    return Cells(
        tuple(ranked), obs, vocab, special_frame, source="counted cells", complete=True,
        levels=tuple(levels),
    )  # fmt: skip


def plain_forward(
    folder: Path,
    tokens: list[int],
    positions: list[int],
    visible: list[bool] | None = None,
    *,
    layer: int = -1,
    dtype: torch.dtype = torch.float64,
) -> np.ndarray:
    """The plain Hugging Face forward of the whole model, one cell, in float64."""
    written = (folder / "model.safetensors").stat().st_mtime_ns
    model = _plain_model(folder, written, dtype)
    mask = torch.ones(1, len(tokens)) if visible is None else torch.tensor([visible]).float()
    with torch.no_grad():
        out = model(
            input_ids=torch.tensor([tokens]),
            position_ids=torch.tensor([positions]),
            attention_mask=mask,
            output_hidden_states=True,
        )
    return out.hidden_states[model.config.num_hidden_layers + layer][0].numpy()


def plain_logits(
    folder: Path, tokens: list[int], positions: list[int], visible: list[bool]
) -> np.ndarray:
    """A classifier's logits of one cell by the plain Hugging Face forward, in float64."""
    written = (folder / "model.safetensors").stat().st_mtime_ns
    model = _plain_model(folder, written, torch.float64, BertForSequenceClassification)
    with torch.no_grad():
        out = model(
            input_ids=torch.tensor([tokens]),
            position_ids=torch.tensor([positions]),
            attention_mask=torch.tensor([visible]).float(),
        )
    return out.logits[0].numpy()


@lru_cache(maxsize=4)
def _plain_model(
    folder: Path,
    written: int,
    dtype: torch.dtype,
    kind: type[BertForMaskedLM | BertForSequenceClassification] = BertForMaskedLM,
) -> BertForMaskedLM | BertForSequenceClassification:
    """The checkpoint as it was written then."""
    return kind.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


def knock_out(cell: ModelInput, ranks: list[int]) -> Change:
    """The knock-out of the genes at some ranks of a cell."""
    token_at = dict(zip(cell.ranks.tolist(), cell.tokens.tolist(), strict=True))
    return Change(tuple(token_at[rank] for rank in ranks), tuple(ranks))


def move(cell: ModelInput, goals: dict[int, int]) -> Change:
    """The move of genes (tokens) to ranks; those that the cell lacks are put in."""
    rank_of = dict(zip(cell.tokens.tolist(), cell.ranks.tolist(), strict=True))
    ranks = tuple(rank_of.get(token, NOT_RANKED) for token in goals)
    return Change(tuple(goals), ranks, tuple(goals.values()))


def checkpoint_with_links(
    folder: Path, source: int, targets: list[int], *, tokens: int, positions: int
) -> Path:
    """A random checkpoint in whose first layer a few genes attend to one other gene, and strongly.

    One input dimension says "is the source" and one "is a target"; a head matches the two, and
    carries what it finds to the targets. So removing the source truly moves those targets.
    """
    checkpoint(folder, tokens=tokens, positions=positions, layers=2, width=32, heads=2, spread=0.02)
    model = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        words = model.bert.embeddings.word_embeddings.weight
        for table in (words, model.bert.embeddings.position_embeddings.weight):
            table[:, :2] = 0.0
        model.bert.embeddings.token_type_embeddings.weight[:, :2] = 0.0
        words[source, 0] = 0.4
        words[targets, 1] = 0.4
        attention = model.bert.encoder.layer[0].attention
        attention.self.query.weight[0] = 0.0
        attention.self.query.weight[0, 1] = 2.0
        attention.self.query.bias[0] = -5.0  # so that other genes look away from the source
        attention.self.key.weight[0] = 0.0
        attention.self.key.weight[0, 0] = 2.0
        attention.self.value.weight[1] = 0.0
        attention.self.value.weight[1, 0] = 0.01  # less than the rank shift moves them
        attention.output.dense.weight[:, 1] = torch.randn(32)
    model.save_pretrained(folder)
    return folder


def with_smooth_positions(folder: Path, seed: int = 0) -> Path:
    """Give a checkpoint a position table without jumps, as long pretraining leaves it."""
    model = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        table = model.bert.embeddings.position_embeddings.weight
        torch.manual_seed(seed)
        walk = torch.randn_like(table).cumsum(0)
        table[:] = walk * table.std() / walk.std()
    model.save_pretrained(folder)
    return folder


def with_constant_positions(folder: Path) -> Path:
    """Give a checkpoint one position embedding for all positions."""
    model = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        table = model.bert.embeddings.position_embeddings.weight
        table[:] = table[0].clone()
    model.save_pretrained(folder)
    return folder


def gene_of_all(cells) -> str:
    """Symbol of a gene that every cell has."""
    common = set.intersection(*(set(genes.tolist()) for genes in cells.ranked))
    return cells.vocabulary.symbol(min(common))
