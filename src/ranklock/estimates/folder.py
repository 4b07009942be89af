"""The folder of estimates: what is in it, whose it is, and how it is set up."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from ranklock.errors import OutputError
from ranklock.estimates.manifest import KIND, VERSION, Manifest, Planned
from ranklock.estimates.parts import COLUMNS, FOLDER
from ranklock.estimates.plan import EstimatesPlan
from ranklock.estimates.result import CELLS, CHECKS, FALLBACK, FIGURES, GENES, TABLE, VERIFIED
from ranklock.run.files import write_whole
from ranklock.run.folder import MANIFEST
from ranklock.run.locks import locked
from ranklock.run.manifest import NUMERICS, Provenance, StatesUsed
from ranklock.run.metadata import add_metadata
from ranklock.run.run import INNER, digest_of
from ranklock.run.work import LOCKS, WorkFolder, read_work, writing

_MEASURED = {INNER, FALLBACK, TABLE, VERIFIED, CHECKS, *FIGURES}
OWN = {FOLDER, GENES, CELLS, *_MEASURED}


def identity_of(plan: EstimatesPlan) -> dict[str, Any]:
    """What two calls must have in common to have the same estimates."""
    asked = plan.asked
    return {
        "checkpoint": plan.model.sha256,
        "vocabulary": plan.cells.vocabulary.sha256,
        "cells": plan.cells.sha256(),
        "layer": plan.depth,
        "question": [asked.question, asked.label, asked.probes, asked.seed * bool(asked.probes)],
        "genes": None if plan.question.responders is None else plan.question.responders.tolist(),
        "states": None if plan.states is None else plan.states.sha256,
        "precision": asked.precision,
        "numerics": NUMERICS,
        "format": [VERSION, list(COLUMNS)],
    }


def measured_of(plan: EstimatesPlan) -> dict[str, Any]:
    """What two calls must have in common, beside, to measure and test the same."""
    measuring = plan.asked.measuring
    donors = None
    if measuring.donor is not None:
        donors = digest_of(plan.donors[list(plan.rows)].astype(str).tolist())
    arms, seed = list(measuring.arms), plan.asked.seed
    return {**asdict(measuring), "arms": arms, "donors": donors, "seed": seed}


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder that holds anything but estimates, before the first forward."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    begun = LOCKS in names and names <= {LOCKS, *OWN}
    if folder.is_file() or (names and not begun and read_work(folder, KIND) is None):
        raise OutputError(
            f"{folder} holds something other than estimates; name another folder with --out."
        )


def forget_measurements(
    folder: Path, identity: Mapping[str, Any], measured: Mapping[str, Any], *, overwrite: bool
) -> bool:
    """Take away what was measured of estimates that stay, where other things are to be measured.

    Returns
    -------
    Whether the folder holds estimates of this identity.

    Raises
    ------
    OutputError
        When they may not be replaced, another process is at work, or what is there is not ours.
    """
    content = read_work(folder, KIND)
    if content is None or content.get("identity") != identity:
        return False
    finished = content.get("complete")
    if content.get("measured") == measured and not (overwrite and finished):
        return True
    if not overwrite:
        raise OutputError(
            f"{folder} holds these estimates, of which other knock-outs are measured, or tested "
            "otherwise; name another folder with --out, or replace that with --overwrite, which "
            "keeps the estimates and measures anew."
        )
    names = {path.name for path in folder.iterdir()}
    foreign = sorted(names - OWN - {LOCKS, MANIFEST})
    if foreign:
        raise OutputError(
            f"{folder} also holds {foreign[0]}, which no estimates wrote; move it away, or name "
            "another folder with --out."
        )
    with writing(folder):
        for path in (folder / LOCKS).glob("process-*.lock"):
            with locked(path) as free:
                if not free:
                    raise OutputError(
                        f"Another process is at work on {folder}; wait for it, or stop it."
                    )
        # The manifest last: it says whose the rest is, should this be killed.
        for name in sorted(_MEASURED & names):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (folder / MANIFEST).unlink()
    return True


def set_up(work: WorkFolder, plan: EstimatesPlan, measured: Mapping[str, Any]) -> None:
    """Write what estimates are, once, before the first part."""
    begun = work.manifest is not None
    cells = add_metadata(
        pd.DataFrame(index=pd.Index(plan.cells.names, name="cell")), plan.cells.obs
    )
    for name, table in ((GENES, plan.genes), (CELLS, cells)):
        if not (begun and (work.folder / name).is_file()):
            write_whole(work.folder / name, table.to_parquet, work.locks / name)
    if begun:
        return
    states = None
    if plan.goal is not None and plan.states is not None:
        states = StatesUsed(
            plan.goal.asked, plan.states.names, plan.states.counts, plan.states.left_out
        )
    manifest = Manifest(
        asked=plan.asked,
        planned=Planned(len(plan.rows), plan.knockouts, plan.flop, len(plan.parts)),
        states=states,
        made_from=Provenance.of(plan.cells, plan.model, plan.depth, plan.asked.precision),
        identity=dict(work.identity),
        measured=dict(measured),
    )
    work.write_manifest(manifest.to_json())
