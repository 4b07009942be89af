"""What a run is going to do, found before the first forward: genes, cells, tasks that fit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ranklock.arms import Arm, ModelInput, baseline, capacity, check_tokens, find_arms
from ranklock.cells import Cells
from ranklock.errors import InputError, OptionError, RanklockWarning
from ranklock.genes.names import GeneLeftOut, require, resolve
from ranklock.kinds import Kind, find_kinds
from ranklock.models import Model
from ranklock.models.checkpoint import check_token_range, check_vocabulary
from ranklock.models.encoder import output_of_layer
from ranklock.models.permuted import head_of
from ranklock.models.precision import AUTO, check_precision
from ranklock.run.asked import Asked
from ranklock.run.fields import CELL, GENES, LOGITS
from ranklock.run.gene_choice import names_left_out, refuse, usable_genes
from ranklock.run.planned import Plan
from ranklock.run.states import StateEmbeddings
from ranklock.run.tasks import CellsLeftOut, Perturbation, Tasks, find_tasks, tasks_at_ranks

__all__ = ["Plan", "check_fit", "make_plan", "shown_genes", "unperturbed_cell"]


def make_plan(
    cells: Cells,
    model: Model,
    asked: Asked,
    *,
    ranks_of: Mapping[int, Sequence[int]] | None = None,
    states: StateEmbeddings | None = None,
) -> Plan:
    """Plan a run, and find out what does not fit.

    Parameters
    ----------
    cells, model, asked
        What is perturbed, in which model, and how.
    ranks_of
        Row of a cell → ranks whose genes are perturbed, in place of ``asked.genes``.
    states
        Embeddings of the states that cells may move towards.

    Raises
    ------
    InputError
        When something does not fit: no gene can be perturbed, a vocabulary belongs to another
        checkpoint, a layer, arm or precision does not exist.

    Warns
    -----
    RanklockWarning
        When genes or cells are left out.
    """
    kinds = find_kinds(asked.do)
    arms = {kind.name: find_arms(asked.arms or None, kind) for kind in kinds}
    check_fit(cells, model, [arm for of_kind in arms.values() for arm in of_kind])
    unused = set(asked.arms) - {arm.name for of_kind in arms.values() for arm in of_kind}
    if unused:
        raise OptionError(
            f"The arm {min(unused)} is none of {' or '.join(k.name for k in kinds)}; leave it out."
        )
    depth = output_of_layer(model, asked.layer)
    if not model.device.startswith(("cpu", "cuda")):
        raise OptionError(
            f"Runs are on cpu and cuda, not on {model.device}: effects are summed in float64."
        )
    if asked.precision != AUTO:
        check_precision(asked.precision, model.device)
    if states is not None and CELL not in asked.read:
        raise OptionError("Shifts towards states are of the cell embedding; read it (--read cell).")
    head = head_of(model) if LOGITS in asked.read else None
    responders = None
    if asked.responders:
        responders = np.sort(np.array(require(asked.responders, cells.vocabulary), dtype=np.int64))
    most = capacity(model.input_size, special_frame=cells.special_frame)
    rows = np.arange(len(cells)) if states is None else np.flatnonzero(states.group_of_cell >= 0)
    tokens, genes_left_out = _choose_genes(cells, asked, most, rows, named=ranks_of is None)
    sets = [tokens] if asked.together else [(token,) for token in tokens]
    named = [Perturbation(kind, genes) for kind in kinds for genes in sets]
    if ranks_of is None and not (asked.all_genes and asked.min_cells == 1):
        tasks, cells_left_out = find_tasks(named, cells, rows, most, insert=asked.insert)
    else:
        tasks, cells_left_out = Tasks.none(), []
    if ranks_of is None and asked.all_genes and asked.min_cells == 1:
        ranks_of = {int(row): range(min(len(cells.ranked[row]), most)) for row in rows}
        lone = sum(len(ranks) < 2 - cells.special_frame for ranks in ranks_of.values())
        if lone:
            cells_left_out = [CellsLeftOut("", "", "", len(rows), {"have no other gene": lone})]
    if ranks_of is not None:
        named, tasks = _at_ranks(ranks_of, kinds, cells, most)
    tasks, cells_left_out = _readable(tasks, cells_left_out, cells, asked, responders)
    if not len(tasks):
        raise InputError(_nothing(cells, asked, named, cells_left_out))
    kind_numbers = {kind: number for number, kind in enumerate(kinds)}
    tasks = tasks.ordered(np.array([kind_numbers[p.kind] for p in named]))
    _warn(genes_left_out, cells_left_out, arms, cells, most, tasks, asked)
    plan = Plan(
        cells, model, asked, kinds, arms, tuple(named), tasks, responders, depth, states, head,
        genes_left_out, tuple(cells_left_out),
    )  # fmt: skip
    if plan.impostors is not None:
        plan.impostors.check(plan.cells_used, max(len(p.tokens) for p in plan.perturbations))
    return plan


def check_fit(cells: Cells, model: Model, arms: Sequence[Arm]) -> None:
    """Refuse cells, checkpoint and arms that do not fit each other.

    Raises
    ------
    InputError
        When the model has no token for a gene, the vocabulary belongs to another checkpoint, or an
        arm needs a special token that the vocabulary lacks.
    """
    if not isinstance(cells, Cells) or not isinstance(model, Model):
        raise OptionError(
            "This takes cells from ranklock.read_cells() and a model from "
            f"ranklock.load_model(), not {type(cells).__name__} and {type(model).__name__}."
        )
    if cells.vocabulary.stand_in:
        largest = max((int(genes.max()) for genes in cells.ranked if len(genes)), default=0)
        check_token_range(largest, model, cells.source)
    else:  # which holds every token of the cells
        check_vocabulary(cells.vocabulary, model)
    for arm in arms:
        check_tokens(arm, cells.vocabulary)


def shown_genes(cells: Cells, cell: int, model: Model) -> int:
    """Number of genes of a cell that the model is shown."""
    most = capacity(model.input_size, special_frame=cells.special_frame)
    return min(len(cells.ranked[cell]), most)


def unperturbed_cell(cells: Cells, cell: int, model: Model) -> ModelInput:
    """Input of an unperturbed cell."""
    genes = cells.ranked[cell][: shown_genes(cells, cell, model)]
    return baseline(genes, cells.vocabulary, special_frame=cells.special_frame)


def _choose_genes(
    cells: Cells, asked: Asked, most: int, rows: npt.NDArray[np.int_], *, named: bool
) -> tuple[tuple[int, ...], tuple[GeneLeftOut, ...]]:
    """Tokens of the genes that are perturbed, and why others are not."""
    if not named:
        return (), ()
    if asked.all_genes:
        if asked.min_cells == 1:
            return (), ()
        return usable_genes(None, cells[rows], most, asked.min_cells)
    resolved = resolve(asked.genes, cells.vocabulary)
    left_out = names_left_out(resolved.unusable, cells[rows])
    tokens: tuple[int, ...] = resolved.tokens
    if not asked.insert:
        tokens, too_few = usable_genes(tokens, cells[rows], most, asked.min_cells)
        left_out = (*left_out, *too_few)
    if left_out and (asked.strict or asked.together or not tokens):
        refuse(left_out)
    return tokens, left_out


def _at_ranks(
    ranks_of: Mapping[int, Sequence[int]], kinds: Sequence[Kind], cells: Cells, most: int
) -> tuple[list[Perturbation], Tasks]:
    """Perturbations of every gene at the given ranks, and where they are done."""
    present = np.zeros(cells.vocabulary.largest_token + 1, bool)
    for row, ranks in ranks_of.items():
        present[cells.ranked[row][np.asarray(ranks, dtype=np.int64)]] = True
    tokens = np.flatnonzero(present)
    place_of = np.cumsum(present) - 1
    perturbations = [Perturbation(kind, (token,)) for kind in kinds for token in tokens.tolist()]
    firsts = [number * len(tokens) for number in range(len(kinds))]
    return perturbations, tasks_at_ranks(ranks_of, firsts, place_of, kinds, cells, most)


def _readable(
    tasks: Tasks,
    left_out: list[CellsLeftOut],
    cells: Cells,
    asked: Asked,
    responders: npt.NDArray[np.int64] | None,
) -> tuple[Tasks, list[CellsLeftOut]]:
    """Tasks in cells that hold a responder, where nothing else is read."""
    if responders is None or set(asked.read) != {GENES} or not len(tasks):
        return tasks, left_out
    inputs, place = np.unique(np.stack([tasks.cell, tasks.shown]), axis=1, return_inverse=True)
    holds = [np.isin(cells.ranked[row][:shown], responders).any() for row, shown in inputs.T]
    keep = np.array(holds)[place.ravel()]
    if keep.all():
        return tasks, left_out
    without = len(np.unique(tasks.cell[~keep]))
    entry = CellsLeftOut("", "", "", len(cells), {"hold none of the responders": without})
    return tasks.at(keep), [*left_out, entry]


def _nothing(
    cells: Cells,
    asked: Asked,
    perturbations: Sequence[Perturbation],
    cells_left_out: Sequence[CellsLeftOut],
) -> str:
    why = "; ".join(f"{entry.gene or 'cells'}: {entry.said}" for entry in cells_left_out[:5])
    if not perturbations:
        why = f"no gene is in {asked.min_cells} of them"
    return (
        f"Nothing can be perturbed in the {len(cells)} cells chosen from {cells.source} ({why}); "
        "choose other cells or genes."
    )


def _warn(
    genes_left_out: Sequence[GeneLeftOut],
    cells_left_out: Sequence[CellsLeftOut],
    arms: Mapping[str, Sequence[Arm]],
    cells: Cells,
    most: int,
    tasks: Tasks,
    asked: Asked,
) -> None:
    if genes_left_out:
        names = ", ".join(gene.name for gene in genes_left_out[:5])
        names += ", …" * (len(genes_left_out) > 5)
        warnings.warn(
            f"{len(genes_left_out)} of the genes cannot be perturbed and are left out ({names}); "
            "the run's left_out.csv says why.",
            RanklockWarning,
            stacklevel=4,
        )
    # Where all genes were meant, that a cell lacks some is no news.
    entries = [entry for entry in cells_left_out if not (asked.all_genes and entry.gene)]
    for entry in entries[:5]:
        named = f"{entry.gene} ({entry.kind}): of" if entry.gene else "Of"
        warnings.warn(
            f"{named} {entry.cells} cells, {entry.said}; they are left out.",
            RanklockWarning,
            stacklevel=4,
        )
    if len(entries) > 5:
        warnings.warn(
            f"{len(entries) - 5} more perturbations cannot be done in some cells; the run's "
            "manifest says in how many, and why.",
            RanklockWarning,
            stacklevel=4,
        )
    backfills = any(arm.backfill for of_kind in arms.values() for arm in of_kind)
    if backfills and not cells.complete:
        full = sum(len(cells.ranked[row]) == most for row in np.unique(tasks.cell))
        if full:
            warnings.warn(
                f"{full} cells fill the input exactly and {cells.source} does not say which genes "
                "come next, so backfill lets nothing in there.",
                RanklockWarning,
                stacklevel=4,
            )
