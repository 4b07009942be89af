"""Read a pickled dictionary without executing anything in it.

Geneformer publishes its dictionaries as pickles. A pickle is a program: it names callables and
calls them. This reader resolves six names, each to an inert stand-in written here or to a plain
container, and refuses every other name before anything is called.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from ranklock.errors import InputError

_NUMBER_KINDS = "biuf"


class _DTypeStandIn:
    """Takes the place of ``numpy.dtype``: remembers the type code, runs no NumPy code."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        self.code = code
        self.byte_order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.byte_order = str(state[1])

    def numpy(self) -> np.dtype[Any]:
        if not (isinstance(self.code, str) and len(self.code) <= 3):
            raise pickle.UnpicklingError("a NumPy scalar of an unknown type")
        dtype = np.dtype(self.code)
        if dtype.kind not in _NUMBER_KINDS:
            raise pickle.UnpicklingError(f"a NumPy scalar of type {self.code!r}, not a number")
        return dtype.newbyteorder(">") if self.byte_order == ">" else dtype


def _scalar(dtype: _DTypeStandIn, data: bytes) -> int | float | bool:
    """Take the place of NumPy's scalar constructor: one plain Python number from its bytes."""
    number: int | float | bool = np.frombuffer(data, dtype=dtype.numpy(), count=1)[0].item()
    return number


def _latin1(text: str, encoding: str) -> bytes:
    """Take the place of ``_codecs.encode``, by which protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding!r}")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy", "dtype"): _DTypeStandIn,
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
}


class _AllowListUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[(module, name)]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def read_pickled_dictionary(path: Path) -> dict[str, Any]:
    """Read a pickle that holds one dictionary with strings as keys.

    Parameters
    ----------
    path
        The pickle file.

    Returns
    -------
    The dictionary; NumPy scalars come back as Python numbers.

    Raises
    ------
    InputError
        When the file cannot be read, holds anything but plain containers, strings, numbers and
        NumPy scalars, or is not a dictionary with strings as keys. Nothing in it is executed.
    """
    try:
        content = _AllowListUnpickler(io.BytesIO(path.read_bytes())).load()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    # A broken pickle can raise nearly anything from the unpickler's opcodes.
    except Exception as error:
        raise InputError(
            f"{path} was not read: {error}. Only plain containers, strings and numbers are "
            "accepted, and nothing in a pickle is executed. Use Geneformer's published "
            "dictionary, or Ranklock's own JSON vocabulary."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{path} does not hold a dictionary with gene names as keys.")
    return dict(content)
