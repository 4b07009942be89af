import numpy as np
import pandas as pd
import pytest

from ranklock.cells.selection import Selection, parse_conditions, parse_range
from ranklock.errors import InputError

OBS = pd.DataFrame({"cell_type": ["B", "NK", "NK", "T"], "n": [1, 2, 2, 3]}, index=list("abcd"))


@pytest.mark.parametrize(
    ("selection", "rows"),
    [
        (Selection(), [0, 1, 2, 3]),
        (Selection(rows=(2,)), [2]),
        (Selection(rows=slice(1, 50)), [1, 2, 3]),
        (Selection(where={"cell_type": ("NK",)}), [1, 2]),
        (Selection(where={"n": ("2",), "cell_type": ("NK",)}), [1, 2]),
        (Selection(rows=slice(0, 2), where={"cell_type": ("NK",)}), [1]),
        (Selection(where={"cell_type": ("NK", "T")}), [1, 2, 3]),
        (Selection(sample=99), [0, 1, 2, 3]),
    ],
)
def test_chooses(selection, rows):
    assert selection.choose(OBS, "cells").tolist() == rows


def test_a_sample_depends_on_its_seed_alone():
    many = pd.DataFrame(index=range(1000))
    draws = [Selection(sample=50, seed=seed).choose(many, "cells") for seed in (1, 1, 2)]
    assert draws[0].tolist() == draws[1].tolist() != draws[2].tolist()
    assert len(set(draws[0].tolist())) == 50
    assert (np.diff(draws[0]) > 0).all()


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(rows=(4,)), "has cells 0 to 3, and none 4"),
        (Selection(rows=slice(9, 12)), "has 4 cells; the range holds none"),
        (Selection(where={"type": ("NK",)}), "no obs column 'type'; there are: cell_type, n"),
        (Selection(where={"cell_type": ("NK", "nk")}), "no cell has cell_type=nk; values are NK"),
        (Selection(rows=(0,), where={"cell_type": ("NK",)}), "no cell meets all"),
        (Selection(sample=0), "at least one"),
    ],
)
def test_refuses(selection, message):
    with pytest.raises(InputError, match=message):
        selection.choose(OBS, "cells")


def test_no_cells_at_all():
    with pytest.raises(InputError, match="holds no cells"):
        Selection().choose(OBS.iloc[:0], "cells")


def test_a_choice_is_described_for_the_manifest():
    described = Selection(rows=slice(0, 50), where={"a": ("b",)}, sample=5, seed=3).described()
    assert described == {"rows": "0:50", "where": {"a": ["b"]}, "sample": 5, "seed": 3}
    assert Selection(rows=(4,)).described()["rows"] == [4]


def test_ranges_and_conditions_are_read_as_written():
    assert parse_range("0:50") == slice(0, 50)
    assert parse_range("100:") == slice(100, None)
    assert parse_range(":10:2") == slice(None, 10, 2)
    assert parse_conditions(["a=CD4+=x", "b=1", "a=y"]) == {"a": ("CD4+=x", "y"), "b": ("1",)}
    for text in ("5", "a:b", "", "0-50"):
        with pytest.raises(InputError, match="not a range"):
            parse_range(text)
    for text in ("cell_type", "=NK"):
        with pytest.raises(InputError, match="not a condition"):
            parse_conditions([text])
