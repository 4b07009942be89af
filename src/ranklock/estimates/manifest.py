"""What estimates were: one typed record that reads and writes itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ranklock.arms import edit_arm, find_arms
from ranklock.errors import OptionError
from ranklock.kinds import KNOCK_OUT
from ranklock.run.manifest import Provenance, StatesUsed
from ranklock.run.record import Record
from ranklock.statistics.intervals import Estimate
from ranklock.statistics.missed import Recall

KIND = "estimates"
# Of the manifest and of the files beside it; they are read by the version that wrote them.
VERSION = 2

GOAL, CLASSIFIER, POTENCY, GENE_SET = "goal", "classifier", "potency", "gene set"
SIGNED = (GOAL, CLASSIFIER)  # questions about a number with a sign
_LEAST = {"verify": 1, "recheck": 0, "verify_cells": 1, "fallback_cells": 0, "min_cells": 1}


@dataclass(frozen=True)
class Measuring:
    """What of estimates is measured exactly, and how it is tested.

    Attributes are as the parameters of :func:`ranklock.estimate`.
    """

    verify: int = 50
    recheck: int = 25
    verify_cells: int = 20
    fallback_cells: int = 10
    arms: tuple[str, ...] = ("hold",)
    donor: str | None = None
    min_cells: int = 5

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if getattr(self, name) < least:
                option = f"--{name.replace('_', '-')}"
                raise OptionError(f"{option} is {getattr(self, name)}; it is {least} at least.")
        find_arms(self.arms, KNOCK_OUT)
        if edit_arm(self.arms) is None:
            raise OptionError("Estimates are of the edit alone; name hold among the arms.")


@dataclass(frozen=True)
class Asked:
    """What was asked of every knock-out."""

    question: str  # goal, classifier, potency or gene set
    label: str | None  # of the classifier
    genes: tuple[str, ...]  # the set, by name
    unknown: tuple[str, ...]  # names of the set that stand for no gene
    probes: int  # random signs, each a pass back; 0 for questions about a number with a sign
    layer: int  # that is read, as Geneformer's emb_layer
    precision: str
    seed: int  # of the random signs and of all choices
    measuring: Measuring


@dataclass(frozen=True)
class Planned:
    """The size of the estimates."""

    cells: int
    knockouts: int
    flop: int
    parts: int  # that they are computed and stored in


@dataclass(frozen=True)
class Missed:
    """What the estimates missed, as genes tell that were measured at random."""

    sampled: int  # how many these are
    as_large: int  # of them, among the largest of all that were measured
    correlation: Estimate  # Spearman's, of their estimates and exact effects
    recall: tuple[Recall, ...]  # of the largest, how many were measured


@dataclass(frozen=True)
class CellsChecked:
    """Cells whose estimates were held against what was measured in them."""

    judged: int
    bad: int
    fell_back: int  # measured whole
    median_error: float  # of those judged


@dataclass(frozen=True)
class Outcome:
    """What came of estimates, and how far to believe it."""

    suspects: int  # genes whose estimates were suspicious
    missed: Missed
    cells_checked: CellsChecked
    statements: tuple[str, ...]  # what a reader must know, a sentence each
    files: dict[str, str]  # digest of every table and figure


@dataclass(frozen=True)
class Manifest(Record):
    """What was asked of what, with what, and what came of it."""

    KIND: ClassVar[str] = KIND
    VERSION: ClassVar[int] = VERSION
    CALLED: ClassVar[str] = "estimates"

    asked: Asked
    planned: Planned
    states: StatesUsed | None  # the goal
    made_from: Provenance
    identity: dict[str, Any]  # what calls must share to have the same estimates
    measured: dict[str, Any]  # and, beside, to measure and test the same of them
    outcome: Outcome | None = None  # before all is done
    version: int = VERSION

    @property
    def complete(self) -> bool:
        """Whether everything was done."""
        return self.outcome is not None

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON, and whether everything was done."""
        return {**super().to_json(), "complete": self.complete}
