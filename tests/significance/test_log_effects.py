from itertools import groupby

import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.significance.log_effects import LogEffects
from ranklock.significance.replicates import replicates_of
from tests import helpers


@pytest.fixture(scope="module")
def run(tiny_checkpoint):
    cells = helpers.cells_of([40, 45, 50, 40, 45, 50], helpers.vocabulary(55))
    cells.obs["donor"] = ["a", "b", "c", "a", None, "b"]
    model = ranklock.load_model(str(tiny_checkpoint), device="cpu")
    return ranklock.perturb(
        cells, model, do=["knock-out", "overexpress"], arms=["hold"], read="genes", progress=False
    )


@pytest.mark.parametrize("donor", [None, "donor"])
def test_every_cell_comes_whole_beside_those_of_its_replicate(run, donor):
    replicates = replicates_of(run.cells, donor, run.folder)
    effects = list(LogEffects(run, "overexpress", "hold", replicates))
    assert len(effects) == len(replicates)
    runs_of_donors = [replicate for replicate, _ in groupby(cell.replicate for cell in effects)]
    assert sorted(runs_of_donors) == sorted(set(replicates))
    table = run.table[run.table["kind"] == "overexpress"]
    cells = dict(iter(table.groupby("cell", observed=True)))
    order = replicates.sort_values(kind="stable").index
    for name, cell in zip(order, effects, strict=True):
        rows = cells[name].pivot(
            index="gene_rank", columns="responder_rank", values="cosine_distance"
        )
        assert cell.gene_ranks.tolist() == rows.index.tolist()
        genes = run.perturbations.loc[cell.perturbations, "tokens"].str[0]
        np.testing.assert_array_equal(genes, cell.responders[cell.gene_ranks])
        floor = run.floor.cosine_distance
        expected = np.log10(np.maximum(rows.to_numpy(np.float64), floor))
        np.testing.assert_allclose(cell.log_effects, expected, rtol=1e-6)


def test_cells_of_perturbations_and_responders_are_counted(run):
    effects = LogEffects(run, "knock-out", "hold", replicates_of(run.cells, "donor", run.folder))
    perturbations, responders = effects.counts()
    rows = run.table[(run.table["kind"] == "knock-out") & (run.table["cell"] != "cell4")]
    cells = rows.drop_duplicates(["cell", "gene"])["gene"].astype(str).value_counts()
    named = pd.Series(perturbations.to_numpy(), run.perturbations.loc[perturbations.index, "gene"])
    assert named.to_dict() == cells.to_dict()
    cells = rows.drop_duplicates(["cell", "responder"])["responder"].astype(str).value_counts()
    named = pd.Series(responders.to_numpy(), run.genes.loc[responders.index, "symbol"])
    assert named.to_dict() == cells.to_dict()
