"""An audit as JSON: the same content as its report, by a published schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import pandas as pd

from ranklock.audits.answers import QUESTIONS, Answers
from ranklock.page.render import finite

FORMAT = "ranklock-audit"
SCHEMA_VERSION = 3


def content_of(
    answers: Answers, sample: Mapping[str, Any], manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """An audit as ``audit.schema.json`` describes it: NaN are null, tables are left out.

    ``sample`` says what was audited, of what, and what that left uncertain.
    """
    content: dict[str, Any] = finite(
        {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "verdict": [
                {"question": verdict.section, "asks": verdict.question, "answer": verdict.answer,
                 "number": verdict.number, "tone": verdict.tone}
                for verdict in answers.verdicts
            ],
            "sample": sample,
            **{name: _record(getattr(answers, name)) for name in (*QUESTIONS, "position_table")},
            "manifest": manifest,
        }
    )  # fmt: skip
    return content


def _record(answer: Any) -> dict[str, Any] | None:
    """An answer without its tables."""
    if answer is None:
        return None
    parts = asdict(answer).items()
    return {name: part for name, part in parts if not isinstance(part, pd.DataFrame)}


def schema() -> dict[str, Any]:
    """The JSON Schema of an audit."""
    text = (files("ranklock.audits") / "audit.schema.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content
