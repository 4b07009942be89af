"""A run before it is done: its tasks, what they cost, and the shards that they are done in."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ranklock.arms import (
    IMPOSTOR,
    NOT_RANKED,
    Arm,
    Change,
    Edit,
    ModelInput,
    apply,
    baseline,
    capacity,
    compared_arms,
    decomposed_arm,
    find_arms,
    with_impostors,
)
from ranklock.cells import Cells
from ranklock.engine.cost import GroupShape, forward_flop, group_flop, peak_memory
from ranklock.engine.groups import Reading, TaskGroup
from ranklock.engine.memory import available_memory
from ranklock.engine.method import FLOAT32, Method
from ranklock.engine.moments import Impostor
from ranklock.engine.tasks import measure_groups
from ranklock.errors import InputError, OutputError
from ranklock.genes.names import GeneLeftOut
from ranklock.kinds import Kind
from ranklock.models import Model
from ranklock.models.head import Head
from ranklock.quantities import count, counted, duration, free_disk, size
from ranklock.run.asked import Asked
from ranklock.run.count_noise import (
    count_noise_bytes,
    count_noise_flop,
    describe_count_noise_plan,
)
from ranklock.run.fields import (
    CELL,
    GENES,
    Field,
    effect_fields,
    impostor_fields,
    shift_fields,
)
from ranklock.run.impostors import Impostors
from ranklock.run.states import StateEmbeddings
from ranklock.run.tasks import CellsLeftOut, Perturbation, Tasks, change_of

# What a kill can cost: on a CPU some ten seconds, unless a single task takes more.
_SHARD_FLOP = 4e12
_SHARD_BYTES = 48 << 20  # of effects, as they are in memory
_SHARD_TASKS = 1 << 14
_TASKS_TOGETHER = 64  # of one cell, however long they take
_COMPRESSED = 0.95  # of float32 distances, by zstd
_TASKS_TO_TIME = 8


@dataclass(frozen=True, eq=False)
class Plan:
    """A run before it is done.

    Attributes
    ----------
    cells, model
        What is perturbed, and in which model.
    asked
        The experiment.
    kinds, arms
        Kinds of perturbation, and name of each → its arms.
    perturbations, tasks
        What is done to genes, and in which cells.
    responders
        Tokens whose effects are stored; None for all.
    depth
        Layers after which embeddings are read.
    states, head
        What cells may move towards, and the classifier that reads them.
    genes_left_out, cells_left_out
        Genes that cannot be perturbed, and cells in which the others cannot.
    method
        How effects are computed, as far as that is known.
    """

    cells: Cells
    model: Model
    asked: Asked
    kinds: tuple[Kind, ...]
    arms: Mapping[str, tuple[Arm, ...]]
    perturbations: tuple[Perturbation, ...]
    tasks: Tasks
    responders: npt.NDArray[np.int64] | None
    depth: int
    states: StateEmbeddings | None
    head: Head | None
    genes_left_out: tuple[GeneLeftOut, ...]
    cells_left_out: tuple[CellsLeftOut, ...]
    method: Method = FLOAT32

    @cached_property
    def reading(self) -> Reading:
        """What the engine reads of every input."""
        reading = Reading(
            self.depth, CELL in self.asked.read, self.cells.special_frame, head=self.head
        )
        return replace(reading, totals=reading.mean and self.states is not None)

    @cached_property
    def computed(self) -> Mapping[str, tuple[Arm, ...]]:
        """Kind → arms whose forwards are run: an alias runs as what it is the same as."""
        return {
            kind.name: find_arms((arm.computed_as for arm in self.arms[kind.name]), kind)
            for kind in self.kinds
        }

    @cached_property
    def impostors(self) -> Impostors | None:
        """Where impostors come from; None in a run without."""
        if not self.asked.impostors:
            return None
        most = capacity(self.model.input_size, special_frame=self.cells.special_frame)
        return Impostors(self.cells, most, self.asked.impostors, self.asked.seed)

    @cached_property
    def compared(self) -> Mapping[str, tuple[Arm, ...]]:
        """Kind → arms in which impostors are perturbed beside the gene."""
        none = self.impostors is None
        return {kind: () if none else compared_arms(arms) for kind, arms in self.arms.items()}

    @cached_property
    def inputs(self) -> Mapping[str, tuple[Arm, ...]]:
        """Kind → every perturbed input of a task, as an arm: the gene's and the impostors'."""
        return {
            kind: (*arms, *self._of_impostor(kind) * self.asked.impostors)
            for kind, arms in self.computed.items()
        }

    def _of_impostor(self, kind: str) -> tuple[Arm, ...]:
        """Inputs of one impostor: it stands there, and is moved."""
        moved = (arm for arm in self.compared[kind] if arm.edit is Edit.MOVE)
        return (IMPOSTOR, *moved)

    @cached_property
    def compared_names(self) -> frozenset[str]:
        """Names of the arms in which impostors are perturbed, of any kind."""
        return frozenset(arm.name for arms in self.compared.values() for arm in arms)

    @cached_property
    def arm_names(self) -> tuple[str, ...]:
        """Names of the arms of all kinds, each once."""
        return tuple(dict.fromkeys(arm.name for arms in self.arms.values() for arm in arms))

    @cached_property
    def decomposed(self) -> frozenset[str]:
        """Names of the whole arms whose effects the arms beside them decompose."""
        wholes = (decomposed_arm(arm.name for arm in arms) for arms in self.arms.values())
        return frozenset(whole for whole in wholes if whole is not None)

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states."""
        return () if self.states is None else tuple(self.states.names)

    @cached_property
    def shift_fields(self) -> tuple[Field, ...]:
        """Fields of the shifts."""
        labels = () if self.head is None else self.head.labels
        compared = self.impostors is not None
        return shift_fields(self.asked.read, self.state_names, labels, compared=compared)

    @cached_property
    def impostor_fields(self) -> tuple[Field, ...]:
        """Fields of what was done to impostors; none without any."""
        if self.impostors is None:
            return ()
        labels = () if self.head is None else self.head.labels
        return impostor_fields(self.asked.read, self.state_names, labels)

    @cached_property
    def effect_fields(self) -> tuple[Field, ...]:
        """Fields of the effects; none where they are not read."""
        if GENES not in self.asked.read:
            return ()
        return effect_fields(self.arm_names, self.decomposed, self.compared_names)

    @cached_property
    def _task_sizes(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Tokens of the unperturbed cell, and responders that are read, of each task."""
        tokens = self.tasks.shown + 2 * self.cells.special_frame
        if self.responders is None:
            stored = self.tasks.shown
        else:
            counts = np.zeros(len(self.cells), np.int64)
            for row in np.unique(self.tasks.cell):
                counts[row] = np.isin(self.cells.ranked[row], self.responders).sum()
            stored = np.minimum(counts[self.tasks.cell], self.tasks.shown)
        if GENES not in self.asked.read:
            stored = np.zeros_like(stored)
        return tokens, stored

    def _rows(self, tokens: int, stored: int) -> int:
        """Rows that are read of an input: all genes, where the cell embedding is their mean."""
        return self.reading.rows(tokens if self.reading.mean else stored)

    @cached_property
    def _flop_of_task(self) -> npt.NDArray[np.float64]:
        """Operations of each task without a shared first layer, shape (tasks,)."""
        tokens, stored = self._task_sizes
        sizes, place = np.unique(np.stack([tokens, stored]), axis=1, return_inverse=True)
        costs = [
            forward_flop(self.model, t, self._rows(t, s), self.depth, logits=self.head is not None)
            for t, s in sizes.T.tolist()
        ]
        return np.array(costs, dtype=float)[place.ravel()] * self._forwards_of_task

    @cached_property
    def _forwards_of_task(self) -> npt.NDArray[np.int64]:
        """Perturbed inputs of each task, shape (tasks,)."""
        arms = np.array([len(self.inputs[p.kind.name]) for p in self.perturbations])
        forwards: npt.NDArray[np.int64] = arms[self.tasks.perturbation]
        return forwards

    @cached_property
    def shard_of(self) -> npt.NDArray[np.int64]:
        """Shard of each task, ascending."""
        _, stored = self._task_sizes
        bytes_of_task = stored * 4.0 * len(self.effect_fields)
        weight = np.maximum(self._flop_of_task / _SHARD_FLOP, bytes_of_task / _SHARD_BYTES)
        # Tasks of one cell share its baseline and first layer, so that some of them go together.
        _, group, counts = np.unique(self._group_keys, axis=1, return_inverse=True,
                                     return_counts=True)  # fmt: skip
        together = np.minimum(counts[group.ravel()], _TASKS_TOGETHER)
        weight = np.clip(weight, 1 / _SHARD_TASKS, 1 / together)
        # A shard that a single task fills leaves numbers between out.
        shards = np.floor(np.cumsum(weight) - weight)
        return np.unique(shards, return_inverse=True)[1].astype(np.int64)

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return int(self.shard_of[-1]) + 1

    def tasks_of(self, shard: int) -> range:
        """Indices of a shard's tasks."""
        first, stop = np.searchsorted(self.shard_of, [shard, shard + 1])
        return range(int(first), int(stop))

    def groups_of(self, indices: Sequence[int] | range) -> list[range]:
        """Consecutive tasks of one kind, cell and baseline."""
        part = np.asarray(indices)
        keys = self._group_keys[:, part]
        edges = np.flatnonzero((np.diff(keys, axis=1) != 0).any(0)) + 1
        ends = [0, *edges.tolist(), len(part)]
        return [range(int(part[a]), int(part[b - 1]) + 1)
                for a, b in pairwise(ends)]  # fmt: skip

    @cached_property
    def _group_keys(self) -> npt.NDArray[np.int64]:
        """Cell, kind and baseline of each task, shape (3, tasks)."""
        kinds = self._kind_of_perturbation[self.tasks.perturbation]
        return np.stack([self.tasks.cell, kinds, self.tasks.shown])

    @cached_property
    def _kind_of_perturbation(self) -> npt.NDArray[np.int64]:
        place = {kind: number for number, kind in enumerate(self.kinds)}
        return np.array([place[p.kind] for p in self.perturbations])

    def kind_of(self, task: int) -> Kind:
        """Kind of a task."""
        return self.perturbations[int(self.tasks.perturbation[task])].kind

    @cached_property
    def cells_used(self) -> npt.NDArray[np.int64]:
        """Rows of the cells that anything is done to."""
        return np.unique(self.tasks.cell)

    @cached_property
    def forwards(self) -> int:
        """Inputs that are pushed through the model, baselines included."""
        return int(self._forwards_of_task.sum()) + len(self.cells_used)

    @cached_property
    def flop(self) -> float:
        """Floating-point operations of all forwards."""
        return float(sum(self.flop_of_shard))

    @cached_property
    def flop_of_shard(self) -> list[float]:
        """Floating-point operations of each shard."""
        return [self._flop_of(shard) for shard in range(self.shards)]

    def _flop_of(self, shard: int) -> float:
        tokens, stored = self._task_sizes
        total = 0.0
        for group in self.groups_of(self.tasks_of(shard)):
            first, part = group.start, slice(group.start, group.stop)
            perturbation = self.perturbations[self.tasks.perturbation[first]]
            kind = perturbation.kind
            shape = GroupShape(
                int(tokens[first]),
                tuple(self.tasks.rank[part].tolist()),
                self._rows(int(tokens[first]), int(stored[first])),
                tuple(self.tasks.to_rank[part].tolist()) if kind.moves else (),
                len(perturbation.tokens) if self.asked.insert else 0,
            )
            arms, logits = self.inputs[kind.name], self.head is not None
            total += group_flop(
                self.model,
                arms,
                shape,
                self.depth,
                logits=logits,
                displacement=self.method.displacement,
            )
        return total

    @cached_property
    def memory(self) -> int:
        """Bytes that it takes at once, at most, in batches that suit the device."""
        return self._memory(None)

    def _memory(self, batch_size: int | None) -> int:
        tokens, stored = self._task_sizes
        longest = int(tokens.argmax())
        tasks = int((self.tasks.cell == self.tasks.cell[longest]).sum())
        ranks = np.linspace(0, self.tasks.shown[longest] - 1, max(tasks, 2)).astype(int)
        rows = self._rows(int(tokens[longest]), int(stored[longest]))
        shape = GroupShape(int(tokens[longest]), tuple(ranks.tolist()), rows)
        needed = (
            peak_memory(
                self.model,
                arms,
                shape,
                self.method,
                batch_size,
                of_all_cells=len(self.tasks),
            )
            for arms in self.inputs.values()
        )
        return max(needed) + 2 * _SHARD_BYTES

    @cached_property
    def disk(self) -> int:
        """Bytes that it writes, about."""
        _, stored = self._task_sizes
        lists = len(self.effect_fields) and len(self.effect_fields) - len(effect_fields(()))
        effects = float(stored.sum()) * 4 * lists * _COMPRESSED
        numbers = len(self.arm_names) * len(self.shift_fields)
        of_impostors = len(self.compared_names) * self.asked.impostors * len(self.impostor_fields)
        shifts = len(self.tasks) * (numbers + of_impostors) * 8 * 0.5
        return int(effects + shifts) + count_noise_bytes(self)

    def baseline_of(self, task: int) -> ModelInput:
        """Input of the unperturbed cell that a task is compared with."""
        genes = self.cells.ranked[self.tasks.cell[task]][: self.tasks.shown[task]]
        return baseline(genes, self.cells.vocabulary, special_frame=self.cells.special_frame)

    def changes(self, indices: range) -> list[Change]:
        """Tasks as what is done to their cells."""
        return [
            change_of(self.tasks, task, self.perturbations[self.tasks.perturbation[task]],
                      self.cells)
            for task in indices
        ]  # fmt: skip

    def group(self, indices: range) -> TaskGroup:
        """Inputs of consecutive tasks of one kind, cell and baseline."""
        unperturbed = self.baseline_of(indices.start)
        kind, row = self.kind_of(indices.start), int(self.tasks.cell[indices.start])
        shown = int(self.tasks.shown[indices.start])
        below = self.cells.ranked[row][shown : shown + len(self.perturbations[0].tokens)].tolist()
        changes = self.changes(indices)
        responders = np.arange(shown) if self.reading.mean else self.stored_ranks(indices.start)
        impostors, of_impostors = self._impostors_of(row, kind.name, unperturbed, changes)
        return TaskGroup(
            unperturbed,
            responders,
            [
                np.array([r for r in change.ranks if r != NOT_RANKED], np.int64)
                for change in changes
            ],
            {
                arm.name: [
                    apply(arm, unperturbed, change, self.cells.vocabulary, below)
                    for change in changes
                ]
                for arm in self.computed[kind.name]
            }
            | of_impostors,
            None if self.states is None else self.states.vectors[self.states.group_of_cell[row]],
            impostors,
        )

    def _impostors_of(
        self, row: int, kind: str, unperturbed: ModelInput, changes: Sequence[Change]
    ) -> tuple[list[Impostor], dict[str, list[ModelInput]]]:
        """Impostors of tasks in one cell, and the inputs that are theirs alone."""
        if self.impostors is None:
            return [], {}
        drawn = np.stack([self.impostors.draw(row, change) for change in changes])
        moved = [arm for arm in self.compared[kind] if arm.edit is Edit.MOVE]
        impostors, inputs = [], {}
        for number in range(drawn.shape[1]):
            standing = f"{IMPOSTOR.name} {number + 1}"
            tokens = [tuple(of_task) for of_task in drawn[:, number].tolist()]
            inputs[standing] = [
                with_impostors(unperturbed, change, of_task)
                for change, of_task in zip(changes, tokens, strict=True)
            ]
            perturbed = {arm.name: arm.computed_as for arm in self.compared[kind]}
            for arm in moved:
                perturbed[arm.name] = f"{standing}, {arm.name}"
                inputs[perturbed[arm.name]] = [
                    apply(arm, cell, replace(change, tokens=of_task), self.cells.vocabulary)
                    for cell, change, of_task in zip(inputs[standing], changes, tokens, strict=True)
                ]
            impostors.append(Impostor(standing, perturbed, tokens))
        return impostors, inputs

    def stored_ranks(self, task: int) -> npt.NDArray[np.int64]:
        """Ranks of the responders of a task whose effects are stored."""
        if GENES not in self.asked.read:
            return np.zeros(0, np.int64)
        shown = int(self.tasks.shown[task])
        if self.responders is None:
            return np.arange(shown)
        genes = self.cells.ranked[self.tasks.cell[task]][:shown]
        return np.flatnonzero(np.isin(genes, self.responders))

    def describe(self, *, rate: float | None = None, folder: Path | None = None) -> list[str]:
        """The plan in words, a line each.

        Parameters
        ----------
        rate
            Floating-point operations a second, where they were measured.
        folder
            Where the results are to go.
        """
        free = available_memory(self.model.device)
        disk = "" if folder is None else f" of {size(free_disk(folder))} free"
        done = " and ".join(kind.name for kind in self.kinds)
        lines = [
            f"Plan: {counted(len(self.tasks), 'task')} ({done}) in "
            f"{counted(len(self.cells_used), 'cell')}, arms {', '.join(self.arm_names)}: "
            f"{counted(self.forwards, 'forward')} of {counted(self.depth, 'layer')}",
            f"Work: {count(self.flop)}FLOP as {self.method} on {self.model.device}, "
            f"{counted(self.shards, 'shard')}; memory: about {size(self.memory)} of {size(free)} "
            f"free; disk: about {size(self.disk)}" + disk,
        ]
        lines += describe_count_noise_plan(self)
        if rate is not None:
            flop = self.flop + count_noise_flop(self)
            lines.append(f"Time: about {duration(flop / rate)} at {count(rate)}FLOP/s")
        return lines

    def measure_rate(self) -> float:
        """Floating-point operations a second, from some tasks of cells of median length."""
        seconds, flop = self.time_some(self.method, _TASKS_TO_TIME)
        return max(flop, 1.0) / seconds

    def time_some(self, method: Method, tasks: int) -> tuple[float, float]:
        """Seconds that some tasks of cells of median length take, and operations of them."""
        order = np.argsort(self.tasks.shown, kind="stable")
        middle = int(order[len(order) // 2])
        shard = self.tasks_of(int(self.shard_of[middle]))
        start = max(min(middle, shard.stop - tasks), shard.start)
        few = range(start, min(start + tasks, shard.stop))
        groups = [self.group(group) for group in self.groups_of(few)]
        warm_up = replace(self.reading, depth=min(self.depth, 1))
        for reading in (warm_up, self.reading):
            started = time.perf_counter()
            measure_groups(self.model, groups, reading, method=method)
            took = time.perf_counter() - started
        return took, float(self._flop_of_task[few.start : few.stop].sum())

    def check_fits(self, folder: Path | None, already: int = 0) -> None:
        """Refuse a run that does not fit the machine.

        Parameters
        ----------
        folder
            Where the results are to go.
        already
            Bytes of them that are there.

        Raises
        ------
        InputError, OutputError
            With what would fit.
        """
        free = available_memory(self.model.device)
        least = self._memory(1)  # larger batches are halved until they fit
        if least > free:
            raise InputError(
                f"This takes about {size(least)} of memory on {self.model.device} and "
                f"{size(free)} are free; take fewer arms (--arms), cells with fewer genes, or "
                "another device (--device)."
            )
        room = None if folder is None else free_disk(folder)
        if room is not None and self.disk - already > room:
            cells = int(len(self.cells_used) * room / self.disk)
            raise OutputError(
                f"The results take about {size(self.disk)} and {size(room)} are free under "
                f"{folder}; name a folder on another disk, or take about {cells} cells "
                "(--sample), fewer responders (--responder), fewer arms (--arms) or the cell "
                "embedding alone (--read cell)."
            )
