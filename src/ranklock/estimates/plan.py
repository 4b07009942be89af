"""What a screen is asked and what that takes: known before the first forward."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ranklock.arms import find_arms
from ranklock.cells import Cells
from ranklock.engine.cost import screen_flop, screen_memory
from ranklock.engine.memory import available_memory
from ranklock.errors import InputError, OptionError, OutputError, RanklockWarning
from ranklock.estimates.attribution import Question
from ranklock.models import Model
from ranklock.models.encoder import output_of_layer
from ranklock.models.head import load_head
from ranklock.models.precision import check_precision
from ranklock.quantities import count, free_disk, size
from ranklock.run.old_plan import check_fit, find_knockouts, shown_genes
from ranklock.run.old_sweep_plan import SweepPlan, plan_of_ranks
from ranklock.run.states import StateQuestion, find_ends

GOAL, CLASSIFIER, POTENCY, GENE_SET = "goal", "classifier", "potency", "gene set"
_GENES_IN_PART = 1 << 15  # what is held at once
_FLOP_IN_PART = 2e13  # what a kill can cost: on a CPU some minutes, unless a cell takes more
_BYTES_OF_ROW = 24


@dataclass(frozen=True)
class Checking:
    """What of a screen is measured exactly, and how it is tested.

    Attributes
    ----------
    verify
        Genes with the largest estimates that are knocked out by forwards; of suspicious ones half
        as many more, at most.
    recheck
        Genes at random, of the others: what tells how much the estimates miss.
    verify_cells
        Cells of each of these genes, at random.
    fallback_cells
        Cells that are measured whole, at most, where their estimates prove bad.
    arms
        Arms of the forwards.
    donor
        Column of obs that names donors: they are the replicates then.
    min_cells
        Genes in fewer cells are neither measured nor tested.
    seed
        Of all choices.
    """

    verify: int = 50
    recheck: int = 25
    verify_cells: int = 20
    fallback_cells: int = 10
    arms: tuple[str, ...] = ("hold",)
    donor: str | None = None
    min_cells: int = 5
    seed: int = 0

    def check(self, cells: Cells) -> None:
        """Refuse what cannot be done.

        Raises
        ------
        InputError
            When a number makes no sense, ``hold`` is not among the arms, or there is no such
            column.
        """
        least = {"verify": 1, "recheck": 0, "verify_cells": 1, "fallback_cells": 0, "min_cells": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                option = f"--{name.replace('_', '-')}"
                raise OptionError(f"{option} is {getattr(self, name)}; it is {number} at least.")
        find_arms(self.arms)
        if "hold" not in self.arms:
            raise OptionError("A screen estimates effects of hold; name it among the arms.")
        if self.donor is not None and self.donor not in cells.obs:
            there = ", ".join(map(str, cells.obs.columns)) or "none"
            raise InputError(
                f"{cells.source} has no column {self.donor!r} in obs (it has {there}); name the "
                "one that holds donors or samples."
            )


@dataclass(frozen=True, eq=False)
class ScreenPlan:
    """What a screen is going to do.

    Attributes
    ----------
    cells, model
        What it is done to, and with.
    question
        What is asked of every knock-out.
    asked
        The same in words, for the manifest.
    layer, depth
        Layer that is read, and number of layers that are run for it.
    precision
        Number format of the forwards.
    rows
        Rows of the cells that are screened.
    """

    cells: Cells
    model: Model
    question: Question
    asked: Mapping[str, Any]
    layer: int
    depth: int
    precision: str
    rows: tuple[int, ...]

    @cached_property
    def parts(self) -> tuple[tuple[int, ...], ...]:
        """Rows, some at a time: what is stored in one step, and lost when a process is killed."""
        parts: list[tuple[int, ...]] = []
        part: list[int] = []
        genes = flop = 0
        for row in self.rows:
            part.append(row)
            genes += shown_genes(self.cells, row, self.model)
            flop += self.flop_of(row)
            if genes >= _GENES_IN_PART or flop >= _FLOP_IN_PART:
                parts.append(tuple(part))
                part, genes, flop = [], 0, 0
        return (*parts, tuple(part)) if part else tuple(parts)

    @cached_property
    def genes(self) -> int:
        """Knock-outs, over all cells."""
        return sum(shown_genes(self.cells, row, self.model) for row in self.rows)

    @cached_property
    def flop(self) -> int:
        """Floating-point operations of all cells."""
        return sum(self.flop_of(row) for row in self.rows)

    def flop_of(self, row: int) -> int:
        """Floating-point operations of a cell."""
        genes = shown_genes(self.cells, row, self.model)
        tokens = genes + 2 * self.cells.special_frame
        return screen_flop(
            self.model, tokens, self._read(row, genes), self.depth, self.question.numbers
        )

    def _read(self, row: int, genes: int) -> int:
        """Rows of a cell's last layer that are read."""
        if self.question.signed:
            return 1 if self.question.head is not None or self.cells.special_frame else genes
        if self.question.responders is None:
            return genes
        return int(np.isin(self.cells.ranked[row][:genes], self.question.responders).sum())

    def exact(self, ranks_of: Mapping[int, Sequence[int]], arms: Sequence[str]) -> SweepPlan:
        """A sweep that measures some of the knock-outs exactly, whatever is asked of them."""
        states = None if self.question.goal is None else {"goal": self.question.goal}
        responders = self.question.responders
        return plan_of_ranks(
            self.cells, self.model, ranks_of, arms,
            responders=None if responders is None else [int(token) for token in responders],
            layer=self.layer, precision=self.precision, states=states, head=self.question.head,
        )  # fmt: skip

    def describe(self, folder: Path) -> list[str]:
        """The plan in words, a line each."""
        passes = self.question.numbers
        free = available_memory(self.model.device)
        return [
            f"Plan: {self.genes:,} knock-outs in {len(self.rows):,} cells, "
            + ("one pass" if passes == 1 else f"{passes} passes")
            + " back through each",
            f"Work: {count(self.flop)}FLOP in {self.precision} on {self.model.device}; memory: "
            f"about {size(self._memory)} of {size(free)} free; disk: about {size(self._disk)} of "
            f"{size(free_disk(folder))} free",
        ]

    @cached_property
    def _memory(self) -> int:
        longest = max(shown_genes(self.cells, row, self.model) for row in self.rows)
        tokens = longest + 2 * self.cells.special_frame
        return screen_memory(self.model, tokens, self.depth, self.question.numbers, self.precision)

    @property
    def _disk(self) -> int:
        return self.genes * _BYTES_OF_ROW

    def check_fits(self, folder: Path, already: int) -> None:
        """Refuse a screen that does not fit the machine.

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
        free, room = available_memory(self.model.device), free_disk(folder)
        if self._memory > free:
            raise InputError(
                f"This takes about {size(self._memory)} of memory on {self.model.device} and "
                f"{size(free)} are free; take another device (--device)."
            )
        if self._disk - already > room:
            raise OutputError(
                f"The estimates take about {size(self._disk)} and {size(room)} are free under "
                f"{folder}; name a folder on another disk, or take fewer cells (--sample)."
            )


def plan_screen(
    cells: Cells,
    model: Model,
    *,
    goal: StateQuestion | None = None,
    classifier: str | None = None,
    potency: bool = False,
    gene_set: Sequence[str | int] | None = None,
    probes: int = 32,
    layer: int | None = None,
    precision: str = "float32",
    seed: int = 0,
) -> ScreenPlan:
    """Plan a screen, and find out what does not fit.

    Parameters
    ----------
    cells, model, goal, classifier, potency, gene_set, probes, layer, precision, seed
        As in :func:`ranklock.screen`.

    Raises
    ------
    InputError
        When something does not fit: a label, state or gene that is not there, a vocabulary that
        belongs to another checkpoint.
    """
    check_fit(cells, model, find_arms(["hold"]))
    if sum((goal is not None, classifier is not None, potency, gene_set is not None)) != 1:
        raise OptionError(
            "A screen asks one question: a goal state (--state-key, --start and --goal), "
            "--classifier, --potency or --gene-set."
        )
    if not model.device.startswith(("cpu", "cuda")):
        raise OptionError(
            f"Screens run on cpu and cuda, not on {model.device}: effects are summed in float64."
        )
    check_precision(precision, model.device)
    if classifier is not None and layer not in (None, 0):
        raise OptionError("A classifier reads the last layer; leave out --layer.")
    layer = (0 if classifier is not None else -1) if layer is None else layer
    depth = output_of_layer(model, layer)
    if depth == 0:
        raise OptionError("A screen needs a layer in which genes attend to each other (--layer).")
    if probes < 1:
        raise OptionError(f"--probes is {probes}; an effect needs one at least.")
    asked: dict[str, Any]
    if goal is not None:
        if goal.alternatives:
            raise OptionError("A screen takes no alternatives; sweep towards them.")
        ends = find_ends(goal, cells, model, depth, precision=precision, seed=seed)
        cells, question = ends.cells, Question(goal=ends.embeddings["goal"])
        asked = {"question": GOAL, "states": ends.asked}
    elif classifier is not None:
        question = Question(head=load_head(model.name, classifier, device=model.device))
        asked = {"question": CLASSIFIER, "label": classifier}
    else:
        tokens = None
        asked = {"question": POTENCY, "probes": probes, "seed": seed}
        if gene_set is not None:
            found = find_knockouts(gene_set, cells, together=False)
            tokens = np.array([token for (token,) in found], np.int32)
            names = [cells.vocabulary.symbol(int(token)) for token in tokens]
            asked |= {"question": GENE_SET, "genes": names}
        question = Question(probes=probes, responders=tokens, seed=seed)
    rows = tuple(_able(cells, model, question))
    return ScreenPlan(cells, model, question, asked, layer, depth, precision, rows)


def _able(cells: Cells, model: Model, question: Question) -> list[int]:
    """Rows of the cells that can be screened."""
    able = []
    for row, ranked in enumerate(cells.ranked):
        shown = ranked[: shown_genes(cells, row, model)]
        responds = question.responders is None or np.isin(shown, question.responders).any()
        # Without <cls> a lone gene leaves nothing that could respond.
        if len(shown) >= 2 - cells.special_frame and responds:
            able.append(row)
    if not able:
        lack = "no cell has two genes." if question.responders is None else "they lack the genes."
        raise InputError(f"Nothing can be screened in the cells of {cells.source}: {lack}")
    if len(able) < len(cells):
        warnings.warn(
            f"{len(cells) - len(able)} of {len(cells)} cells have fewer than two genes, or none of "
            "those that are asked for; they are left out.",
            RanklockWarning,
            stacklevel=4,
        )
    return able
