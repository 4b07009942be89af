"""Which perturbations shift cells, and turn them to states, more than impostors do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from ranklock.errors import InputError
from ranklock.run import fields as f
from ranklock.run.run import Run, as_run
from ranklock.significance.asked import compared_tests, manifest_of, replicates_and_null
from ranklock.significance.claims import MINIMUM, OF_TEST, Claims, Rule, claims_tested
from ranklock.significance.directions import directions_of
from ranklock.significance.figures import directions_figure, shifts_figure
from ranklock.significance.results import Results, summary_of
from ranklock.statistics.minimum import Means

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES = ["kind", "arm", "quantity", "gene"]
_LAST = ["shift", "gene_rank", "gene_id"]


@dataclass(frozen=True, eq=False, repr=False)
class Shifts(Results):
    """Shifts of cells, beside those of impostors, tested.

    Attributes
    ----------
    table
        One row a gene, kind, arm and quantity, the largest finding first, then the rest by size:

        ``kind``, ``arm``; ``quantity``: ``cell shift`` (cosine distance of the cell embedding),
        ``mean gene shift`` (mean over genes of their cosine distances), ``towards <state>``,
        ``logit of <class>``. ``gene``.
        ``fold``, ``fold_low``, ``fold_high``: how many times as large a distance is as impostors'
        (geometric mean over replicates, 95 % interval); of what has a sign, how many times the root
        mean square of impostors', towards the state where positive.
        ``p``, ``q``, ``null_rate``, ``finding``, ``q_smaller``, ``n_cells``, ``n_replicates``,
        ``status``: as of :func:`ranklock.significance.claims.claims_tested`.
        ``shift``: mean over cells, as it was measured; ``gene_rank``; ``gene_id``.
    directions
        One row a gene, state and pair of kinds of perturbation that go opposite ways; see
        :func:`ranklock.significance.directions.directions_of`. Empty without such a pair.
    summary
        One row a kind, arm and quantity: whether it is ``signed``, genes ``tested`` and ``found``,
        ``smaller`` than impostors' (a question of its own), and the same of the null model.
    manifest
        What was asked, of which run, and ``notes``.
    """

    NAME: ClassVar = "shifts"
    KEYS: ClassVar = ("kind", "arm", "quantity")
    FILES: ClassVar[Mapping[str, str]] = {
        "table": "shifts.parquet",
        "directions": "shifts_directions.parquet",
        "summary": "shifts_summary.parquet",
    }

    directions: pd.DataFrame

    def findings(
        self, arm: str | None = None, quantity: str | None = None, kind: str | None = None
    ) -> pd.DataFrame:
        """Genes that shift cells more than impostors do, by more than the minimum; largest first.

        Parameters
        ----------
        arm
            Which; :attr:`first_arm` by default.
        quantity, kind
            Of which quantity and kind of perturbation; all by default.
        """
        return self._findings(arm=arm or self.first_arm, quantity=quantity, kind=kind)

    def smaller(
        self, arm: str | None = None, quantity: str | None = None, kind: str | None = None
    ) -> pd.DataFrame:
        """Genes that shift cells less than impostors do, by more than the minimum."""
        return self._smaller(arm=arm or self.first_arm, quantity=quantity, kind=kind)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was tested, in order."""
        return tuple(dict.fromkeys(self.summary["quantity"]))

    def figure(self, quantity: str | None = None) -> Figure:
        """Fold over impostors of each gene with its interval, as a matplotlib figure.

        Parameters
        ----------
        quantity
            Of what; the first that is there by default.
        """
        return shifts_figure(self, quantity or self.quantities[0])

    def directions_figure(self, state: str | None = None) -> Figure:
        """Knock-out against its opposite, genes over the cloud of impostors.

        Parameters
        ----------
        state
            Towards which; the first by default.

        Raises
        ------
        InputError
            When the run has no two kinds of perturbation that go opposite ways, or no states.
        """
        if self.directions.empty:
            raise InputError(
                "No gene is both knocked out and overexpressed in these cells towards a state; run "
                "--do knock-out,overexpress with --goal."
            )
        return directions_figure(self.directions, state or str(self.directions["state"].iloc[0]))

    def _figures(self) -> dict[str, Figure]:
        figures = {self.NAME: self.figure()}
        if len(self.directions):
            figures["shifts_directions"] = self.directions_figure()
        return figures


def read_shifts(folder: str | Path) -> Shifts:
    """Read tested shifts back from their folder.

    Raises
    ------
    OutputError
        When the folder holds none, or a file in it was damaged or changed.
    """
    return Shifts.read(folder)


def shifts(
    run: Run | str | Path,
    arms: Sequence[str] | None = None,
    *,
    minimum: float = MINIMUM,
    donor: str | None = None,
    min_cells: int = 5,
    exact: bool = False,
) -> Shifts:
    """Find which perturbations shift cells, or turn them to a state, more than impostors do.

    Parameters
    ----------
    run, arms, minimum, donor, min_cells, exact
        As of :func:`ranklock.responders`.

    Raises
    ------
    InputError
        When the run has no impostors, read no shifts, or has no such arm or column.

    Notes
    -----
    As of :func:`ranklock.responders`; the family is all genes of a kind, arm and quantity. Shifts
    that have a sign (towards states, of logits) are divided in each cell by the root mean square of
    the impostors' shifts there, and their mean is tested to be beyond ± the minimum: a gene that is
    one more impostor stays within one, whichever way any perturbation drives a cell.

    Examples
    --------
    >>> import ranklock
    >>> shifts = ranklock.shifts("spi1")  # doctest: +SKIP
    >>> shifts.findings("hold", "cell shift").head()  # doctest: +SKIP
    """
    run = as_run(run)
    if not run.reads & {f.CELL, f.LOGITS}:
        run.check_reads(f.CELL)
    tests = compared_tests(run, arms)
    rule = Rule(minimum, min_cells, exact, donor or run.manifest.asked.donor)
    replicates, null = replicates_and_null(run, rule.donor)
    tables, summaries = [], []
    for kind, arm in tests:
        rows, of_null = (
            None if part is None else _rows(part, kind, arm, replicates) for part in (run, null)
        )
        for compared in f.compared_fields(run.states, run.labels):
            if (
                compared.fold.read not in run.reads
                or rows is None
                or not rows[compared.fold.name].notna().any()
            ):
                continue
            genes, claims = _claims(rows, compared, keep=exact)
            tested_null = None
            if of_null is not None:
                tested_null = claims_tested(_claims(of_null, compared, keep=exact)[1], rule)
            table = genes.join(claims_tested(claims, rule, tested_null))
            keys = {"kind": kind, "arm": arm, "quantity": compared.quantity}
            size = table["fold"].abs() if claims.signed else table["fold"]
            table = table.assign(size=size, **keys).sort_values(
                ["finding", "size", "gene_id"], ascending=[False, False, True]
            )
            tables.append(table)
            counts = summary_of(table, tested_null)
            summaries.append({**keys, "signed": compared.signed, **counts})
    if not tables:
        raise InputError(f"{run.folder} holds no shifts that are compared with impostors.")
    table = pd.concat(tables, ignore_index=True)[[*_NAMES, *OF_TEST, *_LAST]]
    summary = pd.DataFrame(summaries)
    manifest = manifest_of(run, tests, rule, replicates, null)
    directions = directions_of(run, replicates, rule)
    return Shifts(table, summary, manifest, directions=directions)


def _rows(run: Run, kind: str, arm: str, replicates: pd.Series) -> pd.DataFrame:
    """Shifts under one arm, with what each cell is a replicate of, and changes of logits."""
    rows = run.shifts
    rows = rows[(rows["kind"] == kind) & (rows["arm"] == arm)]
    rows = rows.assign(replicate=rows["cell"].astype(str).map(replicates))
    for label in run.labels:
        before, after = (rows[f.logit(label, when)] for when in ("before", "after"))
        rows[f.change_of_logit(label)] = after - before
    return rows.dropna(subset="replicate")


def _claims(rows: pd.DataFrame, compared: f.Compared, *, keep: bool) -> tuple[pd.DataFrame, Claims]:
    """Every gene, and the mean of its folds over replicates."""
    keys = ["gene_id", "gene"]
    rows = rows.astype({"gene_id": str, "gene": str})
    genes = rows.groupby(keys, sort=True).agg(
        shift=(compared.of_impostor.name, "mean"), gene_rank=("gene_rank", "mean"),
        n=(compared.fold.name, "count"),
    )  # fmt: skip
    of_replicates = rows.groupby(["replicate", *keys], sort=True)[compared.fold.name].mean()
    values = of_replicates.unstack("replicate").reindex(genes.index)
    means = Means(
        values.mean(axis=1).to_numpy(np.float64),
        values.var(axis=1).to_numpy(np.float64),
        values.count(axis=1).to_numpy(np.int64),
    )
    kept = values.to_numpy(np.float64).T if keep else None
    claims = Claims(means, genes["n"].to_numpy(np.int64), compared.signed, kept)
    return genes.drop(columns="n").reset_index(), claims
