"""How many of the largest exact effects estimates find, and for how much; see ``estimate.py``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import pearsonr, spearmanr

import ranklock
from ranklock.cells import Cells
from ranklock.engine.batches import hidden_states
from ranklock.engine.tasks import measure_groups
from ranklock.estimates.attribution import Question, estimate_cell
from ranklock.estimates.cost import estimate_flop
from ranklock.page.style import STYLE, draw
from ranklock.run.asked import Asked
from ranklock.run.fields import CELL, towards
from ranklock.run.plan import Plan, make_plan, unperturbed_cell
from ranklock.run.states import GOAL, StateEmbeddings
from ranklock.run.store import SHIFTS
from ranklock.run.tabulate import tables_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = npt.NDArray[np.float64]

TOPS = (10, 20, 50)
VERIFIED = (10, 20, 50, 75, 100, 150, 200)
PROBES = (1, 2, 4, 8, 16, 32, 64)
WAYS = ("estimate", "derivative")
_LINES = {"estimate": ("#0072B2", "-"), "derivative": ("#D55E00", ":"), "rank": ("#888888", "--")}
_DRAWN = {1: "#56B4E9", 4: "#009E73", 16: "#0072B2", 64: "#000000"}  # probes
_PERCENT = (0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200)
_SHOWN = (10, 20, 50, 75, 100, 200)  # of those verified, in the tables


@dataclass(frozen=True, eq=False)
class Exact:
    """What every knock-out of a cell does under `hold`, each of shape (genes,), and its cost."""

    towards: Array
    potency: Array
    seconds: float
    flop: float

    def of(self, question: Question) -> Array:
        """The answers to a question."""
        return self.towards if question.signed else self.potency


def mean_embedding(cells: Cells, rows: Iterable[int], model: ranklock.Model) -> Array:
    """Mean cell embedding of some cells, second to last layer, shape (width,)."""
    inputs = [unperturbed_cell(cells, int(row), model) for row in rows]
    states = hidden_states(model, inputs, model.layers - 1)
    return np.mean([genes.mean(axis=0, dtype=np.float64) for genes in states], axis=0)


def hold_plan(
    cells: Cells, row: int, model: ranklock.Model, ranks: Iterable[int], goal: Array
) -> Plan:
    """Plan of `hold` knock-outs of one cell, read as shifts of the cell and towards a goal."""
    groups = np.zeros(len(cells), np.int64)
    states = StateEmbeddings((GOAL,), (None,), goal[None, None], groups, (), (), "")
    asked = Asked(arms=("hold",), read=(CELL,))
    return make_plan(cells, model, asked, ranks_of={row: list(ranks)}, states=states)


def shifts_of(plan: Plan, tasks: range) -> pd.DataFrame:
    """Shifts by some of a plan's tasks."""
    groups = plan.groups_of(tasks)
    inputs = [plan.group(group) for group in groups]
    measured = measure_groups(plan.model, inputs, plan.reading)
    return tables_of(plan, groups, inputs, measured)[SHIFTS].to_pandas()


def exact_effects(cells: Cells, row: int, model: ranklock.Model, goal: Array) -> Exact:
    """Knock out every gene of a cell, by a forward each."""
    genes = len(unperturbed_cell(cells, row, model))
    plan = hold_plan(cells, row, model, range(genes), goal)
    started = time.perf_counter()
    shards = [shifts_of(plan, plan.tasks_of(shard)) for shard in range(plan.shards)]
    seconds = time.perf_counter() - started
    shifts = pd.concat(shards)
    numbers = (shifts[name].to_numpy(float) for name in (towards(GOAL), "mean_gene_distance"))
    return Exact(*numbers, seconds, plan.flop)


def recall(exact: Array, estimate: Array, top: int, verified: int) -> float:
    """Share of the largest exact effects that is among the largest estimates, by absolute value."""

    def largest(values: Array, number: int) -> set[int]:
        return set(np.argsort(-np.abs(values), kind="stable")[:number].tolist())

    return len(largest(exact, top) & largest(estimate, verified)) / min(top, len(exact))


def curve(
    name: str,
    cells: Cells,
    rows: Sequence[int],
    model: ranklock.Model,
    goals: Sequence[Array],
    probes: Sequence[int] = PROBES,
    verified: Sequence[int] = VERIFIED,
) -> pd.DataFrame:
    """A row for each cell, question, number of probes, way, top and number verified.

    Parameters
    ----------
    name
        Of the cells, for the tables.
    cells, rows, model
        Which cells.
    goals
        Of each cell, the state that it may move towards.
    probes, verified
        What is varied.
    """
    points = []
    for row, goal in zip(rows, goals, strict=True):
        exact = exact_effects(cells, row, model, goal)
        cell = unperturbed_cell(cells, row, model)
        genes, depth = len(cell), model.layers - 1
        costs = {
            k: hold_plan(cells, row, model, _spread(genes, k), goal).flop
            for k in verified
            if k <= genes
        }
        of_cell = {"cells": name, "cell": row, "genes": genes,
                   "run_seconds": exact.seconds, "run_flop": exact.flop}  # fmt: skip
        by_rank = np.arange(genes, 0, -1.0)
        for question in (Question(goal=goal), *(Question(probes=number) for number in probes)):
            started = time.perf_counter()
            estimates = estimate_cell(
                model, cell, question, depth, special_frame=cells.special_frame
            )
            cost = {
                "seconds": time.perf_counter() - started,
                "flop": estimate_flop(model, genes, genes, depth, question.probes or 1),
            }
            asked = {
                "question": "goal" if question.signed else "potency",
                "probes": question.probes,
            }
            truth = exact.of(question)
            for way in WAYS:
                estimate = getattr(estimates, way)
                known = _correlations(truth, estimate, logarithms=not question.signed)
                points += _points(
                    of_cell | asked | {"way": way} | cost | known, truth, estimate, costs
                )
            if question.probes in (0, probes[0]):
                free = {
                    "way": "rank", "probes": 0, "seconds": 0.0, "flop": 0,
                    "pearson": np.nan, "spearman": spearmanr(np.abs(truth), by_rank)[0],
                }  # fmt: skip
                points += _points(of_cell | asked | free, truth, by_rank, costs)
    return pd.DataFrame(points)


def _points(
    common: dict[str, object], exact: Array, estimate: Array, costs: dict[int, float]
) -> list[dict[str, object]]:
    return [
        {**common, "top": top, "verified": k, "verify_flop": cost,
         "recall": recall(exact, estimate, top, k)}
        for top in TOPS for k, cost in costs.items()
    ]  # fmt: skip


def _spread(genes: int, number: int) -> list[int]:
    return np.unique(np.linspace(0, genes - 1, min(number, genes)).round().astype(int)).tolist()


def _correlations(exact: Array, estimate: Array, *, logarithms: bool) -> dict[str, float]:
    if logarithms:
        positive = (exact > 0) & (estimate > 0)
        x, y = np.log(exact[positive]), np.log(estimate[positive])
    else:
        x, y = exact, estimate
    return {"pearson": pearsonr(x, y)[0], "spearman": spearmanr(exact, estimate)[0]}


def tables(points: pd.DataFrame) -> str:
    """The curve in words, for each set of cells and each question."""
    lines: list[str] = []
    for (name, question), part in points.groupby(["cells", "question"], sort=False):
        cells = part["cell"].nunique()
        of_logarithms = " (Pearson of logarithms)" if question == "potency" else ""
        lines += [
            "", f"{name}, {question}: {cells} cell{'s' * (cells > 1)}{of_logarithms}",
            _run_in_words(part), "", _table(part),
        ]  # fmt: skip
    return "\n".join(lines).strip()


def _run_in_words(part: pd.DataFrame) -> str:
    cells = part.drop_duplicates("cell")
    return (
        f"genes {cells['genes'].min()} to {cells['genes'].max()}; the exact run: "
        f"{cells['run_seconds'].mean():.1f} s and {cells['run_flop'].mean() / 1e9:,.0f} GFLOP "
        "a cell"
    )


def _table(part: pd.DataFrame) -> str:
    verified = [k for k in _SHOWN if k in set(part["verified"])]
    heads = ["way", "probes", "Pearson", "Spearman", "s", "GFLOP", "exact top",
             *(f"k = {k}" for k in verified)]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    # The estimate itself in full; of what it is compared with, one row each.
    shown = part[(part["way"] == "estimate") | (part["top"] == TOPS[-1])]
    for (way, probes, top), rows in shown.groupby(["way", "probes", "top"], sort=False):
        cells = rows.drop_duplicates("cell")
        by_k = rows.groupby("verified")["recall"]
        recalls = [f"{by_k.mean()[k]:.3f} ({by_k.min()[k]:.2f})" for k in verified]
        pearson = cells["pearson"].mean()
        texts = [
            way, str(probes or ""), "" if np.isnan(pearson) else f"{pearson:.4f}",
            f"{cells['spearman'].mean():.4f}", f"{cells['seconds'].mean():.3f}",
            f"{cells['flop'].mean() / 1e9:.1f}", str(top), *recalls,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(texts)} |")
    genes = part.drop_duplicates("cell")["genes"].mean()
    chance = [f"{min(k / genes, 1):.3f}" for k in verified]
    lines.append(f"| by chance |  |  |  |  |  | any | {' | '.join(chance)} |")
    return "\n".join(lines)


def figure(points: pd.DataFrame, path: Path, top: int = 50) -> None:
    """Recall of the exact top against operations, as shares of the exact run's."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # With fewer verified than are sought, k / top is the most that can be found.
    of_top = points[(points["top"] == top) & (points["verified"] >= top)]
    share = (of_top["flop"] + of_top["verify_flop"]) / of_top["run_flop"]
    of_top = of_top.assign(share=100 * share)
    names, questions = of_top["cells"].unique(), ("goal", "potency")
    with mpl.rc_context(STYLE):
        drawn = Figure(figsize=(7.2, 0.4 + 2.4 * len(names)), layout="constrained")
        axes = drawn.subplots(len(names), 2, squeeze=False, sharey=True)
        for name, line in zip(names, axes, strict=True):
            for question, axis in zip(questions, line, strict=True):
                part = of_top[(of_top["cells"] == name) & (of_top["question"] == question)]
                _draw_lines(axis, part)
                axis.axhline(0.95, color="#888888", linewidth=0.7)
                axis.set_title(f"{name}: {question}", loc="left")
                axis.set_xscale("log")
                axis.set_xticks(_PERCENT, map(str, _PERCENT))
                axis.set_xticks([], minor=True)
                axis.set_xlim(0.8 * part["share"].min(), 1.25 * part["share"].max())
                place = "center left" if question == "goal" else "lower right"
                axis.legend(frameon=False, fontsize=7, loc=place)
            line[0].set_ylabel(f"share of the exact top {top}\nthat was verified")
        for axis in axes[-1]:
            axis.set_xlabel("operations, % of the exact run's")
        draw(drawn, path)


def _draw_lines(axis: Axes, part: pd.DataFrame) -> None:
    """A line for each way and number of probes, over the numbers verified."""
    for (way, probes), rows in part.groupby(["way", "probes"], sort=False):
        if probes and (way != "estimate" or probes not in _DRAWN):
            continue
        colour, style = _LINES[way] if not probes else (_DRAWN[probes], "-")
        label = {"estimate": "removal", "rank": "first ranks"}.get(way, way)
        if probes:
            label = f"removal, {probes} probe{'s' * bool(probes > 1)}"
        mean = rows.groupby("verified")[["share", "recall"]].mean()
        axis.plot(
            mean["share"], mean["recall"], style, marker="o", markersize=3, color=colour,
            linewidth=1.2, label=label,
        )  # fmt: skip
