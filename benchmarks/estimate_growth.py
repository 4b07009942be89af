"""Time and peak memory of estimates against cells: `python benchmarks/estimate_growth.py`.

Demo cells, drawn with replacement where more are asked for than there are, each under a name of its
own; the question is the way from monocytes' first state to a goal that is the mean embedding of B
cells. Each point is a process of its own, so that its peak memory is its own. Needs Linux's /proc.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from common import machine, timed, workspace


def point(cells: int, probes: int) -> dict[str, float]:
    """Time and memory of the estimates of some cells, in this process."""
    import ranklock
    from ranklock.cells import Cells

    model = ranklock.load_model(ranklock.demo.model_folder())
    every = ranklock.read_cells(ranklock.demo.cells_file(), ranklock.demo.vocabulary_file())
    rows = np.random.default_rng(0).choice(len(every), cells, replace=cells > len(every))
    obs = every.obs.iloc[rows].set_axis([f"{row}-{i}" for i, row in enumerate(rows)])
    obs["state"] = "start"
    goal = every[np.flatnonzero(every.obs["cell_type"] == "CD19+ B")]
    goal_obs = goal.obs.set_axis([f"goal-{name}" for name in goal.names]).assign(state="goal")
    import pandas as pd

    chosen = Cells(
        (*(every.ranked[row] for row in rows), *goal.ranked), pd.concat([obs, goal_obs]),
        every.vocabulary, every.special_frame, source="demo cells",
    )  # fmt: skip
    question = (
        {"potency": True, "probes": probes}
        if probes
        else {"goal": ranklock.States("state", "start", "goal")}
    )
    chosen = chosen[:cells] if probes else chosen
    before = _peak()
    with workspace() as folder:
        seconds = timed(
            ranklock.estimate, chosen, model, f"{folder}/run", progress=False, **question
        )
        estimates = ranklock.read_estimates(f"{folder}/run")
        parts = [path.stat() for path in Path(f"{folder}/run/by_cell").iterdir()]
        begun = Path(f"{folder}/run/genes.parquet").stat().st_mtime
        return {
            "seconds": seconds,
            "estimates": max(part.st_mtime for part in parts) - begun,
            "knockouts": estimates.manifest.planned.knockouts,
            "measured": len(estimates.verified),
            "before": before,
            "memory": _peak(),
            "disk": sum(part.st_size for part in parts) / 2**20,
        }


def _peak() -> float:
    """Peak resident memory in MiB so far."""
    peak = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    return int(peak[1]) / 1024 if peak else float("nan")


def main() -> None:
    """Print a line a point, and the slopes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", default="125,250,500,1000")
    parser.add_argument("--probes", type=int, default=0, help="potency by so many; 0: a goal")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.point:
        print(json.dumps(point(int(asked.point), asked.probes)))
        return
    print(machine())
    sizes = [int(size) for size in asked.cells.split(",")]
    points = []
    print("| cells | knock-outs | estimates, s | a cell, ms | measured by forwards | in all, s "
          "| peak memory, MiB | of which before | estimates on disk, MiB |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    for size in sizes:
        out = subprocess.run(
            [sys.executable, __file__, "--point", str(size), "--probes", str(asked.probes)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if out.returncode:
            sys.exit(out.stderr)
        numbers = json.loads(out.stdout)
        points.append(numbers)
        each = numbers["estimates"] / size * 1e3
        columns = [
            f"{size:,}", f"{numbers['knockouts']:,}", f"{numbers['estimates']:.1f}", f"{each:.0f}",
            f"{numbers['measured']:,}", f"{numbers['seconds']:.1f}", f"{numbers['memory']:.0f}",
            f"{numbers['before']:.0f}", f"{numbers['disk']:.1f}",
        ]  # fmt: skip
        print(f"| {' | '.join(columns)} |", flush=True)
        time.sleep(1)
    for what in ("estimates", "memory"):
        slope = np.polyfit(np.log(sizes), np.log([point[what] for point in points]), 1)[0]
        print(f"{what}: grow as the power {slope:.2f} of the cells")


if __name__ == "__main__":
    main()
