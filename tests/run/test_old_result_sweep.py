import json

import anndata
import numpy as np
import pytest

import ranklock
from ranklock.errors import InputError, OptionError, OutputError
from ranklock.run import old_store as store_module
from tests.helpers import cells_of, checkpoint, vocabulary


@pytest.fixture(scope="module")
def cells():
    return cells_of([11, 25, 30, 8], vocabulary(40))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = checkpoint(tmp_path_factory.mktemp("forty"), tokens=42, spread=0.3)
    return ranklock.load_model(folder, device="cpu")


@pytest.fixture(scope="module")
def found(tmp_path_factory, model, cells):
    folder = tmp_path_factory.mktemp("sweep") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "BLOCK", 4)
        return ranklock.sweep(cells, model, folder, progress=False)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(store_module, "BLOCK", 4)


def stacked(found, layer):
    """Every cell's effects side by side: (cell, knocked-out gene, responder), NaN where absent."""
    genes = sorted({gene for i in found.store.cells() for gene in found.cell(i).obs["gene"]})
    tokens = sorted({int(t) for i in found.store.cells() for t in found.cell(i).var["token"]})
    whole = np.full((len(found.store.cells()), len(genes), len(tokens)), np.nan)
    for index in found.store.cells():
        one = found.cell(index)
        rows = [genes.index(gene) for gene in one.obs["gene"]]
        whole[np.ix_([index], rows, np.searchsorted(tokens, one.var["token"]))] = one.layers[layer]
    return whole, genes, tokens


def test_means_and_variances_are_numpys_over_all_cells_at_once(found):
    means = found.effects()
    for arm in found.arms:
        whole, genes, tokens = stacked(found, arm)
        assert means.var["token"].tolist() == tokens
        order = [genes.index(gene) for gene in means.obs["gene"]]
        count = (~np.isnan(whole)).sum(axis=0)[order]
        np.testing.assert_array_equal(means.layers["n_cells"], count)
        for row, column in np.argwhere(count > 0)[::7]:
            numbers = whole[:, order[row], column]
            numbers = numbers[~np.isnan(numbers)]
            assert means.layers[arm][row, column] == pytest.approx(numbers.mean(), rel=1e-5)
            if len(numbers) > 1:
                spread = means.layers[f"{arm}_variance"][row, column]
                assert spread == pytest.approx(numbers.var(ddof=1), rel=1e-4)
        assert np.isnan(means.layers[arm][count == 0]).all()


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")
def test_they_are_those_of_an_averaged_knockout(found, model, cells):
    genes = [int(t) for t in cells.ranked[0][:3]]
    run = ranklock.knockout(cells, model, genes, average=True, progress=False)
    means = found.effects()
    for gene in run.effects.obs_names:
        row, mine = run.effects[gene], means[gene]
        shared = row.var_names.intersection(mine.var_names)
        for layer in ("delete", "hold_displacement", "n_cells"):
            expected = np.nan_to_num(np.asarray(row[:, shared].layers[layer], dtype=float))
            numbers = np.nan_to_num(np.asarray(mine[:, shared].layers[layer], dtype=float))
            np.testing.assert_allclose(numbers, expected, atol=1e-4)  # see test_blocks.py
        for column in ("n_cells", "mean_gene_rank", "artefact_share", "mask_mean_cell_shift"):
            assert mine.obs[column].iloc[0] == pytest.approx(row.obs[column].iloc[0], abs=1e-4)


def test_a_part_of_it_can_be_taken(found):
    some = found.effects(["hold"], genes=["GENE3", "ENSG00000000007"], min_cells=2)
    assert {layer.partition("_")[0] for layer in some.layers} == {"hold", "n"}
    assert set(some.obs["gene"]) <= {"GENE3", "GENE7"}
    assert found.effects(min_cells=3).n_vars < found.effects().n_vars
    with pytest.raises(InputError, match="are in .* cells"):
        found.effects(min_cells=99)
    with pytest.raises(OptionError, match="no arm nothing"):
        found.effects(["nothing"])
    with pytest.raises(InputError, match="no gene TP53"):
        found.effects(genes=["TP53"])


def test_what_does_not_fit_into_memory_is_refused(found, monkeypatch):
    class Little:
        available = 1000

    monkeypatch.setattr("ranklock.run.old_sweep_result.psutil.virtual_memory", Little)
    with pytest.raises(InputError, match=r"knock-outs on .* GiB are free; take fewer arms"):
        found.effects()


def test_the_exported_file_opens_and_holds_the_same(found, tmp_path):
    path = found.export(tmp_path / "means.h5ad")
    again, means = anndata.read_h5ad(path), found.effects()
    np.testing.assert_array_equal(again.layers["hold"], means.layers["hold"])
    assert json.loads(again.uns["manifest"])["format"] == "ranklock-sweep"
    written = anndata.read_h5ad(found.folder / "effects.h5ad")
    np.testing.assert_array_equal(written.layers["shift"], means.layers["shift"])
    with pytest.raises(OutputError, match="cannot be written"):
        found.export(tmp_path / "nowhere" / "means.h5ad")


def test_effects_under_the_floor_are_marked(found):
    one = found.cell("cell2")
    for arm in found.arms:
        with np.errstate(invalid="ignore"):
            expected = one.layers[f"{arm}_displacement"] <= found.floor.displacement
        np.testing.assert_array_equal(one.layers[f"{arm}_under_noise_floor"], expected)
    itself = one.obs["gene_id"].to_numpy()[:, None] == one.var_names.to_numpy()
    assert np.isnan(one.layers["delete"][itself]).all()


def test_cell_shifts_are_tidy(found, cells):
    table = found.cell_shifts()
    assert len(table) == 4 * sum(map(len, cells.ranked))
    assert table["arm"].cat.categories.tolist() == list(found.arms)
    assert table.loc[table["arm"] != "delete", "artefact_share"].isna().all()
    assert table.loc[table["arm"] == "delete", "artefact_share"].notna().any()


def test_only_a_sweep_is_a_sweep(tmp_path, found):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(OutputError, match="holds no sweep of Ranklock"):
            ranklock.read_sweep(folder)
    (tmp_path / "manifest.json").write_text('{"format": "ranklock-run"}')
    with pytest.raises(OutputError, match="of another kind of run"):
        ranklock.read_sweep(tmp_path)
    whole = json.loads((found.folder / "manifest.json").read_text())
    whole["identity"]["store format"] = [0, 64]
    (tmp_path / "manifest.json").write_text(json.dumps(whole))
    with pytest.raises(OutputError, match="written by another version of Ranklock"):
        ranklock.read_sweep(tmp_path)
    with pytest.raises(InputError, match="holds nothing of a cell 'cell9'"):
        found.cell("cell9")
    assert "47 knock-outs" not in repr(found)
    assert "74 knock-outs in 4 cells, arms delete, hold, mask, shift" in repr(found)
