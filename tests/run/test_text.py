import re
from dataclasses import replace

import numpy as np
import pytest

import ranklock
from ranklock.errors import InputError
from ranklock.run import execute as execute_module
from ranklock.run.run import read_run
from ranklock.run.text import describe_gene, describe_run
from tests.helpers import cells_of, vocabulary

pytestmark = pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return ranklock.load_model(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="module")
def cells():
    cells = cells_of([12, 12, 9, 11], vocabulary(20))
    return replace(cells, obs=cells.obs.assign(state=["a", "a", "b", "c"]))


@pytest.fixture(scope="module")
def run(model, cells):
    return ranklock.perturb(
        cells, model, do=["knock-out", "overexpress"], progress=False,
        states=ranklock.States("state", "a", "b", ("c",)),
    )  # fmt: skip


def column_of(lines, head, place=0):
    """First words of one column of the table under a heading."""
    start = next(i for i, line in enumerate(lines) if line.startswith(head)) + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("  "):
            break
        rows.append(re.split(r"\s{2,}", line.strip())[place])
    return rows


def test_perturbations_that_shift_the_cell_most_stand_first(run):
    lines = describe_run(run, top=3)
    shown = column_of(lines, "Those that shift the cell most")
    rows = run.shifts[(run.shifts["arm"] == "delete")].groupby("gene", observed=True)
    means = rows["cosine_distance"].mean()
    counts = rows["cell"].count()
    largest = means.nlargest(3)
    assert shown == [f"{gene} {largest[gene]:.1e} ({counts[gene]})" for gene in largest.index]


def test_towards_a_state_signs_are_said_and_both_ends_shown(run):
    lines = describe_run(run, top=4)
    shown = column_of(lines, "Towards b, + nearer")
    rows = run.shifts[run.shifts["arm"] == "delete"].groupby("gene", observed=True)
    means = rows["towards_goal"].mean().sort_values(ascending=False)
    expected = [*means.index[:2], *means.index[-2:]]
    assert [line.split()[0] for line in shown] == expected
    signs = [line.split()[1][0] for line in shown]
    assert signs == ["+" if means[gene] >= 0 else "-" for gene in expected]
    assert any(line.startswith("Towards c, + nearer") for line in lines)
    assert "From a (state):" in lines
    assert "  towards b: mean of 1 cells" in lines


def test_knock_out_and_overexpression_stand_side_by_side(run):
    lines = describe_run(run, top=3)
    start = next(i for i, line in enumerate(lines) if line.startswith("Both ways towards b"))
    assert lines[start + 1].split() == ["gene", "knock-out", "overexpress"]
    gene, out, over = lines[start + 2].split()
    for kind, arm, said in (("knock-out", "delete", out), ("overexpress", "move", over)):
        rows = run.shifts[(run.shifts["kind"] == kind) & (run.shifts["arm"] == arm)]
        mean = rows.loc[rows["gene"] == gene, "towards_goal"].mean()
        assert said == f"{mean:+.1e}"


def test_few_perturbations_are_told_one_by_one(model, cells):
    gene = cells.vocabulary.symbol(
        next(t for t in cells.ranked[0].tolist() if all(t in g for g in cells.ranked))
    )
    run = ranklock.perturb(cells, model, [gene], ["knock-out", "to-rank:3"], progress=False)
    lines = describe_run(run)
    assert any(line.startswith(f"{gene} knocked out in 4 cells, at rank") for line in lines)
    assert any(line.endswith("to rank 3") for line in lines)
    medians = next(line for line in lines if line.startswith("  delete")).split()
    of_arm = run.shifts[run.shifts["arm"] == "delete"]
    for said, column in zip(
        medians[1:], ("median_shifted", "median_unshifted", "cosine_distance"), strict=True
    ):
        assert said == format(of_arm[column].median(), ".2e")
    share = of_arm["shift_along_total"].sum() / of_arm["displacement_squared"].sum()
    assert any(f"Artefact share of delete: {share:.3f}" in line for line in lines)
    assert lines[-1] == run.manifest.computed.accuracy.said()
    assert lines[-1].startswith("Error of the displacement in float32, median in ")


def test_genes_left_out_are_counted(model, cells):
    run = ranklock.perturb(cells, model, ["GENE1", "NOSUCHGENE"], progress=False)
    assert describe_run(run)[-1] == "Genes left out: 1, with the reasons in left_out.csv"


def test_responders_are_in_order_of_their_effect(run):
    gene = str(run.shifts["gene"].iloc[0])
    lines = describe_gene(run, gene, top=4)
    shown = column_of(lines, "Responders that move most")
    effects = [float(entry.split()[1].rstrip("*")) for entry in shown]
    assert len(effects) == 4
    assert effects == sorted(effects, reverse=True)
    largest = float(np.nanmax(run.effects(genes=[gene], average=True).layers["delete"]))
    assert effects[0] == pytest.approx(largest, rel=0.06)  # two digits are shown


def test_a_gene_that_only_one_kind_could_be_done_to(model, cells):
    first = cells.vocabulary.symbol(int(cells.ranked[0][0]))
    run = ranklock.perturb(cells[0], model, do=["overexpress", "knock-out"], progress=False)
    lines = describe_gene(run, first)
    assert lines[0].startswith(f"{first} (ENSG")
    assert lines[0].endswith("knocked out in 1 cell, at mean rank 0")
    with pytest.raises(InputError, match="no gene NONE"):
        describe_gene(run, "NONE")


def test_a_gene_that_was_put_into_all_cells_has_no_rank(model):
    cells = cells_of([12, 9], vocabulary())
    lacking = next(t for t in sorted(cells.vocabulary.genes)
                   if all(t not in genes for genes in cells.ranked))  # fmt: skip
    run = ranklock.perturb(cells, model, [str(lacking)], "overexpress", insert=True, progress=False)
    symbol = cells.vocabulary.symbol(lacking)
    assert describe_gene(run, symbol)[0].endswith("overexpressed in 2 cells")
    assert (
        f"{symbol} overexpressed in 2 cells, to rank 0 (put into 2 that lacked it)"
        in describe_run(run)
    )


def test_an_unfinished_run_is_said_to_be(model, cells, tmp_path, small_shards, monkeypatch):
    compute = execute_module._computed

    def stopped(plan, shard, batch_size):
        if shard == 2:
            raise KeyboardInterrupt
        return compute(plan, shard, batch_size)

    with monkeypatch.context() as patch:
        patch.setattr(execute_module, "_computed", stopped)
        with pytest.raises(KeyboardInterrupt):
            ranklock.perturb(cells, model, out=tmp_path / "run", progress=False)
        assert "8 of 44 done" in describe_run(read_run(tmp_path / "run"))[0]
    assert "complete" in describe_run(
        ranklock.perturb(cells, model, out=tmp_path / "run", progress=False)
    )[0]  # fmt: skip


def test_where_genes_were_not_read_there_is_no_table_of_them(model, cells):
    run = ranklock.perturb(cells, model, read="cell", progress=False)
    assert not [line for line in describe_run(run) if "Artefact share" in line]
    with pytest.raises(InputError, match="not genes; run it with --read genes"):
        describe_gene(run, "GENE1")
