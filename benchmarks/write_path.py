"""Share of a sweep's wall time outside the forwards: `python benchmarks/write_path.py`.

Forwards are what runs layers; outside are building inputs, inner products, effects, compression
and forcing to disk. Times are those of a sweep of whole cells under all arms, read whole.
"""

from __future__ import annotations

import argparse
import time
from importlib import import_module
from pathlib import Path

from common import checkpoint, machine, random_cells, synchronise, timed, workspace

import ranklock
from ranklock.engine import blocks
from ranklock.run.old_store import Store
from ranklock.run.old_sweep_plan import plan_sweep


def main() -> None:
    """Print the share for each length, and what writing alone takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", default="256,512,2048")
    parser.add_argument("--knockouts", type=int, default=128)
    asked = parser.parse_args()
    print(machine())
    sweep = import_module("ranklock.run.old_sweep")
    spent = {"forwards": 0.0, "writing": 0.0}

    def watched(owner: object, name: str, kind: str) -> None:
        original = getattr(owner, name)

        def clocked(*arguments: object, **options: object) -> object:
            synchronise()
            started = time.perf_counter()
            try:
                return original(*arguments, **options)
            finally:
                synchronise()
                spent[kind] += time.perf_counter() - started

        setattr(owner, name, clocked)

    watched(blocks, "_states_read", "forwards")
    watched(blocks, "first_layer", "forwards")
    watched(sweep, "measure_baseline", "forwards")
    watched(Store, "write", "writing")
    with workspace() as folder:
        model = ranklock.load_model(checkpoint(Path(folder) / "model"))
        for tokens in map(int, asked.tokens.split(",")):
            cells = random_cells([tokens], model)
            genes = [int(t) for t in cells.ranked[0][: min(asked.knockouts, 65536 // tokens)]]
            plan = plan_sweep(cells, model, genes)
            for turn in range(2):  # the first one warms up
                store = Store(
                    Path(folder) / f"{tokens}-{turn}" / "effects.zarr",
                    plan.effect_fields,
                    plan.knockout_fields,
                    "",
                )
                store.prepare()
                spent.update(forwards=0.0, writing=0.0)
                seconds = timed(sweep.run_blocks, plan, store, None, progress=False)
            outside = seconds - spent["forwards"]
            stored = sum(p.stat().st_size for p in store.folder.rglob("c/**/*") if p.is_file())
            numbers = plan.knockouts * tokens * len(plan.effect_fields) * 4
            print(
                f"{tokens:5d} tokens, 4 arms, {plan.knockouts} knock-outs: {seconds:.2f} s, "
                f"{100 * outside / seconds:.1f} % outside the forwards, "
                f"{100 * spent['writing'] / seconds:.1f} % writing; "
                f"stored at {100 * stored / numbers:.0f} % of float32",
                flush=True,
            )


if __name__ == "__main__":
    main()
