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

    forwards: int | None
    seconds: float | None


def parse_budget(text: str | int) -> Budget:
    """Budget from ``4000`` (forwards), ``90s``, ``10m`` or ``2h``.

    Raises
    ------
    OptionError
        When it is none of these, or nothing.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", str(text))
    number = float(found[1]) if found else 0.0
    if not found or number <= 0 or (not found[2] and number != int(number)):
        raise OptionError(
            f"--budget {text!r} is neither a number of forwards (4000) nor a time (90s, 10m, 2h)."
        )
    if found[2]:
        return Budget(None, number * _UNITS[found[2]])
    return Budget(int(number), None)
