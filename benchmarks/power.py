"""What tests of folds find, and how often wrongly, against donors, cells and impostors.

    python benchmarks/power.py

Simulated folds of 1,000 pairs, 50 of which truly move some times as far as impostors do, the others
exactly at the minimum of 1.5: the hardest case for the error, for which 5 % is the promise. A fold
varies between donors and between cells, and with the impostors drawn: one impostor's effect varies
by a factor of some four. Printed are the share of the true pairs that are found and the share of
false ones among what is found, tested as `ranklock test` does, over donors and over cells.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

from ranklock.significance.claims import MINIMUM, Claims, Rule, claims_tested
from ranklock.statistics.minimum import Means

PAIRS, TRUE = 1000, 50
BETWEEN_DONORS, BETWEEN_CELLS, BETWEEN_IMPOSTORS = 0.10, 0.30, 0.60  # log10


def folds(
    draw: np.random.Generator, donors: int, cells: int, impostors: int, fold: float
) -> npt.NDArray[np.float64]:
    """Folds of every cell, log10, shape (donors, cells, pairs); the true ones come first."""
    mean = np.full(PAIRS, np.log10(MINIMUM))
    mean[:TRUE] = np.log10(fold)
    of_donor = BETWEEN_DONORS * draw.normal(size=(donors, 1, PAIRS))
    of_cell = BETWEEN_CELLS * draw.normal(size=(donors, cells, PAIRS))
    # The same impostors stand beside all responders of a cell: their strength is common to all.
    strength = BETWEEN_IMPOSTORS / np.sqrt(impostors)
    common = strength * draw.normal(size=(donors, cells, 1)) * np.sqrt(0.5)
    own = strength * draw.normal(size=(donors, cells, PAIRS)) * np.sqrt(0.5)
    return np.asarray(mean + of_donor + of_cell - common - own)


def found(values: npt.NDArray[np.float64], *, donors: bool) -> npt.NDArray[np.bool_]:
    """Which pairs are findings, over donors or over cells."""
    cells = values.shape[0] * values.shape[1]
    of_replicates = values.mean(axis=1) if donors else values.reshape(cells, -1)
    number = np.full(PAIRS, len(of_replicates))
    means = Means(of_replicates.mean(axis=0), of_replicates.var(axis=0, ddof=1), number)
    claims = Claims(means, np.full(PAIRS, cells), signed=False)
    rule = Rule(donor="donor" if donors else None)
    return claims_tested(claims, rule, None)["finding"].to_numpy(bool)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--folds", default="2,3,5", help="times as far as impostors, of the true pairs"
    )
    options = parser.parse_args()
    rows = []
    for donors, cells, impostors in (
        (4, 25, 12), (8, 25, 12), (16, 25, 12), (8, 5, 12), (8, 100, 12), (8, 25, 2), (8, 25, 48),
    ):  # fmt: skip
        for over_donors in (True, False):
            row = [str(donors), str(cells), str(impostors), "donors" if over_donors else "cells"]
            wrong = []
            for fold in map(float, options.folds.split(",")):
                draw = np.random.default_rng(0)
                findings = np.array([
                    found(folds(draw, donors, cells, impostors, fold), donors=over_donors)
                    for _ in range(options.rounds)
                ])  # fmt: skip
                row.append(f"{findings[:, :TRUE].mean():.0%}")
                false = findings[:, TRUE:].sum(axis=1)
                wrong.append((false / np.maximum(findings.sum(axis=1), 1)).mean())
            rows.append([*row, f"{max(wrong):.1%}"])
    titles = ["donors", "cells each", "impostors", "tested over"]
    titles += [f"found at ×{fold}" for fold in options.folds.split(",")]
    print("| " + " | ".join([*titles, "false among found, at most"]) + " |")
    print("|" + "---|" * (len(titles) + 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
