"""What is estimated and what that takes: known before the first forward."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.arms import find_arms
from ranklock.cells import Cells
from ranklock.engine.memory import available_memory
from ranklock.errors import InputError, OptionError, OutputError, RanklockWarning
from ranklock.estimates.attribution import Question
from ranklock.estimates.cost import estimate_flop, estimate_memory
from ranklock.estimates.manifest import CLASSIFIER, GENE_SET, GOAL, POTENCY, Asked, Measuring
from ranklock.genes.names import resolve, said_of
from ranklock.kinds import KNOCK_OUT
from ranklock.models import Model
from ranklock.models.encoder import output_of_layer
from ranklock.models.permuted import head_of
from ranklock.models.precision import check_precision
from ranklock.quantities import count, free_disk, size
from ranklock.run.asked import ESTIMATE
from ranklock.run.asked import Asked as RunAsked
from ranklock.run.fields import CELL, GENES, LOGITS
from ranklock.run.plan import Plan, check_fit, make_plan, shown_genes
from ranklock.run.state_cells import StateMembers, state_members
from ranklock.run.states import StateEmbeddings, States, embed_states
from ranklock.significance.replicates import as_names, replicates_of

_GENES_IN_PART = 1 << 15  # what is held at once
_FLOP_IN_PART = 2e13  # what a kill can cost: on a CPU some minutes, unless a cell takes more
_BYTES_OF_ROW = 24


@dataclass(frozen=True, eq=False)
class EstimatesPlan:
    """What is going to be estimated."""

    cells: Cells
    model: Model
    asked: Asked
    question: Question  # for the pass back; without a goal, which may differ between cells
    depth: int  # layers that are run
    rows: tuple[int, ...]  # of the cells whose knock-outs are estimated
    goal: States | None = None
    states: StateEmbeddings | None = None  # where the goal lies

    def question_of(self, row: int) -> Question:
        """What is asked of a cell's knock-outs."""
        if self.states is None:
            return self.question
        return replace(self.question, goal=self.states.vectors[self.states.group_of_cell[row], 0])

    @cached_property
    def parts(self) -> tuple[tuple[int, ...], ...]:
        """Rows, some at a time: what is stored in one step, and lost when a process is killed."""
        parts: list[tuple[int, ...]] = []
        part: list[int] = []
        genes = flop = 0
        for row in self.rows:
            part.append(row)
            genes += self.genes_of(row)
            flop += self.flop_of(row)
            if genes >= _GENES_IN_PART or flop >= _FLOP_IN_PART:
                parts.append(tuple(part))
                part, genes, flop = [], 0, 0
        return (*parts, tuple(part)) if part else tuple(parts)

    @cached_property
    def donors(self) -> npt.NDArray[np.object_]:
        """Donor of every cell, NaN where it is not known, shape (cells,)."""
        return np.asarray(as_names(self.cells.obs[str(self.asked.measuring.donor)]), dtype=object)

    @cached_property
    def genes(self) -> pd.DataFrame:
        """Genes of the cells by token: ``gene_id`` and ``symbol``."""
        vocabulary = self.cells.vocabulary
        present = np.zeros(vocabulary.largest_token + 1, bool)
        for row in self.rows:
            present[self.cells.ranked[row]] = True
        tokens = pd.Index(np.flatnonzero(present).astype(np.int32), name="token")
        return pd.DataFrame(
            {"gene_id": tokens.map(vocabulary.gene), "symbol": tokens.map(vocabulary.symbol)},
            tokens,
        )

    @cached_property
    def knockouts(self) -> int:
        """Knock-outs, over all cells."""
        return sum(map(self.genes_of, self.rows))

    @cached_property
    def flop(self) -> int:
        """Floating-point operations of all cells."""
        return sum(map(self.flop_of, self.rows))

    def genes_of(self, row: int) -> int:
        """Genes that the model is shown of a cell."""
        return shown_genes(self.cells, row, self.model)

    def flop_of(self, row: int) -> int:
        """Floating-point operations of a cell."""
        genes = self.genes_of(row)
        tokens = genes + 2 * self.cells.special_frame
        return estimate_flop(
            self.model, tokens, self._read(row, genes), self.depth, self.question.numbers
        )

    def _read(self, row: int, genes: int) -> int:
        """Rows of a cell's last layer that are read."""
        if self.question.reads_first(special_frame=self.cells.special_frame):
            return 1
        if self.question.responders is None:
            return genes
        return int(np.isin(self.cells.ranked[row][:genes], self.question.responders).sum())

    def run_of(self, ranks_of: Mapping[int, Sequence[int]], arms: Sequence[str]) -> Plan:
        """A run that measures some of the knock-outs exactly, whatever is asked of them."""
        responders = self.question.responders
        asked = RunAsked(
            arms=tuple(arms),
            read=(GENES, CELL, LOGITS) if self.question.head is not None else (GENES, CELL),
            responders=() if responders is None else tuple(map(str, responders.tolist())),
            layer=self.asked.layer,
            precision=self.asked.precision,
            donor=self.asked.measuring.donor,
            seed=self.asked.seed,
            purpose=ESTIMATE,
        )
        return make_plan(self.cells, self.model, asked, ranks_of=ranks_of, states=self.states)

    def describe(self, folder: Path) -> list[str]:
        """The plan in words, a line each."""
        passes = self.question.numbers
        free = available_memory(self.model.device)
        return [
            f"Plan: {self.knockouts:,} knock-outs in {len(self.rows):,} cells, "
            + ("one pass" if passes == 1 else f"{passes} passes")
            + " back through each",
            f"Work: {count(self.flop)}FLOP in {self.asked.precision} on {self.model.device}; "
            f"memory: about {size(self._memory)} of {size(free)} free; disk: about "
            f"{size(self._disk)} of {size(free_disk(folder))} free",
        ]

    @cached_property
    def _memory(self) -> int:
        tokens = max(map(self.genes_of, self.rows)) + 2 * self.cells.special_frame
        return estimate_memory(
            self.model, tokens, self.depth, self.question.numbers, self.asked.precision
        )

    @property
    def _disk(self) -> int:
        return self.knockouts * _BYTES_OF_ROW

    def check_memory(self) -> None:
        """Refuse what does not fit into the device's memory, by an InputError."""
        free = available_memory(self.model.device)
        if self._memory > free:
            raise InputError(
                f"This takes about {size(self._memory)} of memory on {self.model.device} and "
                f"{size(free)} are free; take another device (--device)."
            )

    def check_disk(self, folder: Path, already: int) -> None:
        """Refuse what does not fit beside the bytes that are there, by an OutputError."""
        room = free_disk(folder)
        if self._disk - already > room:
            raise OutputError(
                f"The estimates take about {size(self._disk)} and {size(room)} are free under "
                f"{folder}; name a folder on another disk, or take fewer cells (--sample)."
            )


def plan_estimates(
    cells: Cells,
    model: Model,
    *,
    goal: States | None = None,
    classifier: str | None = None,
    potency: bool = False,
    gene_set: Sequence[str | int] | None = None,
    responder: str | int | None = None,
    probes: int = 32,
    measuring: Measuring | None = None,
    layer: int | None = None,
    precision: str = "float32",
    seed: int = 0,
    progress: bool = False,
) -> EstimatesPlan:
    """Plan what :func:`ranklock.estimate` is asked, the goal's embedding included.

    Raises
    ------
    InputError
        When something does not fit: a label, state or gene that is not there, a vocabulary that
        belongs to another checkpoint.
    """
    measuring = measuring or Measuring()
    check_fit(cells, model, find_arms(measuring.arms, KNOCK_OUT))
    asks = {
        GOAL: goal is not None, CLASSIFIER: classifier is not None, POTENCY: potency,
        GENE_SET: gene_set is not None, "responder": responder is not None,
    }  # fmt: skip
    if sum(asks.values()) != 1:
        raise OptionError(
            "Estimates answer one question: a goal state (--state-key, --start and --goal), "
            "--classifier, --potency, --gene-set or --responder."
        )
    if not model.device.startswith(("cpu", "cuda")):
        raise OptionError(
            f"Estimates run on cpu and cuda, not on {model.device}: effects are summed in float64."
        )
    check_precision(precision, model.device)
    if classifier is not None and layer not in (None, 0):
        raise OptionError("A classifier reads the last layer; leave out --layer.")
    layer = (0 if classifier is not None else -1) if layer is None else layer
    depth = output_of_layer(model, layer)
    if depth == 0:
        raise OptionError("Estimates need a layer in which genes attend to each other (--layer).")
    if probes < 1:
        raise OptionError(f"--probes is {probes}; an effect needs one at least.")
    if goal is not None and goal.alternatives:
        raise OptionError(
            "Estimates are of the way to one goal; leave out alternatives, or run ranklock perturb."
        )
    named = [responder] if responder is not None else gene_set
    tokens, unknown = _responders(named, cells, needed=responder is not None)
    signed = goal is not None or classifier is not None
    asked = Asked(
        question=GENE_SET if named is not None else next(name for name in asks if asks[name]),
        label=classifier,
        genes=() if tokens is None else tuple(map(cells.vocabulary.symbol, tokens.tolist())),
        unknown=unknown,
        probes=0 if signed else probes,
        layer=layer,
        precision=precision,
        seed=seed,
        measuring=measuring,
    )
    head = None if classifier is None else head_of(model)
    label = 0 if head is None or classifier is None else head.index(classifier)
    question = Question(head=head, label=label, probes=asked.probes, responders=tokens, seed=seed)
    members = None if goal is None else state_members(goal, cells)
    rows = _estimable(cells, model, question, members)
    replicates_of(cells.obs.iloc[list(rows)], measuring.donor, cells.source)  # or it refuses
    plan = EstimatesPlan(cells, model, asked, question, depth, rows, goal)
    plan.check_memory()
    if goal is None:
        return plan
    states = embed_states(
        goal, cells, model, depth, precision=precision, members=members, progress=progress
    )
    return replace(plan, states=states)


def _responders(
    names: Iterable[str | int] | None, cells: Cells, *, needed: bool
) -> tuple[npt.NDArray[np.int32] | None, tuple[str, ...]]:
    """Tokens of a gene set, and its names that stand for no gene, which are said and left out."""
    if names is None:
        return None, ()
    resolved = resolve(names, cells.vocabulary)
    if not resolved.tokens and not resolved.unusable:
        raise OptionError("The gene set names no gene.")
    if resolved.unusable:
        sentence = said_of(resolved.unusable, cells.vocabulary)
        if needed or not resolved.tokens:
            raise InputError(sentence)
        warnings.warn(f"{sentence} They are left out.", RanklockWarning, stacklevel=5)
    tokens = np.array(resolved.tokens, np.int32)
    return tokens, tuple(name.name for name in resolved.unusable)


def _estimable(
    cells: Cells, model: Model, question: Question, members: StateMembers | None
) -> tuple[int, ...]:
    """Rows of the cells in which something responds to knock-outs."""
    started = np.arange(len(cells))
    if members is not None:
        started = np.flatnonzero(members.group_of_cell >= 0)
    # A lone gene leaves nothing that could respond, but for <cls>.
    fewest = 1 if question.signed and cells.special_frame else 2
    estimable = []
    for row in started.tolist():
        shown = cells.ranked[row][: shown_genes(cells, row, model)]
        responds = question.responders is None or np.isin(shown, question.responders).any()
        if len(shown) >= fewest and responds:
            estimable.append(row)
    if not estimable:
        lack = "no cell has two genes." if question.responders is None else "they lack the genes."
        raise InputError(f"Nothing can be estimated in the cells of {cells.source}: {lack}")
    if len(estimable) < len(started):
        warnings.warn(
            f"{len(started) - len(estimable)} of {len(started)} cells have fewer than two genes, "
            "or none of those that are asked for; they are left out.",
            RanklockWarning,
            stacklevel=4,
        )
    return tuple(estimable)
