"""Write the page that states what the demo's model can do, from what was measured."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from ranklock.demo import model_folder

if TYPE_CHECKING:
    from transformers import BertForMaskedLM

    from training.train import Judgement, Recipe

MODEL_CARD = model_folder().parent / "MODEL_CARD.md"

_PAGE = """\
# The demo's model

Written by `python -m training.train` from what that run measured.

**What it is.** A `BertForMaskedLM` with Geneformer's objective, {parameters:,} parameters
({layers} layers, {width} wide, {heads} heads, {positions} positions, {tokens} tokens), stored as
safetensors. It exists so that Ranklock can be tried, tested and explained on real cells without
fetching anything. It is no substitute for a model trained on millions of cells.

**Cells.** 700 peripheral blood mononuclear cells × 765 genes of 10x Genomics (Zheng et al., *Nature
Communications* 8, 14049, 2017; CC BY 4.0), as scanpy ships them in `pbmc68k_reduced`
(`python -m training.make_cells` undoes its log-normalisation). 600 cells for training, 100
held out (`obs["split"]`). Genes are named by symbol only, so symbols stand in for Ensembl IDs.
Medians are those of the training cells.

**Training.** {steps:,} steps of {cells_per_step} cells, {masked:.0%} of the genes masked, in
{minutes:.0f} minutes on {threads} threads. Each visit of a cell keeps each count with a probability
drawn between {least_kept} and 1. Seed {seed}; a second run on the same machine gives the same file.

**How well it predicts {masked_genes:,} masked genes of the held-out cells**

| guess | right |
|---|---|
| this model | **{model:.2%}** |
| the commonest gene at that position | {commonest_at_position:.2%} |
| the commonest gene at that position that the cell does not show elsewhere | {unseen:.2%} |
| the commonest gene overall | {commonest_overall:.2%} |

The model is right {times_position:.1f} times as often as the first guess and {times_overall:.1f}
times as often as the last. Counts are low in these cells (most genes have one or two), so much of
what can be predicted is the order of the genes among equal counts, which their medians set. The
model's biology is weak: use it to see what an arm does to a ranking, not to learn about blood.
"""


def write_model_card(
    recipe: Recipe, judgement: Judgement, model: BertForMaskedLM, minutes: float
) -> None:
    """Write the page beside the model."""
    from training.train import MASKED

    page = _PAGE.format(
        **asdict(recipe),
        **{k: v for k, v in asdict(judgement).items() if k != "commonest_at_position_not_in_cell"},
        unseen=judgement.commonest_at_position_not_in_cell,
        parameters=sum(tensor.numel() for tensor in model.parameters()),
        positions=model.config.max_position_embeddings,
        tokens=model.config.vocab_size,
        masked=MASKED,
        minutes=minutes,
        times_position=judgement.model / judgement.commonest_at_position,
        times_overall=judgement.model / judgement.commonest_overall,
    )
    MODEL_CARD.write_text(page, encoding="utf-8")
