"""Memory: how much there is, and what happens when it runs out."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import psutil
import torch

from ranklock.engine.memory_limits import memory_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


# What torch's CPU allocator and cuBLAS say; they have no class of their own.
_SIGNS = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")


@contextmanager
def memory_errors(device: str) -> Iterator[None]:
    """Turn torch's ways of saying that memory ran out into MemoryError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(f"{device} is out of memory") from error
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _SIGNS):
            raise
        raise MemoryError(f"{device} is out of memory") from error


def available_memory(device: str) -> int:
    """Bytes that this process can have on a device: what is free, and what it holds already.

    On a CPU, what is free under every limit: the machine's, those of cgroups and of SLURM.
    """
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + torch.cuda.memory_reserved(device)
    memory = psutil.Process().memory_info()
    # Pages of mapped files can be reclaimed, so that they are among what is available already.
    held = max(0, memory.rss - getattr(memory, "shared", 0))
    machine = psutil.virtual_memory().available + held
    limits = memory_limits(Path("/"), os.environ)
    return int(min([machine, *(limit.share(held) for limit in limits)]))


class Trimmer:
    """Gives memory back that the C library keeps of arrays that were freed.

    Batches of many lengths leave its heap in pieces that no later array fits into, so that a
    process grows with its work though nothing is held. Asking for it back after every batch costs
    more than it saves; after some growth it is not seen.
    """

    _GROWTH = 256 << 20

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._resident = self._process.memory_info().rss
        self._trim: Callable[[int], int] | None = None
        with suppress(OSError, AttributeError):  # glibc's own, as is the habit
            self._trim = ctypes.CDLL("libc.so.6").malloc_trim

    def after_batch(self) -> None:
        """Give back what is kept, where the process has grown."""
        if self._trim is None:
            return
        if self._process.memory_info().rss > self._resident + self._GROWTH:
            self._trim(0)
            self._resident = self._process.memory_info().rss


def in_batches(
    items: Sequence[Item],
    size: int,
    work: Callable[[Sequence[Item]], Result],
    device: str,
) -> Iterator[tuple[Sequence[Item], Result]]:
    """Work on items in batches, in order; where memory runs out, go on with half as many.

    Parameters
    ----------
    items
        What to work on.
    size
        Most items in a batch.
    work
        Takes a batch.
    device
        Where it works.

    Yields
    ------
    Each batch and what came of it.

    Raises
    ------
    MemoryError
        When a single item does not fit.
    """
    start = 0
    while start < len(items):
        batch = items[start : start + size]
        result = None
        try:
            with memory_errors(device):
                result = work(batch)
        except MemoryError:
            if len(batch) == 1:
                raise
            size = len(batch) // 2
            continue
        start += len(batch)
        yield batch, result
