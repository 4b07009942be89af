"""In-silico perturbation of rank-based single-cell models, with the rank-shift artefact taken out.

>>> import ranklock
>>> cells = ranklock.read_cells(ranklock.demo.cells_file(), ranklock.demo.vocabulary_file())
>>> model = ranklock.load_model(ranklock.demo.model_folder())
>>> run = ranklock.perturb(cells[0], model, ["FTL"], progress=False)
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranklock import demo as demo
    from ranklock.arms import ARMS as ARMS
    from ranklock.arms import MOVE_ARMS as MOVE_ARMS
    from ranklock.audits.audit import audit as audit
    from ranklock.audits.folder import Audit as Audit
    from ranklock.audits.folder import read_audit as read_audit
    from ranklock.cells import Cells as Cells
    from ranklock.cells import Selection as Selection
    from ranklock.cells import read_cells as read_cells
    from ranklock.errors import InputError as InputError
    from ranklock.errors import OutputError as OutputError
    from ranklock.errors import RanklockError as RanklockError
    from ranklock.errors import RanklockWarning as RanklockWarning
    from ranklock.estimates.estimate import estimate as estimate
    from ranklock.estimates.result import Estimates as Estimates
    from ranklock.estimates.result import read_estimates as read_estimates
    from ranklock.genes.network import Network as Network
    from ranklock.genes.network import read_network as read_network
    from ranklock.genes.vocabulary import Vocabulary as Vocabulary
    from ranklock.genes.vocabulary import read_vocabulary as read_vocabulary
    from ranklock.genes.vocabulary import write_vocabulary as write_vocabulary
    from ranklock.models import Model as Model
    from ranklock.models import load_model as load_model
    from ranklock.models.permuted import permuted as permuted
    from ranklock.perturbseq.evaluate import evaluate as evaluate
    from ranklock.perturbseq.evaluate import read_evaluation as read_evaluation
    from ranklock.perturbseq.natural import NaturalKnockOuts as NaturalKnockOuts
    from ranklock.perturbseq.natural import natural_knock_outs as natural_knock_outs
    from ranklock.perturbseq.natural import read_natural_knock_outs as read_natural_knock_outs
    from ranklock.run.perturb import perturb as perturb
    from ranklock.run.run import Run as Run
    from ranklock.run.run import read_run as read_run
    from ranklock.run.states import States as States
    from ranklock.significance.combinations import combinations as combinations
    from ranklock.significance.responders import Responders as Responders
    from ranklock.significance.responders import read_responders as read_responders
    from ranklock.significance.responders import responders as responders
    from ranklock.significance.shifts import Shifts as Shifts
    from ranklock.significance.shifts import read_shifts as read_shifts
    from ranklock.significance.shifts import shifts as shifts

__version__ = version("ranklock")

# Loaded when first used, so that `import ranklock` stays quick and never imports torch.
_HOME = {
    "ARMS": "arms",
    "Audit": "audits.folder",
    "Cells": "cells",
    "Estimates": "estimates.result",
    "InputError": "errors",
    "MOVE_ARMS": "arms",
    "Model": "models",
    "NaturalKnockOuts": "perturbseq.natural",
    "Network": "genes.network",
    "OutputError": "errors",
    "RanklockError": "errors",
    "RanklockWarning": "errors",
    "Responders": "significance.responders",
    "Run": "run.run",
    "Selection": "cells",
    "Shifts": "significance.shifts",
    "States": "run.states",
    "Vocabulary": "genes.vocabulary",
    "audit": "audits.audit",
    "demo": "",
    "combinations": "significance.combinations",
    "estimate": "estimates.estimate",
    "evaluate": "perturbseq.evaluate",
    "load_model": "models",
    "natural_knock_outs": "perturbseq.natural",
    "permuted": "models.permuted",
    "perturb": "run.perturb",
    "read_audit": "audits.folder",
    "read_cells": "cells",
    "read_estimates": "estimates.result",
    "read_evaluation": "perturbseq.evaluate",
    "read_natural_knock_outs": "perturbseq.natural",
    "read_network": "genes.network",
    "read_responders": "significance.responders",
    "read_run": "run.run",
    "read_shifts": "significance.shifts",
    "read_vocabulary": "genes.vocabulary",
    "responders": "significance.responders",
    "shifts": "significance.shifts",
    "write_vocabulary": "genes.vocabulary",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ranklock' has no attribute {name!r}")
    home = _HOME[name]
    module = import_module(f"ranklock.{home or name}")
    value = getattr(module, name) if home else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
