"""What a run was: one typed record that reads and writes itself."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar

from ranklock.arms import capacity
from ranklock.cells import Cells
from ranklock.genes.names import GeneLeftOut
from ranklock.models import Model
from ranklock.run.asked import Asked
from ranklock.run.method_choice import Chosen
from ranklock.run.record import Record
from ranklock.run.state_cells import DonorLeftOut, StateCells
from ranklock.run.states import StatesAsked
from ranklock.run.tasks import CellsLeftOut

KIND = "run"
# Of the manifest and of the files beside it; a run is read by the version that wrote it.
MANIFEST_VERSION = 5
# Of what the forwards and the readout compute; raised whenever their numbers change.
NUMERICS = 3

_PACKAGES = ("ranklock", "torch", "transformers", "numpy", "anndata", "pyarrow")


@dataclass(frozen=True)
class CellsUsed:
    """The cells that were perturbed."""

    source: str
    number: int
    special_frame: bool
    longer_than_the_input: int
    sha256: str
    reading: dict[str, Any]


@dataclass(frozen=True)
class VocabularyUsed:
    """The vocabulary of their tokens."""

    source: str
    genes: int
    sha256: str


@dataclass(frozen=True)
class ModelUsed:
    """The checkpoint."""

    name: str
    architecture: str
    layers: int
    layers_run: int
    width: int
    heads: int
    input_size: int
    sha256: str


@dataclass(frozen=True)
class Machine:
    """What it was computed on."""

    device: str
    threads: int
    precision: str


@dataclass(frozen=True)
class Provenance:
    """What a result was made from and with, with digests; no times, no paths of results.

    Attributes
    ----------
    cells, vocabulary, model, machine
        What was used.
    versions
        Package → version.
    """

    cells: CellsUsed
    vocabulary: VocabularyUsed
    model: ModelUsed
    machine: Machine
    versions: dict[str, str]

    @classmethod
    def of(cls, cells: Cells, model: Model, depth: int, precision: str) -> Provenance:
        """The provenance of results that are made now.

        Parameters
        ----------
        cells, model
            What is used.
        depth
            Layers that are run.
        precision
            Number format of the forwards.
        """
        import torch

        most = capacity(model.input_size, special_frame=cells.special_frame)
        return cls(
            CellsUsed(
                cells.source, len(cells), cells.special_frame,
                sum(len(ranked) > most for ranked in cells.ranked), cells.sha256(),
                dict(cells.reading),
            ),
            VocabularyUsed(
                cells.vocabulary.source, len(cells.vocabulary.tokens), cells.vocabulary.sha256
            ),
            ModelUsed(
                model.name, model.architecture, model.layers, depth, model.width, model.heads,
                model.input_size, model.sha256,
            ),
            Machine(model.device, torch.get_num_threads(), precision),
            {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        )  # fmt: skip


@dataclass(frozen=True)
class Planned:
    """The size of a run.

    Attributes
    ----------
    cells, tasks, forwards
        Cells that anything is done to, perturbations in all of them, and inputs of the model.
    flop
        Floating-point operations of the forwards.
    shards
        Shards that the tasks are computed and stored in.
    """

    cells: int
    tasks: int
    forwards: int
    flop: float
    shards: int


@dataclass(frozen=True)
class StatesUsed:
    """States that cells may move towards.

    Attributes
    ----------
    asked
        What was asked.
    names
        Their names in results.
    cells
        How many cells each embedding is of, by donor where donors have their own.
    left_out
        Donors whose cells are not perturbed.
    """

    asked: StatesAsked
    names: tuple[str, ...]
    cells: tuple[StateCells, ...]
    left_out: tuple[DonorLeftOut, ...] = ()


@dataclass(frozen=True)
class Manifest(Record):
    """What was asked of what, with what, and what came of it.

    Attributes
    ----------
    asked
        The experiment.
    arms
        Kind of perturbation → names of its arms.
    decomposed
        Names of the arms whose effects are decomposed.
    labels
        Classes of the classifier whose logits are read.
    states
        States that cells may move towards; None without any.
    planned
        The size of the run.
    computed
        How, why so, and with what error.
    made_from
        Cells, vocabulary, model, machine and versions.
    genes_left_out, cells_left_out
        Genes that could not be perturbed, and cells in which others could not.
    identity
        What two calls must have in common to be the same run.
    complete
        Whether every shard is there.
    """

    KIND: ClassVar[str] = KIND
    VERSION: ClassVar[int] = MANIFEST_VERSION
    CALLED: ClassVar[str] = "run"

    asked: Asked
    arms: dict[str, tuple[str, ...]]
    decomposed: tuple[str, ...]
    labels: tuple[str, ...]
    states: StatesUsed | None
    planned: Planned
    computed: Chosen
    made_from: Provenance
    genes_left_out: tuple[GeneLeftOut, ...] = ()
    cells_left_out: tuple[CellsLeftOut, ...] = ()
    identity: dict[str, Any] = field(default_factory=dict)
    complete: bool = False
    version: int = MANIFEST_VERSION
