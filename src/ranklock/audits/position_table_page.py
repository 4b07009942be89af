"""The position table in a report: a sentence, tables and a figure."""

from __future__ import annotations

import numpy as np

from ranklock.audits.panels import interval, number, numbers
from ranklock.audits.position_table import PositionTable
from ranklock.audits.smoothing import Smoothing
from ranklock.page import Block, Figure, Paragraph, Table

NONE = "Not answered: a run has no checkpoint beside it; audit cells with --model."


def position_table_sentence(table: PositionTable | None) -> str:
    """What the table says of the step, in a sentence or two."""
    if table is None:
        return NONE
    text = (
        f"Of what differs between two neighbouring positions, {table.noise_of_neighbours:.0%} is "
        f"noise that each position has of its own; of the table's variance over the "
        f"{table.positions} positions that these cells use, {table.noise_of_table:.0%}."
    )
    if not np.isfinite(table.noise_of_neighbours):
        text = f"The {table.positions} positions that these cells use have one embedding."
    if np.isfinite(table.predicted.value):
        text += (
            f" Without a forward, how far the embedding layer moves a gene from one position to "
            f"the one before orders the genes below a knocked-out one as {table.arm} does, at "
            f"Spearman {interval(table.predicted, '+.2f')}."
        )
    if table.smoothing is not None:
        text += f" {_smoothing_sentence(table.smoothing)}"
    return text


def _smoothing_sentence(smoothing: Smoothing) -> str:
    shares = {of.window: of for of in smoothing.tables}
    parts = []
    for window, of in shares.items():
        if not window:
            continue
        part = f"{of.artefact_share.value:.1%} over ±{window}"
        if np.isfinite(of.loss_rise.value):
            part += f" (at {of.loss_rise.value:+.3f} nats a masked gene)"
        parts.append(part)
    text = (
        f"Smoothing the table takes the artefact share of {smoothing.knockouts} knock-outs from "
        f"{shares[0].artefact_share.value:.1%} to {' and '.join(parts)}."
    )
    if smoothing.no_loss:
        text += f" What smoothing costs was not measured: {smoothing.no_loss}."
    return text


def position_table_blocks(table: PositionTable | None) -> list[Block]:
    """What the sentence rests on."""
    if table is None:
        return []
    lags = [
        (int(lag), value, value / table.variance if table.variance > 0 else None)
        for lag, value in table.semivariance.items()
    ]
    blocks: list[Block] = [
        Table(
            f"Variogram of the position table, over the {table.positions} positions that the cells "
            f"use (variance {table.variance:.3g}, nugget {table.nugget:.3g})",
            ("lag, positions", "semivariance", "of the variance"),
            lags,
        )
    ]
    smoothing = table.smoothing
    if smoothing is None:
        return [*blocks, Paragraph(
            "Smoothed tables were not run: they need delete, hold and shift among the arms."
        )]  # fmt: skip
    rows = [
        (
            f"smoothed over ±{of.window}" if of.window else "the checkpoint's own",
            interval(of.artefact_share, ".1%"), interval(of.loss, ".3f"),
            interval(of.loss_rise, "+.3f"), interval(of.accuracy, ".1%"),
            number(100 * of.accuracy_change.value, "+.2f"),
        )
        for of in smoothing.tables
    ]  # fmt: skip
    cost = (
        f"{smoothing.masked_genes:,} masked genes"
        if smoothing.masked_genes
        else f"no masked genes: {smoothing.no_loss}"
    )
    blocks.append(
        Table(
            f"What is left of the rank shift in {smoothing.knockouts} knock-outs of "
            f"{smoothing.cells} cells, and what smoothing costs ({cost}), with 95% intervals",
            ("position table", "artefact share", "loss of a masked gene, nats", "rise",
             "guessed rightly", "change, points"),
            rows,
        )
    )  # fmt: skip
    return blocks


def variogram_figure(table: PositionTable) -> Figure:
    """Semivariance against lag, with the nugget and the table's variance as lines."""
    lags = [int(lag) for lag in table.semivariance]

    def level(value: float, name: str, dash: str) -> dict[str, object]:
        return {
            "type": "scatter", "mode": "lines", "name": name, "x": [lags[0], lags[-1]],
            "y": numbers([value, value]), "line": {"dash": dash, "color": "#888888"},
            "hovertemplate": name + " %{y:.3g}<extra></extra>",
        }  # fmt: skip

    data = [
        {
            "type": "scatter", "mode": "lines+markers", "name": "semivariance", "x": lags,
            "y": numbers(list(table.semivariance.values())), "line": {"color": "#0072b2"},
            "hovertemplate": "lag %{x}<br>%{y:.3g}<extra></extra>",
        },
        level(table.nugget, "nugget", "dot"),
        level(table.variance, "variance of the table", "dash"),
    ]  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "lag, positions"}, "type": "log", "tickvals": lags},
        "yaxis": {"title": {"text": "semivariance"}, "rangemode": "tozero"},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    }
    return Figure(
        "variogram",
        "How unlike two position embeddings are, by how far apart they stand",
        "A table that is a smooth curve starts at zero. Where the line starts at the nugget, "
        "neighbouring positions differ by noise, and a shift by one rank adds that noise to every "
        "gene below. A line that is flat from the start is noise alone.",
        {"data": data, "layout": layout},
        320,
    )
