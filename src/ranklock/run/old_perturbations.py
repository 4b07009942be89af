"""Carry out knock-outs or moves cell by cell, and make a run of what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ranklock.arms import Arm, ModelInput
from ranklock.cells import Cells
from ranklock.effects.readout import read_effects
from ranklock.engine.batches import hidden_states
from ranklock.errors import InputError
from ranklock.models import Model
from ranklock.progress import progress as show_progress
from ranklock.run.noise import measure_noise
from ranklock.run.old_plan import Task, baseline_of, shown_genes
from ranklock.run.old_records import MoveInCell, Record, record_of
from ranklock.run.old_run import Run, summarise
from ranklock.run.old_tables import (
    averaged_anndata,
    cell_shift_table,
    effect_table,
    effects_anndata,
    knockout_name,
)
from ranklock.run.provenance import provenance

T = TypeVar("T", bound=Task)

_TASKS_AT_ONCE = 8  # whose hidden states are held in memory together


@dataclass(frozen=True, eq=False)
class Perturbed:
    """One cell, perturbed in one way, under each arm.

    Attributes
    ----------
    inputs
        Name of each arm that is computed → its input.
    left_out
        Ranks of the perturbed genes, and of those that fall out of the input: no responders.
    move
        Where a move put its genes; None for a knock-out.
    """

    inputs: Mapping[str, ModelInput]
    left_out: Sequence[int]
    move: MoveInCell | None = None


def computed_arms(arms: Sequence[Arm]) -> list[str]:
    """Names of the arms that are computed: an alias is read from what it runs as."""
    return list(dict.fromkeys(arm.runs_as or arm.name for arm in arms))


def carry_out(
    tasks: Sequence[T],
    perturb: Callable[[T, ModelInput], Perturbed],
    arms: Sequence[Arm],
    genes: Sequence[tuple[int, ...]],
    cells: Cells,
    model: Model,
    depth: int,
    *,
    asked: Mapping[str, Any],
    skipped: Sequence[Mapping[str, Any]],
    average: bool,
    batch_size: int | None,
    progress: bool,
) -> Run:
    """Measure the noise floor, carry out every task, and make a run of what was found.

    Parameters
    ----------
    tasks, perturb, arms, cells, model, depth, batch_size
        As :func:`_records` takes them.
    genes
        Tokens of each knock-out or move.
    asked, skipped
        For the manifest: what was asked, and what was left out.
    average, progress
        As :func:`ranklock.knockout` takes them.
    """
    used = sorted({task.cell for task in tasks})
    floor = measure_noise(used, cells, model, depth, batch_size=batch_size)
    with show_progress(len(tasks), f"{asked['command']}s", shown=progress) as advance:
        records = []
        for record in _records(tasks, perturb, arms, cells, model, depth, batch_size):
            records.append(record)
            advance(1)
    names = [arm.name for arm in arms]
    common = (records, genes, cells, names)
    manifest = {
        "asked": dict(asked),
        "summary": summarise(records, [knockout_name(tokens, cells) for tokens in genes], names),
        "skipped": list(skipped),
        "noise_floor": asdict(floor),
        **provenance(cells, model, depth),
    }
    as_anndata = averaged_anndata if average else effects_anndata
    return Run(
        effects=as_anndata(*common, floor, manifest),
        table=effect_table(*common, floor),
        cell_shifts=cell_shift_table(*common, floor),
        manifest=manifest,
    )


def _records(
    tasks: Sequence[T],
    perturb: Callable[[T, ModelInput], Perturbed],
    arms: Sequence[Arm],
    cells: Cells,
    model: Model,
    depth: int,
    batch_size: int | None,
) -> Iterator[Record]:
    """Effects of every task, cell by cell.

    Parameters
    ----------
    tasks
        In order of cells.
    perturb
        A task and the unperturbed cell → the inputs of :func:`computed_arms`.
    arms
        The arms that are read.
    cells, model, depth, batch_size
        What they are run on.

    Raises
    ------
    InputError
        When the model gives NaN or infinity.
    """
    computed = computed_arms(arms)
    for cell, in_cell in groupby(tasks, key=lambda task: task.cell):
        unperturbed = baseline_of(cells, cell, model)
        mine = list(in_cell)
        base: npt.NDArray[np.float32] | None = None
        for start in range(0, len(mine), _TASKS_AT_ONCE):
            group = mine[start : start + _TASKS_AT_ONCE]
            perturbed = [perturb(task, unperturbed) for task in group]
            first = [unperturbed] if base is None else []
            inputs = [one.inputs[name] for one in perturbed for name in computed]
            states = hidden_states(model, first + inputs, depth, batch_size=batch_size)
            if base is None:
                base = states.pop(0)
            _check_finite([base, *states], cells, cell)
            for index, (task, one) in enumerate(zip(group, perturbed, strict=True)):
                part = states[index * len(computed) : (index + 1) * len(computed)]
                by_name = {
                    name: (one.inputs[name], state)
                    for name, state in zip(computed, part, strict=True)
                }
                readout = read_effects(
                    unperturbed,
                    base,
                    {arm.name: by_name[arm.runs_as or arm.name] for arm in arms},
                    one.left_out,
                    special_frame=cells.special_frame,
                )
                yield record_of(
                    readout,
                    knockout=task.knockout,
                    cell=cell,
                    ranks=task.ranks,
                    genes=cells.ranked[cell][: shown_genes(cells, cell, model)],
                    move=one.move,
                )


def _check_finite(states: Sequence[npt.NDArray[np.float32]], cells: Cells, cell: int) -> None:
    if not all(np.isfinite(state).all() for state in states):
        raise InputError(
            f"The model gives NaN or infinity for cell {cells.names[cell]} of {cells.source}; its "
            "weights are damaged or too large for float32."
        )
