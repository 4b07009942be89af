"""What Geneformer pickled, read without executing anything in it."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import torch
from torch._utils import _rebuild_tensor_v2


class _Numbers(pickle.Unpickler):
    """Reads dictionaries, lists, numbers and tensors, and resolves nothing else."""

    def find_class(self, module, name):
        return {
            ("collections", "defaultdict"): defaultdict,
            ("collections", "OrderedDict"): OrderedDict,
            ("builtins", "list"): list,
            ("numpy", "dtype"): np.dtype,
            ("numpy._core.multiarray", "scalar"): lambda kind, data: int(
                np.frombuffer(data, kind)[0]
            ),
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor_v2,
            ("torch.storage", "_load_from_bytes"): lambda data: torch.load(
                io.BytesIO(data), weights_only=True
            ),
        }[module, name]


def read_numbers(path: Path) -> dict:
    with path.open("rb") as stream:
        return _Numbers(stream).load()
