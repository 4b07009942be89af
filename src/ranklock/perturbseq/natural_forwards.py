"""Which way the lack of a gene points in a model, and which way its knock-outs go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ranklock.arms import Arm, Change, apply, find_arms
from ranklock.cells import Cells
from ranklock.engine.batches import hidden_states, tokens_at_once
from ranklock.engine.groups import Reading, TaskGroup
from ranklock.engine.method import FLOAT32, Method
from ranklock.engine.tasks import measure_groups
from ranklock.kinds import KNOCK_OUT
from ranklock.models import Model
from ranklock.perturbseq.natural_design import Design
from ranklock.progress import Advance
from ranklock.run.plan import unperturbed_cell

Array = npt.NDArray[np.float64]
# Numbers that the inner products of a batch with all directions take.
_AT_ONCE = 1 << 25


def lack_directions(
    cells: Cells, model: Model, design: Design, depth: int, advance: Advance
) -> Array:
    """Mean embedding of the cells that lack a gene minus that of the matched ones that have it.

    Parameters
    ----------
    cells, model
        The cells, and the model or its null model.
    design
        Which cells.
    depth
        Number of the model's layers to run.
    advance
        Told of every cell that is done.

    Returns
    -------
    Shape (genes, width), in float64. Where the cell embedding is the mean over genes, the gene
    itself is left out of the mean of cells that have it: its own embedding would be a difference
    that is there by definition.
    """
    weights = design.weights
    directions = np.zeros((len(design.genes), model.width))
    rows = np.flatnonzero((weights != 0).any(axis=0))
    for chunk in _chunks(rows, design, tokens_at_once(model.device)):
        states = hidden_states(model, [unperturbed_cell(cells, row, model) for row in chunk], depth)
        for row, hidden in zip(chunk, states, strict=True):
            part = np.flatnonzero(weights[:, row])
            directions[part] += weights[part, row][:, None] * _embeddings(
                hidden, design.ranks[row, part], special_frame=cells.special_frame
            )
        advance(len(chunk))
    return directions


def knock_out_cosines(
    cells: Cells,
    model: Model,
    design: Design,
    directions: Array,
    arms: Sequence[Arm],
    depth: int,
    advance: Advance,
    method: Method = FLOAT32,
) -> Mapping[str, Array]:
    """Cosine of every knock-out's displacement of the cell embedding with every direction.

    Parameters
    ----------
    cells, model, design, depth
        As of :func:`lack_directions`.
    directions
        What that returns.
    arms
        Arms of the knock-outs.
    advance
        Told of every input that is done: :func:`forwards_of_knock_outs` in all.
    method
        How displacements are computed: as such, so that their error is relative to themselves.

    Returns
    -------
    Arm → shape (held-out cells, knocked-out genes, directions); NaN where a cell lacks the gene, or
    nothing moved.
    """
    genes, width = directions.shape
    shape = len(design.held_out), genes, genes
    cosines = {arm.name: np.full(shape, np.nan) for arm in arms}
    computed = _computed(arms)
    reading = Reading(depth, cell=True, special_frame=cells.special_frame)
    tokens = [gene.token for gene in design.genes]
    for place, row in enumerate(design.held_out.tolist()):
        there = np.flatnonzero(design.ranks[row] >= 0)
        if len(there):
            group = _group(cells, model, design, row, tokens, there.tolist(), computed, directions)
            (measured,) = measure_groups(
                model, [group], reading, method=method,
                batch_size=max(1, _AT_ONCE // (genes * width)),
            )  # fmt: skip
            assert measured.cell is not None
            assert measured.states is not None
            for arm in arms:
                along = measured.states.along[arm.computed_as]
                lengths = measured.cell.moved[arm.computed_as][:, None] * measured.states.squared
                with np.errstate(invalid="ignore", divide="ignore"):
                    cosines[arm.name][place, there] = along / np.sqrt(lengths)
        advance(len(there) * len(computed) + 1)
    return cosines


def forwards_of_knock_outs(design: Design, arms: Sequence[Arm]) -> int:
    """How many inputs :func:`knock_out_cosines` pushes through the model, baselines included."""
    knock_outs = int((design.ranks[design.held_out] >= 0).sum())
    return knock_outs * len(_computed(arms)) + len(design.held_out)


def _computed(arms: Sequence[Arm]) -> list[Arm]:
    """Arms whose forwards are run: an alias runs as what it is the same as."""
    return list(find_arms((arm.computed_as for arm in arms), KNOCK_OUT))


def _embeddings(
    hidden: npt.NDArray[np.float32], ranks: npt.NDArray[np.int64], *, special_frame: bool
) -> Array:
    """Cell embedding without each of some genes, shape (genes, width)."""
    if special_frame:
        return np.broadcast_to(hidden[0].astype(np.float64), (len(ranks), hidden.shape[1]))
    total = hidden.sum(axis=0, dtype=np.float64)
    has = (ranks >= 0)[:, None]
    own = np.where(has, hidden[np.maximum(ranks, 0)].astype(np.float64), 0.0)
    means: Array = (total - own) / (len(hidden) - has)
    return means


def _group(
    cells: Cells,
    model: Model,
    design: Design,
    row: int,
    tokens: Sequence[int],
    there: Sequence[int],
    arms: Sequence[Arm],
    directions: Array,
) -> TaskGroup:
    """The knock-outs of one cell."""
    unperturbed = unperturbed_cell(cells, row, model)
    ranks = [int(design.ranks[row, column]) for column in there]
    changes = [Change((tokens[c],), (rank,)) for c, rank in zip(there, ranks, strict=True)]
    below = cells.ranked[row][design.shown[row] : design.shown[row] + 1].tolist()
    responders = 0 if cells.special_frame else int(design.shown[row])
    return TaskGroup(
        unperturbed,
        np.arange(responders),
        [np.array([rank]) for rank in ranks],
        {
            arm.name: [apply(arm, unperturbed, c, cells.vocabulary, below) for c in changes]
            for arm in arms
        },
        directions,
    )


def _chunks(rows: npt.NDArray[np.int64], design: Design, tokens: int) -> Iterator[list[int]]:
    """Cells whose hidden states are in memory together: some number of tokens."""
    chunk: list[int] = []
    filled = 0
    for row in rows.tolist():
        if chunk and filled + design.shown[row] > tokens:
            yield chunk
            chunk, filled = [], 0
        chunk.append(row)
        filled += int(design.shown[row])
    if chunk:
        yield chunk
