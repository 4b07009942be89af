"""Knock-outs as the engine takes them, on cells and checkpoints of four sizes.

For benchmarks of the engine alone, without a run around it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import checkpoint

import ranklock
from ranklock import demo
from ranklock.arms import DEFAULT_ARMS, NOT_RANKED, Change, ModelInput, apply, baseline, find_arms
from ranklock.engine.groups import Reading, TaskGroup
from ranklock.genes.vocabulary import Vocabulary, token_vocabulary
from ranklock.kinds import KNOCK_OUT

SHARED = Path(__file__).resolve().parents[2] / "shared"
TRAINED = SHARED / "models" / "geneformer-mini-6L"
CELLS = SHARED / "data" / "genecorpus_500_cells.parquet"
ARMS = DEFAULT_ARMS[False]
# What speeds up products in half formats, by the names that Linux gives it.
_FAST_FLAGS = ("amx_tile", "amx_bf16", "amx_fp16", "avx512_bf16", "avx512_fp16")


@dataclass(frozen=True, eq=False)
class Case:
    """One cell and a checkpoint.

    Attributes
    ----------
    name
        What they are, in words.
    model, cell, vocabulary
        The checkpoint, the unperturbed cell, and where special tokens come from.
    """

    name: str
    model: ranklock.Model
    cell: ModelInput
    vocabulary: Vocabulary

    @property
    def genes(self) -> int:
        """How many it has."""
        return int((self.cell.ranks != NOT_RANKED).sum())

    @property
    def special_frame(self) -> bool:
        """Whether it stands between ``<cls>`` and ``<eos>``."""
        return self.genes < len(self.cell)

    def reading(self, *, cell: bool) -> Reading:
        """What is read: the second to last layer, with or without the cell embedding."""
        return Reading(self.model.layers - 1, cell, self.special_frame)

    def ranks(self, number: int) -> list[int]:
        """Some ranks, from the highest to the lowest."""
        return sorted({round(rank) for rank in np.linspace(0, self.genes - 1, number)})

    def group(self, ranks: Sequence[int], *, genes: bool = True) -> TaskGroup:
        """The gene at each rank knocked out under all arms; effects on all genes, or on none."""
        tokens = self.cell.tokens[self.cell.ranks != NOT_RANKED]
        changes = [Change((int(tokens[rank]),), (rank,)) for rank in ranks]
        return TaskGroup(
            self.cell,
            np.arange(self.genes if genes else 0),
            [np.array([rank]) for rank in ranks],
            {
                arm.name: [apply(arm, self.cell, change, self.vocabulary) for change in changes]
                for arm in find_arms(ARMS, KNOCK_OUT)
            },
        )


def trained_or_random(genes: int, folder: Path) -> Case:
    """A trained checkpoint of V1's size on a real cell; a random one where these are not here."""
    if TRAINED.is_dir() and CELLS.is_file():
        model = ranklock.load_model(TRAINED)
        ranked = pd.read_parquet(CELLS, columns=["input_ids"])["input_ids"]
        long_enough = (np.asarray(cell) for cell in ranked if len(cell) >= genes)
        tokens = next(long_enough, np.asarray(max(ranked, key=len)))[:genes]
        name = f"{TRAINED.name}, {len(tokens):,} genes"
    else:
        model = ranklock.load_model(checkpoint(folder / f"V1-{genes}", "V1-10M"))
        tokens = _drawn(model, genes, first=2)
        name = f"random V1-10M, {len(tokens):,} genes"
    vocabulary = token_vocabulary(model.vocab_size - 1, special_frame=False)
    return Case(name, model, baseline(tokens, vocabulary, special_frame=False), vocabulary)


def demo_case() -> Case:
    """The demo's checkpoint on the demo's cell that has the most genes."""
    model = ranklock.load_model(demo.model_folder())
    cells = ranklock.read_cells(demo.cells_file(), demo.vocabulary_file())
    tokens = max(cells.ranked, key=len)[: model.input_size]
    return Case(
        f"demo, {len(tokens):,} genes", model,
        baseline(tokens, cells.vocabulary, special_frame=False), cells.vocabulary,
    )  # fmt: skip


def random_v2(tokens: int, folder: Path) -> Case:
    """A random checkpoint of V2-104M's shape on a random cell with special tokens."""
    model = ranklock.load_model(checkpoint(folder / "V2", "V2-104M"))
    genes = _drawn(model, tokens - 2, first=4)
    vocabulary = token_vocabulary(model.vocab_size - 1, special_frame=True)
    return Case(
        f"random V2-104M, {tokens:,} tokens", model,
        baseline(genes, vocabulary, special_frame=True), vocabulary,
    )  # fmt: skip


def _drawn(model: ranklock.Model, genes: int, first: int) -> np.ndarray:
    return first + np.random.default_rng(0).permutation(model.vocab_size - first)[:genes]


def circumstances() -> str:
    """What the processor has for half formats, and how busy the machine is."""
    info = Path("/proc/cpuinfo")
    flags = set(re.findall(r"\w+", info.read_text())) if info.is_file() else set()
    has = ", ".join(f"{flag} {'yes' if flag in flags else 'no'}" for flag in _FAST_FLAGS)
    load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    return f"{has}; {load}; {torch.get_num_threads()} threads"
