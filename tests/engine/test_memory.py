import pytest
import torch

from ranklock.engine.memory import available_memory, in_batches, memory_errors


def test_batches_cover_everything_in_order():
    batches = list(in_batches(range(10), 4, sum, "cpu"))
    assert [list(batch) for batch, _ in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [out for _, out in batches] == [6, 22, 17]


def test_a_batch_that_does_not_fit_is_tried_in_halves():
    def work(batch):
        if len(batch) > 3:
            raise torch.OutOfMemoryError
        return len(batch)

    assert [out for _, out in in_batches(range(10), 8, work, "cpu")] == [2, 2, 2, 2, 2]


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), memory_errors("cpu"):
        raise RuntimeError("shapes differ")
    with pytest.raises(MemoryError, match="cpu is out of memory"), memory_errors("cpu"):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")


def test_there_is_memory():
    assert available_memory("cpu") > 1 << 20
