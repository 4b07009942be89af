"""In-silico perturbation of rank-based single-cell models, with the rank-shift artefact taken out.

>>> import ranklock
>>> cells = ranklock.read_cells(ranklock.demo.cells_file(), ranklock.demo.vocabulary_file())
>>> model = ranklock.load_model(ranklock.demo.model_folder())
>>> run = ranklock.knockout(cells[0], model, genes=["FTL"], progress=False)
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranklock import demo as demo
    from ranklock.arms import ARMS as ARMS
    from ranklock.arms import MOVE_ARMS as MOVE_ARMS
    from ranklock.cells import Cells as Cells
    from ranklock.cells import Selection as Selection
    from ranklock.cells import read_cells as read_cells
    from ranklock.claims.combinations import combinations as combinations
    from ranklock.claims.knockouts import Knockouts as Knockouts
    from ranklock.claims.knockouts import knockouts as knockouts
    from ranklock.claims.knockouts import read_knockouts as read_knockouts
    from ranklock.errors import InputError as InputError
    from ranklock.errors import OutputError as OutputError
    from ranklock.errors import RanklockError as RanklockError
    from ranklock.errors import RanklockWarning as RanklockWarning
    from ranklock.experiments import audit as audit
    from ranklock.experiments import audit_sweep as audit_sweep
    from ranklock.experiments import evaluate as evaluate
    from ranklock.experiments import knockout as knockout
    from ranklock.experiments import move as move
    from ranklock.experiments import plan_sweep as plan_sweep
    from ranklock.experiments import read_evaluation as read_evaluation
    from ranklock.experiments import regulators as regulators
    from ranklock.experiments import screen as screen
    from ranklock.experiments import sweep as sweep
    from ranklock.experiments.states import StateQuestion as StateQuestion
    from ranklock.models import Model as Model
    from ranklock.models import load_model as load_model
    from ranklock.network import Network as Network
    from ranklock.network import read_network as read_network
    from ranklock.questions.folder import Audit as Audit
    from ranklock.questions.folder import read_audit as read_audit
    from ranklock.results.screen import Screen as Screen
    from ranklock.results.screen import read_screen as read_screen
    from ranklock.results.sweep import Sweep as Sweep
    from ranklock.results.sweep import read_sweep as read_sweep
    from ranklock.run import Run as Run
    from ranklock.run import read_run as read_run
    from ranklock.vocabulary import Vocabulary as Vocabulary
    from ranklock.vocabulary import read_vocabulary as read_vocabulary
    from ranklock.vocabulary import write_vocabulary as write_vocabulary

__version__ = version("ranklock")

# Loaded when first used, so that `import ranklock` stays quick and never imports torch.
_HOME = {
    "ARMS": "arms",
    "Audit": "questions.folder",
    "Cells": "cells",
    "InputError": "errors",
    "Knockouts": "claims.knockouts",
    "MOVE_ARMS": "arms",
    "Model": "models",
    "Network": "network",
    "OutputError": "errors",
    "RanklockError": "errors",
    "RanklockWarning": "errors",
    "Responders": "claims.responders",
    "Run": "run",
    "Screen": "results.screen",
    "Selection": "cells",
    "StateQuestion": "experiments.states",
    "Sweep": "results.sweep",
    "Vocabulary": "vocabulary",
    "audit": "experiments",
    "audit_sweep": "experiments",
    "demo": "",
    "combinations": "claims.combinations",
    "evaluate": "experiments",
    "knockout": "experiments",
    "knockouts": "claims.knockouts",
    "load_model": "models",
    "move": "experiments",
    "plan_sweep": "experiments",
    "read_audit": "questions.folder",
    "read_cells": "cells",
    "read_knockouts": "claims.knockouts",
    "read_evaluation": "experiments",
    "read_network": "network",
    "read_responders": "claims.responders",
    "read_run": "run",
    "read_screen": "results.screen",
    "read_sweep": "results.sweep",
    "read_vocabulary": "vocabulary",
    "responders": "claims.responders",
    "regulators": "experiments",
    "screen": "experiments",
    "sweep": "experiments",
    "write_vocabulary": "vocabulary",
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
