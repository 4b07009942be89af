"""What the audit of cells runs: a sample that its budget pays for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ranklock.audits.budget import Budget
from ranklock.audits.sample import FEWEST, Sample, draw_sample
from ranklock.audits.smoothing import (
    ARMS,
    FORWARDS,
    MOST,
    ONE_IN,
    ranks_to_smooth,
    smooth_models,
    with_arms,
)
from ranklock.cells import Cells
from ranklock.engine.method import baseline_precision
from ranklock.errors import InputError
from ranklock.genes.network import Network
from ranklock.models import Model
from ranklock.run.asked import Asked
from ranklock.run.execute import execute
from ranklock.run.fields import GENES
from ranklock.run.kept_states import STATES
from ranklock.run.plan import Plan, make_plan
from ranklock.run.run import Run
from ranklock.run.state_cells import StateMembers, state_members
from ranklock.run.states import StateEmbeddings, States, embed_states

_CELLS_TO_TIME = 3
_BESIDE = 0.7  # of a time: the rest goes to writing, measuring and the report


@dataclass(frozen=True, eq=False)
class Experiment:
    """Knock-outs of an audit of cells; ``folder`` is where its run goes."""

    cells: Cells
    model: Model
    asked: Asked
    folder: Path
    states: States | None
    network: Network | None
    batch_size: int | None
    progress: bool

    @cached_property
    def members(self) -> StateMembers | None:
        """Which cells are in which states."""
        return None if self.states is None else state_members(self.states, self.cells)

    @cached_property
    def embeddings(self) -> StateEmbeddings | None:
        """Where the states lie; those that the run keeps where it was begun."""
        if self.states is None:
            return None
        return embed_states(
            self.states, self.cells, self.model, self._trial.depth,
            precision=baseline_precision(self.asked.precision), batch_size=self.batch_size,
            members=self.members,
            kept=self.folder / STATES, progress=self.progress,
        )  # fmt: skip

    @property
    def states_identity(self) -> dict[str, Any] | None:
        """What two audits towards the same states have in common, without a forward."""
        if self.states is None or self.members is None:
            return None
        given = self.embeddings if self.states.embeddings is not None else None
        return {
            **asdict(self.states.asked),
            "cells": self.members.source.sha256(),
            "given": None if given is None else given.sha256,
        }

    @cached_property
    def rows(self) -> list[int]:
        """Rows of the cells that may be audited: those in a start state."""
        if self.members is None:
            return list(range(len(self.cells)))
        return [int(row) for row in np.flatnonzero(self.members.group_of_cell >= 0)]

    @cached_property
    def targets(self) -> dict[int, set[int]]:
        """Regulator → its targets, as tokens; empty without a network."""
        if self.network is None:
            return {}
        vocabulary = self.cells.vocabulary
        return self.network.targets(
            lambda name: vocabulary.tokens.get(vocabulary.find(name) or ""), vocabulary.source
        )

    def check(self) -> None:
        """Refuse what does not fit, before anything is written.

        Raises
        ------
        InputError
            When no cell has two genes, no link is between known genes, or what
            :func:`ranklock.run.plan.make_plan` refuses.
        """
        if not any(len(self.cells.ranked[row]) >= 2 for row in self.rows):
            raise InputError(
                f"None of the {len(self.rows)} cells from {self.cells.source} has two genes, so "
                "nothing can respond; choose other cells."
            )
        _ = self.targets, self._trial, self.states_identity

    @cached_property
    def _trial(self) -> Plan:
        return self._plan(self._draw(_CELLS_TO_TIME))

    def _draw(self, knockouts: int) -> Sample:
        return draw_sample(
            self.cells, self.model, knockouts, rows=self.rows, sources=list(self.targets),
            seed=self.asked.seed,
        )  # fmt: skip

    def _plan(self, sample: Sample, states: StateEmbeddings | None = None) -> Plan:
        rows = list(sample.cells)
        if states is not None:
            states = replace(states, group_of_cell=states.group_of_cell[rows])
        return make_plan(
            self.cells[rows], self.model, self.asked, ranks_of=dict(enumerate(sample.ranks)),
            states=states,
        )  # fmt: skip

    def sample(self, budget: Budget) -> Sample:
        """A sample that a budget pays for, at least one knock-out; the states cost some of it."""
        forwards = budget.forwards or 0
        if budget.seconds is not None:
            flop_of_forward = self._trial.flop / self._trial.forwards
            seconds = _BESIDE * budget.seconds
            forwards = int(seconds * self._trial.measure_rate() / flop_of_forward)
        counts = () if self.members is None else self.members.counts
        forwards -= sum(state.cells for state in counts)
        baselines = 1 / FEWEST  # a knock-out, where cells are not wanting
        arms = sum(len(of_kind) for of_kind in self._trial.computed.values())
        knockouts = forwards / (arms + baselines)
        if with_arms(self.asked.arms):  # some of them are run again with smoothed position tables
            part = forwards / (arms + baselines + FORWARDS / ONE_IN)
            knockouts = max(part, (forwards - MOST * FORWARDS) / (arms + baselines))
        return self._draw(max(int(knockouts), 1))

    def run(self, sample: Sample) -> Run:
        """Knock the sample out, or what is left of it."""
        return execute(
            self._plan(sample, self.embeddings),
            self.folder,
            states_asked=None if self.states is None else self.states.asked,
            batch_size=self.batch_size,
            progress=self.progress,
        )

    @cached_property
    def smooth_models(self) -> dict[int, Model]:
        """Window → the checkpoint with its position table smoothed over it."""
        if not with_arms(self.asked.arms):
            return {}
        return smooth_models(self.model, special_frame=self.cells.special_frame)

    def smoothed_runs(self, sample: Sample, folder: Path) -> dict[int, Run]:
        """Window → some of the sample's knock-outs again, with a smoothed position table.

        Parameters
        ----------
        folder
            Where the runs go, one folder a window.
        """
        ranks_of = ranks_to_smooth(sample)
        rows = sorted(ranks_of)
        asked = replace(self.asked, arms=ARMS, read=(GENES,))
        runs = {}
        for window, model in self.smooth_models.items():
            plan = make_plan(
                self.cells[rows], model, asked,
                ranks_of={place: ranks_of[row] for place, row in enumerate(rows)},
            )  # fmt: skip
            runs[window] = execute(
                plan, folder / f"window-{window}", batch_size=self.batch_size,
                progress=self.progress,
            )  # fmt: skip
        return runs
