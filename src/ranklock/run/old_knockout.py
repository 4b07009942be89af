"""Knock genes out of cells under several arms, and read what moves."""

from __future__ import annotations

from collections.abc import Sequence

from ranklock.arms import DEFAULT_ARMS, ModelInput, apply, find_arms
from ranklock.cells import Cells
from ranklock.models import Model
from ranklock.models.encoder import output_of_layer
from ranklock.run.old_perturbations import Perturbed, carry_out, computed_arms
from ranklock.run.old_plan import (
    Task,
    check_fit,
    check_size,
    find_knockouts,
    plan_knockouts,
    shown_genes,
    warn_of_backfill,
)
from ranklock.run.old_run import Run


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

    computed = find_arms(computed_arms(chosen))

    def knock_out(task: Task, unperturbed: ModelInput) -> Perturbed:
        below = cells.ranked[task.cell][shown_genes(cells, task.cell, model) :].tolist()
        inputs = {
            arm.name: apply(arm, unperturbed, task.ranks, cells.vocabulary, below)
            for arm in computed
        }
        return Perturbed(inputs, task.ranks)

    asked = {
        "command": "knockout",
        "genes": [str(gene) for gene in genes],
        "arms": [arm.name for arm in chosen],
        "layer": layer,
        "together": together,
        "averaged": average,
        "backfill": any(arm.backfill for arm in chosen),
        "batch_size": batch_size,
    }
    return carry_out(
        tasks, knock_out, chosen, knockouts, cells, model, depth,
        asked=asked, skipped=skipped, average=average, batch_size=batch_size, progress=progress,
    )  # fmt: skip
