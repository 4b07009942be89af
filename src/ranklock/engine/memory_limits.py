"""Limits on a process's memory, set by cgroups and SLURM, which the machine's numbers leave out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_UNLIMITED = 1 << 60  # v1 writes no limit as the largest number of pages, which differs by kernel
_MEBIBYTE = 1 << 20


class Limit(NamedTuple):
    """A limit on the memory of some processes, this one among them.

    Attributes
    ----------
    size
        Bytes that they can have in all.
    used
        Bytes that they have, without those that the kernel takes back when it needs them.
    """

    size: int
    used: int

    def share(self, held: int) -> int:
        """Bytes left to a process that holds some: what is free, and those, as they are in use."""
        others = max(0, self.used - held)
        return max(0, self.size - others)


class _Names(NamedTuple):
    """Files of a cgroup that say what memory it has, and what of that can be reclaimed."""

    size: str
    used: str
    reclaimable: str


_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Names("memory.max", "memory.current", "inactive_file")


def memory_limits(root: Path, environment: Mapping[str, str]) -> list[Limit]:
    """Limits on this process's memory, in no order; what cannot be read sets none.

    Parameters
    ----------
    root
        Folder that ``proc`` and ``sys`` are in.
    environment
        Environment variables.
    """
    return [*_cgroup_limits(root), *_slurm_limits(environment)]


def _cgroup_limits(root: Path) -> Iterator[Limit]:
    """Limits of this process's cgroups and of those that they are in."""
    mount = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield from _limits_along(mount, path, _V2)
        elif "memory" in controllers.split(","):
            yield from _limits_along(mount / "memory", path, _V1)


def _limits_along(mount: Path, path: str, names: _Names) -> Iterator[Limit]:
    """Limits of a cgroup and of all that it is in.

    The mount itself is one of them: in a container it often is the process's own cgroup, and the
    path, which is the host's, leads nowhere.
    """
    group = mount / path.strip("/")
    for folder in (group, *group.parents):
        size = _number(_text(folder / names.size))
        used = _number(_text(folder / names.used))
        if size is not None and used is not None:
            reclaimable = _statistic(_text(folder / "memory.stat"), names.reclaimable)
            yield Limit(size, max(0, used - reclaimable))
        if folder == mount:
            return


def _slurm_limits(environment: Mapping[str, str]) -> Iterator[Limit]:
    """Limits of the SLURM job; what its other processes hold, only its cgroup would say."""
    node = _number(environment.get("SLURM_MEM_PER_NODE", ""))
    if node:  # zero asks for all the memory of the node
        yield Limit(node * _MEBIBYTE, 0)
    cpu = _number(environment.get("SLURM_MEM_PER_CPU", ""))
    cpus = _number(environment.get("SLURM_CPUS_ON_NODE", ""))
    if cpu and cpus:
        yield Limit(cpu * cpus * _MEBIBYTE, 0)


def _text(path: Path) -> str:
    """Text of a file; none where it is missing or cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):  # ValueError: bytes that are no text, names that are no names
        return ""


def _number(text: str) -> int | None:
    """The number that a text is; None where it is none, ``max``, or too large to be a limit."""
    try:
        number = int(text)
    except ValueError:
        return None
    return number if 0 <= number < _UNLIMITED else None


def _statistic(text: str, name: str) -> int:
    """A number of ``memory.stat``; zero where it is missing."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _number(value) or 0
    return 0
