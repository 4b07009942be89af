"""The figures of an audit, for the page and for files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ranklock.audits.answers import Answers
from ranklock.audits.genes import GenesAnswer
from ranklock.audits.links import LinksAnswer
from ranklock.audits.measure import Example, Measurements
from ranklock.audits.panels import (
    bars,
    colour,
    dotted,
    interval,
    knockouts,
    numbers,
    panels,
    points,
)
from ranklock.audits.position_table_page import variogram_figure
from ranklock.audits.rankings import places
from ranklock.audits.step import MEASURED, StepAnswer
from ranklock.page import Figure, plain

_PART_COLOURS = {"rank": "#d55e00", "gene": "#0072b2", "cell": "#009e73", "rest": "#999999"}
_LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}


def figures_of(measured: Measurements, answers: Answers) -> dict[str, Figure]:
    """Every figure that there are numbers for, by its id."""
    figures: list[Figure | None] = []
    if measured.example is not None:
        figures.append(_example(measured.example, measured.floor))
    if measured.heat:
        figures.append(_heat(measured.heat))
    if answers.step is not None:
        figures += [_regions(answers.step), _change_points(measured)]
    if answers.genes is not None:
        figures += [_variance(answers.genes), _departures(answers.genes)]
    if answers.rankings is not None:
        figures += [_against_rank(measured), _places(measured)]
    if answers.links is not None:
        figures.append(_links(answers.links))
    if answers.position_table is not None:
        figures.append(variogram_figure(answers.position_table))
    return {figure.id: figure for figure in figures if figure is not None}


def _example(example: Example, floor: float) -> Figure:
    symbols = [plain(symbol) for symbol in example.responders]
    spec = panels(
        example.effects,
        "rank of the responder",
        "cosine distance",
        lambda arm: [
            points(arm, example.ranks, np.maximum(example.effects[arm], floor), symbols,
                   ", rank %{x}<br>%{y:.2e}")
        ],
        log=True,
    )  # fmt: skip
    for number in range(1, len(example.effects) + 1):
        line = dotted(number, (example.rank, 0), (example.rank, 1))
        # Over the height of the panel, whatever its scale.
        spec["layout"]["shapes"].append({**line, "yref": f"{line['yref']} domain"})
    return Figure(
        "example",
        f"{example.gene} knocked out of cell {example.cell}, at rank {example.rank}",
        "Each point is a gene. Look whether those to the right of the dotted line, which were "
        "below the knocked-out gene, stand higher as a block: that is the step.",
        spec,
    )


def _heat(heat: dict[str, pd.DataFrame]) -> Figure:
    finite = pd.concat(heat).stack().dropna()
    low, high = (float(np.quantile(finite, q)) for q in (0.01, 0.99)) if len(finite) else (0, 1)

    def heatmap(arm: str) -> list[dict[str, Any]]:
        middles = [round(middle) for middle in heat[arm].index]
        return [
            {
                "type": "heatmap", "x": middles, "y": middles,
                "z": [numbers(row) for row in heat[arm].values],
                "zmin": low, "zmax": high, "colorscale": "Viridis",
                "showscale": arm == list(heat)[-1], "hoverongaps": False,
                "colorbar": {"title": {"text": "log10 cosine distance", "side": "right"},
                             "thickness": 12},
                "hovertemplate": "perturbed rank about %{y}<br>responder rank about %{x}"
                "<br>10^%{z:.2f}<extra></extra>",
            }
        ]  # fmt: skip

    spec = panels(heat, "rank of the responder", "perturbed rank", heatmap)
    for name, axis in spec["layout"].items():
        if name.startswith("yaxis"):
            axis["autorange"] = "reversed"
    return Figure(
        "heat",
        "Mean effect by perturbed rank and responder rank",
        "One row is one perturbed rank, one column one responder rank. A step shows as a bright "
        "triangle above the diagonal: every gene below the knocked-out one moves. Without it, the "
        "two sides of the diagonal look alike.",
        spec,
        460,
    )


def _regions(step: StepAnswer) -> Figure:
    titles = dict(zip(("step (medians)", "jump at the rank"), MEASURED, strict=True))

    def lines(title: str) -> list[dict[str, Any]]:
        traces = []
        for arm in step.arms:
            regions = step.along(arm, titles[title])
            traces.append(
                {
                    "type": "scatter", "mode": "lines+markers", "name": arm, "legendgroup": arm,
                    "showlegend": title == next(iter(titles)),
                    "x": [(r.first + r.last) / 2 * 100 for r in regions],
                    **bars([r.mean for r in regions]),
                    "marker": {"color": colour(arm),
                               "size": [10 if r.differs else 6 for r in regions],
                               "symbol": ["star" if r.differs else "circle" for r in regions]},
                    "line": {"color": colour(arm)},
                    "text": [f"{r.name}: {r.knockouts} knock-outs, q {r.q:.2g}" for r in regions],
                    "hovertemplate": "%{text}<br>%{y:.2f}<extra>" + arm + "</extra>",
                }
            )  # fmt: skip
        return traces

    x = "perturbed rank, % of the cell's genes"
    spec = panels(titles, x, "log10", lines, shared=False)
    spec["layout"]["legend"] = {**_LEGEND, "y": 1.12}
    spec["layout"]["margin"]["t"] = 70
    return Figure(
        "regions",
        "The step along the ranks, by arm",
        "Zero is no step, one is ten times as far. Where a model attends to neighbours, the "
        "median contrast (left) also goes with rank, as genes near the knocked-out one move most; "
        "the jump at the rank itself (right) is the step alone. Bars are 95% intervals; stars are "
        "tenths of the ranks that differ from elsewhere in their cells (false-discovery rate 5%).",
        spec,
        460,
    )


def _change_points(measured: Measurements) -> Figure:
    def change_points(arm: str) -> list[dict[str, Any]]:
        rows = measured.drawn(arm).dropna(subset="change_point")
        return [knockouts(arm, rows, "change_point", "<br>rank %{x}, change point %{y}")]

    spec = panels(measured.arms, "perturbed rank", "change point", change_points)
    longest = int(measured.table["genes_in_cell"].max())
    spec["layout"]["shapes"] = [
        dotted(number, (0, 0), (longest, longest)) for number in range(1, len(measured.arms) + 1)
    ]
    return Figure(
        "change-points",
        "Where the largest change point lies, found without being told the rank",
        "Points on the dotted diagonal are knock-outs whose largest change in effects is exactly "
        "where the gene was. Points all over the panel mean that there is no step to find.",
        spec,
    )


def _variance(genes: GenesAnswer) -> Figure | None:
    known = {
        what: variance.shares
        for what, variance in genes.variance.items()
        if np.isfinite(variance.shares["rank"].value)
    }
    if not known:
        return None
    data = [
        {
            "type": "bar", "orientation": "h", "name": part, "y": list(known),
            "x": numbers([100 * shares[part].value for shares in known.values()]),
            "marker": {"color": _PART_COLOURS[part]},
            "text": [interval(shares[part], ".0%") for shares in known.values()],
            "textposition": "none",
            "hovertemplate": "%{y}: " + part + " %{text}<extra></extra>",
        }
        for part in _PART_COLOURS
    ]  # fmt: skip
    layout = {
        "barmode": "stack",
        "xaxis": {"title": {"text": "% of the variance between knock-outs"}, "range": [0, 100]},
        "yaxis": {"automargin": True},
        "legend": {**_LEGEND, "traceorder": "normal"},
    }
    return Figure(
        "variance",
        "What the step depends on",
        "How much of the variance between knock-outs goes with the rank, with which gene it is, "
        "with which cell, and with none of them.",
        {"data": data, "layout": layout},
        280,
    )


def _departures(genes: GenesAnswer) -> Figure | None:
    table = genes.table[genes.table["q"].notna()]
    if table.empty:
        return None
    data = [
        {
            "type": "scatter", "mode": "markers", "name": name,
            "x": numbers(part["mean_rank"]), "y": numbers(part["departure"]),
            "text": [
                f"{plain(row.gene)}: {row.cells} cells, q {row.q:.2g}" for row in part.itertuples()
            ],
            "marker": {"size": size, "color": shade, "opacity": 0.85},
            "hovertemplate": "%{text}<br>mean rank %{x:.0f}, departure %{y:+.2f}<extra></extra>",
        }
        for name, part, shade, size in (
            ("as its rank predicts", table[table["q"] > 0.05], "#999999", 5),
            ("departs (q ≤ 0.05)", table[table["q"] <= 0.05], "#d55e00", 8),
        )
        if len(part)
    ]  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "mean rank of the knocked-out gene"}},
        "yaxis": {"title": {"text": "departure of its step, log10"}, "zeroline": True},
        "legend": _LEGEND,
    }
    return Figure(
        "departures",
        "Genes whose step is not what their rank predicts",
        "Each point is a gene that was knocked out of three cells or more. Height is how far its "
        "step departs from that of other genes at its rank in the same cells.",
        {"data": data, "layout": layout},
    )


def _against_rank(measured: Measurements) -> Figure:
    def shifts(arm: str) -> list[dict[str, Any]]:
        rows = measured.drawn(arm)
        positive = rows["cosine_distance"].where(rows["cosine_distance"] > 0)
        rows = rows.assign(cosine_distance=positive)
        return [knockouts(arm, rows, "cosine_distance", ", rank %{x}<br>%{y:.2e}")]

    return Figure(
        "against-rank",
        "Cell shift against the knocked-out gene's rank",
        "A band that falls from left to right is a ranking of knock-outs that is mostly a ranking "
        "by expression.",
        panels(measured.arms, "rank of the knocked-out gene", "cell shift", shifts, log=True),
    )


def _places(measured: Measurements) -> Figure | None:
    genes = places(measured, "cosine_distance")
    if genes is None:
        return None
    ranks = numbers(genes["mean_rank"])
    data = [
        {
            "type": "scatter", "mode": "markers",
            "x": genes["place_under_whole"].tolist(), "y": genes["place_under_edit"].tolist(),
            "text": [plain(gene) for gene in genes["gene"]], "customdata": ranks,
            "marker": {"size": 6, "color": ranks, "colorscale": "Viridis", "opacity": 0.9,
                       "colorbar": {"title": {"text": "mean rank", "side": "right"},
                                    "thickness": 12}},
            "hovertemplate": f"%{{text}}<br>place %{{x}} under {measured.whole}, %{{y}} under "
            f"{measured.edit}<br>mean rank %{{customdata:.0f}}<extra></extra>",
        }
    ]  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": f"place among knock-outs under {measured.whole}"},
                  "autorange": "reversed"},
        "yaxis": {"title": {"text": f"place under {measured.edit}"}, "autorange": "reversed"},
    }  # fmt: skip
    return Figure(
        "places",
        "The ranking of knock-outs, with the rank shift and without",
        "Place 1 is the largest cell shift. Genes off the diagonal change places when the "
        "positions are held.",
        {"data": data, "layout": layout},
        460,
    )


def _links(links: LinksAnswer) -> Figure:
    data = [
        {
            "type": "box", "name": score, "boxpoints": "all", "jitter": 0.4, "pointpos": 0,
            "y": numbers(part["auroc"]), "text": [plain(gene) for gene in part["gene"]],
            "marker": {"color": colour(str(score)), "size": 4}, "showlegend": False,
            "hovertemplate": "%{text}: %{y:.2f}<extra></extra>",
        }
        for score, part in links.table.groupby("score", sort=False)
    ]  # fmt: skip
    layout = {
        "yaxis": {"title": {"text": "AUROC of known targets"}, "range": [0, 1]},
        "shapes": [
            {
                "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0.5, "y1": 0.5,
                "line": {"dash": "dot", "width": 1, "color": "#888888"},
            }
        ],
    }  # fmt: skip
    return Figure(
        "targets",
        "How well known targets are found, regulator by regulator",
        "Each point is a regulator; one half is chance. The last ones need no model: an arm that "
        "does not beat them adds nothing to them.",
        {"data": data, "layout": layout},
    )
