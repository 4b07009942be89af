import numpy as np
import pandas as pd
import pytest

from ranklock.estimates.figure import estimates_figure
from ranklock.estimates.manifest import CLASSIFIER, GENE_SET, GOAL, POTENCY
from ranklock.page.style import draw


def table_of(genes, measured):
    draw_from = np.random.default_rng(0)
    exact = np.exp(draw_from.normal(size=genes))
    table = pd.DataFrame(
        {
            "gene": [f"GENE{number}" for number in range(genes)],
            "effect": -np.sort(-exact),
            "standard_error": 0.1,
            "chosen": ["largest", "random", *[""] * genes][:genes],
            "exact": exact,
            "verified_estimate": exact * 1.1,
            "verified_in": 3,
        }
    )
    unmeasured = np.arange(genes) >= measured
    table.loc[unmeasured, ["exact", "verified_estimate", "standard_error"]] = np.nan
    table.loc[unmeasured, "verified_in"] = 0
    return table


@pytest.mark.parametrize("question", [GOAL, CLASSIFIER, POTENCY, GENE_SET])
@pytest.mark.parametrize(("genes", "measured"), [(40, 2), (1, 0)])
def test_it_shows_what_was_measured_and_the_largest(tmp_path, question, genes, measured):
    figure = estimates_figure(table_of(genes, measured), question)
    agreement, largest = figure.axes
    assert sum(len(points.get_offsets()) for points in agreement.collections) == measured
    assert [label.get_text() for label in largest.get_yticklabels()][-1] == "GENE0"
    draw(figure, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").stat().st_size
