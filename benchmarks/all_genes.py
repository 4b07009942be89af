"""All genes of one cell against today's way: `python benchmarks/all_genes.py`.

Arm `delete`, effects on all genes, float32. Ours is the whole of `ranklock.perturb`, with its plan,
noise floor and files; today's way is that of `today.py`, over as many of the knock-outs as fit the
time, and counted a knock-out. `--release COMMIT` also times the sweep of an older commit of this
repository, in a process of its own, in the same turns.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import today
from common import (
    checkpoint,
    fastest_batch,
    in_turns,
    machine,
    random_cells,
    ratio,
    timed,
    workspace,
)

import ranklock

REPOSITORY = Path(__file__).resolve().parents[1]
# What the process of an older release does: a line of JSON in, seconds out.
_RELEASE = """
import json, pathlib, shutil, sys, time
import ranklock
from ranklock.cells import Cells
import numpy as np, pandas as pd
model = ranklock.load_model(sys.argv[1])
genes = range(2, model.vocab_size)
vocabulary = ranklock.Vocabulary({f"ENSG{t:011d}": t for t in genes}, {"<pad>": 0, "<mask>": 1})
for line in sys.stdin:
    asked = json.loads(line)
    ranked = (np.array(asked["cell"], dtype=np.int32),)
    cells = Cells(ranked, pd.DataFrame(index=["cell0"]), vocabulary, special_frame=False)
    shutil.rmtree(asked["out"], ignore_errors=True)
    started = time.perf_counter()
    ranklock.sweep(cells, model, asked["out"], asked["genes"], ["delete"], read="genes",
                   progress=False)
    print(time.perf_counter() - started, flush=True)
"""


class Release:
    """An older commit's sweep, in a process that stays."""

    def __init__(self, commit: str, folder: Path, model: Path) -> None:
        archive = subprocess.run(
            ["git", "archive", commit, "src"], cwd=REPOSITORY, capture_output=True, check=True
        )
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        code = f"import sys; sys.path.insert(0, {str(folder / 'src')!r})\n{_RELEASE}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(model)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.out = folder / "sweep"

    def seconds(self, cell: list[int], genes: list[int]) -> float:
        """Seconds of a sweep of some genes of a cell."""
        line = json.dumps({"cell": cell, "genes": genes, "out": str(self.out)})
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the release's process cannot be spoken to")
        print(line, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())


def main() -> None:
    """Print the times and their ratio, for each length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", default="256,512,2048")
    parser.add_argument("--genes", type=int, default=512, help="at most, of each cell's")
    parser.add_argument("--seconds", type=float, default=60.0, help="for today's way, a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--architecture", default="V1-10M")
    parser.add_argument("--attention", help="eager or sdpa; default: what transformers takes")
    parser.add_argument("--release", help="a commit to take turns with")
    asked = parser.parse_args()
    print(machine())
    with workspace() as folder:
        path = checkpoint(Path(folder) / "model", asked.architecture)
        model = ranklock.load_model(path)
        plain = today.load(path, asked.attention, model.device)
        print(
            f"{asked.architecture}, attention of today's way: {plain.config._attn_implementation}, "
            "gene level, arm delete; ranklock in --precision auto"
        )
        release = asked.release and Release(asked.release, Path(folder) / "release", path)
        for tokens in map(int, asked.tokens.split(",")):
            compare(plain, model, tokens, asked, Path(folder) / "run", release)


def compare(
    plain: today.BertForMaskedLM,
    model: ranklock.Model,
    tokens: int,
    asked: argparse.Namespace,
    out: Path,
    release: Release | None,
) -> None:
    """Time all ways on one cell, in turns."""
    cells = random_cells([tokens], model)
    cell = cells.ranked[0].tolist()
    number = min(asked.genes, tokens)
    ranks = np.linspace(0, tokens - 1, number).round().astype(int).tolist()
    genes = [cell[rank] for rank in ranks]
    similarities: today.Similarities = {}

    def perturb_as_today(count: int, batch: int) -> float:
        """Seconds for all knock-outs, from those of ``count``, evenly spread."""

        def work() -> None:
            similarities.clear()
            spread = ranks[:: number // count][:count]
            similarities.update(today.similarities_of_cell(plain, cell, spread, batch))

        return timed(work) / count * number

    def perturb(precision: str = "auto") -> float:
        shutil.rmtree(out, ignore_errors=True)
        wanted = "all" if number == tokens else list(map(str, genes))
        return timed(
            ranklock.perturb, cells, model, wanted, arms=["delete"], read=("genes",), out=out,
            precision=precision, progress=False,
        )  # fmt: skip

    perturb()
    perturb_as_today(1, 1)
    # Today's way takes the batch that suits it best here, of those that fit its memory.
    sizes = [size for size in (1, 8, 32) if size * tokens <= today.STRETCH and size <= number]
    batch = fastest_batch(lambda size: perturb_as_today(min(number, max(size, 4)), size), sizes)
    seconds_a_batch = perturb_as_today(batch, batch) / number * batch
    count = min(number, max(1, round(asked.seconds / seconds_a_batch)) * batch)
    ways = {"today": lambda: perturb_as_today(count, batch), "ranklock": perturb}
    if release is not None:
        release.seconds(cell, genes)
        ways["release"] = lambda: release.seconds(cell, genes)
    seconds = in_turns(ways, asked.rounds)
    method = ranklock.read_run(out).manifest.computed.method
    perturb("float32")  # not what was timed: today's way rounds as float32 does
    check(ranklock.read_run(out), similarities)
    line = (
        f"{tokens} tokens, {number} genes: today {np.median(seconds['today']):.1f} s (from {count} "
        f"knock-outs in batches of {batch}), ranklock {np.median(seconds['ranklock']):.1f} s; "
        f"{ratio(seconds['today'], seconds['ranklock'])}; computed as {method}"
    )
    if release is not None:
        line += (
            f"; release {asked.release} {np.median(seconds['release']):.1f} s, ranklock "
            f"{ratio(seconds['release'], seconds['ranklock'])}"
        )
    print(line, flush=True)


def check(run: ranklock.Run, similarities: today.Similarities) -> None:
    """Both ways found the same, to the rounding of 1 − cosine in float32."""
    checked = 0
    for block in run.blocks():
        for row, gene in enumerate(block.genes.tolist()):
            for column, responder in enumerate(block.responders.tolist()):
                if (gene, responder) in similarities:
                    distance = 1 - similarities[gene, responder][0]
                    difference = abs(block.distances["delete"][row, column] - distance)
                    assert difference < 2e-6, f"{difference} between the ways, {gene}, {responder}"
                    checked += 1
    assert checked == len(similarities), f"{checked} of {len(similarities)} pairs are in both"


if __name__ == "__main__":
    main()
