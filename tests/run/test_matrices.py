import json
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import ranklock
from ranklock.errors import InputError, OptionError
from ranklock.run import planned, store
from tests.helpers import cells_of, checkpoint, vocabulary


@pytest.fixture(scope="module")
def cells():
    cells = cells_of([11, 25, 30, 8], vocabulary(40))
    return replace(
        cells, obs=cells.obs.assign(cell_type=["NK", "B", "NK", "B"], kind=["x", "y", "x", "y"])
    )


@pytest.fixture(scope="module")
def run(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrices")
    model = ranklock.load_model(checkpoint(folder / "m", tokens=42, spread=0.3), device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planned, "_SHARD_TASKS", 7)
        patch.setattr(planned, "_TASKS_TOGETHER", 1)
        patch.setattr(store, "MOST_PARTS", 5)
        yield ranklock.perturb(
            cells, model, do=["knock-out", "overexpress"], out=folder / "run", progress=False
        )


@pytest.mark.parametrize("kind", ["knock-out", "overexpress"])
def test_it_holds_the_numbers_of_the_table(run, kind):
    effects = run.effects(kind=kind)
    table = run.table[run.table["kind"] == kind]
    assert effects.n_obs == len(table.drop_duplicates(["cell", "gene_id"]))
    assert set(effects.var_names) == set(table["responder_id"].astype(str))
    assert effects.X is None
    place = {name: row for row, name in enumerate(effects.obs_names)}
    rows = np.array(
        [place[f"{g} @ {c}"] for g, c in zip(table["gene"], table["cell"], strict=True)]
    )
    columns = effects.var_names.get_indexer(table["responder_id"])
    whole = "delete" if kind == "knock-out" else "move"
    for arm in run.manifest.arms[kind]:
        of_arm = (table["arm"] == arm).to_numpy()
        where, part = (rows[of_arm], columns[of_arm]), table[of_arm]
        pairs = {arm: "cosine_distance", f"{arm}_displacement": "displacement",
                 "responder_rank": "responder_rank"}  # fmt: skip
        pairs |= {"artefact_share": "artefact_share"} if arm == whole else {}
        for layer, column in pairs.items():
            np.testing.assert_array_equal(effects.layers[layer][where], part[column])
        assert np.isfinite(effects.layers[arm]).sum() == len(part)
    assert {"phi_edit", "phi_shift", "interaction"} <= set(effects.layers)
    moved = effects.layers[f"{whole}_displacement"]
    parts = effects.layers["phi_edit"] + effects.layers["phi_shift"]
    assert (parts >= moved * (1 - 1e-5))[np.isfinite(moved)].all()  # φ sum to it as vectors


def test_what_is_said_of_each_perturbation(run):
    obs = run.effects().obs
    shifts = run.shifts[run.shifts["kind"] == "knock-out"]
    assert (obs.index == obs["gene"].str.cat(obs["cell"], sep=" @ ")).all()
    assert obs["cell_type"].tolist() == run.cells.loc[obs["cell"], "cell_type"].tolist()
    assert obs["kind"].unique().tolist() == ["knock-out"]
    assert set(obs["cell_kind"]) == {"x", "y"}  # a user's own column of that name
    for arm in ("delete", "hold"):
        rows = shifts[shifts["arm"] == arm].set_index(["cell", "gene_id"])
        rows = rows.loc[list(zip(obs["cell"], obs["gene_id"], strict=True))]
        assert obs[f"{arm}_cell_shift"].tolist() == rows["cosine_distance"].tolist()
        for column in ("median_shifted", "median_unshifted"):
            np.testing.assert_array_equal(obs[f"{arm}_{column}"], rows[column])
        if arm == "delete":
            share = rows["shift_along_total"] / rows["displacement_squared"]
            np.testing.assert_allclose(obs["artefact_share"], share)
    assert "to_rank" not in obs
    assert (run.effects(kind="overexpress").obs["to_rank"] == 0).all()


def stacked(run, layer, kind):
    """Every cell's effects side by side: (cell, gene, responder), NaN where absent."""
    effects = run.effects(kind=kind)
    genes = sorted(set(effects.obs["gene_id"]))
    whole = np.full((4, len(genes), effects.n_vars), np.nan)
    for row, (cell, gene) in enumerate(
        zip(effects.obs["cell"], effects.obs["gene_id"], strict=True)
    ):
        whole[run.row_of(cell), genes.index(gene)] = effects.layers[layer][row]
    return whole, genes, effects.var_names


@pytest.mark.parametrize("kind", ["knock-out", "overexpress"])
def test_averages_are_numpys_over_all_cells_at_once(run, kind):
    means = run.effects(kind=kind, average=True)
    for arm in run.manifest.arms[kind]:
        whole, genes, responders = stacked(run, arm, kind)
        assert means.var_names.equals(responders)
        order = [genes.index(gene) for gene in means.obs["gene_id"]]
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
        moved = stacked(run, f"{arm}_displacement", kind)[0]
        with np.errstate(invalid="ignore"):
            expected = (np.nansum(moved, axis=0) / (~np.isnan(moved)).sum(axis=0))[order]
        np.testing.assert_allclose(means.layers[f"{arm}_displacement"], expected, rtol=1e-5)
    whole_arm = "delete" if kind == "knock-out" else "move"
    share, _, _ = stacked(run, "artefact_share", kind)
    squared = stacked(run, f"{whole_arm}_displacement", kind)[0] ** 2
    with np.errstate(invalid="ignore"):
        pooled = np.nansum(share * squared, axis=0) / np.nansum(squared, axis=0)
    np.testing.assert_allclose(means.layers["artefact_share"], pooled[order], rtol=1e-3, atol=1e-6)


def test_what_is_said_of_each_average(run):
    obs = run.effects(average=True).obs
    shifts = run.shifts[run.shifts["kind"] == "knock-out"]
    hold = shifts[shifts["arm"] == "hold"].groupby("gene_id", observed=True)
    assert obs["n_cells"].tolist() == hold.size()[obs["gene_id"]].tolist()
    ranks = hold["gene_rank"].mean().astype(float)[obs["gene_id"]]
    assert obs["mean_gene_rank"].tolist() == ranks.tolist()
    means = hold["cosine_distance"].mean()[obs["gene_id"]]
    np.testing.assert_allclose(obs["hold_mean_cell_shift"], means)
    sums = shifts[shifts["arm"] == "delete"].groupby("gene_id", observed=True)[
        ["shift_along_total", "displacement_squared"]
    ].sum()  # fmt: skip
    share = (sums["shift_along_total"] / sums["displacement_squared"])[obs["gene_id"]]
    np.testing.assert_allclose(obs["artefact_share"], share)


def test_a_part_of_it_can_be_taken(run):
    some = run.effects(["hold"], genes=["GENE3", "ENSG00000000007"], average=True, min_cells=2)
    assert {layer.partition("_")[0] for layer in some.layers} == {"hold", "n"}
    assert set(some.obs["gene"]) <= {"GENE3", "GENE7"}
    two = run.effects(cells=["cell2", "cell0"])
    assert two.obs["cell"].unique().tolist() == ["cell2", "cell0"]
    assert run.effects(average=True, min_cells=3).n_vars < 40
    one = run.effects(cells=["cell1"], average=True)
    assert (one.obs["n_cells"] == 1).all()
    with pytest.raises(InputError, match="are in 99 cells"):
        run.effects(min_cells=99)
    with pytest.raises(OptionError, match="no arm 'nothing'"):
        run.effects(["nothing"])
    with pytest.raises(InputError, match="no gene TP53"):
        run.effects(genes=["TP53"])


def test_a_responder_is_counted_once_a_cell(tmp_path):
    """Also where genes that are put in or moved give a cell baselines of two lengths."""
    folder = checkpoint(tmp_path, positions=12, spread=0.3)
    cells = cells_of([12], vocabulary())
    lacking = next(t for t in sorted(cells.vocabulary.genes) if t not in cells.ranked[0])
    run = ranklock.perturb(
        cells, ranklock.load_model(folder, device="cpu"), [str(lacking), str(cells.ranked[0][4])],
        "overexpress", insert=True, progress=False,
    )  # fmt: skip
    with pytest.raises(InputError, match="are in 2 cells"):
        run.effects(average=True, min_cells=2)
    assert run.effects().shape == (2, 12)


def test_what_does_not_fit_into_memory_is_refused(run, monkeypatch):
    class Little:
        available = 1000

    monkeypatch.setattr("ranklock.run.matrices.psutil.virtual_memory", Little)
    for average in (False, True):
        with pytest.raises(InputError, match=r"Effects of .* GiB are free; take average=True"):
            run.effects(average=average)


@pytest.mark.parametrize("average", [False, True])
def test_scanpy_opens_what_is_written(run, tmp_path, average):
    effects = run.effects(average=average)
    effects.write_h5ad(tmp_path / "effects.h5ad")
    again = sc.read_h5ad(tmp_path / "effects.h5ad")
    pd.testing.assert_frame_equal(again.obs, effects.obs)
    pd.testing.assert_frame_equal(again.var, effects.var)
    for layer in effects.layers:
        np.testing.assert_array_equal(again.layers[layer], effects.layers[layer])
    manifest = json.loads(again.uns["manifest"])
    assert manifest["asked"]["do"] == ["knock-out", "overexpress"]
    frame = sc.get.obs_df(again, keys=[again.var_names[5]], layer="hold")
    assert len(frame) == effects.n_obs
    assert isinstance(again, anndata.AnnData)


def test_shares_without_the_arms_that_they_are_made_of_are_not_there(model):
    cells = cells_of([12], vocabulary())
    run = ranklock.perturb(cells, model, arms=("delete", "hold"), progress=False)
    assert not {"artefact_share", "phi_shift"} & set(run.effects().layers)
    assert "artefact_share" not in run.effects(average=True).obs
