"""What an audit may spend."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ranklock.errors import OptionError

DEFAULT_BUDGET = "4000"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Budget:
    """What an audit may spend: forwards, or seconds; one of them is None."""

    text: str
    forwards: int | None
    seconds: float | None


def parse_budget(text: str | int) -> Budget:
    """Budget from ``4000`` (forwards), ``90s``, ``10m`` or ``2h``.

    Raises
    ------
    OptionError
        When it is none of these, or nothing.
    """
    written = str(text).strip()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", written)
    number = float(match[1]) if match else 0.0
    if not match or number <= 0 or (not match[2] and number != int(number)):
        raise OptionError(
            f"--budget {text!r} is neither a number of forwards (4000) nor a time (90s, 10m, 2h)."
        )
    if match[2]:
        return Budget(written, None, number * _UNITS[match[2]])
    return Budget(written, int(number), None)
