import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.errors import InputError
from ranklock.genes.safe_pickle import read_pickled_dictionary

SCALARS = st.one_of(
    st.integers(-(2**15), 2**15 - 1).map(np.int16),
    st.integers(-(2**62), 2**62).map(np.int64),
    st.floats(allow_nan=False).map(np.float64),
    st.floats(width=32, allow_nan=False).map(np.float32),
    st.booleans().map(np.bool_),
    st.integers(),
    st.text(),
)


@given(st.dictionaries(st.text(), SCALARS), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_reads_what_pickle_reads(tmp_path_factory, content, protocol):
    path = tmp_path_factory.mktemp("pickle") / "d.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    assert read_pickled_dictionary(path) == content


def test_big_endian_scalars_keep_their_value(tmp_path):
    path = tmp_path / "d.pkl"
    value = np.array([258], dtype=">i4")[0].astype(">i4")
    path.write_bytes(pickle.dumps({"a": np.array(value, dtype=">i4")[()]}))
    assert read_pickled_dictionary(path) == {"a": 258}


def test_ordered_dictionary_is_a_dictionary(tmp_path):
    path = tmp_path / "d.pkl"
    path.write_bytes(pickle.dumps(OrderedDict(a=1)))
    assert read_pickled_dictionary(path) == {"a": 1}


class Hostile:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "make",
    [
        lambda mark: Hostile(os.system, f"touch {mark}"),
        lambda mark: Hostile(eval, f"open({str(mark)!r}, 'w')"),
        lambda mark: Hostile(getattr, Hostile(__import__, "os"), "system"),
        lambda mark: Hostile(np.load, str(mark)),
    ],
)
def test_a_hostile_pickle_does_not_run(tmp_path, make, protocol):
    mark, path = tmp_path / "ran", tmp_path / "d.pkl"
    path.write_bytes(pickle.dumps({"a": make(mark)}, protocol=protocol))
    with pytest.raises(InputError, match="nothing in a pickle is executed"):
        read_pickled_dictionary(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"not a pickle", pickle.dumps({"a": 1})[:-3], pickle.dumps({"a": np.array([1, 2])})],
)
def test_broken_and_foreign_pickles_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "d.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_pickled_dictionary(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("module", "name"),
    [("numpy", "dtype"), ("numpy.core.multiarray", "scalar"), ("_codecs", "encode"),
     ("collections", "OrderedDict"), ("builtins", "set")],
)  # fmt: skip
@pytest.mark.parametrize("attribute", ["__defaults__", "__call__", "_function", "anything"])
def test_a_pickle_cannot_change_what_reads_it(tmp_path, module, name, attribute):
    path = tmp_path / "d.pkl"
    # A state of (None, attributes) makes the unpickler call setattr.
    slots = b"N}" + pickle.dumps(attribute, 2)[2:-1] + b"K\x01s\x86"
    path.write_bytes(b"\x80\x02c" + f"{module}\n{name}\n".encode() + slots + b"b.")
    with pytest.raises(InputError, match="was not read"):
        read_pickled_dictionary(path)
    path.write_bytes(pickle.dumps({"a": np.int16(7)}))
    assert read_pickled_dictionary(path) == {"a": 7}


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02}r" + (60_000_000).to_bytes(4, "little") + b".",  # a memo of a gigabyte
        b"\x80\x02}" + b")" + b"\x85" * 1_000_000 + b"K\x01s.",  # a key a million tuples deep
        b"\x80\x04}K\x01" + b"\x942h\x00\x86" * 60 + b"K\x01s.",  # a hash of 2^60 steps
    ],
    ids=["memo", "depth", "hash"],
)
def test_a_pickle_cannot_exhaust_the_reader(tmp_path, program):
    path = tmp_path / "d.pkl"
    path.write_bytes(program)
    with pytest.raises(InputError, match="was not read"):
        read_pickled_dictionary(path)


@pytest.mark.parametrize("content", [[1, 2], {1: 2}, "text"])
def test_anything_but_a_dictionary_of_names_is_refused(tmp_path, content):
    path = tmp_path / "d.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="does not hold a dictionary"):
        read_pickled_dictionary(path)


def test_reads_the_published_dictionaries_as_pickle_does(shared):
    for file in sorted((shared / "data").glob("*.pkl")):
        # These three are known; that is why pickle may read them here.
        assert read_pickled_dictionary(file) == pickle.loads(file.read_bytes())
