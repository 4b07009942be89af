"""The position table: how much of the step is noise from one position to the next.

A rank shift gives a gene the embedding of the position before its own. How far that moves it is
a property of the table, whatever the gene that was knocked out, and is told here from the
checkpoint alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ranklock.audits.measure import Measurements
from ranklock.audits.smoothing import Smoothing
from ranklock.effects import cosine_distance
from ranklock.models import Model
from ranklock.run.run import Run
from ranklock.statistics.intervals import NOTHING, Estimate, mean_interval, spearman
from ranklock.statistics.variogram import variogram

Array = npt.NDArray[np.float64]
FEWEST = 10  # genes below a knocked-out one, for a correlation among them to say anything


@dataclass(frozen=True)
class PositionTable:
    """What a checkpoint's position table says of the step.

    Attributes
    ----------
    positions
        Positions that the audited cells use.
    semivariance
        Lag → half the mean squared difference of two position embeddings so far apart, a
        dimension, positions weighted by the cells that use them.
    variance, nugget, noise_of_neighbours, noise_of_table
        As in :class:`ranklock.statistics.variogram.Variogram`.
    arm
        Arm whose effects are predicted; None where none shifts ranks.
    predicted
        Spearman's correlation, among the genes below a knocked-out one, of its effects under the
        arm with the step that is predicted without a forward, averaged over knock-outs.
    smoothing
        What is left of the rank shift where the table is smoothed; None where it was not run.
    """

    positions: int
    semivariance: dict[str, float]
    variance: float
    nugget: float
    noise_of_neighbours: float
    noise_of_table: float
    arm: str | None
    predicted: Estimate
    smoothing: Smoothing | None


def answer_position_table(
    measured: Measurements,
    run: Run,
    model: Model,
    smoothing: Smoothing | None,
    *,
    special_frame: bool,
) -> PositionTable | None:
    """Describe the table, and predict the step from it; None where the cells use too little of it.

    Parameters
    ----------
    measured, run
        The audit's knock-outs.
    model
        The checkpoint.
    smoothing
        What smoothing the table does, where that was run.
    special_frame
        Whether a cell's genes begin at position 1, after ``<cls>``.
    """
    first = int(special_frame)
    lengths = measured.tasks.drop_duplicates("cell")["genes_in_cell"].to_numpy()
    if lengths.max() < 4:
        return None
    table = position_embeddings(model)[first : first + int(lengths.max())]
    cells_at = (lengths[:, None] > np.arange(len(table))).sum(axis=0)
    found = variogram(table, cells_at)
    return PositionTable(
        len(table),
        {str(lag): value for lag, value in found.semivariance.items()},
        found.variance,
        found.nugget,
        found.noise_of_neighbours,
        found.noise_of_table,
        measured.whole,
        _predicted(measured, run, model, first),
        smoothing,
    )


def position_embeddings(model: Model) -> Array:
    """Position embeddings of a checkpoint, shape (input size, width)."""
    return _weights(model.encoder.embeddings.position_embeddings)


def predicted_step(model: Model, tokens: npt.ArrayLike, positions: npt.ArrayLike) -> Array:
    """How far the embedding layer alone moves a gene that is lifted by one position.

    Parameters
    ----------
    model
        The checkpoint.
    tokens, positions
        Of genes, shape (genes,). Positions are 1 or more.

    Returns
    -------
    Cosine distance of LN(W_token + P_position + T) and LN(W_token + P_(position − 1) + T), with T
    the only token type's embedding and LN the layer norm after their sum, shape (genes,).
    """
    places = np.asarray(positions, dtype=np.int64)
    return cosine_distance(_embedded(model, tokens, places), _embedded(model, tokens, places - 1))


def _weights(part: object) -> Array:
    return np.asarray(part.weight.detach().double().cpu().numpy())  # type: ignore[attr-defined]


def _embedded(model: Model, tokens: npt.ArrayLike, positions: npt.NDArray[np.int64]) -> Array:
    """What comes into the first layer, in float64, shape (genes, width)."""
    layer = model.encoder.embeddings
    rows = (
        layer.word_embeddings.weight.detach()[np.asarray(tokens, dtype=np.int64)],
        layer.position_embeddings.weight.detach()[positions],
        layer.token_type_embeddings.weight.detach()[0],
    )
    words, places, kinds = (part.double().cpu().numpy() for part in rows)
    sums = words + places + kinds
    centred = sums - sums.mean(axis=-1, keepdims=True)
    scale = np.sqrt(centred.var(axis=-1, keepdims=True) + layer.LayerNorm.eps)
    bias = layer.LayerNorm.bias.detach().double().cpu().numpy()
    return np.asarray(centred / scale * _weights(layer.LayerNorm) + bias)


def _predicted(measured: Measurements, run: Run, model: Model, first: int) -> Estimate:
    """Correlation of predicted with measured steps within knock-outs, over cells and genes."""
    if measured.whole is None or "genes" not in run.reads:
        return NOTHING
    rows = pd.DataFrame(
        _correlations(run, model, measured.whole, first), columns=["cell", "gene_id", "rho"]
    )
    drawn = measured.drawn(measured.whole)[["cell", "gene_id"]]
    rows = rows.merge(drawn, on=["cell", "gene_id"])
    return mean_interval(rows["rho"], rows["cell"], rows["gene_id"]).clipped(-1.0, 1.0)


def _correlations(run: Run, model: Model, arm: str, first: int) -> Iterator[tuple[str, str, float]]:
    """Cell, gene and correlation of every knock-out with enough genes below it."""
    ids = run.perturbations["gene_id"].astype(str).to_numpy()
    for block in run.blocks(kind="knock-out", arms=[arm]):
        # The highest gene is below none, and its position has none before it.
        below = np.flatnonzero(block.responder_ranks > 0)
        ranks = block.responder_ranks[below]
        steps = predicted_step(model, block.responders[below], ranks + first)
        for number, rank, effects in zip(
            block.perturbations, block.gene_ranks, block.distances[arm][:, below], strict=True
        ):
            moved = ranks > rank
            if moved.sum() >= FEWEST:
                yield block.cell, ids[number], spearman(steps[moved], effects[moved])
