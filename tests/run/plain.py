"""A run worked out anew: plain lists, and plain Hugging Face forwards in float64.

Nothing here is Ranklock's but the names: not the arms, not the ranks that moves lead to, not the
inner products. Slow and short, for tests to compare with.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import BertForMaskedLM, BertForSequenceClassification

MASK, CLS, EOS = 1, 2, 3
KNOCK_OUT_ARMS = ("delete", "hold", "attention-mask", "mask", "shift", "delete-backfill")
MOVE_ARMS = ("move", "hold", "shift")
USUAL = {False: ("delete", "hold", "mask", "shift"), True: MOVE_ARMS}


class Input(NamedTuple):
    """What the model is given."""

    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    visible: tuple[bool, ...]


class PlainModel:
    """The whole checkpoint, head included, inputs of one length at a time."""

    def __init__(self, folder: Path, layer: int, *, classifies: bool) -> None:
        kind = BertForSequenceClassification if classifies else BertForMaskedLM
        self.model = kind.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager"
        ).eval()
        self.layer, self.classifies = layer, classifies
        self.read: dict[Input, tuple[np.ndarray, np.ndarray | None]] = {}

    def prepare(self, inputs: list[Input]) -> None:
        """Run the forwards of inputs that were not run yet."""
        by_length = defaultdict(list)
        for one in dict.fromkeys(inputs):
            if one not in self.read:
                by_length[len(one.tokens)].append(one)
        for alike in by_length.values():
            tokens, positions, visible = (torch.tensor(part) for part in zip(*alike, strict=True))
            with torch.no_grad():
                out = self.model(
                    input_ids=tokens, position_ids=positions, attention_mask=visible.double(),
                    output_hidden_states=True,
                )  # fmt: skip
            depth = self.model.config.num_hidden_layers + self.layer
            states = out.hidden_states[depth].numpy()
            logits = out.logits.numpy() if self.classifies else [None] * len(alike)
            self.read |= dict(zip(alike, zip(states, logits, strict=True), strict=True))

    def states(self, one: Input) -> dict[int, np.ndarray]:
        """Token → hidden state; of several ``<mask>`` the last one's."""
        return dict(zip(one.tokens, self.all_states(one), strict=True))

    def all_states(self, one: Input) -> np.ndarray:
        """Hidden states of all tokens, shape (tokens, width)."""
        self.prepare([one])
        return self.read[one][0]

    def logits(self, one: Input) -> np.ndarray:
        """Of a classifier."""
        self.prepare([one])
        return self.read[one][1]


@dataclass(frozen=True)
class Cell:
    """Genes of a cell, highest rank first, as far as its source knows them."""

    name: str
    genes: list[int]
    levels: dict[int, float] = field(default_factory=dict)
    group: int = 0  # which row of the states' vectors is its own


@dataclass(frozen=True)
class Experiment:
    """What is done and read; tokens for names throughout."""

    kinds: tuple[str, ...]
    genes: tuple[int, ...]  # none for all
    most: int
    framed: bool
    arms: tuple[str, ...] = ()
    together: bool = False
    insert: bool = False
    read: tuple[str, ...] = ("genes", "cell")
    responders: tuple[int, ...] = ()
    medians: dict[int, float] = field(default_factory=dict)
    states: np.ndarray | None = None  # (groups, states, width)


@dataclass(frozen=True)
class Task:
    """One perturbation in one cell."""

    cell: Cell
    kind: str
    tokens: tuple[int, ...]
    shown: list[int]  # genes of the unperturbed cell that the model is given
    to: dict[int, int]  # gene → rank that a move takes it to
    arms: tuple[str, ...]
    below: list[int]  # genes under the cut, for backfill

    @property
    def key(self) -> tuple[str, tuple[int, ...], str]:
        return self.cell.name, self.tokens, self.kind

    @property
    def kept(self) -> list[int]:
        """Genes that are not perturbed."""
        return [gene for gene in self.shown if gene not in self.tokens]

    @property
    def ranks(self) -> list[int | None]:
        return [self.shown.index(t) if t in self.shown else None for t in self.tokens]

    def ranking(self) -> list[int]:
        """The genes in their order after a move."""
        order = self.kept
        for gene, rank in sorted(self.to.items(), key=lambda item: item[1]):
            order.insert(rank, gene)
        return order

    def makes_way(self, gene: int) -> bool:
        """Whether the rank shift moves a gene that is not perturbed."""
        rank = self.shown.index(gene)
        if self.kind == "knock-out":
            return any(r < rank for r in self.ranks)
        return self.ranking().index(gene) != rank


def moves(kind: str) -> bool:
    return kind != "knock-out"


def arms_of(kind: str) -> tuple[str, ...]:
    return MOVE_ARMS if moves(kind) else KNOCK_OUT_ARMS


def takes_sets(kind: str) -> bool:
    return kind in ("knock-out", "overexpress") or kind.startswith("to-rank")


def tasks_of(experiment: Experiment, cells: list[Cell]) -> list[Task]:
    """Everything that can be done in these cells."""
    return [
        task
        for cell in cells
        for kind in experiment.kinds
        for tokens in _sets(experiment, cell)
        if (task := _task(experiment, cell, kind, tokens)) is not None
    ]


def _sets(experiment: Experiment, cell: Cell) -> list[tuple[int, ...]]:
    if experiment.together:
        return [experiment.genes]
    return [(gene,) for gene in experiment.genes or cell.genes[: experiment.most]]


def _task(experiment: Experiment, cell: Cell, kind: str, tokens: tuple[int, ...]) -> Task | None:
    size = min(len(cell.genes), experiment.most)
    insert = experiment.insert and moves(kind)
    while insert and size + _lacking(cell, tokens, size) > experiment.most:
        size -= 1  # the baseline is cut by as many genes as are put in
    shown = cell.genes[:size]
    lacking = _lacking(cell, tokens, size)
    if lacking and not insert:
        return None
    ranks = {t: shown.index(t) for t in tokens if t in shown}
    to = _destinations(experiment, cell, kind, tokens, ranks, size)
    if to is None or any(rank >= size + lacking for rank in to.values()):
        return None
    if to and all(ranks.get(t) == rank for t, rank in to.items()):
        return None
    if not experiment.framed and len(ranks) == size:
        return None
    genes_alone = set(experiment.read) == {"genes"} and experiment.responders
    if genes_alone and not set(experiment.responders) & set(shown):
        return None
    arms = tuple(arm for arm in experiment.arms or USUAL[moves(kind)] if arm in arms_of(kind))
    below = cell.genes[size : size + len(tokens)]
    return Task(cell, kind, tokens, shown, to, arms, below)


def _lacking(cell: Cell, tokens: tuple[int, ...], size: int) -> int:
    return sum(token not in cell.genes[:size] for token in tokens)


def _destinations(
    experiment: Experiment,
    cell: Cell,
    kind: str,
    tokens: tuple[int, ...],
    ranks: dict[int, int],
    size: int,
) -> dict[int, int] | None:
    word, _, amount = kind.partition(":")
    if word == "knock-out":
        return {}
    if word in ("overexpress", "to-rank"):
        return {token: int(amount or 0) + place for place, token in enumerate(tokens)}
    (token,) = tokens
    if word == "factor":
        levels = cell.levels | {token: cell.levels[token] * float(amount)}
        order = sorted(levels, key=lambda gene: (-levels[gene] / experiment.medians[gene], gene))
        return {token: order.index(token)}
    if size < 4:
        return None
    quarter = 4 * ranks[token] // size + int(amount) * (1 if word == "inhibit" else -1)
    first, end = (-(-q * size // 4) for q in (quarter, quarter + 1))
    inside = (first + end - 1) // 2
    return {token: 0 if quarter < 0 else size - 1 if quarter > 3 else inside}


def unperturbed(genes: list[int], *, framed: bool) -> Input:
    tokens = (CLS, *genes, EOS) if framed else tuple(genes)
    return Input(tokens, tuple(range(len(tokens))), (True,) * len(tokens))


def perturbed(task: Task, arm: str, *, framed: bool) -> Input:
    """What an arm puts before the model."""
    if moves(task.kind):
        return _moved(task, arm, framed=framed)
    whole = unperturbed(task.shown, framed=framed)
    tokens, positions, visible, gone = [], [], [], 0
    for token, position in zip(whole.tokens, whole.positions, strict=True):
        hit = token in task.tokens
        if token == EOS and framed and arm == "delete-backfill":
            for gene in task.below:
                tokens.append(gene), positions.append(position - gone), visible.append(True)
                gone -= 1
        if not (hit and arm in ("delete", "hold", "delete-backfill")):
            renumbered = arm in ("delete", "shift", "delete-backfill")
            tokens.append(MASK if hit and arm == "mask" else token)
            positions.append(position - gone if renumbered else position)
            visible.append(not (hit and arm == "attention-mask"))
        gone += hit
    if not framed and arm == "delete-backfill":
        for gene in task.below:
            tokens.append(gene), positions.append(len(whole.tokens) - gone), visible.append(True)
            gone -= 1
    # In order of positions; a gene that a shift lifts beside a perturbed one goes first.
    order = sorted(range(len(tokens)), key=lambda place: (positions[place], -place))
    return Input(
        *(tuple(column[place] for place in order) for column in (tokens, positions, visible))
    )


def _moved(task: Task, arm: str, *, framed: bool) -> Input:
    """In order of positions; a gene that an edit takes up to another's place goes before it."""
    old = {gene: rank for rank, gene in enumerate(task.shown)}
    new = {gene: rank for rank, gene in enumerate(task.ranking())}
    placed = {
        "move": new,
        "hold": old | task.to,
        "shift": {gene: old[gene] if gene in task.to else new[gene] for gene in old},
    }[arm]
    end = len(old) if arm == "hold" else len(new)
    # A gene that the cell lacks comes from below.
    tokens = tuple(sorted(placed, key=lambda gene: (placed[gene], -old.get(gene, len(old)))))
    positions = tuple(placed[gene] + framed for gene in tokens)
    if framed:
        tokens, positions = (CLS, *tokens, EOS), (0, *positions, 1 + end)
    return Input(tokens, positions, (True,) * len(tokens))


def cosine_distance(x: np.ndarray, y: np.ndarray) -> float:
    """By the half angle, which loses nothing where it is small."""
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    return float((x - y) @ (x - y) / 2)


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


@dataclass(frozen=True)
class Moved:
    """One task under one arm: states of its kept genes and its cell, before and after."""

    genes_before: np.ndarray  # (kept genes, width)
    genes_after: np.ndarray
    cell_before: np.ndarray
    cell_after: np.ndarray
    all_before: np.ndarray  # mean over all tokens, or <cls>
    all_after: np.ndarray

    @property
    def deltas(self) -> np.ndarray:
        return self.genes_after - self.genes_before

    @property
    def distances(self) -> np.ndarray:
        """Cosine distances of the genes."""
        pairs = zip(self.genes_before, self.genes_after, strict=True)
        return np.array([cosine_distance(x, y) for x, y in pairs], dtype=float)


def moved(model: PlainModel, task: Task, arm: str, *, framed: bool) -> Moved:
    before = unperturbed(task.shown, framed=framed)
    after = perturbed(task, arm, framed=framed)
    states, states_after = model.states(before), model.states(after)
    width = model.model.config.hidden_size
    genes_before = np.array([states[g] for g in task.kept]).reshape(-1, width)
    genes_after = np.array([states_after[g] for g in task.kept]).reshape(-1, width)
    if framed:
        ends = states[CLS], states_after[CLS], states[CLS], states_after[CLS]
    else:
        ends = (
            genes_before.mean(0), genes_after.mean(0), model.all_states(before).mean(0),
            # A hidden gene takes no part: it is as good as gone.
            model.all_states(after)[np.array(after.visible)].mean(0),
        )  # fmt: skip
    return Moved(genes_before, genes_after, *ends)


def cell_embedding(model: PlainModel, genes: list[int], *, framed: bool) -> np.ndarray:
    states = model.states(unperturbed(genes, framed=framed))
    return states[CLS] if framed else np.mean([*states.values()], axis=0)
