"""Time and peak memory against tokens, knock-outs, cells and arms: `python benchmarks/growth.py`.

Each point is a process of its own, so that its peak memory is its own. Times are those of whole
sweeps, the noise floor's forwards included. Needs Linux's /proc.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from common import checkpoint, machine, random_cells, timed, workspace

_ARMS = ("hold", "delete", "mask", "shift")


def point(model_folder: str, tokens: int, knockouts: int, cells: int, arms: int) -> dict:
    """Time and memory of one sweep, in this process."""
    import ranklock

    model = ranklock.load_model(model_folder)
    chosen = random_cells([tokens] * cells, model)
    genes = None
    if knockouts < tokens:  # the same number in each cell: their first ranks
        genes = sorted({int(t) for ranked in chosen.ranked for t in ranked[:knockouts]})
    options = {"progress": False, "arms": _ARMS[:arms]}
    with workspace() as folder:
        plan = ranklock.plan_sweep(chosen, model, genes, _ARMS[:arms])
        seconds = timed(ranklock.sweep, chosen, model, f"{folder}/run", genes, **options)
    peak = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
    return {
        "seconds": seconds,
        "memory": int(peak[1]) / 1024 if peak else float("nan"),
        "planned": plan.memory / 2**20,
        "knockouts": plan.knockouts,
    }


def main() -> None:
    """Print a line a point, and the slopes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.point:
        print(json.dumps(point(**json.loads(asked.point))))
        return
    print(machine())
    with workspace() as folder:
        model = str(checkpoint(Path(folder) / "model", max_position_embeddings=4096))
        base = {"model_folder": model, "tokens": 256, "knockouts": 64, "cells": 1, "arms": 4}
        axes = {
            "tokens": (256, 512, 1024, 2048, 4096),
            "knockouts": (32, 64, 128, 256),
            "cells": (1, 2, 4, 8),
            "arms": (1, 2, 4),
        }
        for axis, values in axes.items():
            found = []
            for value in values:
                here = {**base, axis: value}
                if axis == "tokens":
                    here |= {"knockouts": 8, "arms": 1}
                out = subprocess.run(
                    [sys.executable, __file__, "--point", json.dumps(here)],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                found.append(json.loads(out.stdout))
                last = found[-1]
                print(
                    f"{axis} {value}: {last['knockouts']} knock-outs, {last['seconds']:.2f} s, "
                    f"peak {last['memory']:.0f} MiB (planned {last['planned']:.0f})",
                    flush=True,
                )
            # Fixed costs weigh on the small ones; the last two show where it goes.
            (x, y), seconds, memory = (
                values[-2:], *([f[k] for f in found[-2:]] for k in ("seconds", "memory"))
            )  # fmt: skip
            time_slope = np.log(seconds[1] / seconds[0]) / np.log(y / x)
            memory_slope = np.log(memory[1] / memory[0]) / np.log(y / x)
            print(
                f"{axis}: from {x} to {y}, time grows as the power {time_slope:.2f}, peak memory "
                f"as the power {memory_slope:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
