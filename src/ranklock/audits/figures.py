"""The figures of an audit, for the page and for files."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranklock.audits.answers import Answers
from ranklock.audits.genes import GenesAnswer
from ranklock.audits.links import LinksAnswer
from ranklock.audits.measure import Example, HeatMap, Measurements
from ranklock.audits.panels import (
    axes,
    bars,
    colour,
    grid,
    interval,
    labels,
    matrix,
    numbers,
    panel_title,
    thinned,
)  # fmt: skip
from ranklock.audits.rankings import Ranking
from ranklock.audits.step import StepAnswer
from ranklock.page import Figure, plain

_PART_COLOURS = {"rank": "#d55e00", "gene": "#0072b2", "cell": "#009e73", "rest": "#999999"}


def figures_of(measured: Measurements, answers: Answers) -> dict[str, Figure]:
    """Every figure that there are numbers for, by its id."""
    found: list[Figure | None] = []
    if measured.example is not None:
        found.append(_example(measured.example, measured.floor))
    if measured.heat:
        found.append(_heat(measured.heat))
    if answers.step is not None:
        found += [_regions(answers.step), _change_points(measured)]
    if answers.genes is not None:
        found += [_variance(answers.genes), _departures(answers.genes)]
    if answers.rankings is not None:
        found += [_against_rank(measured), _places(measured, answers.rankings.cell_shift)]
    if answers.links is not None:
        found.append(_links(answers.links))
    return {figure.id: figure for figure in found if figure is not None}


def _example(example: Example, floor: float) -> Figure:
    arms = list(example.effects)
    data: list[dict[str, Any]] = []
    layout = grid(len(arms), "rank of the responder", "cosine distance")
    names = [plain(name) for name in example.responders]
    for number, (arm, effects) in enumerate(example.effects.items(), start=1):
        data.append(
            {
                "type": "scatter", "mode": "markers", "name": arm,
                "x": example.ranks.tolist(), "y": numbers(np.maximum(effects, floor)),
                "text": names, "marker": {"size": 4, "color": colour(arm), "opacity": 0.85},
                "hovertemplate": "%{text}, rank %{x}<br>%{y:.2e}<extra></extra>",
                **axes(number), "showlegend": False,
            }
        )  # fmt: skip
        layout["annotations"].append(panel_title(number, len(arms), arm))
        layout[f"yaxis{number if number > 1 else ''}"] |= {
            "type": "log",
            "exponentformat": "power",
            "dtick": 1,
        }
        layout["shapes"].append(
            {
                "type": "line", "xref": axes(number)["xaxis"],
                "yref": f"{axes(number)['yaxis']} domain",
                "x0": example.rank, "x1": example.rank, "y0": 0, "y1": 1,
                "line": {"dash": "dot", "width": 1, "color": "#888888"},
            }
        )  # fmt: skip
    return Figure(
        "example",
        f"{example.gene} knocked out of cell {example.cell}, at rank {example.rank}",
        "Each point is a gene. Look whether those to the right of the dotted line, which were "
        "below the knocked-out gene, stand higher as a block: that is the step.",
        {"data": data, "layout": layout},
    )


def _heat(heat: dict[str, HeatMap]) -> Figure:
    arms = list(heat)
    layout = grid(len(arms), "rank of the responder", "perturbed rank")
    finite = np.concatenate([h.values[np.isfinite(h.values)] for h in heat.values()])
    low, high = (float(np.quantile(finite, q)) for q in (0.01, 0.99)) if len(finite) else (0, 1)
    data = []
    for number, (arm, one) in enumerate(heat.items(), start=1):
        middles = [round(x) for x in (one.edges[:-1] + one.edges[1:]) / 2]
        data.append(
            {
                "type": "heatmap", "x": middles, "y": middles, "z": matrix(one.values),
                "zmin": low, "zmax": high, "colorscale": "Viridis",
                "showscale": number == len(arms), "hoverongaps": False,
                "colorbar": {"title": {"text": "log10 cosine distance", "side": "right"},
                             "thickness": 12},
                "hovertemplate": "perturbed rank about %{y}<br>responder rank about %{x}"
                "<br>10^%{z:.2f}<extra></extra>", **axes(number),
            }
        )  # fmt: skip
        layout[f"yaxis{number if number > 1 else ''}"] |= {"autorange": "reversed"}
        layout["annotations"].append(panel_title(number, len(arms), arm))
    return Figure(
        "heat",
        "Mean effect by perturbed rank and responder rank",
        "One row is one perturbed rank, one column one responder rank. A step shows as a bright "
        "triangle above the diagonal: every gene below the knocked-out one moves. Without it, the "
        "two sides of the diagonal look alike.",
        {"data": data, "layout": layout},
        460,
    )


def _regions(step: StepAnswer) -> Figure:
    data: list[dict[str, Any]] = []
    layout = grid(2, "perturbed rank, % of the cell's genes", "log10", shared=False)
    for number, (what, name) in enumerate(
        (("step", "step (medians)"), ("jump", "jump at the rank")),
        start=1,
    ):
        layout["annotations"].append(panel_title(number, 2, name))
        for arm in step.arms:
            regions = [r for r in step.regions if (r.arm, r.what) == (arm, what)]
            marks = [r.q <= 0.05 for r in regions]
            data.append(
                {
                    "type": "scatter", "mode": "lines+markers", "name": arm, "legendgroup": arm,
                    "showlegend": number == 1,
                    "x": [(r.first + r.last) / 2 * 100 for r in regions],
                    **bars([r.mean for r in regions]),
                    "marker": {"color": colour(arm), "size": [10 if m else 6 for m in marks],
                               "symbol": ["star" if m else "circle" for m in marks]},
                    "line": {"color": colour(arm)},
                    "text": [f"{r.name}: {r.knockouts} knock-outs, q {r.q:.2g}" for r in regions],
                    "hovertemplate": "%{text}<br>%{y:.2f}<extra>" + arm + "</extra>",
                    **axes(number),
                }
            )  # fmt: skip
    layout["legend"] = {"orientation": "h", "y": 1.12, "yanchor": "bottom"}
    layout["margin"]["t"] = 70
    return Figure(
        "regions",
        "The step along the ranks, by arm",
        "Zero is no step, one is ten times as far. Where a model attends to neighbours, the "
        "median contrast (left) also goes with rank, as genes near the knocked-out one move most; "
        "the jump at the rank itself (right) is the step alone. Bars are 95% intervals; stars are "
        "tenths of the ranks that differ from elsewhere in their cells (false-discovery rate 5%).",
        {"data": data, "layout": layout},
        460,
    )


def _change_points(measured: Measurements) -> Figure:
    table = measured.by_rank
    data: list[dict[str, Any]] = []
    longest = int(table["genes_in_cell"].max())
    layout = grid(len(measured.arms), "perturbed rank", "change point")
    for number, arm in enumerate(measured.arms, start=1):
        part = thinned(table[table[f"{arm}_change_point"].notna()])
        data.append(
            {
                "type": "scatter", "mode": "markers", "name": arm, "showlegend": False,
                "x": part["gene_rank"].tolist(), "y": numbers(part[f"{arm}_change_point"]),
                "text": labels(part["gene"], part["cell"]),
                "marker": {"size": 4, "color": colour(arm), "opacity": 0.85},
                "hovertemplate": "%{text}<br>rank %{x}, change point %{y}<extra></extra>",
                **axes(number),
            }
        )  # fmt: skip
        layout["annotations"].append(panel_title(number, len(measured.arms), arm))
        layout["shapes"].append(
            {
                "type": "line", "xref": axes(number)["xaxis"],
                "yref": axes(number)["yaxis"], "x0": 0, "y0": 0,
                "x1": longest, "y1": longest,
                "line": {"dash": "dot", "width": 1, "color": "#888888"},
            }
        )  # fmt: skip
    return Figure(
        "change-points",
        "Where the largest change point lies, found without being told the rank",
        "Points on the dotted diagonal are knock-outs whose largest change in effects is exactly "
        "where the gene was. Points all over the panel mean that there is no step to find.",
        {"data": data, "layout": layout},
    )


def _variance(genes: GenesAnswer) -> Figure | None:
    known = {
        name.replace("_", " "): found.shares
        for name, found in genes.variance.items()
        if np.isfinite(found.shares["rank"].value)
    }
    if not known:
        return None
    data = [
        {
            "type": "bar", "orientation": "h", "name": part, "y": list(known),
            "x": numbers([100 * shares[part].value for shares in known.values()]),
            "marker": {"color": _PART_COLOURS[part]},
            "text": [interval(shares[part]) for shares in known.values()],
            "textposition": "none",
            "hovertemplate": "%{y}: " + part + " %{text}<extra></extra>",
        }
        for part in _PART_COLOURS
    ]  # fmt: skip
    layout = {
        "barmode": "stack",
        "xaxis": {"title": {"text": "% of the variance between knock-outs"}, "range": [0, 100]},
        "yaxis": {"automargin": True},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
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
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    }
    return Figure(
        "departures",
        "Genes whose step is not what their rank predicts",
        "Each point is a gene that was knocked out of three cells or more. Height is how far its "
        "step departs from that of other genes at its rank in the same cells.",
        {"data": data, "layout": layout},
    )


def _against_rank(measured: Measurements) -> Figure:
    table = thinned(measured.by_rank)
    arms = [arm for arm in measured.arms if f"{arm}_cell_shift" in table]
    layout = grid(len(arms), "rank of the knocked-out gene", "cell shift")
    data = []
    for number, arm in enumerate(arms, start=1):
        shifts = table[f"{arm}_cell_shift"].where(table[f"{arm}_cell_shift"] > 0)
        data.append(
            {
                "type": "scatter", "mode": "markers", "name": arm, "showlegend": False,
                "x": table["gene_rank"].tolist(), "y": numbers(shifts),
                "text": labels(table["gene"], table["cell"]),
                "marker": {"size": 4, "color": colour(arm), "opacity": 0.85},
                "hovertemplate": "%{text}, rank %{x}<br>%{y:.2e}<extra></extra>", **axes(number),
            }
        )  # fmt: skip
        layout[f"yaxis{number if number > 1 else ''}"] |= {
            "type": "log",
            "exponentformat": "power",
            "dtick": 1,
        }
        layout["annotations"].append(panel_title(number, len(arms), arm))
    return Figure(
        "against-rank",
        "Cell shift against the knocked-out gene's rank",
        "A band that falls from left to right is a ranking of knock-outs that is mostly a ranking "
        "by expression.",
        {"data": data, "layout": layout},
    )


def _places(measured: Measurements, ranking: Ranking) -> Figure | None:
    columns = [f"{arm}_cell_shift" for arm in ("delete", "hold")]
    table = measured.by_rank
    if not set(columns) <= set(table):
        return None
    means = table.groupby(["gene_id", "gene"], observed=True)[columns].mean().dropna()
    means = means.join(
        table.groupby(["gene_id", "gene"], observed=True)["gene_rank"].mean()
    ).reset_index()
    places = means[columns].rank(ascending=False, method="first").astype(int)
    data = [
        {
            "type": "scatter", "mode": "markers",
            "x": places[columns[0]].tolist(), "y": places[columns[1]].tolist(),
            "text": [plain(gene) for gene in means["gene"]],
            "customdata": numbers(means["gene_rank"]),
            "marker": {"size": 6, "color": numbers(means["gene_rank"]), "colorscale": "Viridis",
                       "opacity": 0.9,
                       "colorbar": {"title": {"text": "mean rank", "side": "right"},
                                    "thickness": 12}},
            "hovertemplate": "%{text}<br>place %{x} under delete, %{y} under hold"
            "<br>mean rank %{customdata:.0f}<extra></extra>",
        }
    ]  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "place among knock-outs under delete"},
                  "autorange": "reversed"},
        "yaxis": {"title": {"text": "place under hold"}, "autorange": "reversed"},
    }  # fmt: skip
    return Figure(
        "places",
        "The ranking of knock-outs, with the rank shift and without",
        f"Place 1 is the largest {ranking.what}. Genes off the diagonal change places when the "
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
