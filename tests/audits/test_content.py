import json

import jsonschema

from ranklock.audits.content import schema


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
