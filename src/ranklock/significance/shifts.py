"""Which perturbations shift cells more than others at like ranks do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from ranklock.errors import InputError, OptionError
from ranklock.genes.names import without_version
from ranklock.run.asked import ESTIMATE
from ranklock.run.run import Run, as_run
from ranklock.significance.asked import check_asked, labelled, unfinished
from ranklock.significance.calibration import calibration_of
from ranklock.significance.figures import shifts_figure
from ranklock.significance.mixture import DECISIVE, two_components
from ranklock.significance.replicates import replicates_of, without_donor
from ranklock.significance.results import Results, is_finding
from ranklock.significance.shift_files import SUFFIXES, shifts_of_file
from ranklock.significance.shift_tables import GOAL, shifts_of_run
from ranklock.significance.shift_tests import shifts_tested, with_specific
from ranklock.significance.statements import statements_of_shifts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FIRST = [
    "kind",
    "arm",
    "quantity",
    "gene",
    "gene_id",
    "shift",
    "specific",
    "standard_error",
    "t",
    "p",
    "q",
]


@dataclass(frozen=True, eq=False, repr=False)
class Shifts(Results):
    """Shifts of cells against rank-matched perturbations, tested over cells or donors.

    Attributes
    ----------
    table
        One row a gene, kind, arm and quantity, the smallest p first within these:

        ``kind``, ``arm``; ``quantity``: ``cell shift`` (cosine distance of the cell embedding),
        ``mean gene shift`` (mean over genes of their cosine distances), ``towards goal``,
        ``towards <alternative>``, ``goal beyond alternatives``, ``logit of <class>``. ``gene``,
        ``gene_id``.
        ``shift``, ``shift_deviation``: mean over cells, as it was measured, and standard deviation.
        ``specific``: what it has beyond rank-matched perturbations, log10 for the distances; mean
        over replicates. ``standard_error``: of it.
        ``t``, ``p``, ``q``: moderated t, two-sided p, false-discovery rate within kind, arm and
        quantity.
        ``percentile``: mean share of rank-matched perturbations that shift less.
        ``impact``: probability of the impact component; ``impact_share``: share of cells in it.
        ``n_cells``, ``n_replicates``, ``gene_rank``, ``under_noise_floor`` (share of cells).
        Against a list of genes: ``beyond_null``, ``t_null``, ``p_null``, ``q_null``, ``in_null``.
    in_cells
        One row a cell, perturbation, arm and quantity: ``shift`` and ``specific``.
    calibration
        One row a kind, arm and quantity: genes ``tested``, ``found`` significant and the
        ``findings`` among them, how the same tests come out with perturbations swapped for
        rank-matched ones, and the mixture's ``bic_gain``.
    manifest
        What was asked, of what, and ``statements``: what could not be told.
    """

    NAME: ClassVar = "shifts"
    KEYS: ClassVar = ("kind", "arm", "quantity")
    _FILES: ClassVar[Mapping[str, str]] = {
        "table": "shifts.parquet",
        "in_cells": "shifts_in_cells.parquet",
        "calibration": "shifts_calibration.parquet",
    }
    COUNTED: ClassVar = ("findings", "of")

    in_cells: pd.DataFrame

    def findings(
        self, arm: str | None = None, quantity: str | None = None, kind: str | None = None
    ) -> pd.DataFrame:
        """Genes that are significant, the surest first; of distances those larger than expected.

        Parameters
        ----------
        arm
            Which; :attr:`first_arm` by default.
        quantity, kind
            Of which quantity and kind of perturbation; all by default.
        """
        return self._findings(arm=arm or self.first_arm, quantity=quantity, kind=kind)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was tested, in order."""
        return tuple(dict.fromkeys(self.calibration["quantity"]))

    def figure(self, quantity: str | None = None) -> Figure:
        """Shift against rank, as measured and beyond rank-matched ones, as a matplotlib figure.

        Parameters
        ----------
        quantity
            Of what; of cell shifts (or the first quantity that is there) by default. Kinds of
            perturbation stand side by side.
        """
        return shifts_figure(self.table, self.tests, quantity or self.quantities[0])

    def _figures(self) -> dict[str, Figure]:
        figures = {self.NAME: self.figure()}
        if GOAL in self.quantities:
            figures["shifts_towards_goal"] = self.figure(GOAL)
        return figures


def read_shifts(folder: str | Path) -> Shifts:
    """Read tested shifts back from their folder.

    Raises
    ------
    OutputError
        When the folder holds none, or a file in it was damaged or changed.
    """
    return Shifts.read(folder)


def is_table(source: object) -> bool:
    """Whether a source is the path of a table, by the end of its name."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in SUFFIXES


def shifts(
    run: Run | str | Path,
    arms: Sequence[str] | None = None,
    *,
    null: Sequence[str] = (),
    donor: str | None = None,
    min_cells: int = 5,
    seed: int = 0,
) -> Shifts:
    """Find which perturbations shift cells more than rank-matched ones, or turn them to a state.

    Parameters
    ----------
    run
        From :func:`ranklock.perturb`, or its folder; or the path of a table of shifts (see
        :func:`ranklock.significance.shift_files.shifts_of_file`), old results included.
    arms
        Names of arms; all by default.
    null
        Genes to compare with beside the rank-matched ones: symbols or Ensembl IDs.
    donor
        Column that names donors or samples: they are the replicates then. By default the run's;
        cells, where it names none.
    min_cells
        Genes in fewer cells are not tested.
    seed
        Of the swaps and of the mixture's start.

    Raises
    ------
    InputError
        When the source holds no shifts, or no such column, arm or gene.

    Examples
    --------
    >>> import ranklock
    >>> shifts = ranklock.shifts("genome-wide")  # doctest: +SKIP
    >>> shifts.findings("hold", "cell shift").head()  # doctest: +SKIP
    """
    check_asked(min_cells, arms=arms, null=null)
    if is_table(run):
        source = str(run)
        measured, notes = shifts_of_file(Path(source), donor)
        measured = measured[measured["arm"].isin(arms or measured["arm"])]
        if measured.empty:
            raise OptionError(f"{source} has no rows of {', '.join(arms or ())}.")
    else:
        run = as_run(run)
        source, donor = str(run.folder), donor or run.manifest.asked.donor
        if run.manifest.asked.purpose == ESTIMATE:
            raise InputError(
                f"{source} holds what an estimate measured: its genes were chosen for their "
                "effects, so that none is a fair control of another. The estimate's own table "
                "tests every gene."
            )
        replicates = replicates_of(run.cells, donor, source)
        measured, notes = shifts_of_run(run, arms, replicates)
        notes = unfinished(run) + without_donor(len(run.cells), replicates, donor) + notes
    gene_ids = measured["gene_id"]
    # Genes without an Ensembl ID are told apart by their names.
    measured = measured.assign(gene_id=gene_ids.fillna(measured["gene"]))
    null_ids = _null_ids(null, measured)
    parts = [
        _tested(rows, null_ids, min_cells, seed)
        for _, rows in measured.groupby(list(Shifts.KEYS), sort=False, observed=True)
    ]
    tables, in_cells, calibrations, statements = zip(*parts, strict=True)
    table, cells, calibration = (
        pd.concat(each, ignore_index=True) for each in (tables, in_cells, calibrations)
    )
    for each in (table, cells):
        each["gene_id"] = each["gene_id"].where(each["gene_id"].isin(gene_ids))
    labels = labelled(calibration[list(Shifts.KEYS)].itertuples(index=False, name=None))
    manifest = {
        "asked": {
            "kinds": list(dict.fromkeys(measured["kind"])),
            "arms": list(dict.fromkeys(measured["arm"])),
            "null": list(null),
            "donor": donor,
            "min_cells": min_cells,
            "seed": seed,
        },
        "source": source,
        "cells": int(measured["cell"].nunique()),
        "replicates": int(measured["replicate"].nunique()),
        "statements": {
            label: notes + sentences for label, sentences in zip(labels, statements, strict=True)
        },
    }
    columns = [*_FIRST, *(name for name in table if name not in _FIRST)]
    return Shifts(table[columns], calibration, manifest, in_cells=cells)


def _tested(
    rows: pd.DataFrame, null: frozenset[str], min_cells: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, list[str]]:
    """Tests, shifts in cells, calibration and statements of one kind, arm and quantity."""
    keys = rows[list(Shifts.KEYS)].iloc[0]
    specific = with_specific(rows, min_cells, seed)
    table, swapped = shifts_tested([specific], min_cells, null)
    mixture = two_components(table["specific"], specific["specific"], seed)
    inside = np.where(np.isfinite(mixture.of_values), mixture.of_values > 0.5, np.nan)
    shares = specific.assign(inside=inside).groupby("gene_id", observed=True)["inside"].mean()
    table["impact"] = mixture.impact
    table["impact_share"] = table["gene_id"].map(shares).astype(float)
    table = table.assign(**keys)
    calibration = {
        **keys,
        **calibration_of(table, swapped),
        "findings": int(is_finding(table).sum()),
        "bic_gain": mixture.bic_gain,
    }
    return (
        table,
        specific.drop(columns=["scaled", "swapped"]),
        pd.DataFrame([calibration]),
        statements_of_shifts(specific, table, min_cells, mixture.bic_gain >= DECISIVE),
    )


def _null_ids(null: Sequence[str], measured: pd.DataFrame) -> frozenset[str]:
    """Keys of the genes to compare with, named by symbol or Ensembl ID, in any case."""
    genes = measured[["gene", "gene_id"]].drop_duplicates()
    names = {without_version(str(name)).casefold() for name in null}
    named = pd.concat([genes[name].map(without_version).str.casefold() for name in genes], axis=1)
    keys = frozenset(genes.loc[named.isin(names).any(axis=1), "gene_id"])
    if null and not keys:
        raise InputError(
            f"None of the {len(null)} genes of the null ({null[0]}, ...) is perturbed here."
        )
    return keys
