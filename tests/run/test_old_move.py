import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ranklock
from ranklock.arms import MOVE_ARMS
from ranklock.cells import Cells
from ranklock.effects import cosine_distance, displacement
from ranklock.errors import InputError, OptionError, RanklockWarning
from ranklock.models import load_model
from tests.helpers import (
    cells_of,
    checkpoint,
    plain_forward,
    vocabulary,
    with_constant_positions,
    with_smooth_positions,
)

ARMS = tuple(MOVE_ARMS)

# As in test_knockout.py: the rounding of a displacement in float32 at these widths and weights.
STATE = 1e-4


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(tiny_checkpoint, device="cpu")


def written_out(genes, to, arm, *, framed, most):
    """What each arm puts before the model, as lists, without ranklock.arms: tokens in the order of
    the new ranking where it has one, each with its position."""
    start = int(framed)
    ranking = [token for token in genes if token not in to]
    for token, rank in sorted(to.items(), key=lambda item: item[1]):
        ranking.insert(rank, token)
    new = {token: start + rank for rank, token in enumerate(ranking[:most])}
    old = {token: start + rank for rank, token in enumerate(genes)}
    end = start + len(genes)
    if arm == "none":
        placed = old
    elif arm == "move":
        placed, end = new, start + min(len(ranking), most)
    elif arm == "hold":
        placed = old | {token: start + rank for token, rank in to.items()}
    else:
        kept = {token for token in genes if token in to or token in new}
        placed = {token: old[token] if token in to else new[token] for token in kept}
        end = start + min(len(ranking), most)
    sequence = sorted(placed, key=placed.__getitem__)
    tokens, positions = sequence, [placed[token] for token in sequence]
    if framed:
        tokens, positions = [2, *tokens, 3], [0, *positions, end]
    return tokens, positions


def independent(folder, genes, to, arm, responders, *, framed, most, layer):
    """Embeddings of the responders and of the cell by the plain Hugging Face forward in float64."""
    tokens, positions = written_out(genes, to, arm, framed=framed, most=most)
    states = plain_forward(folder, tokens, positions, layer=layer)
    read = states[[tokens.index(token) for token in responders]]
    return read, states[0] if framed else read.mean(axis=0)


@settings(max_examples=14)
@given(
    layers=st.integers(1, 2),
    heads=st.sampled_from([1, 2, 4]),
    length=st.integers(3, 30),
    framed=st.booleans(),
    insert=st.booleans(),
    full=st.booleans(),
    layer=st.sampled_from([0, -1]),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_every_arm_equals_the_plain_forward_and_so_does_the_decomposition(
    tmp_path_factory, layers, heads, length, framed, insert, full, layer, seed, data
):
    most = length if full else length + 5
    folder = checkpoint(
        tmp_path_factory.mktemp("m"), layers=layers, heads=heads, seed=seed, spread=0.3,
        positions=most + 2 * framed, position_spread=0.05,
    )  # fmt: skip
    vocab = vocabulary(60, special_frame=framed)
    everyone = cells_of([length + 1], vocab, special_frame=framed, seed=seed).ranked[0]
    lacking, genes = everyone[0], everyone[1:]
    cells = Cells((genes,), pd.DataFrame(index=["one"]), vocab, framed, "test cells")
    rank = data.draw(st.integers(0, length - 1))
    to_rank = data.draw(st.integers(0, length - 1).filter(lambda b: insert or b != rank))
    token = int(lacking if insert else genes[rank])
    run = ranklock.move(
        cells, load_model(folder, device="cpu"), [token], to_rank, layer=layer, insert=insert,
        progress=False,
    )  # fmt: skip
    to = {token: to_rank}
    fallen = genes[length - 1 :].tolist() if insert and full else []
    responders = [gene for gene in genes.tolist() if gene != token and gene not in fallen]
    where = {"framed": framed, "most": most, "layer": layer}
    (b, bc), (m, mc), (h, hc), (s, sc) = (
        independent(folder, genes.tolist(), to, arm, responders, **where)
        for arm in ("none", "move", "hold", "shift")
    )
    symbols = [vocab.symbol(gene) for gene in responders]
    for arm, after, after_cell in (("move", m, mc), ("hold", h, hc), ("shift", s, sc)):
        rows = run.table[run.table["arm"] == arm]
        assert rows["responder"].tolist() == symbols
        moved = displacement(b, after)
        np.testing.assert_allclose(rows["displacement"], moved, rtol=1e-6, atol=STATE)
        # 1 - cos is about half the squared angle: its error is the angle's times the angle.
        angle = moved / np.linalg.norm(b, axis=-1)
        allowed = STATE * (angle + STATE) + 1e-6 * angle**2
        assert (abs(rows["cosine_distance"] - cosine_distance(b, after)) <= allowed).all()
        shift = run.cell_shifts.set_index("arm").loc[arm]
        cell_moved = displacement(bc, after_cell)
        np.testing.assert_allclose(shift["displacement"], cell_moved, rtol=1e-6, atol=STATE)
    phi_move, phi_shift = ((h - b) + (m - s)) / 2, ((s - b) + (m - h)) / 2
    np.testing.assert_allclose(phi_move + phi_shift, m - b, atol=1e-12)
    columns = run.effects.var_names.get_indexer([vocab.gene(gene) for gene in responders])
    for name, expected in (
        ("phi_move", phi_move), ("phi_shift", phi_shift), ("interaction", m - h - s + b),
    ):  # fmt: skip
        found = run.effects.layers[name][0][columns]
        np.testing.assert_allclose(found, np.linalg.norm(expected, axis=1), rtol=1e-4, atol=STATE)
    if responders and np.linalg.norm(m - b) > 0.05:
        share = (phi_shift * (m - b)).sum() / ((m - b) ** 2).sum()
        assert run.effects.obs["artefact_share"].iloc[0] == pytest.approx(share, abs=1e-2)


def test_what_the_results_say_of_a_move(model):
    cells = cells_of([40, 30], vocabulary(60), seed=3)
    gene = int(cells.ranked[0][20])
    ranks = [list(genes).index(gene) if gene in genes else None for genes in cells.ranked]
    assert ranks[0] == 20
    assert ranks[1] is not None
    run = ranklock.move(cells, model, [gene], "activate", progress=False)
    # Of 40 genes, from 20 to 29 to the middle of 10 to 19; of 30, quarters begin at 0, 8, 15, 23.
    to = [14, {0: 0, 1: 3, 2: 11, 3: 18}[4 * ranks[1] // 30]]
    obs = run.effects.obs
    assert obs["gene_rank"].tolist() == ranks
    assert obs["to_rank"].tolist() == to
    assert obs["perturbation"].unique().tolist() == ["activate"]
    assert not obs["inserted"].any()
    for frame in (run.table, run.cell_shifts):
        assert list(frame.columns[:2]) == ["cell", "gene"]
        assert frame.columns[frame.columns.get_loc("gene_rank") + 1] == "to_rank"
        by_cell = frame.groupby("cell", observed=True)[["gene_rank", "to_rank"]].first()
        assert by_cell["gene_rank"].tolist() == ranks
        assert by_cell["to_rank"].tolist() == to
        assert (frame["perturbation"] == "activate").all()
    passed = run.table["responder_rank"].between(run.table["to_rank"], run.table["gene_rank"] - 1)
    assert (run.table["passed"] == passed).all()
    assert 0 < passed.mean() < 1
    assert np.nansum(run.effects.layers["passed"], axis=1).tolist() == [
        rank - end for rank, end in zip(ranks, to, strict=True)
    ]
    # The moved gene is no responder of its own move.
    assert not (run.table["responder"] == run.table["gene"].astype(str)).any()
    moved = run.table[(run.table["arm"] == "hold") & (run.table["cell"] == "cell0")]
    for side, part in (("passed", moved[moved["passed"]]), ("others", moved[~moved["passed"]])):
        expected = part["cosine_distance"].median()
        assert obs[f"hold_{side}"].iloc[0] == pytest.approx(expected, rel=1e-6)
    entry = run.manifest["summary"][0]
    assert entry["perturbation"] == "activate"
    assert entry["to_ranks"] == [min(to), max(to)]
    assert run.manifest["asked"]["quartiles"] == 1
    assert json.loads(run.effects.uns["manifest"]) == run.manifest
    assert "activated, 2 observations" in repr(run)


def test_a_run_of_moves_is_saved_and_read_back_like_one_of_knock_outs(model, tmp_path):
    cells = cells_of([40, 45], vocabulary(60), seed=1)
    cells.obs["perturbation"] = ["stimulated", "control"]  # a user's own column of that name
    lacking = next(t for t in cells.vocabulary.genes if sum(t in g for g in cells.ranked) == 1)
    run = ranklock.move(cells, model, [lacking], "overexpress", insert=True, progress=False)
    run.save(tmp_path / "run")
    again = ranklock.read_run(tmp_path / "run")
    pd.testing.assert_frame_equal(again.table, run.table)
    pd.testing.assert_frame_equal(again.cell_shifts, run.cell_shifts)
    pd.testing.assert_frame_equal(again.effects.obs, run.effects.obs)
    assert again.manifest == run.manifest
    assert again.effects.obs["cell_perturbation"].tolist() == ["stimulated", "control"]
    assert again.figure().get_suptitle().split(" in ")[0].endswith("overexpressed")
    for cell, genes in zip(cells.names, cells.ranked, strict=True):
        mine = again.cell_shifts[again.cell_shifts["cell"] == cell]
        assert (mine["inserted"] == (lacking not in genes)).all()
        assert (mine["gene_rank"].isna() == (lacking not in genes)).all()
        assert "→ 0" in again.figure(cell=cell).get_suptitle()
    run.save(tmp_path / "twice")
    for path in (tmp_path / "run").iterdir():
        assert (tmp_path / "twice" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("framed", [False, True])
def test_inserting_into_a_full_cell_drops_the_last_gene(tmp_path, framed):
    most = 20
    folder = checkpoint(tmp_path, positions=most + 2 * framed, spread=0.3)
    vocab = vocabulary(60, special_frame=framed)
    cells = cells_of([most], vocab, special_frame=framed)
    genes = cells.ranked[0].tolist()
    lacking = next(token for token in sorted(vocab.genes) if token not in genes)
    model = load_model(folder, device="cpu")
    run = ranklock.move(cells, model, [lacking], 5, insert=True, progress=False)
    responders = run.table.groupby("arm", observed=True)["responder"].agg(list)
    assert all(names == [vocab.symbol(t) for t in genes[:-1]] for names in responders)
    assert run.effects.obs["genes_in_cell"].tolist() == [most]
    assert run.table.loc[run.table["passed"], "responder_rank"].unique().tolist() == list(
        range(5, most - 1)
    )
    with pytest.raises(InputError, match="1 have no such rank"):
        ranklock.move(cells, model, [lacking], most, insert=True, progress=False)


def test_a_gene_below_the_input_size_comes_in_only_where_it_is_inserted(tmp_path):
    folder = checkpoint(tmp_path, positions=16, spread=0.3)
    cells = cells_of([30], vocabulary(60))
    gene = int(cells.ranked[0][22])
    model = load_model(folder, device="cpu")
    with pytest.raises(InputError, match="1 have it below the input size"):
        ranklock.move(cells, model, [gene], "overexpress", progress=False)
    run = ranklock.move(cells, model, [gene], "overexpress", insert=True, progress=False)
    assert run.effects.obs["gene_rank"].tolist() == [22]
    assert run.effects.obs["inserted"].tolist() == [True]
    assert len(run.table) == 15 * 3
    assert "rank 22 → 0 of 23" in run.figure().get_suptitle()


def test_genes_moved_together_stand_at_the_front_in_the_order_named(tmp_path):
    folder = checkpoint(tmp_path, spread=0.3)
    cells = cells_of([25], vocabulary(60))
    genes = cells.ranked[0].tolist()
    named = [genes[12], genes[3], genes[20]]
    model = load_model(folder, device="cpu")
    run = ranklock.move(cells, model, named, "overexpress", together=True, progress=False)
    rest = [token for token in genes if token not in named]
    after = plain_forward(folder, [*named, *rest], list(range(25)))[3:]
    base = plain_forward(folder, genes, list(range(25)))
    base = base[[genes.index(token) for token in rest]]
    rows = run.table[run.table["arm"] == "move"]
    np.testing.assert_allclose(rows["displacement"], displacement(base, after), atol=STATE)
    assert run.cell_shifts["gene_ranks"].unique().tolist() == ["12+3+20"]
    assert run.cell_shifts["to_ranks"].unique().tolist() == ["0+1+2"]
    assert run.table.loc[run.table["passed"], "responder_rank"].max() < 20


def test_with_random_weights_a_long_move_is_nothing_but_rank_shift_of_those_it_passes(tmp_path):
    # The usual initialisation (0.02), a quarter of V1's width, 256 genes.
    folder = checkpoint(
        tmp_path, tokens=302, layers=3, heads=4, width=64, positions=256, spread=0.02
    )
    cells = cells_of([256], vocabulary(300))
    run = ranklock.move(
        cells, load_model(folder, device="cpu"), [int(cells.ranked[0][200])], "overexpress",
        progress=False,
    )  # fmt: skip
    rows = run.table[(run.table["arm"] == "move") & run.table["passed"]]
    assert len(rows) == 200
    squared = rows["displacement"].to_numpy(np.float64) ** 2
    assert (rows["artefact_share"] * squared).sum() / squared.sum() > 0.99
    held = run.table[(run.table["arm"] == "hold") & run.table["passed"]]
    assert held["displacement"].median() < 0.01 * rows["displacement"].median()


def test_where_all_positions_are_alike_no_move_moves_anybody(tmp_path):
    folder = with_constant_positions(checkpoint(tmp_path, spread=0.3))
    cells = cells_of([40], vocabulary(60))
    model = load_model(folder, device="cpu")
    run = ranklock.move(cells, model, [int(cells.ranked[0][30])], "overexpress", progress=False)
    assert run.table["under_noise_floor"].all()


def test_where_all_positions_are_alike_an_insertion_has_no_artefact(tmp_path):
    folder = with_constant_positions(checkpoint(tmp_path, spread=0.3))
    cells = cells_of([40], vocabulary(60))
    lacking = next(t for t in sorted(cells.vocabulary.genes) if t not in cells.ranked[0])
    model = load_model(folder, device="cpu")
    run = ranklock.move(cells, model, [lacking], "overexpress", insert=True, progress=False)
    by_arm = run.table.groupby("arm", observed=True)
    assert by_arm["under_noise_floor"].all()["shift"]
    assert not by_arm["under_noise_floor"].any()["move"]
    assert run.effects.obs["artefact_share"].iloc[0] == pytest.approx(0, abs=1e-3)


def test_a_move_to_the_end_shifts_as_the_knock_out_does(tmp_path):
    folder = with_smooth_positions(checkpoint(tmp_path, spread=0.3))
    cells = cells_of([40], vocabulary(60))
    gene = int(cells.ranked[0][10])
    model = load_model(folder, device="cpu")
    moved = ranklock.move(cells, model, [gene], 39, ("shift",), progress=False)
    out = ranklock.knockout(cells, model, [gene], ("shift",), progress=False)
    # `shift` of the two is one input but for who stands where: others alike, the gene at its rank.
    np.testing.assert_array_equal(moved.table["displacement"], out.table["displacement"])


def test_results_do_not_depend_on_batch_size_beyond_the_noise_floor(model):
    cells = cells_of([30, 40], vocabulary(60))
    genes = [t for t in cells.ranked[0][:20].tolist() if t in cells.ranked[1][:-1]][:10]
    one = ranklock.move(cells, model, genes, "inhibit", batch_size=1, progress=False)
    many = ranklock.move(cells, model, genes, "inhibit", batch_size=32, progress=False)
    floor = max(run.manifest["noise_floor"]["displacement"] for run in (one, many))
    assert abs(one.table["displacement"] - many.table["displacement"]).max() <= 4 * floor


def test_cells_that_are_left_out_are_counted_and_reported(model):
    cells = cells_of([30, 12, 3], vocabulary(60), seed=2)
    first = int(cells.ranked[0][0])
    with pytest.warns(RanklockWarning, match="2 lack it"):
        run = ranklock.move(cells, model, [first], "inhibit", progress=False)
    assert run.manifest["skipped"][0]["cells_without_it"] == 2
    with pytest.raises(InputError, match=r"moved in none of the 3 cells.*1 have it there already"):
        ranklock.move(cells, model, [first], "overexpress", progress=False)
    with pytest.warns(
        RanklockWarning, match="2 have no such rank, 1 have it there already"
    ) as said:
        everywhere = Cells(
            (
                *(np.r_[genes[genes != first], np.int32(first)] for genes in cells.ranked),
                cells.ranked[0],
            ),
            pd.DataFrame(index=list("abcd")), cells.vocabulary, False, "test cells",
        )  # fmt: skip
        run = ranklock.move(everywhere, model, [first], 29, progress=False)
    assert len(said) == 1
    assert run.effects.obs["cell"].tolist() == ["d"]
    few = cells[2]
    with pytest.raises(InputError, match="1 have fewer than four genes"):
        ranklock.move(few, model, [int(few.ranked[0][1])], "activate", progress=False)


def test_an_insertion_into_an_empty_input_has_no_responder(tmp_path):
    folder = checkpoint(tmp_path, spread=0.3)
    vocab = vocabulary(60)
    model = load_model(folder, device="cpu")
    bare = Cells((np.zeros(0, np.int32),), pd.DataFrame(index=["one"]), vocab, False, "empty")
    with pytest.raises(InputError, match="have no other gene to respond"):
        ranklock.move(bare, model, [5], "overexpress", insert=True, progress=False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"perturbation": "activate", "insert": True}, "stands in no quarter"),
        ({"perturbation": "inhibit", "together": True}, "not inhibited together"),
        ({"perturbation": "up"}, "no perturbation 'up'"),
        ({"perturbation": "overexpress", "arms": ("delete",)}, "there are: move, hold, shift"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_forward(model, monkeypatch, options, says):
    monkeypatch.setattr("ranklock.run.old_perturbations.hidden_states", None)
    cells = cells_of([30], vocabulary(60))
    genes = cells.ranked[0][:2].tolist()
    with pytest.raises(OptionError, match=says):
        ranklock.move(cells, model, genes, progress=False, **options)


def test_averages_are_the_means_of_the_cells(model):
    cells = cells_of([40, 50, 45], vocabulary(60))
    gene = next(t for t in cells.ranked[0].tolist() if all(t in g[1:] for g in cells.ranked))
    each = ranklock.move(cells, model, [gene], "overexpress", progress=False)
    mean = ranklock.move(cells, model, [gene], "overexpress", average=True, progress=False)
    for arm in ARMS:
        expected = np.nanmean(each.effects.layers[arm], axis=0)
        np.testing.assert_allclose(mean.effects.layers[arm][0], expected, rtol=1e-5)
    obs = mean.effects.obs.iloc[0]
    assert obs["mean_to_rank"] == 0
    assert obs["n_inserted"] == 0
    assert obs["mean_gene_rank"] == each.effects.obs["gene_rank"].mean()
    squared = each.effects.layers["move_displacement"] ** 2
    pooled = np.nansum(each.effects.layers["artefact_share"] * squared, axis=0) / np.nansum(
        squared, axis=0
    )
    np.testing.assert_allclose(mean.effects.layers["artefact_share"][0], pooled, rtol=1e-4)


def test_a_real_cell_and_checkpoint(shared):
    cells = ranklock.read_cells(
        shared / "data" / "genecorpus_500_cells.parquet",
        shared / "data",
        select=ranklock.Selection(rows=(0,)),
    )
    model = load_model(shared / "models" / "geneformer-mini-6L", device="cpu")
    run = ranklock.move(cells, model, ["FAM136A"], "overexpress", progress=False)
    obs = run.effects.obs.iloc[0]
    assert (obs["gene_rank"], obs["to_rank"]) == (1000, 0)
    assert obs["artefact_share"] > 0.99
    assert obs["move_passed"] > 1e4 * obs["move_others"]
    assert obs["hold_passed"] < 1e-4 * obs["move_passed"]
