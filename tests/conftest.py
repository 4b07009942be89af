from __future__ import annotations

import os
import shutil
from pathlib import Path

# Before anything imports huggingface_hub: no test reaches a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Before anything imports torch: each core has a process of its own already.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from tests import helpers

settings.register_profile("ranklock", deadline=None, derandomize=True)
settings.load_profile("ranklock")


@pytest.fixture(scope="session")
def shared() -> Path:
    if not helpers.SHARED.is_dir():
        pytest.skip(f"{helpers.SHARED} (real cells and a checkpoint for development) is not here")
    return helpers.SHARED


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """Two layers, 64 tokens, 64 positions, random weights large enough to make effects."""
    return helpers.checkpoint(tmp_path_factory.mktemp("tiny"), spread=0.3)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium or Chrome on this machine")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


def pytest_collection_modifyitems(items):
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture(scope="session")
def tiny_audit(tiny_checkpoint, tmp_path_factory):
    """An audit of four cells with a network and a goal state, on the tiny checkpoint."""
    import pandas as pd

    import ranklock
    from ranklock.genes.network import Network

    cells = helpers.cells_of([50, 50, 45, 40, 50, 30], helpers.vocabulary(55))
    cells.obs["state"] = ["start"] * 4 + ["goal"] * 2
    symbols = [cells.vocabulary.symbol(token) for token in sorted(cells.vocabulary.genes)]
    edges = pd.DataFrame(
        [(s, t, 1.0) for i, s in enumerate(symbols[:6]) for t in symbols[10 + i :: 3]],
        columns=["source", "target", "weight"],
    )
    return ranklock.audit(
        cells,
        ranklock.load_model(str(tiny_checkpoint), device="cpu"),
        tmp_path_factory.mktemp("tiny") / "audit",
        budget=480,
        states=ranklock.States("state", ("start",), "goal"),
        network=Network(edges, "made-up links", "0"),
        progress=False,
    )
