"""Files, bytes and peak memory against work: `python benchmarks/files_and_memory.py`.

One gene in more and more short cells, and all genes of more and more long cells. Each point is a
process of its own, so that its peak memory is its own; the memory of a point with almost no work
(imports, model, cells) is beside it. Long cells take a checkpoint of two layers: neither files nor
memory depend on the number of layers, and time does. Needs Linux's /proc.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import checkpoint, machine, random_cells, timed, workspace

import ranklock

SHARED = 2  # token of the gene that all cells have
SHORT = {"tokens": 100, "genes": [str(SHARED)], "arms": ["delete", "hold"], "read": ["cell"]}
LONG = {"tokens": 2048, "genes": "all", "arms": ["delete"], "read": ["genes"]}


def point(model_folder: str, cells: int, tokens: int, **asked: Any) -> dict[str, float]:
    """Files, memory and time of one run, in this process."""
    model = ranklock.load_model(model_folder)
    chosen = random_cells([tokens] * cells, model, shared=[SHARED])
    with workspace() as folder:
        out = Path(folder) / "run"
        before = peak_memory()
        seconds = timed(ranklock.perturb, chosen, model, out=out, progress=False, **asked)
        peak = peak_memory()
        files = [path for path in out.rglob("*") if path.is_file()]
        return {
            "tasks": ranklock.read_run(out).progress()[1],
            "seconds": seconds,
            "files": len(files),
            "mib": sum(path.stat().st_size for path in files) / 2**20,
            "before": before,
            "peak": peak,
        }


def peak_memory() -> float:
    """Most memory that this process has had, in MiB."""
    status = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(status[1]) / 1024 if status else float("nan")


def main() -> None:
    """Print a line a point, and how files and memory grow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", default="100,1000,10000", help="numbers of short cells")
    parser.add_argument("--long", default="1,2,4", help="numbers of long cells")
    parser.add_argument("--tokens", type=int, default=2048, help="of long cells")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.point:
        print(json.dumps(point(**json.loads(asked.point))))
        return
    print(machine())
    with workspace() as folder:
        model = str(checkpoint(Path(folder) / "model"))
        series({"model_folder": model, **SHORT}, asked.short)
        shallow = str(checkpoint(Path(folder) / "shallow", num_hidden_layers=2))
        series({"model_folder": shallow, **LONG, "tokens": asked.tokens}, asked.long)


def series(shape: dict[str, Any], numbers: str) -> None:
    """Points of one shape, for more and more cells."""
    points = []
    for cells in map(int, numbers.split(",")):
        result = subprocess.run(
            [sys.executable, __file__, "--point", json.dumps({**shape, "cells": cells})],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        points.append(json.loads(result.stdout))
        last = points[-1]
        print(
            f"{cells} cells of {shape['tokens']} genes, {last['tasks']} tasks: "
            f"{last['seconds']:.1f} s, {last['files']} files, {last['mib']:.1f} MiB on disk; peak "
            f"memory {last['peak']:.0f} MiB ({last['before']:.0f} before the run)",
            flush=True,
        )
    first, last = points[0], points[-1]
    growth = {name: last[name] / first[name] for name in ("tasks", "files", "mib", "peak")}
    print(
        f"tasks × {growth['tasks']:.0f}: files × {growth['files']:.1f}, bytes × "
        f"{growth['mib']:.1f}, peak memory × {growth['peak']:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
