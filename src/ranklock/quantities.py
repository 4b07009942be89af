"""Times, sizes and large numbers in words, and what is free on a disk."""

from __future__ import annotations

import shutil
from pathlib import Path


def duration(seconds: float) -> str:
    """A time in words."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def count(number: float) -> str:
    """A large number with its prefix, a unit to follow."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number / 1e6:.3g} M"


def percent(part: float) -> str:
    """A part of a whole, in two digits: "0.031 %"."""
    return f"{100 * part:.2g} %"


def size(number: float) -> str:
    """A number of bytes in words."""
    for prefix, size in (("TiB", 1 << 40), ("GiB", 1 << 30)):
        if number >= size:
            return f"{number / size:.1f} {prefix}"
    return f"{max(number / (1 << 20), 0.1):.1f} MiB"


def free_disk(folder: Path) -> int:
    """Bytes that are free where a folder is, or would be."""
    there = next(place for place in (folder.resolve(), *folder.resolve().parents) if place.exists())
    return shutil.disk_usage(there).free


def counted(number: int, noun: str) -> str:
    """A number of things: "1 cell", "2,000 cells"."""
    return f"{number:,} {noun}" + "s" * (number != 1)
