import anndata
import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.errors import InputError, OptionError
from ranklock.perturbseq.screen import names_as_text
from ranklock.perturbseq.sources import read_scores
from tests import helpers

KINDS = ("knock-out", "overexpress")


def four_cells():
    return helpers.cells_of([58, 50, 45, 55], helpers.vocabulary(60))


@pytest.fixture(scope="module")
def run(tiny_checkpoint, tmp_path_factory):
    """Ten genes knocked out and overexpressed in the four cells, all genes read."""
    cells = four_cells()
    shared = set.intersection(*(set(ranked[1:].tolist()) for ranked in cells.ranked))
    return ranklock.perturb(
        cells, ranklock.load_model(str(tiny_checkpoint), device="cpu"), sorted(shared)[:10], KINDS,
        arms=["hold", "shift"], read=("genes",), progress=False,
        out=tmp_path_factory.mktemp("scores") / "run",
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_means_of_the_table(run, kind):
    scores = read_scores(run, ["hold"], kind=kind)
    assert scores.kind == kind
    table = run.table
    rows = table[(table["kind"] == kind) & (table["arm"] == "hold")]
    means = rows.groupby(["gene_id", "responder_id"], observed=True)["cosine_distance"].mean()
    values = pd.DataFrame(scores.layers["hold"], scores.perturbed, scores.responders).stack()
    np.testing.assert_allclose(values.reindex(means.index), means, rtol=1e-6)
    assert len(values.dropna()) == len(means)


def test_knock_outs_are_judged_where_there_are_several_kinds(run):
    assert read_scores(run).kind == "knock-out"
    with pytest.raises(OptionError, match="no perturbation of kind 'inhibit:1'.*--kind.*overexp"):
        read_scores(run, kind="inhibit:1")


def test_genes_stand_where_the_cells_have_them(run):
    cells = four_cells()
    table = read_scores(run).in_cells.table
    level = np.zeros((4, len(table)))
    for row, genes in enumerate(cells.ranked):
        for rank, token in enumerate(genes.tolist()):
            gene = cells.vocabulary.genes[token]
            level[row, table.index.get_loc(gene)] = 1 - rank / len(genes)
    np.testing.assert_allclose(table["expression"], level.mean(axis=0))
    np.testing.assert_allclose(table["variance"], level.var(axis=0), atol=1e-12)
    assert table["cells"].tolist() == (level > 0).sum(axis=0).tolist()


def test_the_same_scores_come_from_a_folder_an_audits_folder_and_an_anndata(run, tmp_path):
    (tmp_path / "run").symlink_to(run.folder)
    effects = run.effects()  # an observation a gene and cell
    effects.write_h5ad(tmp_path / "effects.h5ad")
    expected = read_scores(run, ["hold"])
    for source in (run.folder, str(run.folder), tmp_path, effects, tmp_path / "effects.h5ad"):
        scores = read_scores(source, ["hold"])
        order = [scores.perturbed.index(gene) for gene in expected.perturbed]
        assert scores.responders == expected.responders
        np.testing.assert_allclose(scores.layers["hold"][order], expected.layers["hold"], rtol=1e-6)


def test_an_audit_is_judged_by_its_run(tiny_audit):
    assert read_scores(tiny_audit, ["hold"]).name == str(tiny_audit.folder / "run")


def test_what_is_no_run_is_named(run, tmp_path):
    for source, said in ((3, "int"), (run.table, "DataFrame"), (tmp_path, str(tmp_path))):
        with pytest.raises(ranklock.RanklockError, match=said):
            ranklock.evaluate(source, tmp_path / "screen.csv")
    with pytest.raises(OptionError, match="brings its own cells"):
        read_scores(run, cells=run)


def test_several_genes_at_once_are_left_out_or_refused():
    obs = pd.DataFrame({"gene_id": ["A", "A+B"], "gene": ["a", "a+b"]}, index=["0", "1"])
    adata = anndata.AnnData(np.eye(2), obs=obs, var=pd.DataFrame(index=["A", "B"]))
    scores = read_scores(adata, ["X"])
    assert (scores.perturbed, scores.sets) == (["A"], ["a+b"])
    with pytest.raises(InputError, match="several genes at once"):
        read_scores(adata[1:].copy(), ["X"])


def test_whole_numbers_that_name_genes_stay_whole():
    assert names_as_text(pd.Series([6688.0, None, 15.0])) == ["6688", "", "15"]
    assert names_as_text(pd.Series(["SPI1 ", None])) == ["SPI1", ""]
    assert names_as_text(pd.Categorical([7, 8])) == ["7", "8"]
