"""What the benchmarks share: checkpoints of a published architecture, cells, the machine, turns."""

from __future__ import annotations

import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """Write a checkpoint with random weights."""
    torch.manual_seed(0)
    config = BertConfig(
        **{**ARCHITECTURES[architecture], **changes}, hidden_act="relu", pad_token_id=0
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder


def random_cells(
    lengths: Sequence[int], model: ranklock.Model, shared: Sequence[int] = (), seed: int = 0
) -> Cells:
    """Cells of given lengths, of a vocabulary as large as the model's.

    Parameters
    ----------
    lengths
        Genes in each cell.
    model
        The model.
    shared
        Tokens that every cell has, each at a random rank.
    seed
        Of the draw.
    """
    genes = np.arange(2, model.vocab_size, dtype=np.int32)
    vocabulary = ranklock.Vocabulary(
        {f"ENSG{token:011d}": int(token) for token in genes}, {"<pad>": 0, "<mask>": 1}
    )
    draw = np.random.default_rng(seed)
    rest = np.setdiff1d(genes, shared)
    ranked = tuple(
        draw.permutation(np.append(draw.choice(rest, n - len(shared), replace=False), shared))
        .astype(np.int32)
        for n in lengths
    )  # fmt: skip
    obs = pd.DataFrame({"state": "start"}, index=[f"cell{i}" for i in range(len(lengths))])
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


def in_turns(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of several ways, each once a round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(way())
    return seconds


def ratio(slower: Sequence[float], faster: Sequence[float]) -> str:
    """How many times faster: of the medians, and of each round."""
    rounds = [a / b for a, b in zip(slower, faster, strict=True)]
    median = statistics.median(slower) / statistics.median(faster)
    return f"{median:.1f} times faster (rounds: {min(rounds):.1f} to {max(rounds):.1f})"


def fastest_batch(way: Callable[[int], float], sizes: Iterable[int]) -> int:
    """The batch size with which a way takes the least time for one of what it does."""
    seconds = {size: way(size) for size in sizes}
    return min(seconds, key=seconds.__getitem__)


class Clock:
    """Seconds spent in some functions, which it wraps while it is entered.

    Parameters
    ----------
    functions
        Module (or class), and name of the function in it.
    """

    def __init__(self, *functions: tuple[object, str]) -> None:
        self.functions = functions
        self.seconds = 0.0
        self._depth = 0

    def __enter__(self) -> Clock:
        self._originals = [getattr(owner, name) for owner, name in self.functions]
        for (owner, name), original in zip(self.functions, self._originals, strict=True):
            setattr(owner, name, self._wrapped(original))
        return self

    def __exit__(self, *_: object) -> None:
        for (owner, name), original in zip(self.functions, self._originals, strict=True):
            setattr(owner, name, original)

    def _wrapped(self, original: Callable[..., object]) -> Callable[..., object]:
        def clocked(*arguments: object, **options: object) -> object:
            synchronise()
            started = time.perf_counter()
            self._depth += 1
            try:
                return original(*arguments, **options)
            finally:
                synchronise()
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - started

        return clocked


def workspace() -> tempfile.TemporaryDirectory[str]:
    """A folder that is gone afterwards."""
    return tempfile.TemporaryDirectory(prefix="ranklock-benchmark-")
