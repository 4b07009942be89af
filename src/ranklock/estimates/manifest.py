"""What estimates were: one typed record that reads and writes itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ranklock.arms import edit_arm, find_arms
from ranklock.effects import NoiseFloor
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
        Arms of the forwards; the edit alone is one of them.
    donor
        Column of obs that names donors: they are the replicates then.
    min_cells
        Genes in fewer cells are neither ranked nor tested.
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
    """What was asked of every knock-out.

    Attributes
    ----------
    question
        ``goal``, ``classifier``, ``potency`` or ``gene set``.
    label
        Of the classifier.
    genes
        The set, by name.
    unknown
        Names of the set that stand for no gene.
    probes
        Random signs, each a pass back; 0 for questions about a number with a sign.
    layer, precision
        Layer that is read, as Geneformer's ``emb_layer``, and number format.
    seed
        Of the random signs and of all choices.
    measuring
        What of it is measured.
    """

    question: str
    label: str | None
    genes: tuple[str, ...]
    unknown: tuple[str, ...]
    probes: int
    layer: int
    precision: str
    seed: int
    measuring: Measuring


@dataclass(frozen=True)
class Planned:
    """The size of the estimates.

    Attributes
    ----------
    cells, knockouts
        Cells, and knock-outs in all of them.
    flop
        Floating-point operations of the estimates.
    parts
        Parts that they are computed and stored in.
    """

    cells: int
    knockouts: int
    flop: int
    parts: int


@dataclass(frozen=True)
class Calibration:
    """How tests against genes at like ranks come out, and with genes swapped for such.

    As of :func:`ranklock.significance.calibration.calibration_of`.
    """

    tested: int
    found: int
    p_below_5_percent: float
    swapped_found: int
    swapped_p_below_5_percent: float
    swapped_distance_from_uniform: float


@dataclass(frozen=True)
class Missed:
    """What the estimates missed, as genes tell that were measured at random.

    Attributes
    ----------
    sampled
        How many these are.
    as_large
        How many of them are among the largest of all that were measured.
    correlation
        Spearman's, of their estimates and exact effects.
    recall
        Of the largest, how many were measured.
    """

    sampled: int
    as_large: int
    correlation: Estimate
    recall: tuple[Recall, ...]


@dataclass(frozen=True)
class CellsChecked:
    """Cells whose estimates were held against what was measured in them.

    Attributes
    ----------
    judged, bad, fell_back
        How many could be judged, were bad, and were measured whole.
    median_error
        Of those judged.
    """

    judged: int
    bad: int
    fell_back: int
    median_error: float


@dataclass(frozen=True)
class Outcome:
    """What came of estimates.

    Attributes
    ----------
    replicates
        What tests hold over: cells, or donors.
    suspects
        Genes whose estimates were suspicious.
    calibration, missed, cells_checked
        How far to believe them.
    noise_floor
        Of the forwards.
    statements
        What a reader must know, a sentence each.
    files
        Name → digest of every table and figure.
    """

    replicates: int
    suspects: int
    calibration: Calibration
    missed: Missed
    cells_checked: CellsChecked
    noise_floor: NoiseFloor
    statements: tuple[str, ...]
    files: dict[str, str]


@dataclass(frozen=True)
class Manifest(Record):
    """What was asked of what, with what, and what came of it.

    Attributes
    ----------
    asked, planned
        The question, and its size.
    states
        The goal; None for other questions.
    made_from
        Cells, vocabulary, model, machine and versions.
    identity
        What two calls must have in common to have the same estimates.
    measured
        What they must have in common, beside, to measure and test the same of them.
    outcome
        None before all is done.
    """

    KIND: ClassVar[str] = KIND
    VERSION: ClassVar[int] = VERSION
    CALLED: ClassVar[str] = "estimates"

    asked: Asked
    planned: Planned
    states: StatesUsed | None
    made_from: Provenance
    identity: dict[str, Any]
    measured: dict[str, Any]
    outcome: Outcome | None = None
    version: int = VERSION

    @property
    def complete(self) -> bool:
        """Whether everything was done."""
        return self.outcome is not None

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON, and whether everything was done."""
        return {**super().to_json(), "complete": self.complete}
