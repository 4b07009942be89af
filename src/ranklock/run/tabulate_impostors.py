"""From inner products to what impostors do, and to folds over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranklock.arms import NOT_RANKED, Arm
from ranklock.effects import approach, distances
from ranklock.engine.groups import TaskGroup
from ranklock.engine.moments import Impostor
from ranklock.engine.readout import Measured
from ranklock.folds import (
    log_fold,
    moments_of_impostor,
    states_of_impostor,
    times_impostors,
)
from ranklock.run import fields as f
from ranklock.run.plan import Plan

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OfImpostors:
    """What one arm does to the impostors of tasks in one cell.

    Attributes
    ----------
    genes
        Cosine distances of the responders, shape (impostors, tasks, responders).
    numbers
        Field of the impostors' results → shape (impostors, tasks).
    """

    genes: Numbers
    numbers: Mapping[str, Numbers]

    def fold_of_genes(self, measured: Measured, arm: Arm) -> Numbers:
        """Folds of the responders' cosine distances, shape (tasks, responders)."""
        return log_fold(distances(measured.genes, arm.computed_as), self.genes)

    def folds(self, plan: Plan, values: Mapping[str, Numbers]) -> dict[str, Numbers]:
        """Field of the shifts → fold of each task.

        Parameters
        ----------
        plan
            The plan.
        values
            Field → the gene's own numbers, shape (tasks,).
        """
        return {
            each.fold.name: (times_impostors if each.signed else log_fold)(
                values[each.of_impostor.name], self.numbers[each.of_impostor.name]
            )
            for each in compared_fields_of(plan)
            if each.of_impostor.name in self.numbers
        }


def compared_fields_of(plan: Plan) -> tuple[f.Compared, ...]:
    """What of a plan's shifts is compared with impostors."""
    labels = () if plan.head is None else plan.head.labels
    return f.compared_fields(plan.state_names, labels)


def of_impostors(
    plan: Plan, group: TaskGroup, measured: Measured, arm: Arm, kept: npt.NDArray[np.bool_]
) -> OfImpostors:
    """What one arm does to the impostors of a group of tasks.

    Parameters
    ----------
    plan
        The plan.
    group, measured
        The tasks, and what was measured.
    arm
        An arm in which impostors are perturbed.
    kept
        Which responders are no perturbed genes, shape (tasks, responders).
    """
    parts = [
        _of_impostor(plan, group, measured, impostor, arm, kept) for impostor in group.impostors
    ]
    genes, numbers = zip(*parts, strict=True)
    names = numbers[0]
    return OfImpostors(
        np.stack(genes), {name: np.stack([of_one[name] for of_one in numbers]) for name in names}
    )


def _of_impostor(
    plan: Plan,
    group: TaskGroup,
    measured: Measured,
    impostor: Impostor,
    arm: Arm,
    kept: npt.NDArray[np.bool_],
) -> tuple[Numbers, dict[str, Numbers]]:
    name = arm.name
    genes = distances(moments_of_impostor(measured.genes, impostor, name), name)
    numbers: dict[str, Numbers] = {}
    if measured.cell is not None:
        cell = moments_of_impostor(measured.cell, impostor, name)
        numbers["cosine_distance"] = distances(cell, name)
        if measured.states is not None:
            turned = approach(cell, states_of_impostor(measured.states, impostor, name), name)
            for column, state in enumerate(plan.state_names):
                numbers[f.towards(state)] = turned[:, column]
        if reads_all_genes(group):
            numbers["mean_gene_distance"] = mean_over(genes, kept)
    if measured.logits is not None and plan.head is not None:
        logits = measured.logits
        change = logits[impostor.perturbed[name]] - logits[impostor.standing]
        for column, label in enumerate(plan.head.labels):
            numbers[f.change_of_logit(label)] = change[:, column]
    return genes, numbers


def reads_all_genes(group: TaskGroup) -> bool:
    """Whether every gene of a cell is among the responders that are read."""
    return len(group.responders) == int((group.baseline.ranks != NOT_RANKED).sum())


def mean_over(rows: Numbers, kept: npt.NDArray[np.bool_]) -> Numbers:
    """Mean over the responders that are kept, shape (tasks,); NaN where there are none."""
    known = kept & np.isfinite(rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, rows, 0.0).sum(axis=1) / known.sum(axis=1))


def impostor_columns(
    plan: Plan,
    keys: Mapping[str, pa.Array],
    group: TaskGroup,
    by_arm: Mapping[str, OfImpostors],
) -> dict[str, pa.Array]:
    """Columns of the impostors' results of a group: task by task, arm by arm, impostor by impostor.

    Parameters
    ----------
    plan
        The plan.
    keys
        Columns of the keys, each entry once for every arm and impostor.
    group
        The tasks, and their impostors.
    by_arm
        Arm → what it does to impostors.
    """
    columns = dict(keys)
    impostors, tasks, vocabulary = group.impostors, range(len(group)), plan.cells.vocabulary
    columns[f.ARM.name] = pa.array(
        [arm for _ in tasks for arm in by_arm for _ in impostors], pa.string()
    )
    sets = [impostor.tokens[task] for task in tasks for _ in by_arm for impostor in impostors]
    for field, name in zip(f.IMPOSTORS, (vocabulary.symbol, vocabulary.gene), strict=True):
        columns[field.name] = pa.array(
            [f.TOGETHER.join(name(token) for token in tokens) for tokens in sets], pa.string()
        )
    missing = np.full((len(impostors), len(group)), np.nan)
    for field in plan.impostor_fields:
        if field.name not in columns:
            values = [of_arm.numbers.get(field.name, missing) for of_arm in by_arm.values()]
            flat = np.stack(values).transpose(2, 0, 1).ravel()  # arms, impostors, tasks
            columns[field.name] = pa.array(flat, field.type, from_pandas=True)
    return columns
