import json
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from ranklock.errors import OutputError
from ranklock.run.record import Record


@dataclass(frozen=True)
class Inner:
    number: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer(Record):
    KIND: ClassVar[str] = "thing"
    VERSION: ClassVar[int] = 3
    CALLED: ClassVar[str] = "thing"

    inner: Inner
    others: tuple[Inner, ...] = ()
    missing: Inner | None = None
    by_name: dict[str, tuple[str, ...]] = field(default_factory=dict)
    version: int = 3


RECORD = Outer(Inner(0.5, ("a",)), (Inner(2.0),), None, {"x": ("y", "z")})


def test_a_record_comes_back_as_it_was():
    assert Outer.from_json(json.loads(json.dumps(RECORD.to_json(), allow_nan=False))) == RECORD


def test_what_is_no_number_is_null_in_the_file_and_no_number_again():
    written = json.loads(json.dumps(Outer(Inner(float("nan"))).to_json(), allow_nan=False))
    assert written["inner"]["number"] is None
    assert np.isnan(Outer.from_json(written).inner.number)


@pytest.mark.parametrize(
    "content",
    [None, "{", '{"format": "ranklock-other"}', '{"format": "ranklock-thing", "version": 2}',
     '{"format": "ranklock-thing", "version": 3, "inner": 5}'],
)  # fmt: skip
def test_a_folder_without_it_says_so(tmp_path, content):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(OutputError, match="thing of Ranklock|another version of Ranklock"):
        Outer.read(tmp_path)


def test_a_folder_with_it_is_read(tmp_path):
    content = {"format": "ranklock-thing", "identity": {}, **RECORD.to_json()}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert Outer.read(tmp_path) == RECORD
