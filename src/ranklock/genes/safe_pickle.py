"""Read a pickled dictionary without executing anything in it.

Geneformer publishes its dictionaries as pickles. A pickle is a program: it names callables, calls
them, and sets attributes. This reader first looks through the program for what a dictionary of
genes never needs, then resolves a handful of names, each to an inert and unchangeable stand-in, and
refuses every other name before anything is called.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ranklock.errors import InputError

_NUMBER_KINDS = "biuf"
_TUPLES = frozenset({"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"})
_MEMO = frozenset({"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"})


class _DType:
    """Takes the place of a ``numpy.dtype``: remembers the type code, runs no NumPy code."""

    __slots__ = ("byte_order", "code")

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        self.code = code
        self.byte_order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.byte_order = str(state[1])

    def numpy(self) -> np.dtype[Any]:
        if not (isinstance(self.code, str) and len(self.code) <= 3):
            raise pickle.UnpicklingError("it holds a NumPy scalar of an unknown type")
        dtype = np.dtype(self.code)
        if dtype.kind not in _NUMBER_KINDS:
            raise pickle.UnpicklingError("it holds a NumPy scalar that is not a number")
        return dtype.newbyteorder(">") if self.byte_order == ">" else dtype


def _scalar(dtype: _DType, data: bytes) -> int | float | bool:
    """Take the place of NumPy's scalar constructor: one plain Python number from its bytes."""
    number: int | float | bool = np.frombuffer(data, dtype=dtype.numpy(), count=1)[0].item()
    return number


def _latin1(text: str, encoding: str) -> bytes:
    """Take the place of ``_codecs.encode``, by which protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError("it holds bytes in an unknown encoding")
    return text.encode("latin1")


class _StandIn:
    """A callable that a pickle can call but, unlike a function or a class, not change."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise pickle.UnpicklingError("it tries to change what reads it")


_ADMITTED: dict[tuple[str, str], _StandIn] = {
    ("numpy.core.multiarray", "scalar"): _StandIn(_scalar),
    ("numpy._core.multiarray", "scalar"): _StandIn(_scalar),
    ("numpy", "dtype"): _StandIn(_DType),
    ("_codecs", "encode"): _StandIn(_latin1),
    ("collections", "OrderedDict"): _StandIn(dict),
    ("builtins", "set"): _StandIn(set),
    ("__builtin__", "set"): _StandIn(set),  # as protocols 0 to 2 name it
}


class _AllowListUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[(module, name)]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def _look_through(program: bytes) -> None:
    """Refuse programs that would exhaust the reader instead of telling it something.

    A tuple may only be the arguments of a call or a state: as data, tuples nest into keys whose
    hash takes for ever. A place in the memo may not lie beyond the program's own length, which
    the unpickler would allot.
    """
    pending_tuple = False
    for opcode, argument, _ in pickletools.genops(program):
        if pending_tuple and opcode.name not in _MEMO:
            if opcode.name not in ("REDUCE", "BUILD"):
                raise pickle.UnpicklingError("it holds tuples")
            pending_tuple = False
        if opcode.name in _MEMO and argument is not None and int(argument) > len(program):
            raise pickle.UnpicklingError("it asks for memory that it does not need")
        pending_tuple = pending_tuple or opcode.name in _TUPLES


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
        When the file cannot be read, holds anything but dictionaries, lists, sets, strings,
        numbers and NumPy scalars, or is not a dictionary with strings as keys. Nothing in it is
        executed.
    """
    try:
        program = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        _look_through(program)
        content = _AllowListUnpickler(io.BytesIO(program)).load()
    # A broken pickle can raise nearly anything from the unpickler's opcodes.
    except Exception as error:
        reason = (str(error) or type(error).__name__)[:200].splitlines()[0]
        raise InputError(
            f"{path} was not read: {reason}. Only a plain dictionary of strings and numbers is "
            "accepted, and nothing in a pickle is executed. Use Geneformer's published "
            "dictionary, or Ranklock's own JSON vocabulary."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{path} does not hold a dictionary with gene names as keys.")
    return content
