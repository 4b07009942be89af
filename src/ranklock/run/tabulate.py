"""From inner products to the stored tables of a shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranklock.arms import NOT_RANKED, Arm, Change, rank_shift
from ranklock.effects import (
    Decomposition,
    approach,
    beyond_edit,
    decompose,
    displacements,
    distances,
    median,
)
from ranklock.engine.groups import TaskGroup
from ranklock.engine.moments import masking_pair
from ranklock.engine.readout import Measured
from ranklock.run import fields as f
from ranklock.run.plan import Plan
from ranklock.run.store import EFFECTS, IMPOSTORS, SHIFTS
from ranklock.run.tabulate_impostors import (
    OfImpostors,
    impostor_columns,
    mean_over,
    of_impostors,
    reads_all_genes,
)

Numbers = npt.NDArray[np.float64]


def tables_of(
    plan: Plan, groups: Sequence[range], inputs: Sequence[TaskGroup], measured: Sequence[Measured]
) -> dict[str, pa.Table]:
    """Tables of a shard: shifts, a row a task and arm, effects, a row a task, and impostors.

    Parameters
    ----------
    plan
        The plan.
    groups
        Tasks of each group of the shard.
    inputs, measured
        What was done, and what it did, group by group.

    Returns
    -------
    Name of each table that the run stores → its rows, with the plan's fields as columns.
    """
    fields = {
        SHIFTS: plan.shift_fields, EFFECTS: plan.effect_fields, IMPOSTORS: plan.impostor_fields
    }  # fmt: skip
    parts: dict[str, list[dict[str, pa.Array]]] = {name: [] for name in fields if fields[name]}
    for tasks, group, numbers in zip(groups, inputs, measured, strict=True):
        changes = plan.changes(tasks)
        keys, kept = _keys(plan, tasks, changes), _kept(group)
        beside = {
            arm.name: of_impostors(plan, group, numbers, arm, kept)
            for arm in plan.compared[plan.kind_of(tasks.start).name]
        }
        parts[SHIFTS].append(_shifts_of(plan, tasks, group, numbers, changes, keys, kept, beside))
        if EFFECTS in parts:
            parts[EFFECTS].append(_effects_of(plan, tasks, group, numbers, keys, kept, beside))
        if IMPOSTORS in parts:
            times = len(beside) * plan.asked.impostors
            columns = _key_columns(keys, times)
            parts[IMPOSTORS].append(impostor_columns(plan, columns, group, beside))
    return {name: _table(fields[name], rows) for name, rows in parts.items()}


def _table(fields: Sequence[f.Field], parts: Sequence[Mapping[str, pa.Array]]) -> pa.Table:
    schema = f.schema_of(fields, {})
    columns = []
    for field in fields:
        chunks = [part[field.name] for part in parts]
        whole = pa.concat_arrays([chunk.cast(_plain(field.type)) for chunk in chunks])
        columns.append(whole.dictionary_encode() if pa.types.is_dictionary(field.type) else whole)
    return pa.Table.from_arrays(columns, schema=schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _keys(plan: Plan, tasks: range, changes: Sequence[Change]) -> dict[str, list[object]]:
    """Names and ranks of tasks of one group."""
    table = plan.tasks
    row = int(table.cell[tasks.start])
    names = [plan.perturbations[table.perturbation[task]].names(plan.cells) for task in tasks]
    kind = plan.kind_of(tasks.start)
    return {
        "cell": [str(plan.cells.obs.index[row])] * len(tasks),
        "gene": [symbol for symbol, _ in names],
        "gene_id": [identifier for _, identifier in names],
        "kind": [kind.name] * len(tasks),
        "gene_rank": [_rank(int(table.rank[task])) for task in tasks],
        "gene_ranks": [_written(change.ranks) for change in changes],
        "to_rank": [_rank(change.to_ranks[0]) if change.to_ranks else None for change in changes],
        "to_ranks": [_written(change.to_ranks) for change in changes],
        "inserted": [change.inserted > 0 for change in changes],
        "genes_in_cell": [int(table.shown[tasks.start])] * len(tasks),
    }


def _rank(rank: int) -> int | None:
    return None if rank == NOT_RANKED else rank


def _written(ranks: Sequence[int]) -> str | None:
    """Ranks of a set as text; None where there are none."""
    return f.TOGETHER.join(f.NO_RANK if r == NOT_RANKED else str(r) for r in ranks) or None


def _key_columns(keys: Mapping[str, list[object]], times: int) -> dict[str, pa.Array]:
    """Columns of the keys, each entry several times."""
    kinds = {field.name: _plain(field.type) for field in f.KEYS}
    return {
        name: pa.array([entry for entry in entries for _ in range(times)], kinds[name])
        for name, entries in keys.items()
    }


def _shifts_of(
    plan: Plan,
    tasks: range,
    group: TaskGroup,
    measured: Measured,
    changes: Sequence[Change],
    keys: Mapping[str, list[object]],
    kept: npt.NDArray[np.bool_],
    beside: Mapping[str, OfImpostors],
) -> dict[str, pa.Array]:
    arms = plan.arms[plan.kind_of(tasks.start).name]
    values = [_values_of(plan, group, measured, arm, kept) for arm in arms]
    for arm, of_arm in zip(arms, values, strict=True):
        if arm.name in beside:
            of_arm |= beside[arm.name].folds(plan, of_arm)
    if f.GENES in plan.asked.read:
        stored = _stored(plan, tasks, group)
        ranks = group.responders[stored]
        shifted = np.array([_shifted(group, change)[ranks] for change in changes])
        for arm, of_arm in zip(arms, values, strict=True):
            of_arm |= _summaries(plan, measured, arm, stored, shifted, kept[:, stored])
    columns = _key_columns(keys, len(arms))  # task by task, arm by arm
    columns[f.ARM.name] = pa.array([arm.name for _ in tasks for arm in arms], pa.string())
    missing = np.full(len(tasks), np.nan)
    for field in plan.shift_fields:
        if field.name not in columns:
            by_arm = np.stack([of_arm.get(field.name, missing) for of_arm in values], axis=1)
            columns[field.name] = pa.array(by_arm.ravel(), field.type, from_pandas=True)
    return columns


def _values_of(
    plan: Plan,
    group: TaskGroup,
    measured: Measured,
    arm: Arm,
    kept: npt.NDArray[np.bool_],
) -> dict[str, Numbers]:
    """Field of the shifts → one number a task, under one arm."""
    values: dict[str, Numbers] = {}
    run = arm.computed_as
    whole = arm.name in plan.decomposed
    if measured.cell is not None:
        values["cosine_distance"] = distances(measured.cell, run)
        values["displacement"] = displacements(measured.cell, run)
        split = decompose(measured.cell) if whole else None
        if split is not None:
            values["artefact_share"] = split.artefact_share
        values |= _approaches(plan, measured, run)
    if measured.logits is not None and measured.logits_before is not None:
        values |= _logits(plan, measured.logits_before, measured.logits[run])
    if measured.cell is not None and reads_all_genes(group):
        values["mean_gene_distance"] = mean_over(distances(measured.genes, run), kept)
    return values


def _approaches(plan: Plan, measured: Measured, run: str) -> dict[str, Numbers]:
    if measured.cell is None or measured.states is None:
        return {}
    without = approach(measured.cell, measured.states, run)
    with_all = without
    if measured.cell_with_all is not None and measured.states_with_all is not None:
        with_all = approach(measured.cell_with_all, measured.states_with_all, run)
    values = {}
    for column, state in enumerate(plan.state_names):
        values[f.towards(state)] = without[:, column]
        values[f.towards_as_geneformer(state)] = with_all[:, column]
    return values


def _logits(plan: Plan, before: Numbers, after: Numbers) -> dict[str, Numbers]:
    labels = () if plan.head is None else plan.head.labels
    values: dict[str, Numbers] = {}
    for when, logits in (("before", np.broadcast_to(before, after.shape)), ("after", after)):
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponents / exponents.sum(axis=1, keepdims=True)
        for column, label in enumerate(labels):
            values[f.logit(label, when)] = logits[:, column]
            values[f.probability(label, when)] = probabilities[:, column]
    for column, label in enumerate(labels):
        values[f.change_of_logit(label)] = after[:, column] - before[column]
    return values


def _summaries(
    plan: Plan,
    measured: Measured,
    arm: Arm,
    stored: npt.NDArray[np.int64],
    shifted: npt.NDArray[np.bool_],
    kept: npt.NDArray[np.bool_],
) -> dict[str, Numbers]:
    """What is said of a task's stored responders together, under one arm."""
    run, genes = arm.computed_as, measured.genes

    def over_responders(numbers: Numbers) -> Numbers:
        sums: Numbers = np.where(kept, numbers[:, stored], 0.0).sum(axis=1)
        return sums

    apart = distances(genes, run)[:, stored]
    rows = list(zip(apart, shifted, kept, strict=True))
    values = {
        "median_shifted": np.array([median(row[moves & keep]) for row, moves, keep in rows]),
        "median_unshifted": np.array([median(row[~moves & keep]) for row, moves, keep in rows]),
        "displacement_squared": over_responders(genes.moved[run]),
    }
    split = decompose(genes) if arm.name in plan.decomposed else None
    if split is not None:
        values["shift_along_total"] = over_responders(split.shift_along_total)
    pair = masking_pair(genes.moved)
    beyond = beyond_edit(genes)
    if pair is not None and beyond is not None and arm.name == pair[1]:
        values["beyond_edit_squared"] = over_responders(beyond)
    return values


def _effects_of(
    plan: Plan,
    tasks: range,
    group: TaskGroup,
    measured: Measured,
    keys: Mapping[str, list[object]],
    kept: npt.NDArray[np.bool_],
    beside: Mapping[str, OfImpostors],
) -> dict[str, pa.Array]:
    columns = _key_columns(keys, 1)
    stored = _stored(plan, tasks, group)
    ranks = group.responders[stored].astype(np.int32)
    tokens = _genes(group)[ranks].astype(np.int32)
    responder, responder_rank = f.RESPONDERS
    columns[responder.name] = _lists(np.tile(tokens, (len(tasks), 1)))
    columns[responder_rank.name] = _lists(np.tile(ranks, (len(tasks), 1)))
    kept = kept[:, stored]
    split = decompose(measured.genes)
    for arm in plan.arms[plan.kind_of(tasks.start).name]:
        numbers = {
            f.COSINE_DISTANCE: distances(measured.genes, arm.computed_as),
            f.DISPLACEMENT: displacements(measured.genes, arm.computed_as),
        }
        if split is not None and arm.name in plan.decomposed:
            numbers |= {field: _part(split, field) for field in f.DECOMPOSITION}
        if arm.name in beside:
            numbers[f.FOLD] = beside[arm.name].fold_of_genes(measured, arm)
        for field, values in numbers.items():
            rows = np.where(kept, values[:, stored], np.nan).astype(np.float32)
            columns[f.effect_column(arm.name, field)] = _lists(rows)
    for field in plan.effect_fields:
        if field.name not in columns:  # an arm that this kind of perturbation does not have
            columns[field.name] = pa.nulls(len(tasks), field.type)
    return columns


def _part(split: Decomposition, field: f.Field) -> Numbers:
    numbers: Numbers = getattr(split, field.name)
    return numbers


def _lists(rows: npt.NDArray[np.float32] | npt.NDArray[np.int32]) -> pa.Array:
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.ravel()))


def _genes(group: TaskGroup) -> npt.NDArray[np.int32]:
    """Tokens of the genes of the unperturbed cell, by rank."""
    genes: npt.NDArray[np.int32] = group.baseline.tokens[group.baseline.ranks != NOT_RANKED]
    return genes


def _stored(plan: Plan, tasks: range, group: TaskGroup) -> npt.NDArray[np.int64]:
    """Which of the responders that are read are stored."""
    return np.searchsorted(group.responders, plan.stored_ranks(tasks.start))


def _kept(group: TaskGroup) -> npt.NDArray[np.bool_]:
    """Which responders are no perturbed genes, shape (tasks, responders)."""
    kept = np.ones((len(group.perturbed), len(group.responders)), dtype=bool)
    for row, ranks in zip(kept, group.perturbed, strict=True):
        row[np.isin(group.responders, ranks)] = False
    return kept


def _shifted(group: TaskGroup, change: Change) -> npt.NDArray[np.bool_]:
    """Which genes of a cell make way for a perturbation, by rank."""
    genes = group.baseline.ranks != NOT_RANKED
    shifted: npt.NDArray[np.bool_] = rank_shift(group.baseline, change)[genes] != 0
    return shifted
