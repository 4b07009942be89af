"""What the benchmarks share: checkpoints of a published architecture, cells, the machine."""

from __future__ import annotations

import platform
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import BertConfig, BertForMaskedLM

import ranklock
from ranklock.cells import Cells

# Published architectures; weights are random, as no time here depends on them.
ARCHITECTURES = {
    "V1-10M": {
        "vocab_size": 25426, "hidden_size": 256, "num_hidden_layers": 6,
        "num_attention_heads": 4, "intermediate_size": 512, "max_position_embeddings": 2048,
    },
    "V2-104M": {
        "vocab_size": 20275, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 4096,
    },
}  # fmt: skip


def checkpoint(folder: Path, architecture: str = "V1-10M", **changes: int) -> Path:
    """Write a checkpoint with random weights, or the one that was written there before."""
    torch.manual_seed(0)
    config = BertConfig(
        **{**ARCHITECTURES[architecture], **changes}, hidden_act="relu", pad_token_id=0
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def random_cells(lengths: list[int], model: ranklock.Model, seed: int = 0) -> Cells:
    """Cells of given lengths, of a vocabulary as large as the model's."""
    genes = range(2, model.vocab_size)
    vocabulary = ranklock.Vocabulary(
        {f"ENSG{token:011d}": token for token in genes}, {"<pad>": 0, "<mask>": 1}
    )
    draw = np.random.default_rng(seed)
    ranked = tuple(draw.permutation(np.array(genes, dtype=np.int32))[:n] for n in lengths)
    obs = pd.DataFrame(index=[f"cell{i}" for i in range(len(lengths))])
    return Cells(ranked, obs, vocabulary, special_frame=False)


def machine() -> str:
    """The machine in words."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        named = re.search(r"model name\s*:\s*(.+)", info.read_text())
        cpu = named[1] if named else cpu
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{cpu}, {torch.get_num_threads()} threads{gpu}, torch {torch.__version__}"


def synchronise() -> None:
    """Wait for a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(work: Callable[..., object], *arguments: object, **options: object) -> float:
    """Seconds that a call takes."""
    synchronise()
    started = time.perf_counter()
    work(*arguments, **options)
    synchronise()
    return time.perf_counter() - started


def workspace() -> tempfile.TemporaryDirectory[str]:
    """A folder that is gone afterwards."""
    return tempfile.TemporaryDirectory(prefix="ranklock-benchmark-")
