import numpy as np
import pandas as pd
import pytest

from ranklock.errors import InputError
from ranklock.significance.replicates import as_names, replicates_of, without_donor


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (pd.Series([15, 21]), ["15", "21"]),
        (pd.Series([15.0, np.nan]), ["15", None]),
        (pd.Series([15, None], dtype="Int64"), ["15", None]),
        (pd.Series([15.0, "b", None], dtype=object), ["15", "b", None]),
        (pd.Series(["a", None, "a"], dtype="category"), ["a", None, "a"]),
        (pd.Series([" a", "nan", "", "NA", "None", "<NA>"]), ["a", *[None] * 5]),
        (pd.Series([1.5, 2.0]), ["1.5", "2"]),
        (pd.Series([True, False]), ["True", "False"]),
    ],
)
def test_names_are_text_without_points_or_missing(values, names):
    assert [None if pd.isna(name) else name for name in as_names(values)] == names


def test_cells_or_donors_are_the_replicates():
    cells = pd.DataFrame({"donor": [7.0, np.nan, 8.0]}, index=["a", "b", "c"])
    assert replicates_of(cells, None, "cells").to_dict() == {"a": "a", "b": "b", "c": "c"}
    donors = replicates_of(cells, "donor", "cells")
    assert donors.to_dict() == {"a": "7", "c": "8"}
    assert without_donor(3, donors, "donor") == ["1 of 3 cells have no donor and are left out."]
    assert without_donor(2, donors, "donor") == []
    with pytest.raises(InputError, match="No cell of cells has a donor"):
        replicates_of(cells.loc[["b"]], "donor", "cells")
