"""Knock genes out of cells under several arms, and read what moves."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from ranklock.arms import DEFAULT_ARMS, Arm, ModelInput, apply, baseline, capacity, find_arms
from ranklock.cells import Cells
from ranklock.effects import NoiseFloor, noise_floor
from ranklock.effects.readout import embeddings, read_effects
from ranklock.engine import hidden_states, repeats_of
from ranklock.errors import InputError, RanklockWarning
from ranklock.models import Model, output_of_layer
from ranklock.models.checkpoint import check_token_range, check_vocabulary
from ranklock.progress import progress as show_progress
from ranklock.results import (
    Record,
    averaged_anndata,
    cell_shift_table,
    effect_table,
    effects_anndata,
)
from ranklock.results.records import record_of
from ranklock.results.tables import knockout_ids, knockout_name
from ranklock.run import Run, summarise

_CELLS_FOR_NOISE = 3
_KNOCKOUTS_AT_ONCE = 8  # whose hidden states are held in memory together
_REASONS = {
    "cells_without_it": "lack it",
    "cells_with_it_below_the_input_size": "have it below the input size",
    "cells_with_nothing_else": "have no other gene to respond",
}
_MOST_ROWS = 50_000_000  # of the tidy table; beyond, it no longer fits a usual machine


@dataclass(frozen=True)
class _Task:
    """One knock-out in one cell."""

    cell: int
    knockout: int
    ranks: tuple[int, ...]


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
    >>> sorted(run.effects.layers)[:4]
    ['artefact_share', 'delete', 'delete_displacement', 'hold']
    """
    chosen = find_arms(arms)
    depth = output_of_layer(model, layer)
    _check_fit(cells, model)
    knockouts = _knockouts(genes, cells, together=together)
    tasks, skipped = _plan(knockouts, cells, model)
    rows = sum(_shown(cells, t.cell, model) - len(t.ranks) for t in tasks) * len(chosen)
    if rows > _MOST_ROWS:
        raise InputError(
            f"The table of effects would have {rows:,} rows (at most {_MOST_ROWS:,}): "
            f"{len(tasks)} knock-outs × {len(chosen)} arms × their responders. Take fewer cells "
            "(--sample) or genes, or cut the work into several runs."
        )
    _warn_of(chosen, cells, model, tasks)

    with show_progress(len(tasks) + 1, "knock-outs", shown=progress) as advance:
        floor = _measure_noise(tasks, cells, model, depth)
        advance(1)
        records = []
        for record in _records(tasks, knockouts, chosen, cells, model, depth, batch_size):
            records.append(record)
            advance(1)

    names = [arm.name for arm in chosen]
    common = (records, knockouts, cells, names)
    cell_shifts = cell_shift_table(*common, floor)
    manifest = {
        "asked": {
            "command": "knockout",
            "genes": [str(gene) for gene in genes],
            "arms": names,
            "layer": layer,
            "together": together,
            "averaged": average,
            "backfill": any(arm.backfill for arm in chosen),
        },
        "summary": summarise(records, [knockout_name(k, cells) for k in knockouts], names),
        "skipped": skipped,
        "noise_floor": asdict(floor),
        **_provenance(cells, model, depth),
    }
    as_anndata = averaged_anndata if average else effects_anndata
    return Run(
        effects=as_anndata(*common, manifest),
        table=effect_table(*common, floor),
        cell_shifts=cell_shifts,
        manifest=manifest,
    )


def _check_fit(cells: Cells, model: Model) -> None:
    check_token_range(
        max((int(genes.max()) for genes in cells.ranked if len(genes)), default=0),
        model,
        cells.source,
    )
    if not cells.vocabulary.stand_in:
        check_vocabulary(cells.vocabulary, model)


def _knockouts(
    genes: Sequence[str | int], cells: Cells, *, together: bool
) -> list[tuple[int, ...]]:
    """Tokens of each knock-out's genes, in the order asked, each gene once."""
    if isinstance(genes, str):
        raise InputError(f"genes is a list; write genes=[{genes!r}].")
    tokens = list(dict.fromkeys(cells.vocabulary.token(gene) for gene in genes))
    if not tokens:
        raise InputError("No gene was named; name at least one with --gene.")
    return [tuple(tokens)] if together else [(token,) for token in tokens]


def _shown(cells: Cells, cell: int, model: Model) -> int:
    """Number of genes of a cell that the model is shown."""
    most = capacity(model.input_size, special_frame=cells.special_frame)
    return min(len(cells.ranked[cell]), most)


def _plan(
    knockouts: Sequence[tuple[int, ...]], cells: Cells, model: Model
) -> tuple[list[_Task], list[dict[str, Any]]]:
    """Which knock-out can be done in which cell, and what is left out."""
    tasks: list[_Task] = []
    counts = np.zeros((len(knockouts), len(_REASONS)), dtype=int)
    rank_of = np.full(cells.vocabulary.largest_token + 1, -1)
    for cell, ranked in enumerate(cells.ranked):
        rank_of[ranked] = np.arange(len(ranked))
        shown = _shown(cells, cell, model)
        for index, tokens in enumerate(knockouts):
            ranks = np.sort(rank_of[list(tokens)])
            if ranks[0] < 0:
                counts[index, 0] += 1
            elif ranks[-1] >= shown:
                counts[index, 1] += 1
            elif len(ranks) == shown and not cells.special_frame:
                counts[index, 2] += 1
            else:
                tasks.append(_Task(cell, index, tuple(ranks.tolist())))
        rank_of[ranked] = -1
    skipped = [
        {
            "gene": knockout_name(tokens, cells),
            "gene_id": knockout_ids(tokens, cells),
            **dict(zip(_REASONS, row.tolist(), strict=True)),
        }
        for tokens, row in zip(knockouts, counts, strict=True)
        if row.any()
    ]
    if not tasks:
        raise InputError(_nowhere(skipped, cells))
    for entry in skipped:
        warnings.warn(_left_out(entry, cells), RanklockWarning, stacklevel=3)
    return tasks, skipped


def _nowhere(skipped: Sequence[dict[str, Any]], cells: Cells) -> str:
    genes = ", ".join(entry["gene"] for entry in skipped)
    return (
        f"{genes} can be knocked out of none of the {len(cells)} cells chosen from "
        f"{cells.source} ({_reasons(skipped)}); choose other cells or another gene."
    )


def _left_out(entry: dict[str, Any], cells: Cells) -> str:
    return f"{entry['gene']}: of {len(cells)} cells, {_reasons([entry])}; they are left out."


def _reasons(skipped: Sequence[dict[str, Any]]) -> str:
    totals = {reason: sum(entry[reason] for entry in skipped) for reason in _REASONS}
    return ", ".join(f"{totals[r]} {text}" for r, text in _REASONS.items() if totals[r])


def _warn_of(arms: Sequence[Arm], cells: Cells, model: Model, tasks: Sequence[_Task]) -> None:
    most = capacity(model.input_size, special_frame=cells.special_frame)
    used = {task.cell for task in tasks}
    full = sum(len(cells.ranked[cell]) == most for cell in used)
    if full and any(arm.backfill for arm in arms):
        warnings.warn(
            f"{full} cells fill the input exactly and {cells.source} does not say which genes "
            "come next, so backfill lets nothing in there.",
            RanklockWarning,
            stacklevel=3,
        )


def _baseline(cells: Cells, cell: int, model: Model) -> ModelInput:
    return baseline(
        cells.ranked[cell],
        model.input_size,
        cells.vocabulary,
        special_frame=cells.special_frame,
    )


def _measure_noise(tasks: Sequence[_Task], cells: Cells, model: Model, depth: int) -> NoiseFloor:
    """Noise floor on the shortest, the median and the longest of the cells."""
    used = sorted({task.cell for task in tasks}, key=lambda cell: (len(cells.ranked[cell]), cell))
    places = np.linspace(0, len(used) - 1, min(len(used), _CELLS_FOR_NOISE)).astype(int)
    repeats = []
    for place in places:
        one = _baseline(cells, used[place], model)
        states = repeats_of(model, one, depth)
        read = [embeddings(one, s, (), special_frame=cells.special_frame) for s in states]
        repeats.append((np.stack([g for g, _ in read]), np.stack([c for _, c in read])))
    return noise_floor(repeats)


def _records(
    tasks: Sequence[_Task],
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
    for cell in dict.fromkeys(task.cell for task in tasks):
        unperturbed = _baseline(cells, cell, model)
        below = cells.ranked[cell][_shown(cells, cell, model) :].tolist()
        mine = [task for task in tasks if task.cell == cell]
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
                    genes=cells.ranked[cell][: _shown(cells, cell, model)],
                )


def _check_finite(states: Sequence[npt.NDArray[np.float32]], cells: Cells, cell: int) -> None:
    if not all(np.isfinite(state).all() for state in states):
        raise InputError(
            f"The model gives NaN or infinity for cell {cells.names[cell]} of {cells.source}; its "
            "weights are damaged or too large for float32."
        )


def _provenance(cells: Cells, model: Model, depth: int) -> dict[str, Any]:
    import torch

    packages = ("ranklock", "torch", "transformers", "numpy", "anndata")
    return {
        "cells": {
            "source": cells.source,
            "number": len(cells),
            "names": cells.names,
            "special_frame": cells.special_frame,
            "longer_than_the_input": sum(
                len(ranked) > capacity(model.input_size, special_frame=cells.special_frame)
                for ranked in cells.ranked
            ),
            "sha256": cells.sha256(),
        },
        "vocabulary": {
            "source": cells.vocabulary.source,
            "genes": len(cells.vocabulary.tokens),
            "sha256": cells.vocabulary.sha256,
        },
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "layers": model.layers,
            "layers_run": depth,
            "width": model.width,
            "heads": model.heads,
            "input_size": model.input_size,
            "sha256": model.sha256,
        },
        "machine": {
            "device": model.device,
            "threads": torch.get_num_threads(),
            "precision": "float32",
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }
