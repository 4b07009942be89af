"""Which responders a knock-out moves beyond what ranks, potency and responsiveness explain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ranklock.errors import InputError, OptionError, OutputError
from ranklock.page.style import draw
from ranklock.progress import progress as show_progress
from ranklock.run.folder import read_folder, write_folder
from ranklock.run.old_sweep_result import OF_A_SCREEN, Sweep
from ranklock.significance.figures import calibration_figure, network_figure, volcano_figure
from ranklock.significance.log_effects import arms_of, effects_of
from ranklock.significance.pairs import Pairs, Tokens, check_memory, gather
from ranklock.significance.specific import fit_surface
from ranklock.significance.statements import statements_of
from ranklock.statistics.significance import FALSE_DISCOVERIES

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

TABLE, GENES, MATRICES = "responders.parquet", "genes.parquet", "responders.h5ad"
CALIBRATION, HISTOGRAMS, SWEEP = "calibration.parquet", "p_values.parquet", "sweep"
COMMAND = "responders"

Array = npt.NDArray[np.float64]
BINS = 20  # of p-values
LAYERS = ("specific", "standard_error", "t", "p", "q", "n_cells", "effect", "under_floor")


_CHOSEN_FOR_EFFECTS = (
    "The knock-outs are those that a screen measured, most of them for their large effects, and "
    "are one another's controls: what they have in common counts as usual."
)


@dataclass(frozen=True, eq=False, repr=False)
class Responders:
    """Specific effects of knock-outs on responders, with tests over cells or donors.

    Attributes
    ----------
    table
        One row a pair of genes and arm, the smallest p first within an arm:

        ``arm``, ``gene``, ``responder``: what was knocked out, how, and what responded.
        ``specific``: log10 of effect over expected effect, mean over replicates.
        ``standard_error``: of it. ``t``, ``p``, ``q``: moderated t of the standardised specific
        effects, two-sided p, false-discovery rate within the arm; missing where nothing was
        tested.
        ``effect``: cosine distance, geometric mean over cells.
        ``n_cells``, ``n_replicates``: in which both genes were.
        ``gene_rank``, ``responder_rank``: mean ranks. ``under_noise_floor``: share of cells.
        ``gene_id``, ``responder_id``.
    genes
        One row a gene: ``potency`` and ``responsiveness`` (log10, relative to the cell's other
        genes, mean over cells) of each arm, and mean ``rank``.
    calibration
        One row an arm: pairs ``tested`` and ``found`` at a false-discovery rate of 5 %; the share
        of p ≤ 0.05 and Kolmogorov and Smirnov's distance from uniform of the same pairs with each
        knock-out swapped for a rank-matched one, and how many of those would be found.
    histograms
        Counts of p-values in 20 bins: columns ``arm``, ``bin``, ``real``, ``swapped``.
    manifest
        What was asked, of which sweep, and ``statements``: what could not be separated.
    """

    table: pd.DataFrame
    genes: pd.DataFrame
    calibration: pd.DataFrame
    histograms: pd.DataFrame
    manifest: dict[str, Any]

    def __repr__(self) -> str:
        found = ", ".join(
            f"{row.found} under {row.arm}" for row in self.calibration.itertuples(index=False)
        )
        return f"Responders: {found} (false-discovery rate 5%)"

    @property
    def statements(self) -> dict[str, list[str]]:
        """Arm → what could not be separated."""
        return dict(self.manifest["statements"])

    def claims(self, arm: str = "hold") -> pd.DataFrame:
        """Pairs of an arm that are significant and respond more than expected."""
        rows = self.table[self.table["arm"] == arm]
        return rows[(rows["q"] <= FALSE_DISCOVERIES) & (rows["specific"] > 0)]

    def anndata(self) -> AnnData:
        """Pairs as AnnData: obs = knock-outs, var = responders.

        Returns
        -------
        Layers ``<arm>_<what>`` with what = ``specific``, ``standard_error``, ``t``, ``p``, ``q``,
        ``n_cells``, ``effect``, ``under_floor``; missing where a pair is not in enough cells. X is
        t under ``hold`` (or the first arm), with 0 where nothing was tested: tools that read a
        matrix of statistics, like decoupler, want no gaps.
        """
        from anndata import AnnData

        rows = pd.Index(sorted(self.table["gene_id"].unique()), dtype=object)
        columns = pd.Index(sorted(self.table["responder_id"].unique()), dtype=object)
        layers: dict[str, npt.NDArray[np.float32]] = {}
        for arm, part in self.table.groupby("arm", observed=True):
            where = (
                rows.get_indexer(part["gene_id"].astype(str)),
                columns.get_indexer(part["responder_id"].astype(str)),
            )
            for what in LAYERS:
                layer = np.full((len(rows), len(columns)), np.nan, np.float32)
                layer[where] = part["under_noise_floor" if what == "under_floor" else what]
                layers[f"{arm}_{what}"] = layer
        names = self.genes.set_index("gene_id")
        of_arms = [c for c in names if c.startswith(("potency", "responsiveness")) or c == "rank"]
        adata = AnnData(
            X=np.nan_to_num(layers[f"{self.first_arm}_t"]),
            obs=names.loc[rows, ["gene", *of_arms]],
            var=names.loc[columns, ["gene", *of_arms]].rename(columns={"gene": "symbol"}),
            layers=layers,
            uns={"manifest": json.dumps(self.manifest), "X": f"t under {self.first_arm}"},
        )
        adata.obs_names.name = adata.var_names.name = None
        return adata

    def volcano(self) -> Figure:
        """Specific effect against significance, a panel an arm, as a matplotlib figure."""
        return volcano_figure(self.table, list(self.arms))

    def network(self, arm: str | None = None) -> Figure:
        """The surest claims of an arm as a network of genes, as a matplotlib figure."""
        return network_figure(self.table, arm or self.first_arm)

    def p_values(self) -> Figure:
        """Whether p-values are uniform where they should be, as a matplotlib figure."""
        return calibration_figure(self.histograms, list(self.arms))

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write a folder, whole or not at all; :func:`ranklock.read_responders` opens it.

        Parameters
        ----------
        folder
            Where to. A sweep in its subfolder ``sweep`` is left alone.
        overwrite
            Replace what is there already.

        Raises
        ------
        OutputError
            When it exists and may not be replaced, or cannot be written.
        """
        tables = {TABLE: self.table, GENES: self.genes, CALIBRATION: self.calibration,
                  HISTOGRAMS: self.histograms}  # fmt: skip
        writers: dict[str, Any] = {name: partial(_write_table, table)
                                   for name, table in tables.items()}  # fmt: skip
        writers[MATRICES] = lambda path: self.anndata().write_h5ad(path, compression="gzip")
        figures = {"volcano": self.volcano(), "network": self.network(),
                   "p_values": self.p_values()}  # fmt: skip
        writers |= {f"{name}.png": partial(draw, figure) for name, figure in figures.items()}
        writers |= {f"{name}.svg": partial(draw, figure) for name, figure in figures.items()}
        folder = Path(folder)
        write_folder(folder, self.manifest, writers, overwrite=overwrite, beside={SWEEP})
        return folder

    @property
    def first_arm(self) -> str:
        """The arm that claims rest on: ``hold`` where it was run."""
        return "hold" if "hold" in self.arms else self.arms[0]

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms."""
        return tuple(self.manifest["asked"]["arms"])


def responders(
    sweep: Sweep,
    arms: Sequence[str] | None = None,
    *,
    genes: Sequence[str] | None = None,
    donor: str | None = None,
    min_cells: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> Responders:
    """Find what is specific to knock-outs and responders in a sweep.

    Parameters
    ----------
    sweep
        From :func:`ranklock.sweep` or :func:`ranklock.read_sweep`; with ``controls`` where it is
        of a handful of genes.
    arms
        Names of arms; all of the sweep's by default. ``hold`` is what claims rest on, ``shift`` is
        the placebo beside it.
    genes
        Knock-outs to report, by symbol or Ensembl ID. By default those that the sweep was asked
        for; all knock-outs of a cell serve as controls.
    donor
        Column of the cells' metadata that names donors or samples: they are the replicates then.
        Cells are, by default.
    min_cells
        Pairs of genes that fewer cells have are left out.
    seed
        Of the swaps of the null.
    progress
        Whether to show progress on stderr.

    Raises
    ------
    InputError
        When the sweep has no such arm, gene or column, or the pairs do not fit into memory.

    Notes
    -----
    The model is that of :mod:`ranklock.significance.specific`; cells are read one at a time, three times
    an arm. Tests: a moderated t (Smyth 2004) over replicates; false-discovery rates of Benjamini
    and Hochberg over the pairs of an arm.

    Examples
    --------
    >>> import ranklock
    >>> found = ranklock.responders(ranklock.read_sweep("genome-wide"))  # doctest: +SKIP
    >>> found.claims("hold").head()  # doctest: +SKIP
    """
    if min_cells < 1:
        raise OptionError(f"min_cells is {min_cells}; a pair of genes is in one cell at least.")
    chosen = arms_of(sweep, arms)
    asked = _asked(sweep, genes)
    rows, columns = _pairs_in(sweep, min_cells, asked)
    check_memory(len(rows), len(columns))
    tables, calibrations, histograms = [], [], []
    statements: dict[str, list[str]] = {}
    of_genes = sweep.genes.rename(columns={"symbol": "gene"})[["gene", "gene_id"]].astype(str)
    cells: dict[str, int] = {}
    with show_progress(len(chosen), "arms", shown=progress) as advance:
        for arm in chosen:
            effects = effects_of(sweep, arm, donor)
            surface = fit_surface(effects)
            pairs = gather(effects, surface, rows, columns, min_cells=min_cells, seed=seed)
            statements[arm] = statements_of(pairs, surface, donor=donor, min_cells=min_cells)
            if sweep.manifest["asked"]["genes"] == OF_A_SCREEN:
                statements[arm].append(_CHOSEN_FOR_EFFECTS)
            tables.append(_table(pairs, arm, of_genes, min_cells))
            calibrations.append(_calibration(pairs, arm))
            histograms.append(_histogram(pairs, arm))
            of_genes = _with_constants(of_genes, pairs, arm)
            cells = {"cells": pairs.cells, "replicates": pairs.replicates}
            advance(1)
    table = pd.concat(tables, ignore_index=True)
    for column in ("arm", "gene", "responder", "gene_id", "responder_id"):
        table[column] = table[column].astype("category")
    manifest = {
        "asked": {
            "command": COMMAND,
            "arms": list(chosen),
            "genes": asked if asked is not None else "all",
            "donor": donor,
            "min_cells": min_cells,
            "seed": seed,
        },
        "statements": statements,
        **cells,
        "sweep": {"folder": str(sweep.folder), "complete": sweep.complete,
                  "identity": sweep.manifest["identity"]},
    }  # fmt: skip
    return Responders(
        table,
        of_genes.dropna(thresh=3).reset_index(drop=True),
        pd.DataFrame(calibrations),
        pd.concat(histograms, ignore_index=True),
        manifest,
    )


def _asked(sweep: Sweep, genes: Sequence[str] | None) -> list[str] | None:
    """Genes to report; None for all."""
    if genes is not None:
        if isinstance(genes, str):
            raise OptionError(f"genes is a list; write genes=[{genes!r}].")
        for gene in genes:
            sweep.token(gene)
        return list(genes)
    asked = sweep.manifest["asked"]
    if asked["genes"] == "all" or not asked.get("controls"):
        return None
    return list(asked["genes"])


def _pairs_in(sweep: Sweep, min_cells: int, genes: list[str] | None) -> tuple[Tokens, Tokens]:
    """Tokens of knock-outs and responders in enough cells; of all, where none are in so many."""
    try:
        rows, columns = sweep.genes_in(min_cells, genes)
    except InputError:
        rows, columns = sweep.genes_in(1, genes)
    return rows.astype(np.int64), columns.astype(np.int64)


def _table(pairs: Pairs, arm: str, genes: pd.DataFrame, min_cells: int) -> pd.DataFrame:
    keep = np.flatnonzero(
        (pairs.n_cells >= min_cells).ravel() & np.isfinite(pairs.specific.ravel())
    )
    row, column = np.unravel_index(keep, pairs.n_cells.shape)

    def of(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(matrix.ravel()[keep])

    table = pd.DataFrame(
        {
            "arm": arm,
            "gene": genes.loc[pairs.knocked_out[row], "gene"].to_numpy(),
            "responder": genes.loc[pairs.responders[column], "gene"].to_numpy(),
            "specific": of(pairs.specific),
            "standard_error": of(pairs.tested.standard_error),
            "t": of(pairs.tested.t),
            "p": of(pairs.tested.p),
            "q": of(pairs.tested.q),
            "effect": 10 ** of(pairs.log_effect),
            "n_cells": of(pairs.n_cells),
            "n_replicates": of(pairs.n_replicates),
            "gene_rank": pairs.knocked_out_rank[row],
            "responder_rank": pairs.responder_rank[column],
            "under_noise_floor": of(pairs.under_floor),
            "gene_id": genes.loc[pairs.knocked_out[row], "gene_id"].to_numpy(),
            "responder_id": genes.loc[pairs.responders[column], "gene_id"].to_numpy(),
        }
    )
    return table.sort_values(["p", "gene_id", "responder_id"], kind="stable", ignore_index=True)


def _with_constants(genes: pd.DataFrame, pairs: Pairs, arm: str) -> pd.DataFrame:
    ranks = pd.concat([
        pd.Series(pairs.responder_rank, pairs.responders),
        pd.Series(pairs.knocked_out_rank, pairs.knocked_out),
    ])  # fmt: skip
    return genes.assign(
        rank=ranks[~ranks.index.duplicated()],
        **{
            f"potency_{arm}": pd.Series(pairs.potency, pairs.knocked_out),
            f"responsiveness_{arm}": pd.Series(pairs.responsiveness, pairs.responders),
        },
    )


def _calibration(pairs: Pairs, arm: str) -> dict[str, Any]:
    p, null = (values[np.isfinite(values)] for values in (pairs.tested.p, pairs.null))
    q_null = stats.false_discovery_control(null) if len(null) else null
    return {
        "arm": arm,
        "tested": len(p),
        "found": int((pairs.tested.q <= FALSE_DISCOVERIES).sum()),
        "p_below_5_percent": float((p <= 0.05).mean()) if len(p) else np.nan,
        "swapped_p_below_5_percent": float((null <= 0.05).mean()) if len(null) else np.nan,
        "swapped_distance_from_uniform": _from_uniform(null),
        "swapped_found": int((q_null <= FALSE_DISCOVERIES).sum()),
    }


def _from_uniform(p: Array) -> float:
    return float(stats.kstest(p, "uniform").statistic) if len(p) else np.nan


def _histogram(pairs: Pairs, arm: str) -> pd.DataFrame:
    edges = np.linspace(0, 1, BINS + 1)
    return pd.DataFrame(
        {
            "arm": arm,
            "bin": edges[:-1],
            "real": np.histogram(pairs.tested.p[np.isfinite(pairs.tested.p)], edges)[0],
            "swapped": np.histogram(pairs.null[np.isfinite(pairs.null)], edges)[0],
        }
    )


def read_responders(folder: str | Path) -> Responders:
    """Read claims back from their folder.

    Raises
    ------
    OutputError
        When the folder holds none, or a file in it was damaged or changed.
    """
    folder = Path(folder)
    manifest = read_folder(folder)
    if manifest["asked"]["command"] != COMMAND:
        raise OutputError(f"{folder} holds a {manifest['asked']['command']}, not responders.")
    tables = [pd.read_parquet(folder / name) for name in (TABLE, GENES, CALIBRATION, HISTOGRAMS)]
    rest = {key: value for key, value in manifest.items() if key not in ("files", "format")}
    table, genes, calibration, histograms = tables
    return Responders(table, genes, calibration, histograms, rest)


def _write_table(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, index=False, compression="zstd")
