"""Knock genes out of cells under several arms, and read what moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby

import numpy as np
import numpy.typing as npt

from ranklock.arms import DEFAULT_ARMS, Arm, apply, find_arms
from ranklock.cells import Cells
from ranklock.effects.readout import read_effects
from ranklock.engine.batches import hidden_states
from ranklock.errors import InputError
from ranklock.experiments.noise import measure_noise
from ranklock.experiments.plan import (
    Task,
    baseline_of,
    check_fit,
    check_size,
    find_knockouts,
    plan_knockouts,
    shown_genes,
    warn_of_backfill,
)
from ranklock.experiments.provenance import provenance
from ranklock.models import Model
from ranklock.models.encoder import output_of_layer
from ranklock.progress import progress as show_progress
from ranklock.results import (
    Record,
    averaged_anndata,
    cell_shift_table,
    effect_table,
    effects_anndata,
)
from ranklock.results.records import record_of
from ranklock.results.tables import knockout_name
from ranklock.run import Run, summarise

_KNOCKOUTS_AT_ONCE = 8  # whose hidden states are held in memory together


def knockout(
    cells: Cells,
    model: Model,
    genes: Sequence[str | int],
    arms: Sequence[str] = DEFAULT_ARMS,
    *,
    layer: int = -1,
    together: bool = False,
    average: bool = False,
    batch_size: int | None = None,
    progress: bool = True,
) -> Run:
    """Knock genes out of cells, and measure what moves under each arm.

    Parameters
    ----------
    cells
        Cells to knock them out of, from :func:`ranklock.read_cells`.
    model
        Checkpoint, from :func:`ranklock.load_model`.
    genes
        Symbols, Ensembl IDs or tokens; one knock-out each.
    arms
        Names of arms. The default is all that the decomposition needs (``delete``, ``hold``,
        ``shift``), plus ``mask``.
    layer
        Layer to read, as Geneformer's ``emb_layer``: 0 is the last, -1 the second to last.
    together
        Knock all genes out of a cell at once.
    average
        Average :attr:`Run.effects` over cells. The tables keep every cell.
    batch_size
        Inputs in one forward; found if not given. It changes nothing beyond the noise floor.
    progress
        Whether to show progress on stderr.

    Returns
    -------
    Run
        ``effects`` (AnnData), ``table`` and ``cell_shifts`` (DataFrame), ``manifest`` (dict) and
        ``figure()``.

    Raises
    ------
    InputError
        Before the first forward, when something does not fit: a gene that is unknown or in no
        cell, a vocabulary that belongs to another checkpoint, a layer or arm that does not exist.

    Warns
    -----
    RanklockWarning
        When cells are left out: those that lack a gene, or have it below the input size.

    Examples
    --------
    >>> import ranklock
    >>> cells = ranklock.read_cells(ranklock.demo.cells_file(), ranklock.demo.vocabulary_file())
    >>> model = ranklock.load_model(ranklock.demo.model_folder())
    >>> run = ranklock.knockout(cells[0], model, genes=["FTL"], progress=False)
    >>> run.effects.obs["gene"].tolist()
    ['FTL']
    """
    chosen = find_arms(arms)
    check_fit(cells, model, chosen)
    depth = output_of_layer(model, layer)
    knockouts = find_knockouts(genes, cells, together=together)
    tasks, skipped = plan_knockouts(knockouts, cells, model)
    check_size(tasks, cells, model, len(chosen))
    warn_of_backfill(chosen, cells, model, {task.cell for task in tasks})

    used = sorted({task.cell for task in tasks})
    floor = measure_noise(used, cells, model, depth, batch_size=batch_size)
    with show_progress(len(tasks), "knock-outs", shown=progress) as advance:
        records = []
        for record in _records(tasks, knockouts, chosen, cells, model, depth, batch_size):
            records.append(record)
            advance(1)

    names = [arm.name for arm in chosen]
    common = (records, knockouts, cells, names)
    manifest = {
        "asked": {
            "command": "knockout",
            "genes": [str(gene) for gene in genes],
            "arms": names,
            "layer": layer,
            "together": together,
            "averaged": average,
            "backfill": any(arm.backfill for arm in chosen),
            "batch_size": batch_size,
        },
        "summary": summarise(records, [knockout_name(k, cells) for k in knockouts], names),
        "skipped": skipped,
        "noise_floor": asdict(floor),
        **provenance(cells, model, depth),
    }
    as_anndata = averaged_anndata if average else effects_anndata
    return Run(
        effects=as_anndata(*common, floor, manifest),
        table=effect_table(*common, floor),
        cell_shifts=cell_shift_table(*common, floor),
        manifest=manifest,
    )


def _records(
    tasks: Sequence[Task],
    knockouts: Sequence[tuple[int, ...]],
    arms: Sequence[Arm],
    cells: Cells,
    model: Model,
    depth: int,
    batch_size: int | None,
) -> Iterator[Record]:
    """Effects of every task, cell by cell."""
    run_as = list(dict.fromkeys(arm.runs_as or arm.name for arm in arms))
    computed = find_arms(run_as)
    for cell, in_cell in groupby(tasks, key=lambda task: task.cell):
        unperturbed = baseline_of(cells, cell, model)
        below = cells.ranked[cell][shown_genes(cells, cell, model) :].tolist()
        mine = list(in_cell)
        base: npt.NDArray[np.float32] | None = None
        for start in range(0, len(mine), _KNOCKOUTS_AT_ONCE):
            group = mine[start : start + _KNOCKOUTS_AT_ONCE]
            inputs = [
                apply(arm, unperturbed, task.ranks, cells.vocabulary, below)
                for task in group
                for arm in computed
            ]
            first = [unperturbed] if base is None else []
            states = hidden_states(model, first + inputs, depth, batch_size=batch_size)
            if base is None:
                base = states.pop(0)
            _check_finite([base, *states], cells, cell)
            for index, task in enumerate(group):
                part = slice(index * len(computed), (index + 1) * len(computed))
                by_name = dict(
                    zip(run_as, zip(inputs[part], states[part], strict=True), strict=True)
                )
                readout = read_effects(
                    unperturbed,
                    base,
                    {arm.name: by_name[arm.runs_as or arm.name] for arm in arms},
                    task.ranks,
                    special_frame=cells.special_frame,
                )
                yield record_of(
                    readout,
                    knockout=task.knockout,
                    cell=cell,
                    ranks=task.ranks,
                    genes=cells.ranked[cell][: shown_genes(cells, cell, model)],
                )


def _check_finite(states: Sequence[npt.NDArray[np.float32]], cells: Cells, cell: int) -> None:
    if not all(np.isfinite(state).all() for state in states):
        raise InputError(
            f"The model gives NaN or infinity for cell {cells.names[cell]} of {cells.source}; its "
            "weights are damaged or too large for float32."
        )
