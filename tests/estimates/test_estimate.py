import errno
import json
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import BertForMaskedLM, BertForSequenceClassification

import ranklock
from ranklock.cells import Cells
from ranklock.errors import InputError, OptionError, OutputError
from ranklock.estimates import parts as parts_module
from ranklock.estimates import plan as plan_module
from ranklock.estimates.text import describe_estimates
from ranklock.run.locks import locked
from tests.helpers import cells_of, checkpoint, vocabulary

ALL = {"verify": 60, "recheck": 0, "verify_cells": 100, "min_cells": 1}
FLOOD = 20  # token of a gene that washes over every other one


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Figures take most of the time of small estimates; tests/estimates/test_figure.py draws."""

    def write_nothing(figure, path):
        path.write_bytes(b"")

    monkeypatch.setattr("ranklock.estimates.write.draw", write_nothing)
    monkeypatch.setattr("ranklock.page.style.draw", write_nothing)


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
    """A checkpoint in which what moves is small, so that the first order holds."""
    return checkpoint(tmp_path_factory.mktemp("smooth"), layers=3, bias_spread=0.1)


@pytest.fixture(scope="module")
def model(smooth):
    return ranklock.load_model(smooth, device="cpu")


@pytest.fixture
def cells():
    cells = cells_of([40, 25, 33, 50, 38, 45, 41], vocabulary())
    cells.obs["state"] = ["start"] * 5 + ["goal"] * 2
    cells.obs["donor"] = list("aabbccd")
    return cells


GOAL = ranklock.States("state", "start", "goal")


def estimated(cells, model, out, **options):
    return ranklock.estimate(cells, model, out, **{"progress": False, **options})


def measured_whole(cells, model, **options):
    """A run of every knock-out under hold."""
    return ranklock.perturb(cells, model, arms=["hold"], progress=False, **options)


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".locks" not in path.parts
    }


def flooding(folder):
    """A checkpoint in which one gene, where a cell has it, is most of what the others hold.

    Two dimensions are zero but in that gene; a head passes their difference on, a thousandfold.
    So the norms behind it are far from the line that they are to first order.
    """
    checkpoint(folder, layers=3)
    model = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        embeddings = model.bert.embeddings
        for table in (embeddings.word_embeddings, embeddings.position_embeddings,
                      embeddings.token_type_embeddings):  # fmt: skip
            table.weight[:, :2] = 0.0
        embeddings.word_embeddings.weight[FLOOD, :2] = torch.tensor([0.1, -0.1])
        attention = model.bert.encoder.layer[0].attention
        attention.self.value.weight[0] = 0.0
        attention.self.value.weight[0, :2] = torch.tensor([1e3, -1e3])
        attention.output.dense.weight[:, 0] = torch.linspace(-1, 1, 16)
    model.save_pretrained(folder)
    return folder


def test_measured_everywhere_it_is_the_run(tmp_path, cells, model):
    estimates = estimated(cells, model, tmp_path / "out", goal=GOAL, **ALL)
    run = measured_whole(cells, model, read=["cell"], states=GOAL)
    exact = run.shifts.groupby("gene", observed=True)["towards_goal"]
    table = estimates.table.set_index("gene")
    assert set(table["chosen"]) <= {"largest", "suspicious", "random"}
    # Two runs of float32 forwards, of changes of a cosine.
    np.testing.assert_allclose(table["effect"], exact.mean()[table.index], atol=1e-7)
    np.testing.assert_allclose(table["standard_error"], exact.sem()[table.index], atol=1e-7)
    assert (table["verified_in"] == table["n_cells"]).all()
    assert estimates.complete
    assert not estimates.checks["fell_back"].any()
    assert estimates.run.complete
    assert estimates.run.manifest.asked.purpose == "estimate"
    assert len(estimates.cell("cell1")) == 25


@pytest.mark.parametrize("question", [{"potency": True}, {"gene_set": ["GENE3", "GENE8"]}])
def test_mean_effects_are_those_of_the_run(tmp_path, cells, model, question):
    estimates = estimated(cells, model, tmp_path / "out", probes=64, **question, **ALL)
    run = measured_whole(cells, model, read=["genes"], responders=question.get("gene_set", "all"))
    means = run.table.groupby(["cell", "gene"], observed=True)["cosine_distance"].mean()
    # Of a gene that is the only responder of a cell there is no effect in that cell.
    means = means.dropna().groupby("gene", observed=True).mean()
    table = estimates.table.set_index("gene")
    assert set(table.index) == set(means.index)
    np.testing.assert_allclose(table["effect"], means[table.index], rtol=1e-3)
    # 64 random signs say how large an effect is to √(2/64).
    assert np.corrcoef(np.log(table["estimate"]), np.log(table["effect"]))[0, 1] > 0.9


def test_each_cells_goal_is_that_of_its_donor(tmp_path, cells, model):
    """Donor a and b have a goal cell each; c has none, and its cell is left out."""
    cells.obs["state"] = ["start", "goal", "start", "goal", "start", "start", "start"]
    cells.obs["donor"] = list("aabbbca")
    goal = ranklock.States("state", "start", "goal", within="donor")
    with pytest.warns(ranklock.RanklockWarning):
        estimates = estimated(cells, model, tmp_path / "within", goal=goal, **ALL)
    assert estimates.manifest.planned.cells == 4
    assert {left.donor for left in estimates.manifest.states.left_out} == {"c"}
    verified = estimates.verified.set_index(["cell", "gene"])
    for donor in "ab":
        of_donor = cells[np.flatnonzero(cells.obs["donor"] == donor)]
        alone = estimated(of_donor, model, tmp_path / donor, goal=GOAL, **ALL)
        expected = alone.verified.set_index(["cell", "gene"])
        rows = verified.loc[expected.index]
        # Forwards that were packed otherwise.
        np.testing.assert_allclose(rows["estimate"], expected["estimate"], atol=1e-7)
        np.testing.assert_allclose(rows["exact"], expected["exact"], atol=1e-7)
    everywhere = estimated(cells, model, tmp_path / "everywhere", goal=GOAL, **ALL)
    between = everywhere.verified.set_index(["cell", "gene"]).loc[verified.index]
    assert (between["estimate"] - verified["estimate"]).abs().max() > 1e-5


def test_a_cell_with_bad_estimates_is_found_and_measured_whole(tmp_path, cells):
    model = ranklock.load_model(flooding(tmp_path / "model"), device="cpu")
    with_flood = {cells.names[row] for row, genes in enumerate(cells.ranked[:5]) if FLOOD in genes}
    assert 0 < len(with_flood) < 5
    few = {"goal": GOAL, "verify": 10, "min_cells": 1}
    estimates = estimated(cells, model, tmp_path / "out", recheck=10, **few)
    checks = estimates.checks.set_index("cell")
    assert set(checks.index[checks["bad"]]) == with_flood
    assert set(checks.index[checks["fell_back"]]) == with_flood
    assert f"In {len(with_flood)} of 5 cells" in estimates.manifest.outcome.statements[0]
    shifts = measured_whole(cells, model, read=["cell"], states=GOAL).shifts
    exact = shifts[shifts["cell"].isin(with_flood)]
    measured = estimates.verified[estimates.verified["fell_back"]]
    pairs = measured.merge(exact[["cell", "gene", "towards_goal"]], on=["cell", "gene"])
    assert len(pairs) == len(exact)
    np.testing.assert_allclose(pairs["exact"], pairs["towards_goal"], atol=1e-6)
    # A gene that only such cells have is known exactly.
    table = estimates.table[estimates.table["verified_in"] == estimates.table["n_cells"]]
    means = shifts.groupby("gene", observed=True)["towards_goal"].mean()
    np.testing.assert_allclose(table["effect"], means[table["gene"]], atol=1e-6)

    fewer = estimated(cells, model, tmp_path / "fewer", recheck=60, fallback_cells=0, **few)
    assert set(fewer.checks.loc[fewer.checks["bad"], "cell"]) == with_flood
    assert not fewer.checks["fell_back"].any()
    assert "were not (--fallback-cells)" in fewer.manifest.outcome.statements[0]


def test_where_nothing_is_linear_every_cell_is_measured_whole(tmp_path, cells):
    folder = checkpoint(tmp_path / "model", layers=3, spread=1.0, bias_spread=0.1)
    model = ranklock.load_model(folder, device="cpu")
    few = {"verify": 10, "recheck": 10, "min_cells": 1}
    estimates = estimated(cells, model, tmp_path / "out", goal=GOAL, **few)
    assert estimates.checks["fell_back"].all()
    shifts = measured_whole(cells, model, read=["cell"], states=GOAL).shifts
    means = shifts.groupby("gene", observed=True)["towards_goal"].mean()
    effects = estimates.table.set_index("gene")["effect"]
    np.testing.assert_allclose(effects, means[effects.index], atol=1e-5)
    assert [recall.value for recall in estimates.manifest.outcome.missed.recall] == [1.0]


def test_results_do_not_depend_on_the_order_of_cells(tmp_path, cells, model):
    options = {"potency": True, "verify": 8, "recheck": 8, "verify_cells": 2, "probes": 4}
    orders = {"given": np.arange(7), "turned": np.arange(6, -1, -1)}
    results = [estimated(cells[o], model, tmp_path / name, **options) for name, o in orders.items()]
    tables = [estimates.table.sort_values("gene", ignore_index=True) for estimates in results]
    # Means over cells are sums in another order; forwards are packed otherwise.
    pd.testing.assert_frame_equal(*tables, rtol=1e-4, atol=1e-7)
    given, turned = (set(zip(e.verified["cell"], e.verified["gene"], strict=True)) for e in results)
    assert given == turned


def test_two_runs_give_the_same_files(tmp_path, cells, model):
    for name in ("first", "second"):
        estimated(cells, model, tmp_path / name, goal=GOAL, verify=5, recheck=5)
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(plan_module, "_GENES_IN_PART", 60)


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_work_goes_on_with_the_parts_that_are_missing_or_damaged(
    tmp_path, cells, model, small_parts, damage, monkeypatch
):
    options = {"potency": True, "probes": 2, "verify": 4, "recheck": 4}
    estimated(cells, model, tmp_path / "sound", **options)
    expected = files_of(tmp_path / "sound")
    damaged = tmp_path / "damaged"
    shutil.copytree(tmp_path / "sound", damaged)
    part = damaged / "by_cell" / "part-000001.parquet"
    content = bytearray(part.read_bytes())
    if damage == "missing":
        part.unlink()
    else:
        content[len(content) // 3] ^= 1
        part.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    manifest = damaged / "manifest.json"
    unfinished = json.loads(manifest.read_text())
    unfinished |= {"complete": False, "outcome": None}
    manifest.write_text(json.dumps(unfinished))
    written = []
    write = parts_module.Parts.write

    def noted(self, number, table):
        written.append(number)
        write(self, number, table)

    monkeypatch.setattr(parts_module.Parts, "write", noted)
    estimated(cells, model, damaged, **options)
    assert written == [1]
    assert files_of(damaged) == expected


def test_a_full_disk_keeps_what_was_done(tmp_path, cells, model, small_parts, monkeypatch):
    write = parts_module.pq.write_table
    calls = []

    def full(*arguments, **options):
        calls.append("by_cell" in str(arguments[1]) or "part-0" in str(arguments[1]))
        if sum(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(parts_module.pq, "write_table", full)
        with pytest.raises(OutputError, match="what was done is kept"):
            estimated(cells, model, tmp_path / "out", potency=True, probes=2)
    assert len(list((tmp_path / "out" / "by_cell").iterdir())) == 2
    begun = ranklock.read_estimates(tmp_path / "out")
    assert not begun.complete
    assert "unfinished" in repr(begun)
    with pytest.raises(OutputError, match="unfinished"):
        _ = begun.table
    assert estimated(cells, model, tmp_path / "out", potency=True, probes=2).complete


def test_another_process_at_a_part_is_waited_for(tmp_path, cells, model, small_parts, capsys):
    options = {"potency": True, "probes": 2}
    plan = plan_module.plan_estimates(cells, model, **options)
    locks = tmp_path / "out" / ".locks"
    locks.mkdir(parents=True)
    with locked(locks / "part-1.lock"):
        estimates = estimated(cells, model, tmp_path / "out", **options)
        assert not estimates.complete
        assert estimates.parts.done() == len(plan.parts) - 1
        assert "another process is at work" in capsys.readouterr().err
    assert estimated(cells, model, tmp_path / "out", **options).complete


def test_what_is_measured_can_change_and_estimates_stay(tmp_path, cells, model):
    options = {"potency": True, "probes": 2, "verify": 4, "recheck": 4}
    estimated(cells, model, tmp_path / "out", **options)
    part = tmp_path / "out" / "by_cell" / "part-000000.parquet"
    before = part.stat().st_mtime_ns
    more = options | {"verify": 8}
    with pytest.raises(OutputError, match="keeps the estimates"):
        estimated(cells, model, tmp_path / "out", **more)
    estimates = estimated(cells, model, tmp_path / "out", **more, overwrite=True)
    assert (estimates.table["chosen"] == "largest").sum() == 8
    assert part.stat().st_mtime_ns == before
    with pytest.raises(OutputError, match="other values of question"):
        estimated(cells, model, tmp_path / "out", **options | {"probes": 3})
    estimated(cells, model, tmp_path / "out", **options | {"probes": 3}, overwrite=True)
    assert part.stat().st_mtime_ns > before
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt, which no estimates wrote"):
        estimated(cells, model, tmp_path / "out", **options, overwrite=True)
    (tmp_path / "mine" / "by_cell").mkdir(parents=True)
    with pytest.raises(OutputError, match="something other than estimates"):
        estimated(cells, model, tmp_path / "mine", **options, overwrite=True)


def test_a_changed_table_is_refused_and_made_again(tmp_path, cells, model):
    options = {"potency": True, "probes": 2, "verify": 4, "recheck": 4}
    estimated(cells, model, tmp_path / "out", **options)
    table = tmp_path / "out" / "estimates.parquet"
    table.write_bytes(b"mine")
    with pytest.raises(OutputError, match="not what was written"):
        _ = ranklock.read_estimates(tmp_path / "out").table
    assert len(estimated(cells, model, tmp_path / "out", **options).table)


@pytest.mark.parametrize("special", [False, True])
def test_a_classifier_is_measured_as_transformers_does(tmp_path, special):
    folder = checkpoint(tmp_path / "plain", layers=2, spread=0.1, bias_spread=0.1)
    torch.manual_seed(1)
    plain = BertForSequenceClassification.from_pretrained(
        folder, num_labels=3, id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2}
    ).eval()
    with torch.no_grad():
        plain.bert.pooler.dense.weight.normal_(std=0.3)
        plain.classifier.weight.normal_()
    plain.save_pretrained(tmp_path / "tuned")
    cells = cells_of([20, 12], vocabulary(special_frame=special), special_frame=special)
    model = ranklock.load_model(tmp_path / "tuned", device="cpu")
    estimates = estimated(cells, model, tmp_path / "out", classifier="b", **ALL)
    table = estimates.verified

    def logit(tokens, positions):
        with torch.no_grad():
            out = plain(
                input_ids=torch.tensor([tokens]), position_ids=torch.tensor([positions]),
                attention_mask=torch.ones(1, len(tokens)),
            )  # fmt: skip
        return out.logits[0, 1].item()

    for row, name in enumerate(cells.names):
        genes = cells.ranked[row].tolist()
        tokens = [2, *genes, 3] if special else genes
        base = logit(tokens, list(range(len(tokens))))
        for rank in (0, 1, len(genes) - 1):
            kept = [i for i in range(len(tokens)) if i != rank + special]
            exact = logit([tokens[i] for i in kept], kept) - base
            knocked_out = table[(table["cell"] == name) & (table["gene_rank"] == rank)]
            assert knocked_out["exact"].item() == pytest.approx(exact, abs=1e-5)
            if rank == 0 and not special:  # what the head then reads is another gene
                assert knocked_out["estimate"].item() == pytest.approx(exact, abs=1e-5)
    assert estimates.manifest.asked.layer == 0
    assert np.corrcoef(table["estimate"], table["exact"])[0, 1] > 0.9


def test_regulators_are_sought_in_cells_that_have_the_gene(tmp_path, model):
    cells = cells_of([20, 30, 25, 28], vocabulary())
    gene = cells.vocabulary.symbol(int(cells.ranked[0][3]))
    having = sum(cells.ranked[0][3] in genes for genes in cells.ranked)
    assert having < 4
    with pytest.warns(ranklock.RanklockWarning, match="left out"):
        estimates = estimated(cells, model, tmp_path / "out", responder=gene, probes=64, **ALL)
    assert estimates.manifest.planned.cells == having
    assert gene not in set(estimates.table["gene"])
    table = estimates.run.table
    exact = table[table["cell"] == "cell0"].set_index("gene")["cosine_distance"]
    verified = estimates.verified[estimates.verified["cell"] == "cell0"].set_index("gene")["exact"]
    np.testing.assert_allclose(verified[exact.index], exact, rtol=1e-6)


def test_donors_are_known_to_the_run_and_a_change_of_them_is_seen(tmp_path, cells, model):
    options = {"potency": True, "probes": 2, "donor": "donor", "min_cells": 2}
    first = estimated(cells, model, tmp_path / "out", **options)
    assert first.run.manifest.asked.donor == "donor"
    assert first.cells["donor"].tolist() == list("aabbccd")
    cells.obs["donor"] = ["a", "b", "c", "d", "e", None, np.nan]
    with pytest.raises(OutputError, match="measures anew"):
        estimated(cells, model, tmp_path / "out", **options)
    # What is ranked are cells, with a donor or without.
    second = estimated(cells, model, tmp_path / "out", **options, overwrite=True)
    pd.testing.assert_frame_equal(second.table, first.table)
    assert second.cells["donor"].isna().sum() == 2
    cells.obs["donor"] = None
    with pytest.raises(InputError, match="No cell of test cells has a donor"):
        estimated(cells, model, tmp_path / "none", **options)


def test_what_was_measured_and_is_gone_is_measured_again(tmp_path, cells, model):
    options = {"potency": True, "probes": 2, "verify": 4, "recheck": 4}
    assert estimated(cells, model, tmp_path / "out", **options).complete
    shutil.rmtree(tmp_path / "out" / "run")
    assert estimated(cells, model, tmp_path / "out", **options).run.complete


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(
    "ranked",
    [[[10, 11], [12, 13]], [[10, 11], [12, 13], [12, 14], [15, 16]], [[10, 11]]],
    ids=["none shared", "one in two of four", "one cell"],
)
@pytest.mark.parametrize("question", ["potency", "goal", "set"])
def test_cells_that_share_no_gene_are_ranked_with_a_note(
    tmp_path, smooth, ranked, special, question
):
    """No gene is in --min-cells cells: those in the most are ranked."""
    tokens = [np.array(genes, np.int32) for genes in (*ranked, ranked[0])]
    obs = pd.DataFrame({"state": ["start"] * len(ranked) + ["goal"]})
    cells = Cells(
        tuple(tokens), obs.set_index("cell" + obs.index.astype(str)),
        vocabulary(special_frame=special), special_frame=special, source="few genes",
    )  # fmt: skip
    model = ranklock.load_model(smooth, device="cpu")
    options = {
        "goal": {"goal": GOAL},
        "potency": {"potency": True, "probes": 2},
        "set": {"gene_set": [10, 11, 12, 13, 14, 15, 16], "probes": 2},
    }[question]
    cells = cells if question == "goal" else cells[: len(ranked)]
    estimates = estimated(cells, model, tmp_path / "out", **options)
    most = max(Counter(token for genes in ranked for token in genes).values())
    ranked_genes = estimates.table[estimates.table["ranked"]]
    assert len(ranked_genes)
    assert (ranked_genes["n_cells"] == most).all()
    noted = f"No gene is in 5 cells (--min-cells): those in {most} or more are ranked."
    assert (noted in estimates.manifest.outcome.statements) == (len(ranked) > 1)
    shown = "\n".join(describe_estimates(estimates))
    assert "The" in shown


def test_a_cell_that_takes_long_is_a_part_of_its_own(cells, model, monkeypatch):
    monkeypatch.setattr(plan_module, "_FLOP_IN_PART", 1)
    plan = plan_module.plan_estimates(cells, model, potency=True)
    assert plan.parts == tuple((row,) for row in range(7))


def test_a_single_cell_is_ranked_without_an_error(tmp_path, cells, model):
    few = {"potency": True, "probes": 2, "verify": 5, "recheck": 6}
    estimates = estimated(cells[:1], model, tmp_path / "out", **few)
    assert estimates.table["ranked"].all()
    assert estimates.table["standard_error"].isna().all()
    outcome = estimates.manifest.outcome
    assert not any("--min-cells" in sentence for sentence in outcome.statements)
    assert np.isfinite(outcome.missed.recall[0].value)


def test_effects_are_listed_and_called_no_findings(tmp_path, cells, model):
    estimates = estimated(cells, model, tmp_path / "out", goal=GOAL, verify=5, recheck=5)
    assert not {"p", "q", "t", "specific", "finding"} & set(estimates.table)
    sizes = estimates.table.loc[estimates.table["ranked"], "effect"].abs()
    assert sizes.is_monotonic_decreasing
    last = describe_estimates(estimates)[-1]
    assert "a large effect is no finding" in last
    assert "--impostors 12" in last
    with pytest.raises(InputError, match="without impostors"):
        ranklock.responders(estimates.run, progress=False)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, OptionError, "one question"),
        ({"potency": True, "classifier": "a"}, OptionError, "one question"),
        ({"classifier": "a"}, InputError, "no classifier of cells"),
        ({"classifier": "a", "layer": -1}, OptionError, "last layer"),
        ({"potency": True, "layer": -3}, OptionError, "attend to each other"),
        ({"potency": True, "probes": 0}, OptionError, "needs one at least"),
        ({"potency": True, "verify": 0}, OptionError, "--verify is 0"),
        ({"potency": True, "arms": ("mask",)}, OptionError, "the edit alone"),
        ({"potency": True, "donor": "lab"}, InputError, "no column 'lab'"),
        ({"gene_set": ["TP53"]}, InputError, "TP53"),
        ({"gene_set": []}, OptionError, "names no gene"),
        ({"gene_set": "GENE3"}, OptionError, "is a list"),
        ({"responder": "TP53"}, InputError, "TP53"),
        ({"responder": "GENE3", "potency": True}, OptionError, "one question"),
        (
            {"goal": ranklock.States("state", "start", "goal", ["third"])},
            OptionError,
            "one goal",
        ),
        ({"goal": ranklock.States("state", "start", "nowhere")}, InputError, "nowhere"),
    ],
)
def test_what_does_not_fit_is_said_before_any_work(tmp_path, cells, model, options, error, message):
    with pytest.raises(error, match=message):
        estimated(cells, model, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_model_that_gives_nan_is_refused(tmp_path, cells):
    folder = checkpoint(tmp_path / "model")
    broken = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        broken.bert.encoder.layer[0].attention.self.key.weight[0, 0] = np.nan
    broken.save_pretrained(folder)
    with pytest.raises(InputError, match="NaN or infinity"):
        estimated(
            cells, ranklock.load_model(folder, device="cpu"), tmp_path / "out",
            potency=True, layer=0,
        )  # fmt: skip
