"""A run: what a folder of parts is read as."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from ranklock.arms import arms_of, compared_arms
from ranklock.errors import InputError, OptionError, OutputError
from ranklock.kinds import find_kind
from ranklock.run import fields as f
from ranklock.run.files import write_whole
from ranklock.run.lookup import rows_named
from ranklock.run.manifest import KIND, Manifest
from ranklock.run.store import IMPOSTORS, SHIFTS, Store, stored_tables
from ranklock.run.work import read_work

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

CELLS, GENES, PERTURBATIONS = "cells.parquet", "genes.parquet", "perturbations.parquet"
LEFT_OUT = "left_out.csv"
FIGURES = ("rank_shift.png", "rank_shift.svg")
INNER = "run"  # folder of the run of an audit or of estimates, within theirs
NULL_MODEL = "null-model"  # folder of the same run of the null model, within a run's

Block32 = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class EffectBlock:
    """Effects of consecutive perturbations of one kind in one cell.

    Attributes
    ----------
    cell, row
        The cell's name, and its row among the run's cells.
    kind
        Kind of perturbation.
    genes_in_cell
        Genes that the model is shown of it.
    perturbations
        Index of each among the run's perturbations, shape (n,).
    genes, gene_ranks, to_ranks
        Token of its first gene, where that stands (-1 where the input lacks it), and where a move
        takes it (-1 for knock-outs), shape (n,).
    responders, responder_ranks
        Token and rank of each responder, ascending by rank, shape (m,).
    values
        Field → arm → numbers of shape (n, m), NaN for the perturbed genes themselves.
    """

    cell: str
    row: int
    kind: str
    genes_in_cell: int
    perturbations: Tokens
    genes: Tokens
    gene_ranks: Tokens
    to_ranks: Tokens
    responders: Tokens
    responder_ranks: Tokens
    values: Mapping[str, Mapping[str, Block32]]

    def __len__(self) -> int:
        return len(self.perturbations)

    @property
    def distances(self) -> Mapping[str, Block32]:
        """Arm → cosine distances, shape (n, m)."""
        return self.values[f.COSINE_DISTANCE.name]


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """What perturbations did; nothing is read from the folder before it is asked for.

    Attributes
    ----------
    folder
        Where the parts are. A run without a folder of its own lives in a temporary one, as long as
        this object does.
    manifest
        What was asked of what, with what.
    """

    folder: Path
    manifest: Manifest

    def __repr__(self) -> str:
        planned = self.manifest.planned
        unfinished = "" if self.complete else ", unfinished"
        return (
            f"Run: {planned.tasks:,} tasks ({', '.join(self.kinds)}) in {planned.cells:,} cells, "
            f"arms {', '.join(self.arms)}, in {self.folder}{unfinished}"
        )

    @property
    def complete(self) -> bool:
        """Whether every shard is there."""
        return self.manifest.complete

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of perturbation."""
        return tuple(self.manifest.arms)

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms of all kinds, each once."""
        return tuple(dict.fromkeys(arm for arms in self.manifest.arms.values() for arm in arms))

    @property
    def reads(self) -> frozenset[str]:
        """What was read: some of ``genes``, ``cell`` and ``logits``."""
        return frozenset(self.manifest.asked.read)

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states that cells may move towards; ``goal`` first."""
        return () if self.manifest.states is None else self.manifest.states.names

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes of the classifier whose logits were read."""
        return self.manifest.labels

    def compared(self, kind: str) -> tuple[str, ...]:
        """Names of the arms of a kind of perturbation in which impostors are perturbed."""
        if not self.manifest.asked.impostors:
            return ()
        arms = arms_of(find_kind(kind))
        return tuple(arm.name for arm in compared_arms(arms[a] for a in self.manifest.arms[kind]))

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Metadata of the cells, by name."""
        return _table(self.folder / CELLS)

    @cached_property
    def genes(self) -> pd.DataFrame:
        """Genes by token: ``gene_id`` and ``symbol``."""
        return _table(self.folder / GENES).set_index("token")

    @cached_property
    def perturbations(self) -> pd.DataFrame:
        """What was done to genes: ``gene``, ``gene_id``, ``kind`` and ``tokens``."""
        return _table(self.folder / PERTURBATIONS)

    @cached_property
    def store(self) -> Store:
        """The parts."""
        return Store(
            self.folder, digest_of(self.manifest.identity), self.manifest.planned.shards,
            stored_tables(
                effects=f.GENES in self.reads, impostors=bool(self.manifest.asked.impostors)
            ),
        )  # fmt: skip

    @cached_property
    def null(self) -> Run | None:
        """The same run of the null model, finished or not; None where there is none."""
        folder = self.folder / NULL_MODEL
        return None if read_work(folder, KIND) is None else open_run(folder)

    def progress(self) -> tuple[int, int]:
        """Tasks that are done, and tasks in all."""
        rows = sum(self.store.rows(path) for path in self.store.files(SHIFTS))
        if len(self.kinds) == 1:
            return rows // len(self.arms), self.manifest.planned.tasks
        return len(self.shifts.drop_duplicates(["cell", "gene_id", "kind"])), (
            self.manifest.planned.tasks
        )

    def token(self, gene: str) -> int:
        """Token of a gene by symbol or Ensembl ID.

        Raises
        ------
        InputError
            When the run has no such gene.
        """
        return int(self.genes.index[rows_named(self.genes, gene, "symbol", self.folder)][0])

    def perturbations_named(self, gene: str) -> npt.NDArray[np.int64]:
        """Indices of a gene's perturbations, or of a set's; by symbols or Ensembl IDs.

        Raises
        ------
        InputError
            When the run has none.
        """
        return np.flatnonzero(rows_named(self.perturbations, gene, "gene", self.folder))

    def row_of(self, cell: str) -> int:
        """Row of a cell among the run's."""
        return self._rows[cell]

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {str(name): row for row, name in enumerate(self.cells.index)}

    def perturbation_of(self, kind: str, gene_ids: Sequence[str]) -> Tokens:
        """Index of perturbations of a kind, by the Ensembl IDs of their genes."""
        return np.array([self._perturbations[kind, gene] for gene in gene_ids], dtype=np.int32)

    @cached_property
    def _perturbations(self) -> dict[tuple[str, str], int]:
        table = self.perturbations
        pairs = zip(table["kind"].astype(str), table["gene_id"].astype(str), strict=True)
        return {pair: index for index, pair in enumerate(pairs)}

    @cached_property
    def first_tokens(self) -> Tokens:
        """Token of the first gene of each perturbation."""
        return np.array([tokens[0] for tokens in self.perturbations["tokens"]], dtype=np.int32)

    @cached_property
    def shifts(self) -> pd.DataFrame:
        """How far each cell moved: one row a task and arm.

        Columns are those that :func:`ranklock.run.fields.shift_fields` declares.
        """
        table = self._rows_of(SHIFTS)
        if self.manifest.asked.count_noise:
            from ranklock.run.count_noise_tables import beside_shifts

            beside_shifts(self, table)
        return table

    @cached_property
    def impostors(self) -> pd.DataFrame:
        """How far each cell moved by its impostors: one row a task, compared arm and impostor.

        Columns are those that :func:`ranklock.run.fields.impostor_fields` declares.

        Raises
        ------
        InputError
            When the run has none.
        """
        if not self.manifest.asked.impostors:
            raise InputError(
                f"{self.folder} was run without impostors; run it with --impostors 12."
            )
        return self._rows_of(IMPOSTORS)

    def _rows_of(self, table: str) -> pd.DataFrame:
        parts = [self.store.read(path) for path in self.store.files(table)]
        if not parts:
            raise OutputError(f"{self.folder} holds no finished shard yet; run its command again.")
        rows = _frame(pa.concat_tables(parts))
        rows[f.ARM.name] = rows[f.ARM.name].cat.set_categories(list(self.arms))
        return rows

    @cached_property
    def count_noise(self) -> pd.DataFrame:
        """How far thinning each cell's counts by 1 % moves its genes and its embedding.

        One row a cell and gene, with the columns ``cell``, ``responder``, ``responder_id``,
        ``token``, ``cosine_distance`` (mean over draws), ``draws`` (how many have the gene),
        ``thinned`` (``counts``, or ``genes`` where cells came without counts); and one row a cell
        of its embedding, where ``responder`` is missing, with ``towards_<state>``: mean size of
        the change of the cosine. In ``table`` and ``shifts`` it is the column ``count_noise``
        beside every effect. An effect far below is exact and may still be of no consequence.

        Raises
        ------
        InputError
            When it was not asked for.
        OutputError
            When it is not there yet, or damaged.
        """
        from ranklock.run.count_noise_tables import count_noise_table

        return count_noise_table(self)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Effects as a tidy table: one row a task, arm and responder.

        Columns ``cell``, ``gene``, ``kind``, ``gene_rank``, ``to_rank``, ``responder``,
        ``responder_rank``, ``arm``, ``cosine_distance``, ``displacement``, ``artefact_share`` (in
        the rows of the arm that is decomposed), ``fold`` (log10 of the distance over impostors',
        in a run with these), ``gene_id`` and ``responder_id``. The perturbed genes themselves are
        left out.

        Raises
        ------
        InputError
            When genes were not read, or the table would not fit into a usual machine's memory.
        """
        return self.effects_table()

    def effects_table(self, gene: str | None = None, cell: str | None = None) -> pd.DataFrame:
        """The same of one gene's perturbations, or of those in one cell."""
        from ranklock.run.tables import effect_table

        return effect_table(self, gene, cell)

    def effects(
        self,
        arms: Sequence[str] | None = None,
        *,
        kind: str | None = None,
        genes: Sequence[str] | None = None,
        cells: Sequence[str] | None = None,
        average: bool = False,
        min_cells: int = 1,
    ) -> AnnData:
        """Effects as AnnData: obs = perturbed genes in cells, var = responders.

        Parameters
        ----------
        arms
            Which arms; all by default.
        kind
            Which kind of perturbation; the first by default.
        genes
            Which perturbations, by symbol or Ensembl ID; all by default.
        cells
            Which cells, by name; all by default.
        average
            Make one observation of a perturbation, averaged over its cells; cells are read one
            after another, in constant memory.
        min_cells
            Leave out perturbations and responders that fewer cells have.

        Returns
        -------
        AnnData without X. Layers ``<arm>`` (cosine distance), ``<arm>_displacement``,
        ``<arm>_fold`` of the arms that are compared with impostors, and ``artefact_share``,
        ``phi_edit``, ``phi_shift`` and ``interaction`` of the arm that is decomposed; averaged
        also ``<arm>_variance`` (between cells) and ``n_cells``, with the artefact share pooled over
        cells. NaN where a cell lacks the responder, and for the perturbed gene itself.

        Raises
        ------
        InputError
            When genes were not read, or the matrices do not fit into memory, with what would.
        """
        from ranklock.run.matrices import averaged_effects, effects_in_cells, scope_of

        scope = scope_of(self, arms, kind, genes, cells, min_cells)
        return averaged_effects(scope) if average else effects_in_cells(scope)

    def blocks(
        self,
        fields: Sequence[str] = (f.COSINE_DISTANCE.name,),
        arms: Sequence[str] | None = None,
        kind: str | None = None,
        cells: Sequence[str] | None = None,
    ) -> Iterator[EffectBlock]:
        """Effects block by block, in constant memory.

        Parameters
        ----------
        fields
            Names of fields: see :data:`ranklock.run.fields.OF_ARM` and ``DECOMPOSITION``, which
            only the decomposed arm has.
        arms, kind
            Which arms and which kind of perturbation; all by default.
        cells
            Names of cells, in the order in which they are to come; all in their order by default.

        Raises
        ------
        InputError
            When genes were not read.
        OptionError
            When the run has no such arm or kind.
        """
        from ranklock.run.blocks import read_blocks

        yield from read_blocks(self, fields, arms, kind, cells)

    def check_reads(self, what: str) -> None:
        """Refuse what this run did not read.

        Raises
        ------
        InputError
            With what would.
        """
        if what not in self.reads:
            raise InputError(
                f"{self.folder} read {', '.join(self.manifest.asked.read)} only, not {what}; run "
                f"it with --read {what}."
            )

    def arms_of(self, asked: Sequence[str] | None, kind: str | None = None) -> tuple[str, ...]:
        """Of some arms those of a kind of perturbation; all by default.

        Raises
        ------
        OptionError
            When the run has no such arm or kind.
        """
        if kind is not None and kind not in self.kinds:
            raise OptionError(f"{self.folder} has no {kind!r}; it has: {', '.join(self.kinds)}.")
        known = self.arms if kind is None else self.manifest.arms[kind]
        for arm in asked or ():
            if arm not in self.arms:
                raise OptionError(f"{self.folder} has no arm {arm!r}; it has: "
                                  f"{', '.join(self.arms)}.")  # fmt: skip
        return tuple(arm for arm in known if asked is None or arm in asked)

    def example(self, gene: str | None = None, cell: str | None = None) -> tuple[str, str]:
        """Gene and cell that the figure shows.

        By default the first gene, in the cell where it stands nearest to the middle of the ranking:
        a step shows best with many genes on either side.

        Raises
        ------
        InputError
            When the run has no such perturbation.
        """
        rows = self.shifts
        if gene is None:
            gene = str(rows["gene"].iloc[0])
        perturbed = self.perturbations.loc[self.perturbations_named(gene), "gene_id"]
        rows = rows[rows["gene_id"].isin(perturbed)]
        if cell is not None:
            rows = rows[rows["cell"] == str(cell)]
        if rows.empty:
            raise InputError(f"{self.folder} has no perturbation of {gene}" + f" in {cell}."
                             * (cell is not None))  # fmt: skip
        middle = (rows["gene_rank"].astype(float) / rows["genes_in_cell"] - 0.5).abs()
        chosen = middle.idxmin() if middle.notna().any() else rows.index[0]
        return str(rows["gene"].iloc[0]), str(rows.loc[chosen, "cell"])

    def figure(self, gene: str | None = None, cell: str | None = None) -> Figure:
        """Cosine similarity against rank, one panel per arm, whole and zoomed.

        Parameters
        ----------
        gene, cell
            Which perturbation in which cell; see :meth:`example` for the default.
        """
        gene, cell = self.example(gene, cell)
        return self._figure_of(gene, cell, self.effects_table(gene, cell))

    def _figure_of(self, gene: str, cell: str, rows: pd.DataFrame) -> Figure:
        from ranklock.page.rank_shift import rank_shift_figure

        shifts = self.shifts
        written = shifts.loc[(shifts["gene"] == gene) & (shifts["cell"] == cell), "gene_ranks"]
        ranks = [int(r) for r in str(written.iloc[0]).split(f.TOGETHER) if r != f.NO_RANK]
        return rank_shift_figure(rows, ranks)

    def draw(self, partial_folder: Path | None = None) -> None:
        """Draw the figure into the folder, where there is something to show."""
        from ranklock.page.style import draw

        if f.GENES not in self.reads:
            return
        gene, cell = self.example()
        rows = self.effects_table(gene, cell)
        if rows.empty:
            return
        figure = self._figure_of(gene, cell, rows)
        for name in FIGURES:
            on_its_way = None if partial_folder is None else partial_folder / name
            write_whole(self.folder / name, partial(draw, figure), on_its_way)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Copy the run's folder; :func:`ranklock.read_run` opens it.

        Parameters
        ----------
        folder
            Where to.
        overwrite
            Replace a run that is there already.

        Raises
        ------
        OutputError
            When it exists and may not be replaced, or cannot be written.
        """
        from ranklock.run.save import copy_run

        return copy_run(self, Path(folder), overwrite=overwrite)


def open_run(folder: str | Path) -> Run:
    """Open a run's folder, finished or not.

    Raises
    ------
    OutputError
        When the folder holds no run.
    """
    return Run(Path(folder), Manifest.read(Path(folder)))


def read_run(folder: str | Path) -> Run:
    """Open a run's folder, finished or not; that of an audit or of estimates opens the run in it.

    Raises
    ------
    OutputError
        When the folder holds no run, or one of another version.
    """
    place = Path(folder)
    inner = place / INNER
    if read_work(place, KIND) is None and read_work(inner, KIND) is not None:
        return open_run(inner)
    return open_run(place)


def as_run(source: object) -> Run:
    """The run that an argument is or names.

    Parameters
    ----------
    source
        A run, the folder of one, or something that has a run as its ``run``.

    Raises
    ------
    OptionError
        When it is neither, with what it is.
    OutputError
        When the folder holds no run.
    """
    if isinstance(source, Run):
        return source
    if isinstance(source, str | Path):
        return read_run(source)
    inner = getattr(source, "run", None)
    if isinstance(inner, Run):
        return inner
    raise OptionError(
        "This takes a run from ranklock.perturb() or ranklock.read_run(), or the folder of one, "
        f"not {type(source).__name__}."
    )


def in_temporary_folder(make: Any) -> Run:
    """A run in a temporary folder that goes when the run's object goes.

    Parameters
    ----------
    make
        Takes the folder and makes the run there.
    """
    folder = Path(tempfile.mkdtemp(prefix="ranklock-"))
    try:
        run: Run = make(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(run, shutil.rmtree, folder, ignore_errors=True)
    return run


def digest_of(content: Any) -> str:
    """Digest of plain content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path, page_checksum_verification=True)
    except (OSError, ValueError) as error:  # pyarrow's errors are these
        raise OutputError(
            f"{path} is missing or damaged; run the same command again, which writes it anew."
        ) from error


def _frame(table: pa.Table) -> pd.DataFrame:
    """As data frame, with ranks that may be missing as nullable integers."""
    ranks = {pa.int32(): pd.Int32Dtype()}
    frame: pd.DataFrame = table.to_pandas(types_mapper=ranks.get)
    frame["genes_in_cell"] = frame["genes_in_cell"].astype("int32")
    return frame
