import os
import subprocess
import sys

DRAW = """
import sys
from pathlib import Path
import pandas as pd
from ranklock.page.style import draw
from ranklock.significance.figures import network_figure
pairs = [("A", "B"), ("A", "C"), ("B", "D"), ("E", "F"), ("G", "H"), ("H", "I"), ("I", "J")]
findings = pd.DataFrame(pairs, columns=["gene", "responder"]).assign(specific=1.0)
draw(network_figure(findings, "hold"), Path(sys.argv[1]))
"""


def test_a_network_is_drawn_alike_whatever_the_seed_of_hashes(tmp_path):
    """Networks of several parts: sets of their genes come in another order in every process."""
    for seed in ("0", "1", "2"):
        subprocess.run(
            [sys.executable, "-c", DRAW, tmp_path / f"{seed}.svg"], check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
    first, *others = (path.read_bytes() for path in sorted(tmp_path.glob("*.svg")))
    assert all(other == first for other in others)
