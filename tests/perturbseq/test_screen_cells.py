import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy import stats

from ranklock.errors import InputError
from ranklock.perturbseq.screen import GeneNames
from ranklock.perturbseq.screen_cells import ScreenOptions, distance_of_means, read_screen_cells
from ranklock.statistics.significance import false_discovery_rates

GENES = [f"G{number}" for number in range(30)]


def screen(seed=0, cells=40, change=8.0):
    draw = np.random.default_rng(seed)
    labels = np.repeat(["control", "G0", "G1"], cells)
    means = np.full((len(labels), 30), 3.0)
    means[labels == "G0", 10:14] += change
    means[:, 29] = 0.01  # found in too few cells
    return anndata.AnnData(
        sp.csr_matrix(draw.poisson(means).astype(np.float32)),
        obs=pd.DataFrame({"perturbation": labels}, index=np.arange(len(labels)).astype(str)),
        var=pd.DataFrame(index=GENES),
    )


def read(adata, **options):
    names = GeneNames({gene: gene for gene in GENES})
    return read_screen_cells(adata, names, {"G0", "G1"}, ScreenOptions(**options), progress=False)


def test_differential_expression_is_the_rank_sum_test_of_scipy():
    adata = screen()
    result = read(adata)
    counts = adata.X.toarray().astype(float)
    logs = np.log1p(10_000 * counts / counts.sum(axis=1, keepdims=True))
    column = [GENES.index(gene) for gene in result.genes]
    label = adata.obs["perturbation"].to_numpy()
    for row, gene in enumerate(result.perturbed):
        sides = logs[label == gene], logs[label == "control"]
        found = sum((side > 0).sum(axis=0) for side in sides) >= 20
        p = np.full(30, np.nan)
        p[found] = stats.mannwhitneyu(
            sides[0][:, found], sides[1][:, found], method="asymptotic", use_continuity=False
        ).pvalue
        np.testing.assert_allclose(result.q[row], false_discovery_rates(p)[column], rtol=1e-4)
    assert np.isnan(result.q[:, result.genes.index("G29")]).all()
    assert result.changed(0.05, 0)[result.perturbed.index("G0")].sum() >= 4


def test_distances_leave_the_perturbed_gene_and_sampling_error_out():
    adata = screen()
    result = read(adata)
    distance = dict(zip(result.perturbed, result.distance, strict=True))
    assert distance["G0"] > 10 * abs(distance["G1"])
    # Only the perturbed gene itself changes: that it worked, not what it did.
    own = screen(seed=3, change=0.0)
    label = own.obs["perturbation"].to_numpy()
    counts = own.X.toarray()
    counts[label == "G1", 1] = 0
    own.X = sp.csr_matrix(counts)
    distance = dict(zip(read(own).perturbed, read(own).distance, strict=True))
    assert abs(distance["G1"]) < 2  # with the gene itself it would be about 50: log(1 + 333)²
    assert read(own).cells.tolist() == [40, 40]


def test_distance_has_the_mean_of_the_true_one_however_few_the_cells():
    draw = np.random.default_rng(0)
    shift = np.zeros(20)
    shift[:4] = 0.5
    for cells, difference, truth in ((4, 0, 0.0), (4, 1, 1.0), (25, 1, 1.0)):
        distances = [
            distance_of_means(
                sp.csr_matrix(draw.normal(size=(cells, 20)) + difference * shift),
                sp.csr_matrix(draw.normal(size=(50, 20))),
            )
            for _ in range(600)
        ]
        error = np.std(distances) / 600**0.5
        assert abs(np.mean(distances) - truth) < 4 * error
    assert np.isnan(distance_of_means(sp.csr_matrix((1, 3)), sp.csr_matrix((9, 3))))


def test_without_scanpy_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scanpy", None)
    with pytest.raises(InputError, match=r"ranklock\[evaluate\]"):
        read(screen())
