import json

import jsonschema
import numpy as np
import pandas as pd

from ranklock.audits.content import plain, schema
from ranklock.statistics.intervals import Estimate


def test_an_audit_is_what_its_schema_says(tiny_audit):
    content = json.loads((tiny_audit.folder / "audit.json").read_text())
    jsonschema.validate(content, schema())
    assert content["links"]["scores"]["hold"]["auroc"]["replicates"] == "regulators"
    assert content["rankings"]["goal"]["what"] == "shift towards the goal"


def test_the_schema_is_one_and_refuses_what_it_does_not_know(tiny_audit):
    jsonschema.Draft202012Validator.check_schema(schema())
    validator = jsonschema.Draft202012Validator(schema())
    content = {**tiny_audit.content}
    assert validator.is_valid(content)
    assert not validator.is_valid({**content, "more": 1})
    assert not validator.is_valid({**content, "schema_version": 1})
    assert not validator.is_valid({**content, "verdict": content["verdict"][:4]})


def test_numbers_become_plain():
    found = plain(
        {"a": Estimate(np.float64(1.5), np.nan, np.inf, 3, "none"), 5: (np.int64(2), "x"),
         "table": [pd.Timestamp(0)][:0]}
    )  # fmt: skip
    assert found["a"] == {"value": 1.5, "low": None, "high": None, "n": 3, "replicates": "none"}
    assert found["5"] == [2, "x"]
