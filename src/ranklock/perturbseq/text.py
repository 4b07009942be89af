"""How numbers of evaluations are written, for people and for programs."""

from __future__ import annotations

import math
from typing import Any

from ranklock.statistics.intervals import Estimate


def number(value: float, shape: str = ".3f") -> str:
    """A number, or a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:{shape}}"


def signed(estimate: Estimate) -> str:
    """A difference with its interval, where it has one."""
    if math.isnan(estimate.value):
        return "–"
    if math.isnan(estimate.low):
        return f"{estimate.value:+.3f}"
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def plain(content: Any) -> Any:
    """The same with what JSON can hold: None for numbers that are not there."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
