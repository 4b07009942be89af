"""The one experiment that users run: cells × perturbations × arms × readouts, on a model."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ranklock.cells import Cells, Selection
from ranklock.engine.method import baseline_precision
from ranklock.errors import InputError, OptionError, RanklockWarning
from ranklock.models import Model
from ranklock.models.encoder import output_of_layer
from ranklock.models.permuted import permuted
from ranklock.models.precision import AUTO
from ranklock.run import asked as asked_for
from ranklock.run.asked import ALL, Asked
from ranklock.run.count_noise import warn_without_counts
from ranklock.run.execute import execute
from ranklock.run.fields import CELL, GENES
from ranklock.run.kept_states import STATES
from ranklock.run.plan import Plan, check_fit, make_plan
from ranklock.run.run import NULL_MODEL, Run, in_temporary_folder
from ranklock.run.states import StateEmbeddings, States, StatesAsked, embed_states

Names = str | Sequence[str | int]


def perturb(
    cells: Cells,
    model: Model,
    genes: Names = ALL,
    do: Names = "knock-out",
    arms: Sequence[str] | None = None,
    *,
    read: Names = (GENES, CELL),
    together: bool = False,
    responders: Names = ALL,
    impostors: int = 0,
    null_model: bool = False,
    insert: bool = False,
    layer: int = -1,
    states: States | None = None,
    select: Selection | None = None,
    donor: str | None = None,
    min_cells: int = 1,
    strict: bool = False,
    precision: str = AUTO,
    accuracy: float = 0.01,
    seed: int = 0,
    count_noise: bool = False,
    batch_size: int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Run:
    """Perturb genes of cells in silico, under several arms, and read what moves.

    Any genes, one by one or together, in any cells, knocked out or moved to other ranks, read as
    effects on genes, as shifts of the cell, towards states, and as a classifier's logits. A run
    into a folder that was stopped, however it was, goes on where it stopped when it is called again
    with the same arguments.

    Parameters
    ----------
    cells
        Cells, from :func:`ranklock.read_cells`.
    model
        Checkpoint, from :func:`ranklock.load_model`.
    genes
        Genes to perturb, by symbol, Ensembl ID or token; or ``"all"``: every gene of each cell.
    do
        What is done to them, one kind or several: ``knock-out``, ``overexpress``, ``activate:1``,
        ``inhibit:2``, ``to-rank:100``, ``factor:0.5``; see :func:`ranklock.kinds.find_kind`.
    arms
        Names of arms; by default all that the decomposition needs, plus ``mask``. Each kind takes
        those that it has.
    read
        What is read: ``genes``, ``cell``, ``logits`` (of a fine-tuned classifier of cells).
    together
        Perturb all genes of a cell at once; moved genes stand in the order named.
    responders
        Genes whose effects are stored; ``"all"`` by default.
    impostors
        Beside each perturbed gene, perturb so many genes that the cell lacks in its place: what
        :func:`ranklock.responders` and :func:`ranklock.shifts` compare with. Twelve are usual.
    null_model
        Do all of it to the checkpoint with permuted weights as well
        (:func:`ranklock.permuted`): what is found there is found without knowledge.
    insert
        Put genes that cells lack into them, where moves take them. A full input's baseline is cut
        by as many genes, as Geneformer cuts it.
    layer
        Layer to read, as Geneformer's ``emb_layer``: 0 is the last, -1 the second to last.
    states
        Perturb the cells in a start state, and read how far each turns towards a goal state and
        alternatives.
    select
        Which of the cells are perturbed; all (in the start states) by default. States are averaged
        over all of ``cells``.
    donor
        Column of the cells' metadata that names donors: the replicates of later tests.
    min_cells
        Leave out genes that fewer cells have.
    strict
        Make it an error that a gene cannot be perturbed; it is left out and reported otherwise.
    precision
        Number format of the products with displacements: ``float32``, ``float64``, and ``tf32``,
        ``bfloat16`` or ``float16`` where the device has them. By default (``auto``) the fastest
        here whose measured error is small enough; of a small run ``float32``.
    accuracy
        Error that is allowed, as a part of an effect, in the median; five times as much at the 95th
        percentile. The manifest says what was measured.
    seed
        Of what is drawn at random.
    count_noise
        Also thin each cell's counts by 1 % (five draws, each molecule kept with probability 0.99),
        as sequencing a little less deeply would, and say beside every effect how far that moves the
        same gene and the cell. An effect far below count noise is exact and may still be of no
        consequence. In cells without counts one gene in a hundred is dropped instead.
    batch_size
        Tasks in one forward; found if not given. It changes nothing beyond the measured error.
    out
        Folder for the results. Several processes may work on one. Without it they live in a
        temporary folder as long as the run that is returned.
    overwrite
        Replace a run that is in the folder already.
    progress
        Whether to show the plan and progress on stderr.

    Returns
    -------
    Run
        ``table``, ``shifts``, ``count_noise`` (DataFrames), ``effects()`` (AnnData), ``figure()``,
        ``manifest``.

    Raises
    ------
    InputError
        Before the first forward, when something does not fit.
    OutputError
        When the folder holds something else, the disk is full, or the run in it was begun with
        other arguments. What was done is kept.

    Warns
    -----
    RanklockWarning
        When genes or cells are left out, or count noise is of dropped genes for want of counts.

    Examples
    --------
    >>> import ranklock
    >>> cells = ranklock.read_cells(ranklock.demo.cells_file(), ranklock.demo.vocabulary_file())
    >>> model = ranklock.load_model(ranklock.demo.model_folder())
    >>> run = ranklock.perturb(cells[:2], model, ["FTL"], ["knock-out", "overexpress"],
    ...                        progress=False)
    >>> sorted(run.shifts["kind"].unique())
    ['knock-out', 'overexpress']
    """
    asked = Asked(
        genes=_names(genes, "genes"),
        do=_names(do, "do", split=True),
        arms=() if arms is None else _names(arms, "arms"),
        read=_names(read, "read", split=True),
        together=together,
        responders=_names(responders, "responders"),
        impostors=impostors,
        null_model=null_model,
        insert=insert,
        layer=layer,
        precision=precision,
        accuracy=accuracy,
        donor=donor,
        min_cells=min_cells,
        strict=strict,
        seed=seed,
        count_noise=count_noise,
    )
    plan, states_asked = plan_perturbations(
        cells, model, asked, states=states, select=select, out=out, progress=progress
    )

    def run_into(folder: Path) -> Run:
        run = execute(
            plan, folder, states_asked=states_asked, overwrite=overwrite, batch_size=batch_size,
            figure=out is not None, progress=progress,
        )  # fmt: skip
        if null_model:
            perturb_null_model(
                cells, model, asked, folder, states=states, select=select, batch_size=batch_size,
                progress=progress,
            )  # fmt: skip
        return run

    return in_temporary_folder(run_into) if out is None else run_into(Path(out))


def perturb_null_model(
    cells: Cells,
    model: Model,
    asked: Asked,
    folder: Path,
    *,
    states: States | None = None,
    select: Selection | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> Run:
    """Do to the null model what was done to a checkpoint, into a folder within the run's.

    Parameters
    ----------
    cells, model, asked, states, select, batch_size, progress
        As the run had them.
    folder
        The run's.
    """
    inner = folder / NULL_MODEL
    # Its error is another: it takes what is exact enough for it.
    asked = replace(asked, null_model=False, precision=AUTO, purpose=asked_for.NULL_MODEL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RanklockWarning)  # the same as of the checkpoint
        plan, states_asked = plan_perturbations(
            cells, permuted(model, asked.seed), asked, states=states, select=select, out=inner,
            progress=progress,
        )  # fmt: skip
    if progress:
        print("The same of the null model (permuted weights):", file=sys.stderr)
    return execute(
        plan, inner, states_asked=states_asked, batch_size=batch_size, figure=False,
        progress=progress,
    )  # fmt: skip


def plan_perturbations(
    cells: Cells,
    model: Model,
    asked: Asked,
    *,
    states: States | None = None,
    select: Selection | None = None,
    out: str | Path | None = None,
    progress: bool = False,
) -> tuple[Plan, StatesAsked | None]:
    """Plan a run of chosen cells; states are embedded, or taken from a run that is there.

    Parameters
    ----------
    cells, model, states, select, out, progress
        As in :func:`perturb`.
    asked
        The experiment.

    Returns
    -------
    The plan, and what was asked of its states.
    """
    check_fit(cells, model, [])
    if asked.donor is not None and asked.donor not in cells.obs:
        known = ", ".join(map(str, cells.obs.columns)) or "none"
        raise InputError(
            f"{cells.source} has no column {asked.donor!r} in obs (it has {known}); name the one "
            "that holds donors or samples (--donor)."
        )
    embedded: StateEmbeddings | None = None
    rows = np.arange(len(cells))
    if states is not None:
        if CELL not in asked.read:
            raise OptionError(
                "Shifts towards states are of the cell embedding; read it (--read cell)."
            )
        depth = output_of_layer(model, asked.layer)
        embedded = embed_states(
            states, cells, model, depth,
            precision=baseline_precision(asked.precision), progress=progress,
            kept=None if out is None else Path(out) / STATES,
        )  # fmt: skip
        rows = np.flatnonzero(embedded.group_of_cell >= 0)
    if select is not None:
        rows = _selected(cells, rows, select)
    if embedded is not None:
        embedded = replace(embedded, group_of_cell=embedded.group_of_cell[rows])
    plan = make_plan(cells[rows], model, asked, states=embedded)
    if asked.count_noise:
        warn_without_counts(plan.cells)
    return plan, None if states is None else states.asked


def _selected(cells: Cells, rows: np.ndarray[tuple[int], np.dtype[np.int_]], select: Selection) -> (
    np.ndarray[tuple[int], np.dtype[np.int_]]
):  # fmt: skip
    """Of some rows those that a selection chooses; its sample is drawn of them."""
    chosen = replace(select, sample=None).choose(cells.obs, cells.source)
    left = np.intersect1d(rows, chosen)
    if not len(left):
        raise InputError(f"{cells.source}: no cell meets all of the conditions; loosen them.")
    sample = replace(select, rows=None, where={})
    return left[sample.choose(cells.obs.iloc[left], cells.source)]


def _names(named: Names, argument: str, *, split: bool = False) -> tuple[str, ...]:
    """Names as a tuple of texts; none for all."""
    if isinstance(named, str):
        if named == ALL and not split:
            return ()
        if not split:
            raise OptionError(f"{argument} is a list; write {argument}=[{named!r}].")
        return tuple(part.strip() for part in named.split(","))
    names = tuple(str(name) for name in named)
    if not names:
        raise OptionError(f"{argument} names nothing; leave it out, or name something.")
    return names
