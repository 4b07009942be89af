"""The tables of an audit."""

from __future__ import annotations

import pandas as pd

from ranklock.audits.answers import Answers
from ranklock.audits.measure import Measurements
from ranklock.statistics.intervals import Estimate


def tables_of(measured: Measurements, answers: Answers) -> dict[str, pd.DataFrame]:
    """Name → table.

    Returns
    -------
    ``knockouts`` (one row a knock-out in a cell and arm), and as far as the questions were
    answered ``genes`` (one row a knocked-out gene), ``gene_means`` (gene × arm), ``regions`` (arm
    × tenth of the ranks), ``heat`` (arm × perturbed rank × responder rank), ``links`` (regulator ×
    score); of an audit of cells also ``position_table`` (lag × semivariance) and ``smoothing``
    (position table × artefact share and its cost).
    """
    tables = {"knockouts": measured.table}
    if answers.genes is not None:
        tables |= {"genes": answers.genes.table, "gene_means": answers.genes.means}
    if answers.step is not None:
        tables["regions"] = pd.DataFrame(
            [
                {
                    "arm": region.arm, "what": region.what, "region": region.name,
                    "first": region.first, "last": region.last, "knockouts": region.knockouts,
                    **_columns("mean", region.mean), **_columns("difference", region.difference),
                    "q": region.q,
                }
                for region in answers.step.regions
            ]
        )  # fmt: skip
    if measured.heat:
        heat = pd.concat(measured.heat, names=["arm", "perturbed_rank"])
        heat = heat.rename_axis(columns="responder_rank").stack().dropna()
        tables["heat"] = heat.rename("mean_log10_cosine_distance").reset_index()
    if answers.links is not None:
        tables["links"] = answers.links.table
    if answers.position_table is not None:
        lags = answers.position_table.semivariance
        tables["position_table"] = pd.DataFrame(
            {"lag": [int(lag) for lag in lags], "semivariance": list(lags.values())}
        )
        if answers.position_table.smoothing is not None:
            tables["smoothing"] = pd.DataFrame(
                [
                    {
                        "window": of.window,
                        **_columns("artefact_share", of.artefact_share),
                        **_columns("loss", of.loss), **_columns("loss_rise", of.loss_rise),
                        **_columns("accuracy", of.accuracy),
                        **_columns("accuracy_change", of.accuracy_change),
                    }
                    for of in answers.position_table.smoothing.tables
                ]
            )  # fmt: skip
    return tables


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
