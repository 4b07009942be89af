"""A run read back: its tables, figure, copies; and what is said where it is none."""

import gc
import importlib.util
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.figure import Figure

import ranklock
from ranklock.cells import Cells
from ranklock.effects import displacement
from ranklock.errors import InputError, OptionError, OutputError, RanklockWarning
from ranklock.run import fields as f
from ranklock.run import tables as tables_module
from ranklock.run.run import Run, as_run, read_run
from tests.helpers import (
    cells_of,
    checkpoint,
    plain_forward,
    vocabulary,
    with_constant_positions,
    with_smooth_positions,
)

STATE = 1e-4  # rounding of a displacement in float32; see tests/engine


def perturb(cells, model, genes="all", do="knock-out", **options):
    return ranklock.perturb(cells, model, genes, do, **{"progress": False, **options})


@pytest.fixture(scope="module")
def cells():
    cells = cells_of([40, 50], vocabulary(60))
    return replace(cells, obs=cells.obs.assign(cell_type=["NK", "B"], kind=["x", "y"]))


@pytest.fixture(scope="module")
def genes(cells):
    """Two genes that both cells have, beyond the first ranks."""
    return [t for t in cells.ranked[0][5:].tolist() if t in cells.ranked[1][5:]][:2]


@pytest.fixture(scope="module")
def run(cells, genes, tiny_checkpoint, tmp_path_factory):
    model = ranklock.load_model(tiny_checkpoint, device="cpu")
    return perturb(
        cells,
        model,
        genes,
        ["knock-out", "overexpress"],
        out=tmp_path_factory.mktemp("run") / "run",
    )


# Tables

COLUMNS = [
    "cell", "gene", "kind", "gene_rank", "to_rank", "responder", "responder_rank", "arm",
    "cosine_distance", "displacement", "artefact_share", "gene_id", "responder_id",
]  # fmt: skip


def test_the_table_keeps_its_columns(run):
    table = run.table
    assert list(table.columns) == COLUMNS
    for name in ("cell", "gene", "kind", "responder", "arm", "gene_id", "responder_id"):
        assert table[name].dtype == "category"
    assert table["gene_rank"].dtype == table["to_rank"].dtype == "Int32"
    assert len(table) == 2 * (4 + 3) * (39 + 49)
    assert (table["gene"].astype(str) != table["responder"].astype(str)).all()
    whole = table["arm"].isin(["delete", "move"])
    assert table.loc[whole, "artefact_share"].notna().all()
    assert table.loc[~whole, "artefact_share"].isna().all()
    assert table["to_rank"].isna().equals(table["kind"] == "knock-out")


def test_rows_stand_cell_by_cell_task_by_task_arm_by_arm(run):
    keys = run.table[["cell", "kind", "gene", "arm"]].drop_duplicates()
    assert len(keys) == 2 * 2 * (4 + 3)
    assert (run.table.groupby(["cell", "kind", "gene", "arm"], observed=True)["responder_rank"]
            .apply(lambda ranks: ranks.is_monotonic_increasing).all())  # fmt: skip


def test_the_table_of_one_gene_or_cell_is_a_part_of_it(run):
    gene = str(run.table["gene"].iloc[0])
    expected = run.table[(run.table["gene"] == gene) & (run.table["cell"] == "cell1")]
    part = run.effects_table(gene, "cell1")
    pd.testing.assert_frame_equal(
        part.astype(object), expected.reset_index(drop=True).astype(object)
    )
    by_id = run.effects_table(str(expected["gene_id"].iloc[0]), "cell1")
    pd.testing.assert_frame_equal(by_id, part)


def test_a_table_that_would_be_huge_is_refused(run, monkeypatch):
    monkeypatch.setattr(tables_module, "_MOST_ROWS", 100)
    fresh = replace(run)
    with pytest.raises(InputError, match=r"has some 1,2.. rows.*average=True.*blocks\(\)"):
        _ = fresh.table
    monkeypatch.setattr(tables_module, "_MOST_ROWS", 300)
    gene = str(run.shifts["gene"].iloc[0])
    assert len(fresh.effects_table(gene, "cell0")) == 39 * 7


def test_shifts_have_what_is_declared_in_that_order(run):
    declared = [field.name for field in f.shift_fields(run.reads, run.states, run.labels)]
    assert list(run.shifts.columns) == declared
    assert len(run.shifts) == 2 * 2 * (4 + 3)
    for name in ("cell", "gene", "gene_id", "kind", "arm"):
        assert run.shifts[name].dtype == "category"
    assert run.shifts["arm"].cat.categories.tolist() == list(run.arms)
    assert run.shifts["gene_rank"].dtype == "Int32"
    assert run.shifts["genes_in_cell"].dtype == "int32"


def test_arms_stand_in_their_order_whichever_comes_first(cells, model):
    """The first cell has the gene at the front already: its first rows are of a knock-out."""
    first = int(cells.ranked[0][0])
    assert first in cells.ranked[1]
    with pytest.warns(RanklockWarning, match="1 have it there already"):
        run = perturb(cells, model, [str(first)], ["overexpress", "knock-out"])
    assert run.shifts["kind"].iloc[0] == "knock-out"
    assert run.arms == ("move", "hold", "shift", "delete", "mask")
    assert run.shifts["arm"].cat.categories.tolist() == list(run.arms)


def test_ids_are_ids_and_symbols_symbols(run, genes, cells):
    assert set(run.shifts["gene_id"].astype(str)) == {cells.vocabulary.gene(t) for t in genes}
    assert set(run.shifts["gene"].astype(str)) == {cells.vocabulary.symbol(t) for t in genes}
    assert run.perturbations["gene_id"].str.startswith("ENSG").all()
    assert run.genes["gene_id"].str.startswith("ENSG").all()
    assert run.token(cells.vocabulary.symbol(genes[0])) == genes[0]
    with pytest.raises(InputError, match="NOSUCHGENE"):
        run.token("NOSUCHGENE")


def test_knock_out_and_overexpression_of_a_gene_stand_side_by_side(run):
    wide = run.shifts.pivot_table(
        index=["cell", "gene"], columns=["kind", "arm"], values="cosine_distance", observed=True
    )
    assert wide.shape == (4, 7)
    assert wide.notna().all(axis=None)


def test_metadata_of_the_cells(run):
    assert run.cells.index.tolist() == ["cell0", "cell1"]
    assert run.cells["cell_type"].tolist() == ["NK", "B"]


def test_integer_names_of_cells_are_written_as_people_write_them(model):
    cells = cells_of([9, 9], vocabulary(9))
    named = replace(cells, obs=cells.obs.set_axis([15, 21]).assign(donor=[1.0, np.nan]))
    run = perturb(named, model, [str(cells.ranked[0][1])])
    assert set(run.shifts["cell"].astype(str)) == {"15", "21"}
    assert set(run.table["cell"].astype(str)) == {"15", "21"}
    assert [str(name) for name in run.cells.index] == ["15", "21"]
    assert run.row_of("21") == 1


def test_the_parts_open_in_pandas_as_they_are(run):
    shifts = pd.read_parquet(run.folder / "parts" / "shifts-0000.parquet")
    assert shifts["cosine_distance"].tolist() == run.shifts["cosine_distance"].tolist()
    effects = pd.read_parquet(run.folder / "parts" / "effects-0000.parquet")
    assert len(effects) == 8
    assert [len(row) for row in effects["hold_cosine_distance"]] == [40] * 4 + [50] * 4


def test_columns_carry_units_and_meanings(run):
    schema = pq.read_schema(run.folder / "parts" / "effects-0000.parquet")
    about = schema.field("hold_cosine_distance").metadata
    assert about[b"unit"] == "1 − cosine".encode()
    assert about[b"meaning"].startswith(b"of each responder")
    for name in schema.names:
        assert schema.field(name).metadata[b"meaning"]


@pytest.mark.skipif(not importlib.util.find_spec("duckdb"), reason="DuckDB is not installed")
def test_duckdb_gives_the_same_table(run):
    import duckdb

    query = f"""
        select cell, gene_id, unnest(responder_rank) as rank, unnest(hold_cosine_distance) as hold
        from '{run.folder}/parts/effects-*.parquet' where kind = 'knock-out'
    """
    table = duckdb.sql(query).df().dropna()
    ours = run.table[(run.table["arm"] == "hold") & (run.table["kind"] == "knock-out")]
    np.testing.assert_array_equal(np.sort(table["hold"]), np.sort(ours["cosine_distance"]))


@pytest.mark.skipif(not importlib.util.find_spec("polars"), reason="polars is not installed")
def test_polars_gives_the_same_shifts(run):
    import polars

    shifts = polars.read_parquet(run.folder / "parts" / "shifts-*.parquet")
    assert shifts["displacement"].to_list() == run.shifts["displacement"].tolist()


# Figures


def test_the_figure_shows_what_is_asked_for(run):
    gene = str(run.shifts["gene"].iloc[-1])
    title = run.figure(gene, "cell1").get_suptitle()
    assert f"{gene} knocked out of cell cell1" in title.replace("\n", " ")
    assert isinstance(run.figure(), Figure)
    with pytest.raises(InputError, match="NONE"):
        run.figure("NONE")
    with pytest.raises(InputError, match="in nowhere"):
        run.figure(gene, "nowhere")


def test_the_default_example_stands_nearest_the_middle(run):
    gene, cell = run.example()
    rows = run.shifts[run.shifts["gene"] == gene].drop_duplicates("cell")
    length = {"cell0": 40, "cell1": 50}
    off = {row.cell: abs(row.gene_rank / length[row.cell] - 0.5) for row in rows.itertuples()}
    assert cell == min(off, key=off.get)


# Folders


def test_copies_and_reads_back(run, tmp_path):
    again = read_run(run.save(tmp_path / "deep" / "copy"))
    pd.testing.assert_frame_equal(again.table, run.table)
    pd.testing.assert_frame_equal(again.shifts, run.shifts)
    assert again.manifest == run.manifest
    assert again.complete
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["copy"]
    with pytest.raises(OutputError, match="holds a run; name another folder, or replace it"):
        run.save(tmp_path / "deep" / "copy")
    run.save(tmp_path / "deep" / "copy", overwrite=True)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="something other than a run"):
            run.save(tmp_path / "thesis", overwrite=overwrite)
    with pytest.raises(OutputError, match="is a file"):
        run.save(tmp_path / "thesis" / "thesis.tex")


def test_a_run_in_memory_is_saved_as_one_in_a_folder(cells, genes, model, tmp_path, real_figures):
    run = perturb(cells, model, genes[:1])
    folder = run.folder
    run.save(tmp_path / "saved")
    perturb(cells, model, genes[:1], out=tmp_path / "run")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {p.name for p in (tmp_path / "run").iterdir()} - {".locks"}
    for path in (tmp_path / "saved").rglob("*.*"):
        if path.is_file():
            other = tmp_path / "run" / path.relative_to(tmp_path / "saved")
            assert path.read_bytes() == other.read_bytes(), path.name
    del run
    gc.collect()
    assert not folder.exists()
    assert len(read_run(tmp_path / "saved").table)


def test_a_copy_that_fails_leaves_what_was_there(run, tmp_path, monkeypatch):
    run.save(tmp_path / "copy")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    with pytest.raises(OutputError, match="No space left.*nothing of it was kept.*is untouched"):
        run.save(tmp_path / "copy", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    assert read_run(tmp_path / "copy").complete


def test_only_a_run_is_a_run(run, tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(OutputError, match="holds no run of Ranklock"):
            read_run(folder)
    (tmp_path / "manifest.json").write_text('{"format": "ranklock-audit"}')
    with pytest.raises(OutputError, match="of another kind of results"):
        read_run(tmp_path)
    whole = json.loads((run.folder / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**whole, "version": 1}))
    with pytest.raises(OutputError, match="written by another version of Ranklock .1, not"):
        read_run(tmp_path)


def test_what_takes_a_run_says_what_it_was_given(run):
    assert as_run(run) is run
    assert as_run(run.folder).manifest == run.manifest
    assert as_run(str(run.folder)).folder == run.folder
    for given, name in ((5, "int"), (None, "NoneType"), (run.shifts, "DataFrame"), ([run], "list")):
        with pytest.raises(OptionError, match=f"takes a run from .*, not {name}"):
            as_run(given)
    with pytest.raises(OutputError, match="holds no run"):
        as_run("nowhere")


def test_what_it_is_in_a_line(run):
    assert repr(run).startswith(
        "Run: 8 tasks (knock-out, overexpress) in 2 cells, arms delete, hold, mask, shift, move, in"
    )
    assert run.kinds == ("knock-out", "overexpress")
    assert run.progress() == (8, 8)
    with pytest.raises(OptionError, match="has no arm 'nothing'; it has: delete"):
        run.arms_of(["nothing"])
    with pytest.raises(OptionError, match="has no 'inhibit:1'; it has: knock-out"):
        run.arms_of(None, "inhibit:1")
    assert run.arms_of(["hold", "move"], "knock-out") == ("hold",)


# What is true of arms


def test_attention_mask_is_hold(cells, genes, model):
    run = perturb(cells, model, genes, arms=("attention-mask", "hold"))
    by_arm = [
        part["displacement"].to_numpy() for _, part in run.table.groupby("arm", observed=True)
    ]
    np.testing.assert_array_equal(*by_arm)


def test_without_hold_its_alias_decomposes(cells, genes, model):
    alias = perturb(cells, model, genes, arms=("delete", "attention-mask", "shift"))
    plain = perturb(cells, model, genes, arms=("delete", "hold", "shift"))
    np.testing.assert_array_equal(
        alias.table["artefact_share"].dropna(), plain.table["artefact_share"].dropna()
    )


def test_with_random_weights_delete_is_nothing_but_rank_shift(tmp_path):
    # The usual initialisation (0.02), a quarter of V1's width, 256 genes.
    folder = checkpoint(
        tmp_path, tokens=302, layers=3, heads=4, width=64, positions=256, spread=0.02
    )
    cells = cells_of([256], vocabulary(300))
    model = ranklock.load_model(folder, device="cpu")
    gone = perturb(cells, model, [str(cells.ranked[0][128])])
    assert pooled_share(gone) > 0.99
    moved = perturb(cells, model, [str(cells.ranked[0][200])], "overexpress")
    passed = moved.table[moved.table["responder_rank"] < 200]
    whole = passed[passed["arm"] == "move"]
    assert len(whole) == 200
    squared = whole["displacement"].to_numpy(np.float64) ** 2
    assert (whole["artefact_share"] * squared).sum() / squared.sum() > 0.99
    held = passed[passed["arm"] == "hold"]
    assert held["displacement"].median() < 0.01 * whole["displacement"].median()


def pooled_share(run):
    rows = run.shifts.dropna(subset="shift_along_total")
    return rows["shift_along_total"].sum() / rows["displacement_squared"].sum()


def test_the_picture_of_the_report(shared):
    cells = ranklock.read_cells(
        shared / "data" / "genecorpus_500_cells.parquet", shared / "data",
        select=ranklock.Selection(rows=(0,)),
    )  # fmt: skip
    model = ranklock.load_model(shared / "models" / "geneformer-mini-6L", device="cpu")
    run = perturb(cells, model, ["FAM136A"], ["knock-out", "overexpress"])
    gone, moved = (run.shifts[run.shifts["kind"] == kind].set_index("arm") for kind in run.kinds)
    assert gone["gene"].unique().tolist() == ["FAM136A"]
    assert gone["gene_rank"].unique().tolist() == [1000]
    # Medians before and after rank 1000, as ../shared/README.md states them to two digits.
    medians = {
        "delete": (7.6e-7, 8.2e-2),
        "hold": (4.7e-8, 4.2e-8),
        "mask": (4.3e-8, 7.3e-8),
        "shift": (7.6e-7, 8.2e-2),
    }
    for arm, sides in medians.items():
        found = gone.loc[arm, ["median_unshifted", "median_shifted"]].tolist()
        assert found == pytest.approx(sides, rel=0.02)
    assert pooled_share(run) > 0.99
    assert moved["to_rank"].unique().tolist() == [0]
    assert moved.loc["move", "median_shifted"] > 1e4 * moved.loc["move", "median_unshifted"]
    assert moved.loc["hold", "median_shifted"] < 1e-4 * moved.loc["move", "median_shifted"]


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("rank", [0, 19])
def test_first_and_last_rank(model, framed, rank):
    cells = cells_of([20], vocabulary(60, special_frame=framed), special_frame=framed)
    run = perturb(cells, model, [str(cells.ranked[0][rank])])
    hold = run.shifts.set_index("arm").loc["hold"]
    assert hold["gene_rank"] == rank
    above, below = hold["median_unshifted"], hold["median_shifted"]
    assert np.isnan(above if rank == 0 else below)
    assert (below if rank == 0 else above) > 0
    if rank and not framed:
        by_arm = dict(iter(run.table.groupby("arm", observed=True)))
        # Nothing stands below the last gene, so deleting and holding are the same input ...
        np.testing.assert_array_equal(
            by_arm["delete"]["cosine_distance"], by_arm["hold"]["cosine_distance"]
        )
        # ... and the shift moves nobody.
        assert (by_arm["shift"]["displacement"] == 0).all()
        assert (by_arm["hold"]["displacement"] > 0).all()


def test_a_framed_cell_of_one_gene_has_a_cell_shift_and_no_responder(model, tmp_path):
    vocab = vocabulary(60, special_frame=True)
    cells = Cells((np.array([5], np.int32),), pd.DataFrame(index=["one"]), vocab, True, "test")
    run = perturb(cells, model, ["5"], out=tmp_path / "run")
    assert run.table.empty
    assert list(run.table.columns) == COLUMNS
    assert run.shifts.set_index("arm")["displacement"]["hold"] > 0
    assert run.shifts["median_shifted"].isna().all()


def test_backfill_is_one_more_gene_to_attend_to(tmp_path):
    folder = checkpoint(tmp_path, positions=16, spread=0.3)
    cells = cells_of([30], vocabulary(60))
    genes = cells.ranked[0].tolist()
    run = perturb(
        cells, ranklock.load_model(folder, device="cpu"), [str(genes[4])],
        arms=("delete", "hold", "shift", "delete-backfill"),
    )  # fmt: skip
    assert run.manifest.made_from.cells.longer_than_the_input == 1
    assert len(run.table) == 15 * 4
    plain = plain_forward(folder, [*genes[:4], *genes[5:17]], list(range(16)))[:-1]
    base = plain_forward(folder, genes[:16], list(range(16)))[np.arange(16) != 4]
    rows = run.table[run.table["arm"] == "delete-backfill"]
    np.testing.assert_allclose(rows["displacement"], displacement(base, plain), atol=STATE)


@pytest.mark.parametrize("framed", [False, True])
def test_inserting_into_a_full_cell_compares_with_one_cut_by_as_many_genes(tmp_path, framed):
    most = 20
    folder = checkpoint(tmp_path, positions=most + 2 * framed, spread=0.3)
    vocab = vocabulary(60, special_frame=framed)
    cells = cells_of([most], vocab, special_frame=framed)
    genes = cells.ranked[0].tolist()
    lacking = next(token for token in sorted(vocab.genes) if token not in genes)
    model = ranklock.load_model(folder, device="cpu")
    run = perturb(cells, model, [str(lacking)], "to-rank:5", insert=True)
    responders = run.table.groupby("arm", observed=True)["responder"].agg(list)
    assert all(names == [vocab.symbol(t) for t in genes[:-1]] for names in responders)
    assert run.shifts["genes_in_cell"].unique().tolist() == [most - 1]
    assert run.shifts["inserted"].all()
    with pytest.raises(InputError, match="1 have no such rank"):
        perturb(cells, model, [str(lacking)], f"to-rank:{most}", insert=True)


def test_geneformers_number_of_an_insertion_into_a_full_cell(shared):
    """../shared/cases/insert_into_a_full_cell.py: 2,048 genes; the baseline is cut by as many."""
    cells = ranklock.read_cells(
        shared / "data" / "genecorpus_500_cells.parquet", shared / "data",
        select=ranklock.Selection(rows=(0,)),
    )  # fmt: skip
    folder = shared / "models" / "geneformer-mini-6L"
    genes, gene = cells.ranked[0].tolist(), cells.vocabulary.token("SOX2")
    assert len(genes) == 2048
    assert gene not in genes
    after, before = (
        plain_forward(folder, tokens, list(range(len(tokens))), dtype=torch.float32).astype(float)
        for tokens in ([gene, *genes[:-1]], genes[:-1])
    )
    x, y = before.mean(0), after[1:].mean(0)
    right = 1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    # Of a baseline that is not cut it is 2 % more.
    run = perturb(
        cells, ranklock.load_model(folder, device="cpu"), ["SOX2"], "overexpress", arms=("move",),
        insert=True, read="cell",
    )  # fmt: skip
    assert run.shifts["cosine_distance"].item() == pytest.approx(right, rel=1e-3)


def test_where_all_positions_are_alike_no_move_moves_anybody(tmp_path):
    folder = with_constant_positions(checkpoint(tmp_path, spread=0.3))
    model = ranklock.load_model(folder, device="cpu")
    cells = cells_of([40], vocabulary(60))
    moved = perturb(cells, model, [str(cells.ranked[0][30])], "overexpress")
    assert (moved.table["displacement"] == 0).all()
    lacking = next(t for t in sorted(cells.vocabulary.genes) if t not in cells.ranked[0])
    put_in = perturb(cells, model, [str(lacking)], "overexpress", insert=True)
    by_arm = put_in.table.groupby("arm", observed=True)["displacement"]
    assert by_arm.max()["shift"] == 0
    assert by_arm.min()["move"] > 0
    assert pooled_share(put_in) == pytest.approx(0, abs=1e-3)


def test_a_move_to_the_end_shifts_as_the_knock_out_does(tmp_path):
    folder = with_smooth_positions(checkpoint(tmp_path, spread=0.3))
    cells = cells_of([40], vocabulary(60))
    run = perturb(
        cells, ranklock.load_model(folder, device="cpu"), [str(cells.ranked[0][10])],
        ["knock-out", "to-rank:39"], arms=("shift",),
    )  # fmt: skip
    # `shift` of the two is one input but for who stands where: others alike, the gene at its rank.
    by_kind = [part["displacement"] for _, part in run.table.groupby("kind", observed=True)]
    np.testing.assert_array_equal(*by_kind)


def test_sets_are_perturbed_together_in_the_order_named(tmp_path):
    folder = checkpoint(tmp_path, spread=0.3)
    cells = cells_of([25], vocabulary(60))
    genes = cells.ranked[0].tolist()
    named = [genes[12], genes[3], genes[20]]
    symbols = [cells.vocabulary.symbol(token) for token in named]
    run = perturb(
        cells, ranklock.load_model(folder, device="cpu"), symbols, ["knock-out", "overexpress"],
        together=True,
    )  # fmt: skip
    assert run.perturbations["gene"].unique().tolist() == ["+".join(symbols)]
    assert not set(run.table["responder"]) & set(symbols)
    moved = run.shifts[run.shifts["kind"] == "overexpress"]
    assert moved["gene_ranks"].unique().tolist() == ["12+3+20"]
    assert moved["to_ranks"].unique().tolist() == ["0+1+2"]
    rest = [token for token in genes if token not in named]
    after = plain_forward(folder, [*named, *rest], list(range(25)))[3:]
    base = plain_forward(folder, genes, list(range(25)))
    base = base[[genes.index(token) for token in rest]]
    rows = run.table[run.table["arm"] == "move"]
    np.testing.assert_allclose(rows["displacement"], displacement(base, after), atol=STATE)


def test_a_partial_knock_down_is_encoding_the_counts_anew():
    """../shared/cases/partial_knock_down.py: half of a gene's counts, ranked anew in each cell."""
    import anndata as ad

    place, file = ranklock.demo.model_folder(), ranklock.demo.vocabulary_file()
    counts = ad.read_h5ad(ranklock.demo.cells_file())
    chosen = counts[counts.obs.cell_type == "CD14+ Monocyte"][:4].copy()
    halved = chosen.copy()
    dense = halved.X.toarray().astype(float)
    dense[:, list(halved.var_names).index("FTL")] *= 0.5
    halved.X = dense
    before = ranklock.read_cells(chosen, file)
    after = ranklock.read_cells(halved, file, values="normalised")
    token = before.vocabulary.token("FTL")
    run = perturb(before, ranklock.load_model(place), ["FTL"], "factor:0.5", arms=("move",))
    for row in range(4):
        old, new = before.ranked[row].tolist(), after.ranked[row].tolist()
        shift = run.shifts[run.shifts["cell"] == before.names[row]].squeeze()
        assert shift["gene_rank"] == old.index(token)
        assert shift["to_rank"] == new.index(token)
        x, y = (
            np.delete(plain_forward(place, genes, list(range(len(genes)))), genes.index(token), 0)
            for genes in (old, new)
        )
        x, y = x.mean(0), y.mean(0)
        right = 1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y)
        assert shift["cosine_distance"] == pytest.approx(right, rel=1e-3)


def test_several_start_states_all_count(model):
    """../shared/cases/repeated_start.py: the cells perturbed are those of both."""
    cells = cells_of([12] * 6, vocabulary())
    cells = replace(cells, obs=cells.obs.assign(cell_type=["NK", "CD34+", "B", "NK", "B", "T"]))
    states = ranklock.States("cell_type", ["NK", "CD34+"], "B")
    run = perturb(cells, model, "all", states=states, read="cell", arms=("hold",))
    assert run.cells["cell_type"].tolist() == ["NK", "CD34+", "NK"]
    assert set(run.shifts["cell"].astype(str)) == {"cell0", "cell1", "cell3"}
    assert run.shifts["towards_goal"].notna().all()
    assert run.manifest.states.asked.start == ("NK", "CD34+")
    assert [(c.state, c.cells, c.drawn_of) for c in run.manifest.states.cells] == [("B", 2, 2)]


def test_a_sample_chooses_what_is_perturbed_and_not_what_the_goal_is_of(model):
    cells = cells_of([12] * 8, vocabulary())
    cells = replace(cells, obs=cells.obs.assign(state=["a", "b"] * 4))
    states = ranklock.States("state", "a", "b")
    whole = perturb(cells, model, states=states, read="cell", arms=("hold",))
    part = perturb(
        cells, model, states=states, read="cell", arms=("hold",),
        select=ranklock.Selection(sample=2, seed=3),
    )  # fmt: skip
    assert len(part.cells) == 2
    keys = ["cell", "gene", "towards_goal"]
    both = part.shifts[keys].merge(whole.shifts[keys], on=keys[:2], suffixes=("", "_whole"))
    assert len(both) == 24
    np.testing.assert_allclose(both["towards_goal"], both["towards_goal_whole"], atol=1e-6)


def test_each_donors_goal_is_its_own(model):
    cells = cells_of([12] * 8, vocabulary())
    obs = cells.obs.assign(state=["a", "b"] * 4, donor=["p"] * 4 + ["q"] * 4)
    within = ranklock.States("state", "a", "b", within="donor")
    run = perturb(replace(cells, obs=obs), model, states=within, read="cell", arms=("hold",))
    alone = ranklock.States("state", "a", "b")
    for rows in (slice(0, 4), slice(4, 8)):
        part = replace(cells, obs=obs)[rows]
        own = perturb(part, model, states=alone, read="cell", arms=("hold",))
        ours = run.shifts[run.shifts["cell"].isin(part.names)]
        np.testing.assert_allclose(ours["towards_goal"], own.shifts["towards_goal"], atol=1e-6)
    assert {(c.donor, c.cells) for c in run.manifest.states.cells} == {("p", 2), ("q", 2)}


def test_a_run_that_is_a_run_of_another_results_folder(run, tmp_path):
    run.save(tmp_path / "audit" / "run")
    assert read_run(tmp_path / "audit").manifest == run.manifest
    assert isinstance(as_run(tmp_path / "audit"), Run)
