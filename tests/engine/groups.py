"""Task groups by hand, and what plain forwards say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ranklock.arms import NOT_RANKED, Arm, Change, ModelInput, apply
from ranklock.effects import approach, cosine_distance, displacement, displacements, distances
from ranklock.engine.groups import Reading, TaskGroup
from ranklock.engine.readout import Measured
from ranklock.genes.vocabulary import Vocabulary
from tests.helpers import plain_forward, plain_logits


def group_of(
    cell: ModelInput,
    changes: Sequence[Change],
    arms: Mapping[str, Arm],
    vocabulary: Vocabulary,
    *,
    responders: Sequence[int] | None = None,
    below: Sequence[int] = (),
    states: np.ndarray | None = None,
) -> TaskGroup:
    genes = np.sort(cell.ranks[cell.ranks != NOT_RANKED]).astype(np.int64)
    return TaskGroup(
        cell,
        genes if responders is None else np.array(sorted(responders), dtype=np.int64),
        [np.array([r for r in change.ranks if r != NOT_RANKED], np.int64) for change in changes],
        {
            name: [apply(arm, cell, change, vocabulary, below) for change in changes]
            for name, arm in arms.items()
        },
        states,
    )


@dataclass(frozen=True)
class Embeddings:
    """What a plain forward in float64 says of one input."""

    genes: Mapping[int, np.ndarray]  # by rank in the unperturbed cell
    first: np.ndarray
    mean: np.ndarray  # over all tokens
    logits: np.ndarray | None

    @classmethod
    def of(cls, folder: Path, cell: ModelInput, layers: int, reading: Reading) -> Embeddings:
        # As the model was trained: in order of positions. Where an arm puts two genes at one, the
        # moved one goes first.
        order = np.lexsort((-np.arange(len(cell)), cell.positions))
        tokens, positions = cell.tokens[order].tolist(), cell.positions[order].tolist()
        visible = cell.visible[order].tolist()
        states = plain_forward(folder, tokens, positions, visible, layer=reading.depth - layers)
        ranks = cell.ranks[order].tolist()
        genes = {r: s for r, s in zip(ranks, states, strict=True) if r != NOT_RANKED}
        logits = None if reading.head is None else plain_logits(folder, tokens, positions, visible)
        return cls(genes, states[0], states.mean(0), logits)

    def cell(self, ranks: Sequence[int], reading: Reading) -> np.ndarray:
        """The cell embedding: ``<cls>``, or the mean over some genes."""
        if reading.special_frame:
            return self.first
        return np.mean([self.genes[rank] for rank in ranks], axis=0)


def cosines(x: np.ndarray, states: np.ndarray) -> np.ndarray:
    return states @ x / np.linalg.norm(states, axis=1) / np.linalg.norm(x)


def effects(group: TaskGroup, measured: Measured, reading: Reading) -> dict[str, np.ndarray]:
    """All effects of a group by name, tasks first."""
    values = {}
    for arm in group.arms:
        values[f"{arm} distances"] = distances(measured.genes, arm)
        values[f"{arm} displacements"] = displacements(measured.genes, arm)
        cells = {
            "cell": (measured.cell, measured.states),
            "all": (measured.cell_with_all, measured.states_with_all),
        }
        for name, (cell, states) in cells.items():
            if cell is not None:
                values[f"{arm} {name} distance"] = distances(cell, arm)
                values[f"{arm} {name} displacement"] = displacements(cell, arm)
            if states is not None:
                values[f"{arm} {name} approach"] = approach(cell, states, arm)
        if measured.logits is not None:
            values[f"{arm} logits"] = measured.logits[arm]
            values[f"{arm} logits before"] = np.broadcast_to(
                measured.logits_before, measured.logits[arm].shape
            )
    return values


def plain_effects(
    folder: Path, layers: int, group: TaskGroup, reading: Reading
) -> dict[str, np.ndarray]:
    """The same from plain forwards, task by task and gene by gene."""
    values: dict[str, list[np.ndarray]] = {}

    def add(name: str, value: object) -> None:
        values.setdefault(name, []).append(np.asarray(value))

    before = Embeddings.of(folder, group.baseline, layers, reading)
    for arm, inputs in group.arms.items():
        for changed, perturbed in zip(inputs, group.perturbed, strict=True):
            after = Embeddings.of(folder, changed, layers, reading)
            others = [rank for rank in before.genes if rank not in perturbed]
            pairs = [
                (before.genes[r], before.genes[r] if r in perturbed else after.genes[r])
                for r in group.responders.tolist()
            ]
            add(f"{arm} distances", [cosine_distance(x, y) for x, y in pairs])
            add(f"{arm} displacements", [displacement(x, y) for x, y in pairs])
            ends = {}
            if reading.cell:
                ends["cell"] = (before.cell(others, reading), after.cell(others, reading))
            if reading.totals:
                ends["all"] = (before.mean, after.mean)
            for name, (x, y) in ends.items():
                add(f"{arm} {name} distance", cosine_distance(x, y))
                add(f"{arm} {name} displacement", displacement(x, y))
                if group.states is not None:
                    turned = cosines(y, group.states) - cosines(x, group.states)
                    add(f"{arm} {name} approach", turned)
            if reading.head is not None:
                add(f"{arm} logits", after.logits)
                add(f"{arm} logits before", before.logits)
    return {name: np.array(value) for name, value in values.items()}
