"""Which responders a perturbation moves beyond what ranks, potency and responsiveness explain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.errors import InputError
from ranklock.genes.names import without_version
from ranklock.progress import progress as show_progress
from ranklock.run.asked import ESTIMATE
from ranklock.run.fields import GENES, TOGETHER
from ranklock.run.run import Run, as_run
from ranklock.significance.asked import check_asked, labelled, tests_of, unfinished
from ranklock.significance.figures import calibration_figure, network_figure, volcano_figure
from ranklock.significance.log_effects import LogEffects
from ranklock.significance.matrices import anndata_of
from ranklock.significance.pair_tables import tables_of
from ranklock.significance.pairs import check_memory, gather
from ranklock.significance.replicates import replicates_of, without_donor
from ranklock.significance.results import Results, Section
from ranklock.significance.specific import fit_surface
from ranklock.significance.statements import statements_of

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

_CHOSEN_FOR_EFFECTS = (
    "The perturbed genes are those that an estimate chose, most of them for their large effects, "
    "and are one another's controls: what they have in common counts as usual."
)


@dataclass(frozen=True, eq=False, repr=False)
class Responders(Results):
    """Specific effects of perturbations on responders, with tests over cells or donors.

    Attributes
    ----------
    table
        One row a pair of genes, kind and arm, the smallest p first within kind and arm:

        ``kind``, ``arm``, ``gene``, ``responder``: what was perturbed, how, and what responded.
        ``specific``: log10 of effect over expected effect, mean over replicates.
        ``standard_error``: of it. ``t``, ``p``, ``q``: moderated t of the standardised specific
        effects, two-sided p, false-discovery rate within kind and arm; missing where nothing was
        tested.
        ``effect``: cosine distance, geometric mean over cells.
        ``n_cells``, ``n_replicates``: in which both genes were.
        ``gene_rank``, ``responder_rank``: mean ranks. ``under_noise_floor``: share of cells.
        ``gene_id``, ``responder_id``.
    genes
        One row a gene, kind and arm: ``potency`` of its perturbation and its ``responsiveness``
        (log10, relative to the cell's other genes, mean over cells), and its mean ``rank``.
    calibration
        One row a kind and arm: pairs ``tested`` and ``found`` significant at a false-discovery
        rate of 5 %, and the ``larger`` of these; the share of p ≤ 0.05 and Kolmogorov and
        Smirnov's distance from uniform of the same pairs with each perturbation swapped for a
        rank-matched one, and how many of those would be found.
    histograms
        Counts of p-values in 20 bins: columns ``kind``, ``arm``, ``bin``, ``real``, ``swapped``.
    manifest
        What was asked, of which run, and ``statements``: what could not be separated.
    """

    NAME: ClassVar = "responders"
    KEYS: ClassVar = ("kind", "arm")
    _FILES: ClassVar[Mapping[str, str]] = {
        "table": "responders.parquet",
        "genes": "responders_genes.parquet",
        "calibration": "responders_calibration.parquet",
        "histograms": "responders_p_values.parquet",
    }
    COUNTED: ClassVar = ("larger", "under")

    genes: pd.DataFrame
    histograms: pd.DataFrame

    def findings(self, arm: str | None = None, kind: str | None = None) -> pd.DataFrame:
        """Pairs of an arm that are significant and respond more than expected.

        Parameters
        ----------
        arm
            Which; :attr:`first_arm` by default.
        kind
            Of which kind of perturbation; all by default.
        """
        return self._findings(arm=arm or self.first_arm, kind=kind)

    def anndata(self) -> AnnData:
        """Pairs as AnnData: obs = perturbations, var = responders.

        Returns
        -------
        Layers ``<arm>_<what>`` with what = ``specific``, ``standard_error``, ``t``, ``p``, ``q``,
        ``n_cells``, ``effect``, ``under_noise_floor``; missing where a pair is not in enough
        cells. X is t under :attr:`first_arm`, with 0 where nothing was tested: tools that read a
        matrix of statistics, like decoupler, want no gaps.
        """
        return anndata_of(self)

    def volcano(self) -> Figure:
        """Specific effect against significance, a panel a kind and arm, as a matplotlib figure."""
        return volcano_figure(self.table, self.tests)

    def network(self, arm: str | None = None) -> Figure:
        """The surest findings of an arm as a network of genes, as a matplotlib figure."""
        return network_figure(self.findings(arm), arm or self.first_arm)

    def p_values(self) -> Figure:
        """Whether p-values are uniform where they should be, as a matplotlib figure."""
        return calibration_figure(self.histograms, self.tests)

    def _figures(self) -> dict[str, Figure]:
        return {"responders_volcano": self.volcano(), "responders_network": self.network(),
                "responders_p_values": self.p_values()}  # fmt: skip

    def section(self) -> Section:
        """What of it is written to a folder."""
        section = super().section()
        section.writers["responders.h5ad"] = lambda path: self.anndata().write_h5ad(
            path, compression="gzip"
        )
        return section


def read_responders(folder: str | Path) -> Responders:
    """Read tested responders back from their folder.

    Raises
    ------
    OutputError
        When the folder holds none, or a file in it was damaged or changed.
    """
    return Responders.read(folder)


def responders(
    run: Run | str | Path,
    arms: Sequence[str] | None = None,
    *,
    genes: Sequence[str] | None = None,
    donor: str | None = None,
    min_cells: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> Responders:
    """Find what is specific to perturbations and responders in a run.

    Parameters
    ----------
    run
        From :func:`ranklock.perturb`, or its folder; with ``controls`` where it is of a handful of
        genes.
    arms
        Names of arms; all of the run's by default. Findings rest on ``hold``; ``shift`` is the
        placebo beside it.
    genes
        Perturbed genes to report, by symbol or Ensembl ID (sets joined with +). By default those
        that the run was asked for; all perturbations of a cell serve as controls.
    donor
        Column of the cells' metadata that names donors or samples: they are the replicates then.
        By default the run's; cells, where it names none.
    min_cells
        Pairs of genes that fewer cells have are left out.
    seed
        Of the swaps.
    progress
        Whether to show progress on stderr.

    Raises
    ------
    InputError
        When the run has no such arm, gene or column, or the pairs do not fit into memory.

    Notes
    -----
    The model is that of :mod:`ranklock.significance.specific`; cells are read one at a time, three
    times a kind and arm. Tests: a moderated t (Smyth 2004) over replicates; false-discovery rates
    of Benjamini and Hochberg over the pairs of a kind and arm.

    Examples
    --------
    >>> import ranklock
    >>> responders = ranklock.responders("genome-wide")  # doctest: +SKIP
    >>> responders.findings("hold").head()  # doctest: +SKIP
    """
    run = as_run(run)
    check_asked(min_cells, arms=arms, genes=genes)
    tests = labelled(tests_of(run, arms))
    run.check_reads(GENES)
    asked = run.manifest.asked
    donor = donor or asked.donor
    replicates = replicates_of(run.cells, donor, run.folder)
    reported = _reported(run, genes)
    results, statements, cells = [], {}, {}
    with show_progress(len(tests), "arms", shown=progress) as advance:
        for label, (kind, arm) in tests.items():
            effects = LogEffects(run, kind, arm, replicates)
            rows, columns = _pairs_in(effects, reported, min_cells)
            surface = fit_surface(effects)
            pairs = gather(effects, surface, rows, columns, min_cells=min_cells, seed=seed)
            statements[label] = (
                unfinished(run)
                + without_donor(len(run.cells), replicates, donor)
                + statements_of(pairs, surface, donor=donor, min_cells=min_cells)
                + [_CHOSEN_FOR_EFFECTS] * (asked.purpose == ESTIMATE)
            )
            results.append(tables_of(pairs, run, kind, arm, min_cells))
            cells = {"cells": pairs.cells, "replicates": pairs.replicates}
            advance(1)
    table, of_genes, calibration, histograms = (
        pd.concat(parts, ignore_index=True) for parts in zip(*results, strict=True)
    )
    for column in ("kind", "arm", "gene", "responder", "gene_id", "responder_id"):
        table[column] = table[column].astype("category")
    manifest = {
        "asked": {
            "kinds": list(run.kinds),
            "arms": list(dict.fromkeys(arm for _, arm in tests.values())),
            "genes": "all" if genes is None else list(genes),
            "donor": donor,
            "min_cells": min_cells,
            "seed": seed,
        },
        "statements": statements,
        **cells,
        "run": {"folder": str(run.folder), "complete": run.complete,
                "identity": run.manifest.identity},
    }  # fmt: skip
    return Responders(table, calibration, manifest, genes=of_genes, histograms=histograms)


def _reported(run: Run, genes: Sequence[str] | None) -> npt.NDArray[np.int64]:
    """Perturbations to report: of some genes, or all but controls."""
    perturbations = run.perturbations
    if genes is None and not run.manifest.asked.controls:
        return np.asarray(perturbations.index, np.int64)
    names = run.manifest.asked.genes if genes is None else genes
    columns = run.genes["symbol"], run.genes["gene_id"], run.genes.index.to_series()
    tokens = {_spelt(str(name)): int(token) for token, name in pd.concat(columns).items()}
    sets = {
        name: tuple(tokens.get(_spelt(gene)) for gene in name.split(TOGETHER)) for name in names
    }
    perturbed = [tuple(of_set) for of_set in perturbations["tokens"]]
    unknown = [name for name, of_set in sets.items() if of_set not in perturbed]
    if len(unknown) == len(names) or (unknown and genes is not None):
        raise InputError(f"{run.folder} has no perturbation of {', '.join(unknown)}.")
    wanted = set(sets.values())
    reported = perturbations.index[[of_set in wanted for of_set in perturbed]]
    return np.asarray(reported, np.int64)


def _spelt(name: str) -> str:
    return without_version(name.strip()).casefold()


def _pairs_in(
    effects: LogEffects, reported: npt.NDArray[np.int64], min_cells: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Perturbations and responders in enough cells; all, where none are in so many."""
    cells_with, cells_reading = effects.counts()
    cells_with = cells_with[cells_with.index.isin(reported)]
    rows, columns = (
        cells.index[cells >= min_cells].to_numpy(np.int64) for cells in (cells_with, cells_reading)
    )
    if not len(rows) or not len(columns):
        rows, columns = (c.index.to_numpy(np.int64) for c in (cells_with, cells_reading))
    check_memory(len(rows), len(columns))
    return rows, columns
