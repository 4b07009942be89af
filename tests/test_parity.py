import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.significance.shift_tests import shifts_tested, with_specific
from tests.significance.test_combinations import rows
from tests.significance.test_shifts import shifts

PAGE = Path(__file__).resolve().parents[1] / "docs" / "geneformer_parity.md"
if not PAGE.is_file():
    pytest.skip("the documents are not here", allow_module_level=True)
OF_RESPONDERS = {"gene", "gene_id", "responder", "responder_id"}


def test_every_column_that_the_page_names_exists(tmp_path):
    lines = PAGE.read_text().split("| column there")[1].splitlines()[2:]
    ours = [line.split("|")[2] for line in lines if line.startswith("|")]
    named = {name for cell in ours for name in re.findall(r"`([a-z_]+)`", cell)} - {
        "quantity",
        "towards",
    }  # one is a column, the other part of a value
    table = with_specific(shifts(cells=6), 3, 0)
    tested, _ = shifts_tested([table], 3, frozenset({"E001"}))
    combined = ranklock.combinations(
        rows("A+B", [1.0, 2.0]), pd.concat([rows("A", [1.0, 1.0]), rows("B", [1.0, 1.0])])
    )
    there = set(tested) | set(combined) | OF_RESPONDERS | {"impact", "impact_share"}
    assert {"beyond_null", "sum_of_singles", "n_cells"} <= named
    assert named <= there
    table.assign(shift=np.abs(table["shift"])).to_parquet(tmp_path / "shifts.parquet")
    found = ranklock.knockouts(tmp_path / "shifts.parquet", min_cells=3)
    assert {"impact", "impact_share"} <= set(found.table)
    assert "bic_gain" in found.calibration
