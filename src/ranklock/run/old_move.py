"""Move genes to other ranks under several arms, and read what moves with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranklock.arms import (
    DEFAULT_MOVE_ARMS,
    MOVE_ARMS,
    NOT_RANKED,
    ModelInput,
    apply_move,
    capacity,
    find_arms,
    ranks_after,
)
from ranklock.cells import Cells
from ranklock.models import Model
from ranklock.models.encoder import output_of_layer
from ranklock.moves import find_move
from ranklock.run.old_move_plan import MoveTask, check_move, plan_moves
from ranklock.run.old_perturbations import Perturbed, carry_out
from ranklock.run.old_plan import check_fit, check_size, find_knockouts
from ranklock.run.old_records import MoveInCell
from ranklock.run.old_run import Run


def move(
    cells: Cells,
    model: Model,
    genes: Sequence[str | int],
    perturbation: str | int,
    arms: Sequence[str] = DEFAULT_MOVE_ARMS,
    *,
    quartiles: int | None = None,
    insert: bool = False,
    layer: int = -1,
    together: bool = False,
    average: bool = False,
    batch_size: int | None = None,
    progress: bool = True,
) -> Run:
    """Overexpress, activate or inhibit genes, or move them to a rank, and measure what moves.

    Parameters
    ----------
    cells
        Cells to move them in, from :func:`ranklock.read_cells`.
    model
        Checkpoint, from :func:`ranklock.load_model`.
    genes
        Symbols, Ensembl IDs or tokens; one move each.
    perturbation
        ``"overexpress"``: to the front. ``"activate"`` and ``"inhibit"``: to the middle of the
        quarter of the cell's genes that lies ``quartiles`` up or down; past the first quarter to
        the front, past the last to the bottom. A number: to that rank, from 0.
    arms
        Names of arms: ``move`` (the move and the rank shift of the genes that are passed), ``hold``
        (the move alone), ``shift`` (the rank shift alone).
    quartiles
        By how many quarters ``"activate"`` and ``"inhibit"`` move a gene, 1 to 3; one by default.
    insert
        Put a gene into cells that lack it, or have it below the input size. Those from its rank on
        go one down, and out of a full input the last falls out. Not with quarters.
    layer
        Layer to read, as Geneformer's ``emb_layer``: 0 is the last, -1 the second to last.
    together
        Move all genes of a cell at once, one after another in the order named. Not with quarters.
    average
        Average :attr:`Run.effects` over cells. The tables keep every cell.
    batch_size
        Inputs in one forward; found if not given. It changes nothing beyond the noise floor.
    progress
        Whether to show progress on stderr.

    Returns
    -------
    Run
        As of :func:`ranklock.knockout`, with the rank moved to in ``to_rank``.

    Raises
    ------
    InputError
        Before the first forward, when something does not fit: a gene that is unknown or can be
        moved in no cell, a vocabulary that belongs to another checkpoint, a layer or arm that does
        not exist.

    Warns
    -----
    RanklockWarning
        When cells are left out: those that lack a gene, have it there already, or have no such
        rank.

    Examples
    --------
    >>> import ranklock
    >>> cells = ranklock.read_cells(ranklock.demo.cells_file(), ranklock.demo.vocabulary_file())
    >>> model = ranklock.load_model(ranklock.demo.model_folder())
    >>> run = ranklock.move(cells[0], model, ["FTL"], "inhibit", progress=False)
    >>> run.effects.obs["perturbation"].tolist()
    ['inhibit']
    """
    chosen = find_arms(arms, MOVE_ARMS)
    asked = find_move(perturbation, quartiles)
    check_fit(cells, model, chosen)
    depth = output_of_layer(model, layer)
    moves = find_knockouts(genes, cells, together=together)
    check_move(asked, moves, insert=insert)
    tasks, skipped = plan_moves(moves, asked, cells, model, insert=insert)
    check_size(tasks, cells, model, len(chosen))
    most = capacity(model.input_size, special_frame=cells.special_frame)

    def relocate(task: MoveTask, unperturbed: ModelInput) -> Perturbed:
        tokens = moves[task.knockout]
        to = dict(zip(tokens, task.to_ranks, strict=True))
        genes = unperturbed.ranks != NOT_RANKED
        ranks, after = unperturbed.ranks[genes], ranks_after(unperturbed, to)[genes]
        named, fallen = np.isin(unperturbed.tokens[genes], tokens), after >= most
        passed = (after != ranks) & ~named
        return Perturbed(
            {arm.name: apply_move(arm, unperturbed, to, most) for arm in chosen},
            ranks[named | fallen].tolist(),
            MoveInCell(asked.perturbation, task.to_ranks, bool(named.sum() < len(tokens)), passed),
        )

    described = {
        "command": "move",
        "genes": [str(gene) for gene in genes],
        "perturbation": asked.perturbation,
        "quartiles": abs(asked.quarters) or None,
        "to_rank": asked.first,
        "insert": insert,
        "arms": [arm.name for arm in chosen],
        "layer": layer,
        "together": together,
        "averaged": average,
        "batch_size": batch_size,
    }
    return carry_out(
        tasks, relocate, chosen, moves, cells, model, depth,
        asked=described, skipped=skipped, average=average, batch_size=batch_size,
        progress=progress,
    )  # fmt: skip
