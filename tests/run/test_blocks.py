from dataclasses import replace

import numpy as np
import pytest

import ranklock
from ranklock.errors import InputError, OptionError
from ranklock.run import fields as f
from ranklock.run import planned, store
from tests.helpers import cells_of, checkpoint, vocabulary

FIELDS = [field.name for field in (*f.OF_ARM, *f.DECOMPOSITION)]


@pytest.fixture(scope="module")
def cells():
    return cells_of([11, 25, 30, 8], vocabulary(40))


@pytest.fixture(scope="module", params=["many shards", "one shard"])
def run(request, cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("blocks")
    model = ranklock.load_model(checkpoint(folder / "m", tokens=42, spread=0.3), device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "many shards":
            patch.setattr(planned, "_SHARD_TASKS", 7)
            patch.setattr(planned, "_TASKS_TOGETHER", 1)
            patch.setattr(store, "MOST_PARTS", 5)
        yield ranklock.perturb(
            cells, model, do=["knock-out", "overexpress"], out=folder / "run", progress=False
        )


def test_blocks_hold_the_numbers_of_the_table(run):
    """Each once, in the order of the cells, those of a cell one after another."""
    table = run.table.set_index(["cell", "kind", "gene_id", "responder_id", "arm"]).sort_index()
    genes = run.genes["gene_id"]
    seen, cells = 0, []
    for block in run.blocks(FIELDS):
        cells.append(block.cell)
        assert block.row == run.row_of(block.cell)
        assert len(block) == len(block.genes) == len(block.gene_ranks) == len(block.to_ranks)
        of_block = run.perturbations.loc[block.perturbations]
        assert (of_block["kind"] == block.kind).all()
        assert [tokens[0] for tokens in of_block["tokens"]] == block.genes.tolist()
        assert (np.diff(block.responder_ranks) > 0).all()
        assert (block.to_ranks == (-1 if block.kind == "knock-out" else 0)).all()
        assert set(block.values["artefact_share"]) <= {"delete", "move"}
        for arm in run.manifest.arms[block.kind]:
            distances = block.distances[arm]
            assert distances.dtype == np.float32
            assert distances.shape == (len(block), len(block.responders))
            itself = block.genes[:, None] == block.responders
            assert (np.isnan(distances) == itself).all()
            for row, column in zip(*np.nonzero(~itself), strict=True):
                if (row + column) % 7:
                    continue
                key = (block.cell, block.kind, genes[block.genes[row]],
                       genes[block.responders[column]], arm)  # fmt: skip
                expected = table.loc[key]
                assert expected["cosine_distance"] == distances[row, column]
                assert expected["gene_rank"] == block.gene_ranks[row]
                assert expected["responder_rank"] == block.responder_ranks[column]
                moved = block.values["displacement"][arm][row, column]
                assert expected["displacement"] == moved
            seen += int((~itself).sum())
    assert seen == len(run.table)
    assert cells == sorted(cells)


def test_parts_of_it(run):
    (kind,) = {block.kind for block in run.blocks(kind="overexpress")}
    assert kind == "overexpress"
    for block in run.blocks(arms=["move", "hold"]):
        known = {"hold"} if block.kind == "knock-out" else {"move", "hold"}
        assert set(block.distances) == known
    assert all(not block.values for block in run.blocks(()))
    with pytest.raises(OptionError, match="no arm 'none'"):
        next(run.blocks(arms=["none"]))
    with pytest.raises(OptionError, match="has no 'inhibit:1'"):
        next(run.blocks(kind="inhibit:1"))


def test_cells_in_the_order_in_which_they_are_named(run):
    order = ["cell2", "cell0", "cell2", "cell3"]
    blocks = list(run.blocks(cells=order))
    names = [block.cell for block in blocks]
    assert list(dict.fromkeys(names)) == ["cell2", "cell0", "cell3"]
    for name in set(names):
        expected = [block for block in run.blocks() if block.cell == name]
        ours = [block for block in blocks if block.cell == name]
        assert len(ours) == len(expected)
        for block, whole in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(block.perturbations, whole.perturbations)
            for arm, numbers in whole.distances.items():
                np.testing.assert_array_equal(block.distances[arm], numbers)
    assert list(run.blocks(cells=["nowhere"])) == []


def test_cells_of_other_lengths_and_lists_of_responders(model):
    cells = cells_of([12, 20], vocabulary())
    shared = [t for t in cells.ranked[0].tolist() if t in cells.ranked[1]]
    responders = [str(shared[0]), str(int(cells.ranked[1][5]))]
    run = ranklock.perturb(cells, model, responders=responders, progress=False)
    for block in run.blocks():
        ranked = cells.ranked[block.row]
        assert ranked[block.responder_ranks].tolist() == block.responders.tolist()
        assert set(block.responders.tolist()) == set(map(int, responders)) & set(ranked.tolist())
        assert block.genes_in_cell == len(ranked)


def test_where_genes_were_not_read_there_are_none(model):
    cells = cells_of([12], vocabulary())
    run = ranklock.perturb(cells, model, read="cell", progress=False)
    with pytest.raises(InputError, match="read cell only, not genes"):
        next(run.blocks())


def test_memory_is_that_of_a_shard(run, monkeypatch):
    """One row group is read at a time, and of it the columns that are asked for."""
    read = []
    original = store.Store.batches

    def watched(self, path, columns=None):
        for table in original(self, path, columns):
            read.append((table.num_rows, tuple(table.column_names)))
            yield table

    monkeypatch.setattr(store.Store, "batches", watched)
    for _ in run.blocks(arms=["hold"]):
        pass
    assert sum(rows for rows, _ in read) == 74 + 70
    assert len(read) == run.manifest.planned.shards
    columns = {name for _, names in read for name in names}
    assert "hold_cosine_distance" in columns
    assert not [name for name in columns if name.startswith(("delete", "mask", "shift", "move"))]


def test_a_gene_inserted_into_a_full_cell_has_a_block_of_its_own(tmp_path):
    folder = checkpoint(tmp_path, positions=12, spread=0.3)
    cells = cells_of([12], vocabulary())
    lacking = next(t for t in sorted(cells.vocabulary.genes) if t not in cells.ranked[0])
    run = ranklock.perturb(
        cells, ranklock.load_model(folder, device="cpu"), [str(lacking), str(cells.ranked[0][4])],
        "overexpress", insert=True, progress=False,
    )  # fmt: skip
    blocks = {int(block.genes[0]): block for block in run.blocks()}
    assert blocks[lacking].genes_in_cell == len(blocks[lacking].responders) == 11
    assert blocks[lacking].gene_ranks.tolist() == [-1]
    assert blocks[int(cells.ranked[0][4])].genes_in_cell == 12
    assert len(replace(run).table) == 3 * (11 + 11)
