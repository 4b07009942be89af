import threading
from dataclasses import replace

import filelock
import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.cells.thinning import thinned_genes
from ranklock.errors import OptionError, OutputError, RanklockWarning
from ranklock.models import load_model
from ranklock.run import count_noise as noise_module
from ranklock.run.asked import Asked
from ranklock.run.count_noise import COUNT_NOISE, count_noise_flop, pieces_of
from ranklock.run.plan import make_plan
from ranklock.run.run import open_run
from ranklock.run.store import Store
from tests.helpers import cells_of, checkpoint, counted_cells, plain_forward, vocabulary

POSITIONS = 26  # fewer than the longest cells have genes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("short"), spread=0.3, positions=POSITIONS)


@pytest.fixture(scope="module")
def model(folder):
    return load_model(str(folder), device="cpu")


@pytest.fixture(scope="module")
def cells():
    return the_cells()


def the_cells(*, special_frame: bool = False, tokenised: bool = False):
    vocab = vocabulary(50, special_frame=special_frame)
    make = cells_of if tokenised else counted_cells
    cells = make([45, 12, 30, 20], vocab, special_frame=special_frame)
    return replace(cells, obs=cells.obs.assign(state=["a", "a", "b", "a"]))


@pytest.fixture
def piece_a_cell(monkeypatch):
    monkeypatch.setattr(noise_module, "_PIECE_CELLS", 1)


def perturb(cells, model, out=None, **options):
    options = {"arms": ("hold",), "count_noise": True, "progress": False} | options
    return ranklock.perturb(cells, model, out=out, **options)


def cosine_distance(x, y):
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    return (x - y) @ (x - y) / 2


def plain_noise(folder, cells, row, goal, *, layer):
    """Worked out anew: plain forwards in float64, a dictionary of genes, one pair at a time."""
    framed = cells.special_frame

    def states(genes):
        genes = genes.tolist()[: POSITIONS - 2 * framed]
        tokens = [2, *genes, 3] if framed else genes
        hidden = plain_forward(folder, tokens, list(range(len(tokens))), layer=layer)
        return dict(zip(tokens, hidden, strict=True))

    cell = states(cells.ranked[row])
    by_gene, shifts, turns = {}, [], []
    for number in range(5):
        genes = thinned_genes(cells, row, number, kept=0.99, by_counts=cells.levels is not None)
        draw = states(genes)
        both = [token for token in cell if token in draw and not (framed and token in (2, 3))]
        for gene in both:
            by_gene.setdefault(gene, []).append(cosine_distance(cell[gene], draw[gene]))
        ends = [s[2] if framed else np.mean([s[g] for g in both], 0) for s in (cell, draw)]
        shifts.append(cosine_distance(*ends))
        near = [end @ goal / np.linalg.norm(end) / np.linalg.norm(goal) for end in ends]
        turns.append(abs(near[1] - near[0]))
    return by_gene, np.mean(shifts), np.mean(turns)


@pytest.mark.parametrize("special_frame", [False, True])
@pytest.mark.parametrize("tokenised", [False, True])
@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")
def test_against_plain_forwards(folder, model, special_frame, tokenised):
    cells = the_cells(special_frame=special_frame, tokenised=tokenised)
    goal = np.random.default_rng(1).normal(size=model.width)
    states = ranklock.States("state", "a", "b", embeddings={"b": goal})
    table = perturb(cells, model, states=states).count_noise
    assert set(table["thinned"]) == {"genes" if tokenised else "counts"}
    assert table["cell"].unique().tolist() == ["cell0", "cell1", "cell3"]
    for row in (0, 1, 3):
        by_gene, shift, turn = plain_noise(folder, cells, row, goal, layer=-1)
        of_cell = table[table["cell"] == f"cell{row}"]
        genes, whole = of_cell[of_cell["token"].notna()], of_cell[of_cell["token"].isna()]
        shown = min(len(cells.ranked[row]), POSITIONS - 2 * special_frame)
        assert genes["token"].tolist() == cells.ranked[row][:shown].tolist()
        for token, distance, draws in genes[["token", "cosine_distance", "draws"]].itertuples(
            index=False
        ):
            assert draws == len(by_gene.get(token, []))
            if draws:
                np.testing.assert_allclose(distance, np.mean(by_gene[token]), rtol=1e-3, atol=1e-11)
            else:
                assert np.isnan(distance)
        assert whole["cosine_distance"].tolist() == pytest.approx([shift], rel=1e-3, abs=1e-11)
        assert whole["towards_goal"].tolist() == pytest.approx([turn], rel=1e-3, abs=1e-7)
        assert whole["draws"].tolist() == [5]
        assert genes["towards_goal"].isna().all()
    assert (table["cosine_distance"] > 1e-6).mean() > 0.5


def test_where_all_is_kept_nothing_moves(model, cells, monkeypatch):
    monkeypatch.setattr(noise_module, "KEPT", 1.0)
    table = perturb(cells, model, states=ranklock.States("state", "a", "b")).count_noise
    assert table["cosine_distance"].tolist() == [0.0] * len(table)
    assert table["towards_goal"].dropna().tolist() == [0.0] * 3
    assert table["draws"].tolist() == [5] * len(table)


def test_neither_other_cells_nor_their_order_nor_pieces_nor_batches_matter(
    model, cells, monkeypatch
):
    def distances(table):
        keys = zip(table["cell"], table["token"].fillna(-1), strict=True)
        return dict(zip(keys, table["cosine_distance"].fillna(-1.0), strict=True))

    whole = distances(perturb(cells, model).count_noise)
    assert len(whole) == 26 + 12 + 26 + 20 + 4
    monkeypatch.setattr(noise_module, "_PIECE_CELLS", 1)
    turned = perturb(cells[[3, 0, 2, 1]], model, batch_size=2).count_noise
    alone = pd.concat([perturb(cells[[row]], model).count_noise for row in range(4)])
    assert distances(turned) == whole
    assert distances(alone) == whole


def test_the_seed_draws_others(model, cells):
    tables = [perturb(cells, model, seed=seed).count_noise for seed in (0, 0, 1)]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert not tables[0]["cosine_distance"].equals(tables[2]["cosine_distance"])


@pytest.mark.parametrize("read", ["genes", "cell"])
def test_noise_is_of_what_is_read(model, cells, read):
    both = perturb(cells, model).count_noise
    part = perturb(cells, model, read=read).count_noise
    of_cells = both["token"].isna()
    right = both[of_cells if read == "cell" else ~of_cells]
    assert part["cosine_distance"].tolist() == right["cosine_distance"].tolist()
    assert part["token"].isna().all() == (read == "cell")


def test_noise_of_responders_alone(model, cells):
    symbols = [cells.vocabulary.symbol(int(token)) for token in cells.ranked[1][:3]]
    table = perturb(cells, model, responders=symbols).count_noise
    assert set(table["responder"].dropna()) == set(symbols)
    whole = perturb(cells, model).count_noise
    pd.testing.assert_frame_equal(
        table.astype({"responder": str, "responder_id": str}).reset_index(drop=True),
        whole[whole["responder"].isin(symbols) | whole["token"].isna()]
        .astype({"responder": str, "responder_id": str}).reset_index(drop=True),
    )  # fmt: skip


def test_embeddings_must_be_read():
    with pytest.raises(OptionError, match="Count noise is of genes' and cells' embeddings"):
        Asked(read=("logits",), count_noise=True)


def test_cells_without_counts_are_said(model):
    with pytest.warns(RanklockWarning, match="test cells holds ranks, no counts: .* dropped"):
        perturb(the_cells(tokenised=True), model)
    normalised = the_cells()
    normalised = replace(normalised, levels=tuple(level * 0.3 for level in normalised.levels))
    with pytest.warns(RanklockWarning, match="holds values that are no whole counts"):
        assert set(perturb(normalised, model).count_noise["thinned"]) == {"genes"}


# Work that is stopped


def files(folder):
    names = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in names
        if path.name != "setup.lock"
    }


def stop_after(patch, pieces):
    """Fail while the piece after so many is written; the list of those that were begun."""
    write, begun = Store.write_file, []

    def failing(store, path, schema, tables):
        if path.name.startswith("count_noise"):
            begun.append(path.name)
            if len(begun) > pieces:
                raise KeyboardInterrupt
        write(store, path, schema, tables)

    patch.setattr(Store, "write_file", failing)
    return begun


@pytest.mark.parametrize("pieces", range(5))
def test_stopped_anywhere_it_goes_on(model, cells, tmp_path, monkeypatch, piece_a_cell, pieces):
    perturb(cells, model, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, pieces)
        with pytest.raises(KeyboardInterrupt):
            perturb(cells, model, tmp_path / "run")
    stopped = open_run(tmp_path / "run")
    assert not stopped.complete
    assert stopped.shifts["count_noise"].isna().all()
    assert stopped.table["count_noise"].isna().all()
    with pytest.raises(OutputError, match="no count_noise.parquet yet; run the same command"):
        _ = stopped.count_noise
    with monkeypatch.context() as patch:
        begun = stop_after(patch, 99)
        run = perturb(cells, model, tmp_path / "run")
    assert len(begun) == 4 - min(pieces, 4) + 1  # and the whole
    assert run.complete
    assert files(tmp_path / "run") == files(tmp_path / "whole")
    assert [name for name in files(tmp_path / "run") if "noise" in name] == [COUNT_NOISE]


@pytest.mark.parametrize("damage", [None, b"PAR1", "flipped"])
def test_lost_or_damaged_it_is_made_anew(model, cells, tmp_path, damage):
    path = tmp_path / "run" / COUNT_NOISE
    perturb(cells, model, tmp_path / "run")
    before = path.read_bytes()
    if damage is None:
        path.unlink()
    else:
        flipped = bytes([*before[:300], before[300] ^ 1, *before[301:]])
        path.write_bytes(flipped if damage == "flipped" else damage)
    with pytest.raises(OutputError, match="run the same command again"):
        _ = open_run(tmp_path / "run").count_noise
    assert perturb(cells, model, tmp_path / "run").complete
    assert path.read_bytes() == before


def test_a_piece_that_another_process_is_at_is_left_to_it(model, cells, tmp_path, piece_a_cell):
    perturb(cells, model, tmp_path / "whole")
    locks = tmp_path / "run" / ".locks"
    locks.mkdir(parents=True)
    with filelock.FileLock(locks / "part-count-noise-2.lock"):
        run = perturb(cells, model, tmp_path / "run")
        pieces = sorted(path.name for path in (tmp_path / "run" / ".shards").iterdir())
        assert pieces == [f"count_noise-0000000{piece}.parquet" for piece in (0, 1, 3)]
        assert not run.complete
    run = perturb(cells, model, tmp_path / "run")
    assert run.complete
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def test_several_at_once_share_the_work(model, tmp_path, monkeypatch, piece_a_cell):
    cells = counted_cells([20, 12, 18, 9, 25, 14, 11, 16], vocabulary(50))
    perturb(cells, model, tmp_path / "whole", read="cell")
    computed, embed = [], noise_module.embed_draws

    def recorded(plan, row, *, by_counts):
        computed.append(row)
        return embed(plan, row, by_counts=by_counts)

    monkeypatch.setattr(noise_module, "embed_draws", recorded)
    threads = [
        threading.Thread(target=perturb, args=(cells, model, tmp_path / "run"),
                         kwargs={"read": "cell"})
        for _ in range(3)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(computed) == list(range(8))
    assert open_run(tmp_path / "run").complete
    assert files(tmp_path / "run") == files(tmp_path / "whole")


def test_a_run_with_it_is_another_run(model, cells, tmp_path):
    plain = perturb(cells, model, tmp_path / "run", count_noise=False)
    assert "count_noise" not in {*plain.shifts, *plain.table}
    with pytest.raises(OutputError, match="other values of count noise"):
        perturb(cells, model, tmp_path / "run")
    perturb(cells, model, tmp_path / "run", overwrite=True)
    with pytest.raises(OutputError, match="other values of count noise"):
        perturb(cells, model, tmp_path / "run", seed=3)
    again = perturb(cells, model, tmp_path / "run", count_noise=False, overwrite=True)
    assert not (again.folder / COUNT_NOISE).exists()
    assert "count_noise" not in again.shifts


@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")
def test_cells_that_rank_alike_with_other_counts_are_another_run(model, cells, tmp_path):
    perturb(cells, model, tmp_path / "run")
    deeper = replace(cells, levels=tuple(levels * 10 for levels in cells.levels))
    for others in (deeper, replace(cells, levels=None)):
        assert others.sha256() == cells.sha256()
        with pytest.raises(OutputError, match="other values of count noise"):
            perturb(others, model, tmp_path / "run")
        plain = {"count_noise": False, "out": tmp_path / "plain"}
        assert perturb(others, model, **plain).complete


# The plan


def test_pieces_hold_every_cell_once_in_order(model, monkeypatch):
    cells = counted_cells([20] * 9, vocabulary(50))
    plan = make_plan(cells, model, Asked(count_noise=True))
    assert [piece.tolist() for piece in pieces_of(plan)] == [[*range(9)]]
    monkeypatch.setattr(noise_module, "_PIECE_FLOP", count_noise_flop(plan) / 3)
    pieces = pieces_of(plan)
    assert np.concatenate(pieces).tolist() == [*range(9)]
    assert 3 <= len(pieces) <= 4
    monkeypatch.setattr(noise_module, "_PIECE_FLOP", count_noise_flop(plan) / 100)
    assert [len(piece) for piece in pieces_of(plan)] == [1] * 9


def test_the_plan_says_what_it_takes(model, cells):
    plain = make_plan(cells, model, Asked())
    plan = make_plan(cells, model, Asked(count_noise=True))
    (line,) = (line for line in plan.describe() if "noise" in line)
    assert line.startswith("Count noise: 5 draws a cell with 1% of the counts taken away: 24 ")
    assert not any("noise" in line for line in plain.describe())
    assert plan.disk > plain.disk
    tokenised = make_plan(the_cells(tokenised=True), model, Asked(count_noise=True))
    assert "genes, for want of counts," in "".join(tokenised.describe())
    times = [each.describe(rate=1e6)[-1] for each in (plain, plan)]
    assert times[0] != times[1]
