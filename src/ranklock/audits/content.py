"""An audit as JSON: the same content as its report, by a published schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from ranklock.audits.answers import QUESTIONS, Answers

FORMAT = "ranklock-audit"
SCHEMA_VERSION = 2
SECTIONS = tuple(QUESTIONS)


def content_of(
    answers: Answers, sample: Mapping[str, Any], manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """An audit as plain numbers and texts.

    Parameters
    ----------
    answers
        The answers.
    sample
        What was audited, of what, and what that left uncertain.
    manifest
        Manifest of the run under it.

    Returns
    -------
    Content that ``audit.schema.json`` describes: NaN are null, tables are left to their files.
    """
    parts = {name: plain(getattr(answers, name)) for name in SECTIONS}
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "verdict": [
            {"question": verdict.question, "asks": QUESTIONS[verdict.question],
             "answer": verdict.answer, "number": verdict.number, "tone": verdict.tone}
            for verdict in answers.verdicts
        ],
        "sample": plain(sample),
        **parts,
        "manifest": plain(manifest),
    }  # fmt: skip


def plain(value: Any) -> Any:
    """Values of an audit as JSON has them; data frames are left out, and NaN are None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in fields(value)
            if not isinstance(getattr(value, field.name), pd.DataFrame)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def schema() -> dict[str, Any]:
    """The JSON Schema of an audit."""
    text = (files("ranklock.audits") / "audit.schema.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content
