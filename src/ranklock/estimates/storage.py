"""The folder of a screen: what is in it, whose it is, and how its parts come to be there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ranklock.errors import InputError, OutputError
from ranklock.estimates.parts import COLUMNS, FOLDER
from ranklock.estimates.plan import Checking, ScreenPlan
from ranklock.estimates.result import (
    CHECKS,
    FALLBACK,
    FIGURE_PNG,
    FIGURE_SVG,
    FORMAT,
    TABLE,
    VERIFIED,
    is_screen,
)
from ranklock.run.folder import MANIFEST
from ranklock.run.old_store import locked
from ranklock.run.old_sweep_folder import LOCKS, PATIENCE, write_manifest, write_names
from ranklock.run.old_sweep_result import CELLS, GENES, INNER
from ranklock.run.provenance import provenance

_LATER = {GENES, CELLS, INNER, FALLBACK, TABLE, VERIFIED, CHECKS, FIGURE_PNG, FIGURE_SVG, MANIFEST}
_OWN = {LOCKS, FOLDER, *_LATER}


def identity_of(plan: ScreenPlan, checking: Mapping[str, Any]) -> dict[str, Any]:
    """What two calls must have in common: to be the same estimates, and the same screen."""
    return {
        "estimates": {
            "checkpoint": plan.model.sha256,
            "vocabulary": plan.cells.vocabulary.sha256,
            "cells": plan.cells.sha256(),
            "layer": plan.depth,
            "question": dict(plan.asked),
            "precision": plan.precision,
            "version of Ranklock": version("ranklock"),
            "columns": list(COLUMNS),
        },
        "what is measured": dict(checking),
    }


def donors_digest(plan: ScreenPlan, checking: Checking) -> str:
    """Digest of the donors of the cells that are screened; empty when none are asked for.

    Raises
    ------
    InputError
        When a cell has none.
    """
    if checking.donor is None:
        return ""
    donors = plan.cells.obs[checking.donor].iloc[list(plan.rows)]
    if donors.isna().any():
        raise InputError(
            f"{int(donors.isna().sum())} of the cells that are screened have no "
            f"{checking.donor}; leave them out (--where), or name another column."
        )
    return hashlib.sha256("\n".join(donors.astype(str)).encode()).hexdigest()


def check_place(folder: Path) -> set[str]:
    """Refuse a folder that holds anything but a screen, before any forward; what is in it.

    Raises
    ------
    OutputError
        When something else is there.
    """
    if folder.is_file():
        raise OutputError(f"{folder} is a file; name another folder with --out.")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    begun = LOCKS in names and names <= {LOCKS, FOLDER, GENES, CELLS}
    if names and not begun and not is_screen(folder):
        raise OutputError(
            f"{folder} holds something other than a screen; name another folder with --out."
        )
    return names


def check_screen_folder(folder: Path, identity: Mapping[str, Any], *, overwrite: bool) -> None:
    """Refuse a folder that holds another screen; clear it where that is asked for.

    Estimates stay where only what is measured of them is to change.

    Raises
    ------
    OutputError
        When something else is there, or another process is at work on it.
    """
    names = check_place(folder)
    if not is_screen(folder):
        return
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    there = manifest.get("identity", {})
    same = json.loads(json.dumps(identity))
    if there == same and not (overwrite and manifest["complete"]):
        return
    estimates = same["estimates"]
    other = [what for what, value in estimates.items() if there["estimates"].get(what) != value]
    if not overwrite:
        raise OutputError(
            f"{folder} holds a screen that was begun differently "
            f"({', '.join(other) or 'what is measured'}); name another folder with --out, or "
            "replace it with --overwrite"
            + ("." if other else ", which keeps its estimates and measures anew.")
        )
    foreign = sorted(names - _OWN)
    if foreign:
        raise OutputError(
            f"{folder} also holds {foreign[0]}, which no screen wrote; move it away, or name "
            "another folder with --out."
        )
    (folder / LOCKS).mkdir(exist_ok=True)
    for path in (folder / LOCKS).glob("process-*.lock"):
        with locked(path) as free:
            if not free:
                raise OutputError(
                    f"Another process is at work on {folder}; wait for it, or stop it."
                )
    # The manifest last: it says whose the rest is, should this be killed.
    for name in sorted((_OWN if other else _LATER) & names - {LOCKS}, key=MANIFEST.__eq__):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def set_up(
    folder: Path, plan: ScreenPlan, asked: Mapping[str, Any], identity: Mapping[str, Any]
) -> None:
    """Write what a screen is, once, before its first part."""
    with locked(folder / LOCKS / "screen.lock", wait=PATIENCE) as mine:
        if not mine:
            raise OutputError(f"Another process is at work on {folder}; wait for it, or stop it.")
        write_names(folder, plan.cells, plan.rows)
        if (folder / MANIFEST).is_file():
            return
        manifest = {
            "format": FORMAT,
            "complete": False,
            "asked": asked,
            "identity": identity,
            "plan": {
                "cells": len(plan.rows),
                "knockouts": plan.genes,
                "flop": plan.flop,
                "parts": len(plan.parts),
            },
            **provenance(plan.cells, plan.model, plan.depth, plan.precision),
        }
        write_manifest(folder, manifest)


def keys_of(plan: ScreenPlan) -> list[str]:
    """Name of every cell by its row, for what must not depend on the order of cells."""
    names = plan.cells.names
    if len(set(names)) == len(names):
        return names
    # Cells of one name are told apart by their genes.
    return [
        f"{name}:{np.asarray(ranked, '<i4').tobytes().hex()}"
        for name, ranked in zip(names, plan.cells.ranked, strict=True)
    ]
