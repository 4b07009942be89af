import os
from collections import namedtuple

import psutil
import pytest

from ranklock.engine import memory
from ranklock.engine.memory_limits import Limit, memory_limits

GIB = 1 << 30
MIB = 1 << 20

V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


@pytest.fixture
def process(tmp_path):
    """Writes the cgroups that the process is in."""

    def write(*lines):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))

    return write


@pytest.fixture
def cgroup(tmp_path):
    """Writes the files of a cgroup."""

    def write(names, path, size, used, reclaimable=None):
        folder = tmp_path / "sys/fs/cgroup" / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / names[0]).write_text(f"{size}\n")
        (folder / names[1]).write_text(f"{used}\n")
        if reclaimable is not None:
            statistics = f"anon 7\nworkingset_{names[2]} 5\n{names[2]} {reclaimable}\nshmem 3\n"
            (folder / "memory.stat").write_text(statistics)

    return write


def test_nothing_there_is_no_limit(tmp_path):
    assert memory_limits(tmp_path, {}) == []


def test_cgroups_without_files_are_no_limit(tmp_path, process):
    process("4:memory:/job", "0::/job")
    assert memory_limits(tmp_path, {}) == []


def test_v2_with_its_page_cache_taken_off(tmp_path, process, cgroup):
    process("0::/user.slice/job")
    cgroup(V2, "user.slice/job", 8 * GIB, 5 * GIB, 2 * GIB)
    assert memory_limits(tmp_path, {}) == [Limit(8 * GIB, 3 * GIB)]


def test_v1_with_its_page_cache_taken_off(tmp_path, process, cgroup):
    process("9:name=systemd:/elsewhere", "4:cpu,memory:/slurm/job", "1:cpuset:/elsewhere", "0::/")
    cgroup(V1, "memory/slurm/job", 8 * GIB, 5 * GIB, 2 * GIB)
    cgroup(V1, "memory/elsewhere", 1 * GIB, 0)
    assert memory_limits(tmp_path, {}) == [Limit(8 * GIB, 3 * GIB)]


@pytest.mark.parametrize(
    ("names", "line", "mount"), [(V1, "4:memory:", "memory/"), (V2, "0::", "")], ids=["v1", "v2"]
)
def test_limits_of_the_groups_around_hold_too(tmp_path, process, cgroup, names, line, mount):
    process(f"{line}/outer/middle/inner")
    cgroup(names, f"{mount}outer/middle/inner", 8 * GIB, 1 * GIB)
    cgroup(names, f"{mount}outer/middle", "max", 2 * GIB)
    cgroup(names, f"{mount}outer", 4 * GIB, 3 * GIB)
    cgroup(names, f"{mount}outer/sibling", 1 * GIB, 1 * GIB)
    limits = memory_limits(tmp_path, {})
    assert limits == [Limit(8 * GIB, 1 * GIB), Limit(4 * GIB, 3 * GIB)]
    assert min(limit.share(GIB // 2) for limit in limits) == GIB + GIB // 2


@pytest.mark.parametrize(
    ("names", "line", "mount"), [(V1, "4:memory:", "memory"), (V2, "0::", "")], ids=["v1", "v2"]
)
@pytest.mark.parametrize("path", ["/", "/docker/3f2a", "/../other"])
def test_a_container_sees_its_own_group_as_the_mount(
    tmp_path, process, cgroup, names, line, mount, path
):
    process(line + path)
    cgroup(names, mount, 2 * GIB, 1 * GIB)
    assert memory_limits(tmp_path, {}) == [Limit(2 * GIB, 1 * GIB)]


def test_a_path_may_have_colons(tmp_path, process, cgroup):
    process("0::/pod:a:b")
    cgroup(V2, "pod:a:b", 2 * GIB, 1 * GIB)
    assert memory_limits(tmp_path, {}) == [Limit(2 * GIB, 1 * GIB)]


def test_max_is_no_limit(tmp_path, process, cgroup):
    process("0::/job")
    cgroup(V2, "job", "max", 5 * GIB, 2 * GIB)
    assert memory_limits(tmp_path, {}) == []


@pytest.mark.parametrize("size", [2**63 - 4096, 2**63 - 65536, 2**64 - 1, -1])
def test_a_huge_number_is_no_limit(tmp_path, process, cgroup, size):
    process("4:memory:/job")
    cgroup(V1, "memory/job", size, 5 * GIB, 2 * GIB)
    assert memory_limits(tmp_path, {}) == []


@pytest.mark.parametrize("garbage", ["", "\n", "much", "1e9", "12 34", "\0"])
def test_garbage_is_no_limit(tmp_path, process, cgroup, garbage):
    process("0::/outer/inner", "4:memory:/job", garbage, "::", "no colons", "0::/\0")
    cgroup(V2, "outer/inner", garbage, 1 * GIB)
    cgroup(V2, "outer", 1 * GIB, garbage)
    cgroup(V1, "memory/job", 8 * GIB, 1 * GIB, garbage)
    assert memory_limits(tmp_path, {}) == [Limit(8 * GIB, 1 * GIB)]


def test_bytes_that_are_no_text_are_no_limit(tmp_path, process, cgroup):
    process("0::/job")
    cgroup(V2, "job", 8 * GIB, 1 * GIB)
    (tmp_path / "sys/fs/cgroup/job/memory.max").write_bytes(b"\xff\xfe1")
    assert memory_limits(tmp_path, {}) == []
    (tmp_path / "proc/self/cgroup").write_bytes(b"0::/\xff\n")
    assert memory_limits(tmp_path, {}) == []


def test_what_cannot_be_read_is_no_limit(tmp_path, process, cgroup):
    process("0::/job")
    cgroup(V2, "job", 8 * GIB, 1 * GIB)
    os.remove(tmp_path / "sys/fs/cgroup/job/memory.max")
    (tmp_path / "sys/fs/cgroup/job/memory.max").mkdir()  # root can read any file, but no folder
    assert memory_limits(tmp_path, {}) == []


def test_more_page_cache_than_use_is_no_use(tmp_path, process, cgroup):
    process("0::/job")
    cgroup(V2, "job", 8 * GIB, 1 * GIB, 2 * GIB)  # they are read one after the other
    assert memory_limits(tmp_path, {}) == [Limit(8 * GIB, 0)]


@pytest.mark.parametrize(
    ("environment", "sizes"),
    [
        ({"SLURM_MEM_PER_NODE": "4096"}, [4 * GIB]),
        ({"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_ON_NODE": "6"}, [6 * GIB]),
        (
            {
                "SLURM_MEM_PER_NODE": "4096",
                "SLURM_MEM_PER_CPU": "1024",
                "SLURM_CPUS_ON_NODE": "6",
            },
            [4 * GIB, 6 * GIB],
        ),
        ({"SLURM_MEM_PER_CPU": "1024"}, []),
        ({"SLURM_CPUS_ON_NODE": "6"}, []),
        ({"SLURM_MEM_PER_NODE": "0"}, []),  # all that the node has
        ({"SLURM_MEM_PER_CPU": "0", "SLURM_CPUS_ON_NODE": "6"}, []),
        ({"SLURM_MEM_PER_NODE": "lots", "SLURM_MEM_PER_CPU": "", "SLURM_CPUS_ON_NODE": "6"}, []),
    ],
)
def test_slurm_variables(tmp_path, environment, sizes):
    assert memory_limits(tmp_path, environment) == [Limit(size, 0) for size in sizes]


def test_cgroups_and_slurm_hold_together(tmp_path, process, cgroup):
    process("0::/job")
    cgroup(V2, "job", 8 * GIB, 1 * GIB)
    limits = memory_limits(tmp_path, {"SLURM_MEM_PER_NODE": "2048"})
    assert set(limits) == {Limit(8 * GIB, 1 * GIB), Limit(2 * GIB, 0)}


@pytest.mark.parametrize(
    ("used", "held", "share"),
    [
        (0, 0, 10),
        (6, 0, 4),
        (6, 2, 6),  # four that are free, and its own two
        (6, 6, 10),
        (3, 6, 10),  # what was charged to another group gives no more than the limit
        (12, 0, 0),
        (12, 4, 2),  # the limit was lowered: others hold eight
    ],
)
def test_what_a_process_holds_counts_once(used, held, share):
    assert Limit(10, used).share(held) == share


@pytest.fixture
def machine(monkeypatch):
    """A machine with 64 GiB available, and a process with 3 GiB, one of them of mapped files."""
    resident = namedtuple("resident", "rss shared")(3 * GIB, 1 * GIB)
    available = namedtuple("available", "available")(64 * GIB)
    process = namedtuple("process", "memory_info")(lambda: resident)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    monkeypatch.setattr(psutil, "Process", lambda: process)


@pytest.mark.parametrize(
    ("limits", "least"),
    [
        ([], 66 * GIB),
        ([Limit(16 * GIB, 5 * GIB)], 13 * GIB),
        ([Limit(16 * GIB, 5 * GIB), Limit(12 * GIB, 0)], 12 * GIB),
        ([Limit(1 << 50, 2 * GIB)], 66 * GIB),
    ],
)
@pytest.mark.usefixtures("machine")
def test_the_smallest_limit_says_what_is_available(monkeypatch, limits, least):
    monkeypatch.setattr(memory, "memory_limits", lambda root, environment: limits)
    assert memory.available_memory("cpu") == least


@pytest.mark.usefixtures("machine")
def test_the_environment_of_the_process_is_asked(monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")
    assert memory.available_memory("cpu") <= MIB
