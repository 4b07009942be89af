"""Which responders a perturbation moves more than impostors in its place do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from ranklock.progress import progress as show_progress
from ranklock.run.fields import GENES
from ranklock.run.run import Run, as_run
from ranklock.significance.asked import compared_tests, labelled, manifest_of, replicates_and_null
from ranklock.significance.claims import MINIMUM, OF_TEST, TESTED, Rule, claims_tested, status_of
from ranklock.significance.figures import responders_figure
from ranklock.significance.pairs import Pairs, gather_pairs
from ranklock.significance.results import Results, Section, summary_of

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

_NAMES = ["kind", "arm", "gene", "responder"]
_LAST = ["effect", "gene_id", "responder_id"]


@dataclass(frozen=True, eq=False, repr=False)
class Responders(Results):
    """Effects of perturbations on responders, beside those of impostors, tested.

    A finding says that the model responds more to this gene than to others in its place: not that
    the two genes are linked in biology.

    Attributes
    ----------
    table
        One row a pair of genes, kind and arm, the largest finding first, then the rest by size:

        ``kind``, ``arm``, ``gene``, ``responder``: what was perturbed, how, and what responded.
        ``fold``, ``fold_low``, ``fold_high``: how many times as far it moves as under impostors
        (geometric mean over replicates, 95 % interval).
        ``p``, ``q``, ``null_rate``, ``finding``, ``q_smaller``, ``n_cells``, ``n_replicates``,
        ``status``: as of :func:`ranklock.significance.claims.claims_tested`.
        ``effect``: cosine distance, geometric mean over cells. ``gene_id``, ``responder_id``.
    genes
        One row a perturbed gene, kind and arm: how many of its pairs were ``tested`` and
        ``found``, in how many cells it is, and a ``status`` where none was tested.
    summary
        One row a kind and arm: pairs ``tested`` and ``found``, ``smaller`` than impostors' (a
        question of its own), and the same of the null model (``null_tested``, ``null_found``).
    manifest
        What was asked, of which run, and ``notes``.
    """

    NAME: ClassVar = "responders"
    KEYS: ClassVar = ("kind", "arm")
    FILES: ClassVar[Mapping[str, str]] = {
        "table": "responders.parquet",
        "genes": "responders_genes.parquet",
        "summary": "responders_summary.parquet",
    }

    genes: pd.DataFrame

    def findings(self, arm: str | None = None, kind: str | None = None) -> pd.DataFrame:
        """Pairs that respond more than to impostors, by more than the minimum; largest first.

        Parameters
        ----------
        arm
            Which; :attr:`first_arm` by default.
        kind
            Of which kind of perturbation; all by default.
        """
        return self._findings(arm=arm or self.first_arm, kind=kind)

    def smaller(self, arm: str | None = None, kind: str | None = None) -> pd.DataFrame:
        """Pairs that respond less than to impostors, by more than the minimum; smallest first.

        They say that other genes in this place do more: nothing about this gene.
        """
        return self._smaller(arm=arm or self.first_arm, kind=kind)

    def anndata(self) -> AnnData:
        """Pairs as AnnData: obs = perturbations, var = responders.

        Returns
        -------
        X is log10 of the fold under :attr:`first_arm`, 0 where nothing was tested: tools that read
        a matrix of statistics, like decoupler, want no gaps. Layers ``<arm>_<what>`` with what =
        ``fold``, ``p``, ``q``, ``null_rate``, ``n_cells``, ``effect``; NaN where a pair was not
        tested.
        """
        return _anndata(self)

    def figure(self) -> Figure:
        """Fold over impostors against certainty, a panel a test, as a matplotlib figure."""
        return responders_figure(self)

    def _figures(self) -> dict[str, Figure]:
        return {self.NAME: self.figure()}

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
    minimum: float = MINIMUM,
    donor: str | None = None,
    min_cells: int = 5,
    exact: bool = False,
    progress: bool = True,
) -> Responders:
    """Find which responders a perturbation moves more than impostors in its place do.

    Parameters
    ----------
    run
        From :func:`ranklock.perturb` with ``impostors`` (and ``null_model``), or its folder.
    arms
        Names of arms; all that are compared with impostors by default.
    minimum
        How many times as far as under impostors a responder must move.
    donor
        Column of the cells' metadata that names donors or samples: they are the replicates then.
        By default the run's; cells, where it names none.
    min_cells
        Pairs of genes in fewer cells are not tested.
    exact
        Exact signed-rank tests with Holm's correction, for a handful of donors; moderated t tests
        with false-discovery rates by default.
    progress
        Whether to show progress on stderr.

    Raises
    ------
    InputError
        When the run has no impostors, arm or column, or the pairs do not fit into memory.

    Notes
    -----
    In each cell, fold = log10 effect(gene → responder) − mean over impostors of log10
    effect(impostor → responder): rank and proximity are matched by construction, and what all
    genes in this place do is taken off. Over replicates fold > log10 minimum is tested one-sided
    (:mod:`ranklock.statistics.minimum`); the family is all pairs of a kind and arm. A finding has
    q ≤ 5 % and, where the run has a null model, as low a rate there.

    Examples
    --------
    >>> import ranklock
    >>> responders = ranklock.responders("spi1", minimum=1.5)  # doctest: +SKIP
    >>> responders.findings("hold").head()  # doctest: +SKIP
    """
    run = as_run(run)
    run.check_reads(GENES)
    tests = labelled(compared_tests(run, arms))
    rule = Rule(minimum, min_cells, exact, donor or run.manifest.asked.donor)
    replicates, null = replicates_and_null(run, rule.donor)
    tables, genes, summaries = [], [], []
    with show_progress(len(tests), "arms tested", shown=progress) as advance:
        for kind, arm in tests.values():
            gathered = [
                gather_pairs(part, kind, arm, replicates, min_cells=min_cells, keep=exact)
                for part in (run, null)
                if part is not None
            ]
            of_null = claims_tested(gathered[1].claims, rule) if null is not None else None
            table = _table(run, gathered[0], claims_tested(gathered[0].claims, rule, of_null))
            keys = {"kind": kind, "arm": arm}
            tables.append(table.assign(**keys))
            genes.append(_genes(run, kind, arm, table, replicates, rule).assign(**keys))
            summaries.append({**keys, **summary_of(table, of_null)})
            advance(1)
    table = pd.concat(tables, ignore_index=True)[[*_NAMES, *OF_TEST, *_LAST]]
    for column in ("kind", "arm", "gene", "responder", "gene_id", "responder_id", "status"):
        table[column] = table[column].astype("category")
    manifest = manifest_of(run, tests.values(), rule, replicates, null)
    return Responders(table, pd.DataFrame(summaries), manifest,
                      genes=pd.concat(genes, ignore_index=True))  # fmt: skip


def _table(run: Run, pairs: Pairs, tests: pd.DataFrame) -> pd.DataFrame:
    """Pairs that are in a cell together, findings first, the rest by size."""
    row, column = np.divmod(np.arange(len(tests)), len(pairs.responders))
    perturbed = run.perturbations.loc[pairs.perturbations[row]]
    responding = run.genes.loc[pairs.responders[column]]
    table = tests.assign(
        gene=perturbed["gene"].to_numpy(), gene_id=perturbed["gene_id"].to_numpy(),
        responder=responding["symbol"].to_numpy(), responder_id=responding["gene_id"].to_numpy(),
        effect=10.0**pairs.log_distance,
    )  # fmt: skip
    table = table[table["n_cells"] > 0]
    order = ["finding", "fold", "gene_id", "responder_id"]
    return table.sort_values(order, ascending=[False, False, True, True], ignore_index=True)


def _genes(
    run: Run, kind: str, arm: str, table: pd.DataFrame, replicates: pd.Series, rule: Rule
) -> pd.DataFrame:
    """Every perturbed gene, tested or not."""
    shifts = run.shifts
    rows = shifts[(shifts["kind"] == kind) & (shifts["arm"] == arm)]
    rows = rows[rows["cell"].isin(replicates.index)]
    rows = rows.assign(replicate=replicates.loc[rows["cell"].astype(str)].to_numpy())
    genes = rows.groupby(["gene", "gene_id"], observed=True, sort=False).agg(
        n_cells=("cell", "nunique"), n_replicates=("replicate", "nunique"),
        gene_rank=("gene_rank", "mean"),
    )  # fmt: skip
    of_gene = table.groupby(table["gene_id"].astype(str))
    tested, found = of_gene["p"].count(), of_gene["finding"].sum()
    genes = genes.reset_index()
    genes["tested"] = genes["gene_id"].astype(str).map(tested).fillna(0).astype(int)
    genes["found"] = genes["gene_id"].astype(str).map(found).fillna(0).astype(int)
    cells, of_replicates = (genes[name].to_numpy(np.int64) for name in ("n_cells", "n_replicates"))
    few = status_of(cells, of_replicates, rule, len(table))
    genes["status"] = np.where(genes["tested"] > 0, TESTED, few)
    return genes.sort_values(["found", "gene_id"], ascending=[False, True], ignore_index=True)


_LAYERS = ("fold", "p", "q", "null_rate", "n_cells", "effect")


def _anndata(responders: Responders) -> AnnData:
    """Pairs as matrices; obs are named by Ensembl IDs, and by kind where there are several."""
    from anndata import AnnData

    table = responders.table.astype({"kind": str, "gene_id": str, "responder_id": str})
    several = table["kind"].nunique() > 1
    table["perturbation"] = table["gene_id"] + (" " + table["kind"] if several else "")
    obs = table.drop_duplicates("perturbation").set_index("perturbation").sort_index()
    var = table.drop_duplicates("responder_id").set_index("responder_id").sort_index()
    layers: dict[str, Any] = {}
    for arm in responders.arms:
        rows = table[(table["arm"] == arm) & (table["status"] == "tested")]
        where = obs.index.get_indexer(rows["perturbation"]), var.index.get_indexer(
            rows["responder_id"]
        )  # fmt: skip
        for name in _LAYERS:
            layer = np.full((len(obs), len(var)), np.nan, np.float32)
            layer[where] = rows[name]
            layers[f"{arm}_{name}"] = layer
    with np.errstate(divide="ignore"):
        logs = np.log10(layers[f"{responders.first_arm}_fold"])
    for frame in (obs, var):
        frame.index = pd.Index(frame.index.astype(str), dtype=object, name=None)
    return AnnData(
        X=np.nan_to_num(logs, posinf=0.0, neginf=0.0),
        obs=obs[["gene", "gene_id", "kind"]].astype(str),
        var=var[["responder"]].astype(str).rename(columns={"responder": "symbol"}),
        layers=layers,
        uns={"X": f"log10 of the fold over impostors under {responders.first_arm}"},
    )
