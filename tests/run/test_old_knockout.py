import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import ranklock
from ranklock.arms import ARMS, apply, baseline
from ranklock.cells import Cells
from ranklock.effects import cosine_distance, decompose, displacement
from ranklock.engine.batches import hidden_states
from ranklock.errors import InputError, RanklockWarning
from ranklock.models import load_model
from tests.helpers import cells_of, checkpoint, plain_forward, vocabulary

ALL_ARMS = ("delete", "hold", "attention-mask", "mask", "shift")

# A hidden state errs by some tens of roundings of 6e-8 in each of 16 to 32 entries of order one:
# its displacement by less than this. See tests/engine/test_batches.py.
STATE = 1e-4


def tokens_and_positions(genes, ranks, arm, *, framed):
    """What each arm puts before the model, written out anew, without ranklock.arms."""
    sequence = [("gene", int(token), rank) for rank, token in enumerate(genes)]
    if framed:
        sequence = [("special", 2, None), *sequence, ("special", 3, None)]
    tokens, positions, visible, kept = [], [], [], []
    gone = 0
    for index, (_, token, rank) in enumerate(sequence):
        hit = rank in ranks
        renumbered = arm in ("delete", "shift")
        if not (hit and arm in ("delete", "hold")):
            tokens.append(1 if hit and arm == "mask" else token)
            positions.append(index - gone if renumbered else index)
            visible.append(not (hit and arm == "attention-mask"))
            kept.append(rank)
        gone += hit
    return tokens, positions, visible, kept


def independent(folder, genes, ranks, arm, *, framed, layer):
    """Responders' and cell's embedding by the plain Hugging Face forward in float64."""
    tokens, positions, visible, kept = tokens_and_positions(genes, ranks, arm, framed=framed)
    states = plain_forward(folder, tokens, positions, visible, layer=layer)
    responders = states[[rank is not None and rank not in ranks for rank in kept]]
    return responders, states[0] if framed else responders.mean(axis=0)


@settings(max_examples=12)
@given(
    layers=st.integers(1, 3),
    heads=st.sampled_from([1, 2, 4]),
    length=st.integers(3, 40),
    framed=st.booleans(),
    layer=st.sampled_from([0, -1]),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_every_arm_equals_the_plain_forward(
    tmp_path_factory, layers, heads, length, framed, layer, seed, data
):
    ranks = sorted(data.draw(st.sets(st.integers(0, length - 1), min_size=1, max_size=2)))
    folder = checkpoint(
        tmp_path_factory.mktemp("m"), layers=layers, heads=heads, seed=seed, spread=0.3
    )
    vocab = vocabulary(60, special_frame=framed)
    cells = cells_of([length], vocab, special_frame=framed, seed=seed)
    genes = cells.ranked[0]
    run = ranklock.knockout(
        cells, load_model(folder, device="cpu"), [int(genes[r]) for r in ranks], ALL_ARMS,
        layer=layer, together=True, progress=False,
    )  # fmt: skip
    base, base_cell = independent(folder, genes, (), "none", framed=framed, layer=layer)
    keep = [rank not in ranks for rank in range(length)]
    if not framed:
        base_cell = base[keep].mean(axis=0)
    base = base[keep]
    for arm in ALL_ARMS:
        after, after_cell = independent(folder, genes, ranks, arm, framed=framed, layer=layer)
        rows = run.table[run.table["arm"] == arm]
        moved = displacement(base, after)
        np.testing.assert_allclose(rows["displacement"], moved, rtol=1e-6, atol=STATE)
        # 1 - cos is about half the squared angle: its error is the angle's times the angle.
        angle = moved / np.linalg.norm(base, axis=-1)
        allowed = STATE * (angle + STATE) + 1e-6 * angle**2
        assert (abs(rows["cosine_distance"] - cosine_distance(base, after)) <= allowed).all()
        shift = run.cell_shifts.set_index("arm").loc[arm]
        cell_moved = displacement(base_cell, after_cell)
        np.testing.assert_allclose(shift["displacement"], cell_moved, rtol=1e-6, atol=STATE)
        expected = float(cosine_distance(base_cell, after_cell))
        assert shift["cosine_distance"] == pytest.approx(expected, rel=1e-3, abs=STATE**1.5)


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("rank", [3, 20])
def test_what_is_made_of_the_arms_is_made_of_the_plain_forwards(tmp_path, framed, rank):
    # Positions matter little here, so that removal and shift both have a share in what moves.
    folder = checkpoint(tmp_path, spread=0.3, position_spread=0.02)
    cells = cells_of([30], vocabulary(60, special_frame=framed), special_frame=framed)
    genes = cells.ranked[0]
    run = ranklock.knockout(
        cells, load_model(folder, device="cpu"), [int(genes[rank])], progress=False
    )

    def states(arm, ranks=(rank,)):
        g, c = independent(folder, genes, ranks, arm, framed=framed, layer=-1)
        if arm == "none":
            g = np.delete(g, rank, axis=0)
            c = c if framed else g.mean(axis=0)
        return g, c

    (b, bc), (h, hc), (s, sc), (d, dc) = (
        states("none", ()), states("hold"), states("shift"), states("delete")
    )  # fmt: skip
    phi_removal, phi_shift = ((h - b) + (d - s)) / 2, ((s - b) + (d - h)) / 2
    order = run.effects.var_names.get_indexer(
        [cells.vocabulary.gene(int(token)) for token in np.delete(genes, rank)]
    )

    def layer(name):
        return run.effects.layers[name][0][order]

    near = {"rtol": 1e-4, "atol": STATE}
    np.testing.assert_allclose(layer("phi_removal"), np.linalg.norm(phi_removal, axis=1), **near)
    np.testing.assert_allclose(layer("phi_shift"), np.linalg.norm(phi_shift, axis=1), **near)
    np.testing.assert_allclose(layer("interaction"), np.linalg.norm(d - h - s + b, axis=1), **near)
    share = (phi_shift * (d - b)).sum() / ((d - b) ** 2).sum()
    assert 0.02 < share < 0.98  # or a constant would pass
    obs = run.effects.obs.iloc[0]
    assert obs["artefact_share"] == pytest.approx(share, abs=1e-3)
    moved = dc - bc
    of_cell = ((sc - bc) + (dc - hc)) @ moved / 2 / (moved @ moved)
    assert obs["cell_shift_artefact_share"] == pytest.approx(of_cell, abs=1e-3)
    summary = run.manifest["summary"][0]
    assert summary["artefact_share"] == pytest.approx(share, abs=1e-3)
    below = np.arange(29) >= rank
    for arm, after, after_cell in (("delete", d, dc), ("hold", h, hc), ("shift", s, sc)):
        distances = cosine_distance(b, after)
        sides = np.median(distances[~below]), np.median(distances[below])
        row = summary["arms"][arm]
        assert (row["median_before"], row["median_after"]) == pytest.approx(sides, rel=1e-2)
        assert (obs[f"{arm}_before"], obs[f"{arm}_after"]) == pytest.approx(sides, rel=1e-2)
        expected = float(cosine_distance(bc, after_cell))
        assert row["median_cell_shift"] == pytest.approx(expected, rel=1e-2)
        assert obs[f"{arm}_cell_shift"] == pytest.approx(expected, rel=1e-2)


def test_many_knock_outs_of_a_cell_are_those_one_by_one(model):
    cells = cells_of([25], vocabulary(60))
    genes = cells.ranked[0][:20].tolist()  # more than are held in memory together
    many = ranklock.knockout(cells, model, genes, progress=False)
    for gene in (genes[0], genes[8], genes[9], genes[19]):
        one = ranklock.knockout(cells, model, [gene], progress=False)
        name = cells.vocabulary.symbol(gene)
        mine = many.table[many.table["gene"] == name].reset_index(drop=True)
        assert mine["responder"].tolist() == one.table["responder"].tolist()
        np.testing.assert_allclose(mine["displacement"], one.table["displacement"], atol=STATE)


@settings(max_examples=12)
@given(
    length=st.integers(3, 40), framed=st.booleans(), seed=st.integers(0, 5), data=st.data(),
    width=st.sampled_from([8, 16]),
)  # fmt: skip
def test_the_parts_sum_to_the_displacement_in_real_forwards(
    tmp_path_factory, length, framed, seed, data, width
):
    rank = data.draw(st.integers(0, length - 1))
    folder = checkpoint(tmp_path_factory.mktemp("m"), seed=seed, width=width, spread=0.3)
    vocab = vocabulary(60, special_frame=framed)
    cells = cells_of([length], vocab, special_frame=framed, seed=seed)
    model = load_model(folder, device="cpu")
    one = baseline(cells.ranked[0], 64, vocab, special_frame=framed)
    arms = {name: apply(ARMS[name], one, [rank], vocab) for name in ("hold", "shift", "delete")}
    base = hidden_states(model, [one], 1)[0][(one.ranks >= 0) & (one.ranks != rank)]
    states = {
        name: hidden_states(model, [c], 1)[0][(c.ranks >= 0) & (c.ranks != rank)]
        for name, c in arms.items()
    }
    parts = decompose(base, states["hold"], states["shift"], states["delete"])
    total = states["delete"].astype(np.float64) - base
    np.testing.assert_allclose(parts.edit + parts.shift, total, rtol=0, atol=1e-12)
    # and the run reports these very parts
    run = ranklock.knockout(cells, model, [int(cells.ranked[0][rank])], progress=False)
    reported = run.table.loc[run.table["arm"] == "delete", "artefact_share"].to_numpy()
    moved = np.linalg.norm(total, axis=-1) > 1e-3
    np.testing.assert_allclose(reported[moved], parts.artefact_share[moved], atol=1e-2)


@pytest.mark.parametrize("framed", [False, True])
def test_attention_mask_with_a_real_key_mask_is_hold(tiny_checkpoint, framed):
    vocab = vocabulary(60, special_frame=framed)
    genes = cells_of([45], vocab).ranked[0]
    model = load_model(tiny_checkpoint, device="cpu")
    one = baseline(genes, 64, vocab, special_frame=framed)
    for rank in (0, 20, 44):
        hidden, held = (apply(ARMS[a], one, [rank], vocab) for a in ("attention-mask", "hold"))
        assert not hidden.visible.all()
        a, b = hidden_states(model, [hidden, held], 2)
        np.testing.assert_allclose(a[hidden.ranks != rank], b, rtol=0, atol=2e-5)


def test_with_random_weights_delete_is_nothing_but_rank_shift(tmp_path):
    # The usual initialisation (0.02), a quarter of V1's width, 256 genes.
    folder = checkpoint(
        tmp_path, tokens=302, layers=3, heads=4, width=64, positions=256, spread=0.02
    )
    cells = cells_of([256], vocabulary(300))
    run = ranklock.knockout(
        cells, load_model(folder, device="cpu"), [int(cells.ranked[0][128])], progress=False
    )
    assert run.effects.obs["artefact_share"].iloc[0] > 0.99


def test_the_picture_of_the_report(shared):
    cells = ranklock.read_cells(
        shared / "data" / "genecorpus_500_cells.parquet",
        shared / "data",
        select=ranklock.Selection(rows=(0,)),
    )
    model = load_model(shared / "models" / "geneformer-mini-6L", device="cpu")
    run = ranklock.knockout(cells, model, [519], progress=False)
    observed = run.effects.obs.iloc[0]
    assert observed["gene"] == "FAM136A"
    assert observed["gene_rank"] == 1000
    # Medians before and after rank 1000, as ../shared/README.md states them to two digits.
    medians = {
        "delete": (7.6e-7, 8.2e-2),
        "hold": (4.7e-8, 4.2e-8),
        "mask": (4.3e-8, 7.3e-8),
        "shift": (7.6e-7, 8.2e-2),
    }
    for arm, sides in medians.items():
        found = observed[f"{arm}_before"], observed[f"{arm}_after"]
        assert found == pytest.approx(sides, rel=0.02)
    assert observed["delete_after"] > 1e4 * observed["delete_before"]
    assert observed["hold_after"] < 2 * observed["hold_before"]
    assert observed["artefact_share"] > 0.99
    # The smallest of these effects stand far above the floor, and below float32's 6e-8.
    assert run.manifest["noise_floor"]["cosine_distance"] < 1e-11


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(tiny_checkpoint, device="cpu")


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("rank", [0, -1])
def test_first_and_last_rank(model, framed, rank):
    cells = cells_of([20], vocabulary(60, special_frame=framed), special_frame=framed)
    run = ranklock.knockout(cells, model, [int(cells.ranked[0][rank])], progress=False)
    obs = run.effects.obs.iloc[0]
    assert obs["gene_rank"] == rank % 20
    sides = ["hold_before", "hold_after"]
    assert np.isnan(obs[sides[0 if rank == 0 else 1]])
    assert obs[sides[1 if rank == 0 else 0]] > 0
    by_arm = {
        arm: part.set_index("responder") for arm, part in run.table.groupby("arm", observed=True)
    }
    if rank == -1 and not framed:
        # Nothing stands below the last gene, so deleting and holding are the same input ...
        pd.testing.assert_series_equal(
            by_arm["delete"]["cosine_distance"], by_arm["hold"]["cosine_distance"]
        )
        # ... and the shift moves nobody.
        assert by_arm["shift"]["under_noise_floor"].all()


def test_a_framed_cell_of_one_gene_has_a_cell_shift_and_no_responder(model, tmp_path):
    vocab = vocabulary(60, special_frame=True)
    cells = Cells(
        (np.array([5], dtype=np.int32),), pd.DataFrame(index=["one"]), vocab, True, "test"
    )
    run = ranklock.knockout(cells, model, [5], progress=False)
    assert run.table.empty
    assert run.cell_shifts.set_index("arm")["displacement"]["hold"] > 0
    run.save(tmp_path / "run")
    assert ranklock.read_run(tmp_path / "run").effects.shape == (1, 0)


def test_a_cell_longer_than_the_input_is_cut_and_backfilled_on_request(tmp_path):
    folder = checkpoint(tmp_path, positions=16, spread=0.3)
    cells = cells_of([30], vocabulary(60))
    genes = cells.ranked[0]
    model = load_model(folder, device="cpu")
    arms = ("delete", "hold", "shift", "delete-backfill")
    run = ranklock.knockout(cells, model, [int(genes[4])], arms, progress=False)
    assert run.manifest["cells"]["longer_than_the_input"] == 1
    assert run.manifest["asked"]["backfill"] is True
    assert len(run.table) == 15 * 4
    # Backfill is one more gene that the others can attend to.
    plain = plain_forward(folder, [*genes[:4], *genes[5:17]], list(range(16)))[:-1]
    base = plain_forward(folder, genes[:16].tolist(), list(range(16)))[np.arange(16) != 4]
    rows = run.table[run.table["arm"] == "delete-backfill"]
    np.testing.assert_allclose(rows["displacement"], displacement(base, plain), atol=STATE)
    with pytest.raises(InputError, match="1 have it below the input size"):
        ranklock.knockout(cells, model, [int(genes[20])], progress=False)
    with pytest.warns(RanklockWarning, match="backfill lets nothing in"):
        filled = Cells((genes[:16],), cells.obs, cells.vocabulary, False, "test")
        ranklock.knockout(filled, model, [int(genes[4])], arms, progress=False)


def test_genes_are_knocked_out_one_by_one_or_together(model):
    cells = cells_of([20, 25], vocabulary(60))
    shared = sorted(set(cells.ranked[0].tolist()) & set(cells.ranked[1].tolist()))[:2]
    apart = ranklock.knockout(cells, model, shared, progress=False)
    assert apart.effects.n_obs == 4
    both = ranklock.knockout(cells, model, shared, together=True, progress=False)
    names = "+".join(cells.vocabulary.symbol(token) for token in shared)
    assert both.effects.obs["gene"].tolist() == [names, names]
    assert not set(both.table["responder"]) & set(names.split("+"))


def test_results_do_not_depend_on_batch_size_beyond_the_noise_floor(model):
    cells = cells_of([30, 40], vocabulary(60))
    genes = cells.ranked[0][:6].tolist()
    with pytest.warns(RanklockWarning):
        one = ranklock.knockout(cells, model, genes, batch_size=1, progress=False)
        many = ranklock.knockout(cells, model, genes, batch_size=32, progress=False)
    # Two displacements may each be off by what the floor measures at two ends.
    floor = max(run.manifest["noise_floor"]["displacement"] for run in (one, many))
    assert abs(one.table["displacement"] - many.table["displacement"]).max() <= 4 * floor


def test_the_floor_marks_what_it_should(model):
    cells = cells_of([30], vocabulary(60))
    run = ranklock.knockout(cells, model, [int(cells.ranked[0][-1])], ("hold", "shift"),
                            progress=False)  # fmt: skip
    # The shift of the last gene moves nobody but rounding; the removal moves everybody.
    marked = run.table.groupby("arm", observed=True)["under_noise_floor"].mean()
    assert marked["shift"] == 1
    assert marked["hold"] == 0


def test_weights_that_overflow_are_reported(tmp_path):
    folder = checkpoint(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["bert.encoder.layer.0.intermediate.dense.weight"] *= 1e30
    weights["bert.encoder.layer.0.output.dense.weight"] *= 1e30
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    cells = cells_of([10], vocabulary(60))
    with pytest.raises(InputError, match="NaN or infinity for cell cell0"):
        ranklock.knockout(
            cells, load_model(folder, device="cpu"), [int(cells.ranked[0][3])], progress=False
        )


def test_averages_are_the_means_of_the_cells(model):
    cells = cells_of([40, 50, 45], vocabulary(60))
    gene = next(t for t in cells.ranked[0].tolist() if all(t in g for g in cells.ranked))
    each = ranklock.knockout(cells, model, [gene], progress=False)
    mean = ranklock.knockout(cells, model, [gene], average=True, progress=False)
    pd.testing.assert_frame_equal(each.table, mean.table)
    assert mean.effects.n_obs == 1
    for arm in ("delete", "hold"):
        expected = np.nanmean(each.effects.layers[arm], axis=0)
        np.testing.assert_allclose(mean.effects.layers[arm][0], expected, rtol=1e-5)
    shifts = each.cell_shifts.groupby("arm", observed=True)["cosine_distance"].mean()
    assert mean.effects.obs["hold_mean_cell_shift"].iloc[0] == pytest.approx(shifts["hold"])
    counted = (~np.isnan(each.effects.layers["hold"])).sum(axis=0)
    assert mean.effects.layers["n_cells"][0].tolist() == counted.tolist()
    shares, squared = each.effects.layers["artefact_share"], each.effects.layers[
        "delete_displacement"
    ] ** 2  # fmt: skip
    pooled = np.nansum(shares * squared, axis=0) / np.nansum(squared, axis=0)
    np.testing.assert_allclose(mean.effects.layers["artefact_share"][0], pooled, rtol=1e-4)
    json.loads(mean.effects.uns["manifest"])
