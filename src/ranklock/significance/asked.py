"""What is tested of a run: its kinds of perturbation, the arms with impostors, its replicates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from ranklock.errors import InputError, OptionError
from ranklock.run.run import Run
from ranklock.significance.claims import Rule
from ranklock.significance.replicates import replicates_of, without_donor


def compared_tests(run: Run, arms: Sequence[str] | None) -> list[tuple[str, str]]:
    """Every kind of a run with each of its arms that are compared with impostors.

    Raises
    ------
    InputError
        When the run has no impostors.
    OptionError
        When it has no such arm, or none of them is compared.
    """
    if isinstance(arms, str):
        raise OptionError(f"arms is a list; write arms=[{arms!r}].")
    if not run.manifest.asked.impostors:
        raise InputError(
            f"{run.folder} was run without impostors, and an effect alone is no finding: any gene "
            "in the same place may have it. Run it with --impostors 12 (and --null-model)."
        )
    tests = [
        (kind, arm)
        for kind in run.kinds
        for arm in run.arms_of(arms, kind)
        if arm in run.compared(kind)
    ]
    if not tests:
        compared = dict.fromkeys(arm for kind in run.kinds for arm in run.compared(kind))
        raise OptionError(
            f"No arm that is compared with impostors was asked for; {run.folder} has: "
            f"{', '.join(compared)}."
        )
    return tests


def replicates_and_null(run: Run, donor: str | None) -> tuple[pd.Series, Run | None]:
    """Cell → replicate of a run's cells, and its null model's run where that is whole."""
    null = run.null
    return replicates_of(run.cells, donor, run.folder), null if null and null.complete else None


def labelled(tests: Iterable[tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What each test is called → its kind and the rest: by the rest, where there is one kind."""
    tests = list(tests)
    several = len({kind for kind, *_ in tests}) > 1
    return {", ".join(test if several else test[1:]): test for test in tests}


def manifest_of(
    run: Run,
    tests: Iterable[tuple[str, ...]],
    rule: Rule,
    replicates: pd.Series,
    null: Run | None,
) -> dict[str, Any]:
    """What was asked of a run, and what a reader of its tests must know.

    Parameters
    ----------
    run, null
        The run, and that of its null model.
    tests
        Kinds and arms.
    rule, replicates
        How they were tested, over what.
    """
    return {
        "asked": {
            "kinds": list(run.kinds), "arms": list(dict.fromkeys(arm for _, arm, *_ in tests)),
            "minimum": rule.minimum, "donor": rule.donor, "min_cells": rule.min_cells,
            "exact": rule.exact,
        },
        "notes": notes_on(run, replicates, rule, null),
        "cells": len(replicates), "replicates": int(replicates.nunique()),
        "impostors": run.manifest.asked.impostors, "null_model": null is not None,
        "run": {"folder": str(run.folder), "complete": run.complete,
                "identity": run.manifest.identity},
    }  # fmt: skip


def notes_on(run: Run, replicates: pd.Series, rule: Rule, null: Run | None) -> list[str]:
    """What a reader must know before believing a test, a sentence each."""
    notes = []
    if not run.complete:
        done, tasks = run.progress()
        notes.append(f"The run is unfinished: {done:,} of {tasks:,} perturbations are there.")
    notes += without_donor(len(run.cells), replicates, rule.donor)
    if null is None:
        unfinished = "is unfinished" if run.null is not None else "was not run"
        notes.append(
            f"The null model {unfinished} (--null-model): how much a model that has learned "
            "nothing would find is not known."
        )
    if rule.donor is None:
        notes.append(
            "Each cell counts as a replicate; where cells come from several donors, name their "
            "column with --donor."
        )
    return notes
