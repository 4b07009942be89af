import hashlib
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.errors import InputError, OptionError, OutputError, RanklockWarning
from ranklock.genes.network import Network
from tests import helpers


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return ranklock.load_model(str(tiny_checkpoint), device="cpu")


@pytest.fixture(scope="module")
def vocabulary():
    return helpers.vocabulary(60)


def audit(cells, model, out, **options):
    options = {"budget": 240, "progress": False, **options}
    return ranklock.audit(cells, model, out, **options)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".locks" not in path.parts
    }


def test_two_runs_give_the_same_files(model, vocabulary, tmp_path):
    cells = helpers.cells_of([50, 40, 45], vocabulary)
    one, two = (audit(cells, model, tmp_path / name) for name in ("one", "two"))
    assert digests(one.folder) == digests(two.folder)
    before = digests(one.folder)
    audit(cells, model, tmp_path / "one")  # the same command again changes nothing
    assert digests(one.folder) == before
    other = audit(cells, model, tmp_path / "three", seed=1)
    assert not other.table("knockouts").equals(one.table("knockouts"))


CODE = """
import ranklock
from tests import helpers
cells = helpers.cells_of([60] * 12, helpers.vocabulary(60))
model = ranklock.load_model({model!r}, device="cpu")
ranklock.audit(cells, model, {out!r}, budget={budget!r}, progress=False)
"""


def started(**values):
    """Another process that audits the same cells."""
    code = CODE.format(**{name: str(value) for name, value in values.items()})
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], stderr=subprocess.PIPE
    )


def test_a_killed_audit_goes_on_and_ends_the_same(tmp_path, tiny_checkpoint, model, vocabulary):
    cells = helpers.cells_of([60] * 12, vocabulary)
    whole = audit(cells, model, tmp_path / "whole", budget=2400)
    process = started(model=tiny_checkpoint, out=tmp_path / "killed", budget=2400)
    parts = tmp_path / "killed" / "run" / ".shards"
    while process.poll() is None and not list(parts.glob("shifts-*")):
        time.sleep(0.005)
    process.kill()
    process.communicate()
    again = audit(cells, model, tmp_path / "killed", budget=2400)
    assert digests(again.folder) == digests(whole.folder)


@pytest.mark.slow
def test_two_processes_make_one_audit(tmp_path, tiny_checkpoint):
    # A time is as many knock-outs as the machine is fast just then: they agree on one sample.
    options = {"model": tiny_checkpoint, "out": tmp_path / "out", "budget": "3s"}
    processes = [started(**options) for _ in range(2)]
    errors = [process.communicate()[1].decode() for process in processes]
    ended = [process.returncode == 0 for process in processes]
    assert any(ended)
    for fine, error in zip(ended, errors, strict=True):
        assert fine or "Another process is at work" in error
    assert ranklock.read_audit(tmp_path / "out").run.complete


def test_another_audit_is_not_mixed_in(model, vocabulary, tmp_path):
    cells = helpers.cells_of([40, 40], vocabulary)
    audit(cells, model, tmp_path / "out")
    with pytest.raises(OutputError, match="another audit, begun with other values of budget"):
        audit(cells, model, tmp_path / "out", budget=100)
    with pytest.raises(OutputError, match="another audit, begun with other values of cells"):
        audit(cells[:1], model, tmp_path / "out")
    replaced = audit(cells, model, tmp_path / "out", budget=100, overwrite=True)
    assert replaced.content["sample"]["knockouts"] < 50
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        audit(cells, model, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        audit(cells, model, tmp_path / "file")


def test_the_shift_towards_a_goal_is_geneformers(tiny_audit, tiny_checkpoint):
    """cos(after, goal) − cos(before, goal), from plain forwards in float64."""
    cells = helpers.cells_of([50, 50, 45, 40, 50, 30], helpers.vocabulary(55))

    def mean(tokens, positions, keep):
        return helpers.plain_forward(tiny_checkpoint, tokens, positions)[keep].mean(axis=0)

    def cosine(x, y):
        return x @ y / np.linalg.norm(x) / np.linalg.norm(y)

    def whole(row):
        tokens = cells.ranked[row].tolist()
        return mean(tokens, list(range(len(tokens))), slice(None))

    goal = np.mean([whole(4), whole(5)], axis=0)
    table = tiny_audit.table("knockouts")
    arms = [table[table["arm"] == arm].groupby("cell").nth(3) for arm in ("delete", "hold")]
    for row in pd.concat(arms).to_dict("records"):
        tokens = cells.ranked[cells.names.index(row["cell"])].tolist()
        rank = row["gene_rank"]
        others = [i for i in range(len(tokens)) if i != rank]
        rest = [tokens[i] for i in others]
        before = mean(tokens, list(range(len(tokens))), others)
        positions = others if row["arm"] == "hold" else list(range(len(rest)))
        expected = cosine(mean(rest, positions, slice(None)), goal) - cosine(before, goal)
        # float32 forwards: cosines of mean embeddings err by some 1e-7.
        assert row["towards_goal"] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    "lengths", [[60], [30], [2], [3, 2], [1, 0, 10], [50, 50]], ids=lambda x: "-".join(map(str, x))
)
def test_small_inputs_give_a_shorter_report(model, vocabulary, tmp_path, lengths):
    found = audit(helpers.cells_of(lengths, vocabulary), model, tmp_path / "out", budget=400)
    assert found.report.read_text().startswith("<!")
    verdict = found.verdict["answer"]
    if max(lengths) <= 10:
        assert verdict["step"].startswith("Not answered")
        assert (
            "recommended" in verdict["arms"]
            or "was run beside it" in verdict["arms"]
            or ("leave open" in verdict["arms"])
        )
        assert not verdict["arms"].startswith("Yes")
    if len(lengths) == 1:
        assert "One cell" in found.content["sample"]["uncertain"][0]
        assert "one cell" in verdict["genes"] or verdict["genes"].startswith("Not answered")


def test_cells_without_a_shared_gene(model, vocabulary, tmp_path):
    cells = helpers.cells_of([20, 20, 20], vocabulary)
    genes = np.array(sorted(vocabulary.tokens.values()), dtype=np.int32)
    object.__setattr__(cells, "ranked", tuple(genes[20 * i : 20 * i + 20] for i in range(3)))
    found = audit(cells, model, tmp_path / "out", budget=400)
    assert "too few genes are in several cells" in found.verdict.loc["genes", "answer"]
    assert "none was tested" in found.verdict.loc["genes", "answer"]


def test_cells_between_special_tokens(tmp_path):
    folder = helpers.checkpoint(tmp_path / "model", spread=0.3)
    vocabulary = helpers.vocabulary(50, special_frame=True)
    cells = helpers.cells_of([45, 30], vocabulary, special_frame=True)
    found = audit(cells, ranklock.load_model(str(folder), device="cpu"), tmp_path / "out")
    assert found.verdict.loc["rankings", "answer"].startswith("Under delete")


@pytest.mark.parametrize(
    "arms", [("hold",), ("delete",), ("delete", "hold"), ("mask", "attention-mask"), ("shift",)]
)
def test_any_choice_of_arms(model, vocabulary, tmp_path, arms):
    cells = helpers.cells_of([40, 50, 40], vocabulary)
    found = audit(cells, model, tmp_path / "out", arms=arms)
    runs = {"hold" if arm == "attention-mask" else arm for arm in arms}
    assert set(found.content["step"]["arms"]) == runs
    if "delete" not in arms:
        assert found.content["arms"]["outcome"] == "unknown"


@pytest.mark.parametrize(("budget", "most"), [("1", 1), ("40", 10), ("2s", 10_000)])
def test_a_budget_is_kept_and_the_uncertainty_said(model, vocabulary, tmp_path, budget, most):
    cells = helpers.cells_of([50] * 4, vocabulary)
    found = audit(cells, model, tmp_path / "out", budget=budget)
    sample = found.content["sample"]
    assert sample["knockouts"] <= most
    if sample["knockouts"] < 200:
        assert any("were knocked out: those" in text for text in sample["uncertain"])


def test_a_run_is_audited_without_a_forward(model, vocabulary, tmp_path, monkeypatch):
    cells = helpers.cells_of([40, 30], vocabulary)
    run = ranklock.perturb(cells, model, out=tmp_path / "run", progress=False)
    monkeypatch.setattr("ranklock.engine.tasks.measure_groups", None)
    monkeypatch.setattr("ranklock.run.execute.measure_groups", None)
    for source in (run, run.folder, str(run.folder)):
        found = ranklock.audit(source, out=tmp_path / "audit", progress=False)
        assert found.content["sample"]["knockouts"] == 70
        assert found.run.folder == run.folder
    assert not found.content["sample"]["uncertain"] or "fewer than three" in str(
        found.content["sample"]["uncertain"]
    )
    with pytest.raises(OptionError, match="run's own folder"):
        ranklock.audit(run, out=tmp_path / "run" / "audit")


def test_an_audits_own_run_says_what_the_audit_says(tiny_audit, tmp_path):
    again = ranklock.audit(tiny_audit.folder, out=tmp_path / "again", progress=False)
    columns = ["cell", "gene_id", "arm", "step", "towards_goal"]
    tables = [audited.table("knockouts")[columns] for audited in (tiny_audit, again)]
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (7, {}, "This takes a run from .* not int"),
        (None, {"model": "a model"}, "leave out the model .* instead of NoneType"),
        ("cells", {"model": None}, "needs a model from ranklock.load_model"),
        ("cells", {"out": None}, "Name a folder"),
    ],
)
def test_what_is_no_cells_and_no_run_is_said(vocabulary, tmp_path, source, options, message):
    given = helpers.cells_of([30], vocabulary) if source == "cells" else source
    with pytest.raises(OptionError, match=message):
        ranklock.audit(given, **{"out": tmp_path / "out", "progress": False, **options})
    assert not (tmp_path / "out").exists()


def test_of_a_run_of_several_kinds_knock_outs_are_audited_and_that_is_said(
    model, vocabulary, tmp_path
):
    cells = helpers.cells_of([40, 30], vocabulary)
    do = ["knock-out", "overexpress", "inhibit:1"]
    run = ranklock.perturb(cells, model, do=do, out=tmp_path / "run", progress=False)
    found = ranklock.audit(run, out=tmp_path / "audit", progress=False)
    sample = found.content["sample"]
    assert sample["knockouts"] == 70
    said = "also holds overexpress, inhibit:1, which was not audited"
    assert any(said in text for text in sample["uncertain"])
    assert said in found.report.read_text()
    moves = ranklock.perturb(cells, model, do="overexpress", progress=False)
    with pytest.raises(OptionError, match="no knock-outs"):
        ranklock.audit(moves, out=tmp_path / "moves")
    assert not (tmp_path / "moves").exists()


def test_several_start_states_and_alternatives(model, vocabulary, tmp_path):
    cells = helpers.cells_of([40, 30, 50, 45, 30], vocabulary)
    cells.obs["state"] = ["a", "b", "goal", "c", "d"]
    states = ranklock.States("state", ("a", "b"), "goal", ("c",))
    found = audit(cells, model, tmp_path / "out", states=states)
    assert set(found.table("knockouts")["cell"]) == {"cell0", "cell1"}
    assert found.run.states == ("goal", "c")
    assert found.content["sample"]["cells_given"] == 2
    assert found.content["rankings"]["goal"]["what"] == "shift towards the goal"
    lead = "Start state: state=a or b; goal state: goal, the mean of 1 cells."
    assert lead in found.report.read_text()
    other = ranklock.States("state", ("a", "b"), "goal", ("d",))
    with pytest.raises(OutputError, match="other values of states"):
        audit(cells, model, tmp_path / "out", states=other)


def test_each_cell_goes_towards_the_goal_of_its_own_donor(model, vocabulary, tmp_path):
    cells = helpers.cells_of([40, 30, 50, 45, 30, 35], vocabulary)
    cells.obs["state"] = ["a", "a", "b", "b", "b", "a"]
    cells.obs["donor"] = ["x", "y", "x", "y", "y", "z"]
    states = ranklock.States("state", ("a",), "b", within="donor")
    with pytest.warns(RanklockWarning, match="z "):
        found = audit(cells, model, tmp_path / "out", states=states)
    table = found.table("knockouts")
    assert set(table["cell"]) == {"cell0", "cell1"}
    for number, donor in enumerate("xy"):
        rows = [i for i in range(6) if cells.obs["donor"].iloc[i] == donor]
        alone = ranklock.States("state", ("a",), "b")
        single = audit(cells[rows], model, tmp_path / donor, states=alone, budget=1000)
        same = table[table["cell"] == f"cell{number}"].merge(
            single.table("knockouts"), on=["cell", "gene_id", "arm"], how="left"
        )
        np.testing.assert_allclose(same["towards_goal_x"], same["towards_goal_y"], atol=2e-6)


def test_cells_of_a_state_are_paid_from_the_budget(model, vocabulary, tmp_path):
    cells = helpers.cells_of([40] * 40, vocabulary)
    cells.obs["state"] = ["start"] * 10 + ["goal"] * 30
    states = ranklock.States("state", ("start",), "goal")
    found = audit(cells, model, tmp_path / "out", states=states, budget=130)
    assert found.run.manifest.planned.forwards <= 100


@pytest.mark.parametrize(("read", "unanswered"), [("cell", "step"), ("genes", "rankings")])
def test_what_a_run_did_not_read_is_not_answered(model, vocabulary, tmp_path, read, unanswered):
    cells = helpers.cells_of([40, 30], vocabulary)
    run = ranklock.perturb(cells, model, read=read, progress=False)
    found = ranklock.audit(run, out=tmp_path / "audit", progress=False)
    assert found.content[unanswered] is None
    assert found.verdict.loc[unanswered, "answer"].startswith("Not answered")
    assert not found.verdict.loc["rankings" if read == "cell" else "step", "answer"].startswith(
        "Not answered"
    )


def test_how_a_runs_genes_were_chosen_is_said(model, vocabulary, tmp_path):
    cells = helpers.cells_of([40, 30], vocabulary)
    common = sorted(set(cells.ranked[0].tolist()) & set(cells.ranked[1].tolist()))
    genes = [vocabulary.symbol(token) for token in common]
    run = ranklock.perturb(cells, model, genes, responders=genes[:5], progress=False)
    found = ranklock.audit(run, out=tmp_path / "out", progress=False)
    uncertain = " ".join(found.content["sample"]["uncertain"])
    assert "The genes of the run were named" in uncertain
    assert "effects on 5 genes alone" in uncertain


def test_an_unfinished_run_is_audited_as_far_as_it_is_there(model, vocabulary, tmp_path):
    cells = helpers.cells_of([60] * 6, vocabulary)
    run = ranklock.perturb(cells, model, out=tmp_path / "run", progress=False)
    manifest = replace(run.manifest, planned=replace(run.manifest.planned, tasks=1000))
    found = ranklock.audit(type(run)(run.folder, manifest), out=tmp_path / "out", progress=False)
    assert "The run is not finished" in str(found.content["sample"]["uncertain"])


def test_what_does_not_fit_is_refused_before_any_work(model, vocabulary, tmp_path):
    cells = helpers.cells_of([40, 30], vocabulary)
    cells.obs["state"] = ["a", "b"]
    unknown = Network(pd.DataFrame({"source": ["X"], "target": ["Y"]}), "links", "0")
    for message, options in (
        ("no column 'type' in obs", {"states": ranklock.States("type", ("a",), "b")}),
        (
            "No cell has state=c; there are a, b",
            {"states": ranklock.States("state", ("c",), "b")},
        ),
        ("No link of links", {"network": unknown}),
        ("neither a number", {"budget": "x"}),
        ("none of png, svg", {"figures": ["pdf"]}),
    ):
        with pytest.raises(InputError, match=message):
            audit(cells, model, tmp_path / "out", **options)
    with pytest.raises(InputError, match="has two genes"):
        audit(helpers.cells_of([1, 0], vocabulary), model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_regulators_that_cannot_be_judged_leave_the_rest(model, vocabulary, tmp_path):
    cells = helpers.cells_of([40, 30], vocabulary)
    symbols = [vocabulary.symbol(token) for token in sorted(vocabulary.genes)]
    few = Network(pd.DataFrame({"source": symbols[:3], "target": symbols[3:6]}), "few", "0")
    found = audit(cells, model, tmp_path / "out", network=few)
    assert found.content["links"] is None
    assert "five known targets" in found.verdict.loc["links", "answer"]
    assert found.content["step"] is not None


def test_what_is_damaged_is_said(model, vocabulary, tmp_path):
    found = audit(helpers.cells_of([40, 30], vocabulary), model, tmp_path / "out")
    with pytest.raises(InputError, match="no table 'nothing'"):
        found.table("nothing")
    (found.folder / "tables" / "genes.parquet").write_bytes(b"PAR1")
    with pytest.raises(OutputError, match="is damaged"):
        found.table("genes")
    (found.folder / "audit.json").write_text("{")
    with pytest.raises(OutputError, match="holds no audit"):
        ranklock.read_audit(found.folder)
    shutil.rmtree(found.folder / "tables")
    again = audit(helpers.cells_of([40, 30], vocabulary), model, tmp_path / "out")
    assert len(again.table("genes"))
