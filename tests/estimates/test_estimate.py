import errno
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import BertForMaskedLM, BertForSequenceClassification

import ranklock
from ranklock.errors import InputError, OptionError, OutputError
from ranklock.estimates import parts as estimates_module
from ranklock.estimates import plan as screen_plan
from ranklock.run.old_store import locked
from tests.helpers import cells_of, checkpoint, vocabulary

ALL = {"verify": 60, "recheck": 0, "verify_cells": 100, "min_cells": 1}
FLOOD = 20  # token of a gene that washes over every other one


@pytest.fixture(scope="module")
def smooth(tmp_path_factory):
    """A checkpoint in which what moves is small, so that the first order holds."""
    return checkpoint(tmp_path_factory.mktemp("smooth"), layers=3, bias_spread=0.1)


@pytest.fixture(scope="module")
def model(smooth):
    return ranklock.load_model(smooth, device="cpu")


@pytest.fixture
def cells():
    found = cells_of([40, 25, 33, 50, 38, 45, 41], vocabulary())
    found.obs["state"] = ["start"] * 5 + ["goal"] * 2
    found.obs["donor"] = list("aabbccd")
    return found


GOAL = ranklock.StateQuestion("state", "start", "goal")


def screen(cells, model, out, **options):
    return ranklock.screen(cells, model, out, **{"progress": False, **options})


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".locks" not in path.parts and "effects.zarr" not in path.parts
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


def test_measured_everywhere_it_is_the_sweep(tmp_path, cells, model):
    found = screen(cells, model, tmp_path / "screen", goal=GOAL, **ALL)
    sweep = ranklock.sweep(
        cells, model, tmp_path / "sweep", arms=["hold"], states=GOAL, progress=False
    )
    exact = sweep.knockouts().groupby("gene", observed=True)["hold_towards_goal"]
    table = found.table.set_index("gene")
    assert set(table["chosen"]) <= {"largest", "suspicious", "random"}
    # Two runs of float32 forwards, of changes of a cosine.
    np.testing.assert_allclose(table["effect"], exact.mean()[table.index], atol=1e-7)
    np.testing.assert_allclose(table["standard_error"], exact.sem()[table.index], atol=1e-7)
    assert (table["verified_in"] == table["n_cells"]).all()
    assert found.complete
    assert not found.checks["fell_back"].any()
    assert found.sweep.complete
    assert len(found.cell("cell1")) == 25


@pytest.mark.parametrize("question", [{"potency": True}, {"gene_set": ["GENE3", "GENE8"]}])
def test_mean_effects_are_those_of_the_sweep(tmp_path, cells, model, question):
    found = screen(cells, model, tmp_path / "screen", probes=64, **question, **ALL)
    sweep = ranklock.sweep(
        cells, model, tmp_path / "sweep", arms=["hold"],
        responders=question.get("gene_set"), progress=False,
    )  # fmt: skip
    expected = {}
    for name in sweep.cells.index:
        try:
            one = sweep.cell(str(name))
        except InputError:  # which has none of the responders
            continue
        for gene, mean in zip(one.obs["gene"], one.to_df("hold").mean(axis=1), strict=True):
            expected.setdefault(str(gene), []).append(mean)
    # Of a gene that is the only responder of a cell there is no effect in that cell.
    means = pd.DataFrame.from_dict(expected, orient="index").mean(axis=1).dropna()
    table = found.table.set_index("gene")
    assert set(table.index) == set(means.index)
    np.testing.assert_allclose(table["effect"], means[table.index], rtol=1e-3)
    # 64 random signs say how large an effect is to √(2/64).
    assert np.corrcoef(np.log(table["estimate"]), np.log(table["effect"]))[0, 1] > 0.9


def test_a_cell_with_bad_estimates_is_found_and_measured_whole(tmp_path, cells):
    model = ranklock.load_model(flooding(tmp_path / "model"), device="cpu")
    with_flood = {cells.names[row] for row, genes in enumerate(cells.ranked[:5]) if FLOOD in genes}
    assert 0 < len(with_flood) < 5
    found = screen(cells, model, tmp_path / "out", goal=GOAL, verify=10, recheck=10, min_cells=1)
    checks = found.checks.set_index("cell")
    assert set(checks.index[checks["bad"]]) == with_flood
    assert set(checks.index[checks["fell_back"]]) == with_flood
    assert f"In {len(with_flood)} of 5 cells" in found.manifest["statements"][0]
    sweep = ranklock.sweep(
        cells, model, tmp_path / "sweep", arms=["hold"], states=GOAL, progress=False
    )
    exact = sweep.knockouts()
    exact = exact[exact["cell"].isin(with_flood)]
    measured = found.verified[found.verified["fell_back"]]
    both = measured.merge(exact, on=["cell", "gene"])
    assert len(both) == len(exact)
    np.testing.assert_allclose(both["exact"], both["hold_towards_goal"], atol=1e-6)
    # A gene that only such cells have is known exactly.
    whole = found.table[found.table["verified_in"] == found.table["n_cells"]].set_index("gene")
    means = sweep.knockouts().groupby("gene", observed=True)["hold_towards_goal"].mean()
    np.testing.assert_allclose(whole["effect"], means[whole.index], atol=1e-6)

    fewer = screen(
        cells, model, tmp_path / "fewer", goal=GOAL, verify=10, recheck=60, min_cells=1,
        fallback_cells=0,
    )  # fmt: skip
    assert set(fewer.checks.loc[fewer.checks["bad"], "cell"]) == with_flood
    assert not fewer.checks["fell_back"].any()
    assert "were not (--fallback-cells)" in fewer.manifest["statements"][0]


def test_where_nothing_is_linear_every_cell_is_measured_whole(tmp_path, cells):
    folder = checkpoint(tmp_path / "model", layers=3, spread=1.0, bias_spread=0.1)
    model = ranklock.load_model(folder, device="cpu")
    found = screen(cells, model, tmp_path / "out", goal=GOAL, verify=10, recheck=10, min_cells=1)
    assert found.checks["fell_back"].all()
    sweep = ranklock.sweep(
        cells, model, tmp_path / "sweep", arms=["hold"], states=GOAL, progress=False
    )
    means = sweep.knockouts().groupby("gene", observed=True)["hold_towards_goal"].mean()
    effects = found.table.set_index("gene")["effect"]
    np.testing.assert_allclose(effects, means[effects.index], atol=1e-5)
    assert [recall["value"] for recall in found.manifest["missed"]["recall"]] == [1.0]


def test_results_do_not_depend_on_the_order_of_cells(tmp_path, cells, model):
    options = {"potency": True, "verify": 8, "recheck": 8, "verify_cells": 2, "probes": 4}
    one = screen(cells, model, tmp_path / "one", **options)
    other = screen(cells[np.arange(6, -1, -1)], model, tmp_path / "other", **options)
    by_gene = [found.table.sort_values("gene", ignore_index=True) for found in (one, other)]
    # Means over cells are sums in another order; forwards are packed otherwise.
    pd.testing.assert_frame_equal(*by_gene, rtol=1e-4, atol=1e-7)
    pairs = [set(zip(f.verified["cell"], f.verified["gene"], strict=True)) for f in (one, other)]
    assert pairs[0] == pairs[1]


def test_two_runs_give_the_same_files(tmp_path, cells, model):
    for name in ("one", "other"):
        screen(cells, model, tmp_path / name, goal=GOAL, verify=5, recheck=5)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "other")


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(screen_plan, "_GENES_IN_PART", 60)


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_screen_goes_on_with_the_parts_that_are_missing_or_damaged(
    tmp_path, cells, model, small_parts, damage, monkeypatch
):
    options = {"potency": True, "probes": 2, "verify": 4, "recheck": 4}
    screen(cells, model, tmp_path / "whole", **options)
    expected = files_of(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "other")
    part = tmp_path / "other" / "estimates" / "part-000001.parquet"
    content = bytearray(part.read_bytes())
    if damage == "missing":
        part.unlink()
    else:
        content[len(content) // 3] ^= 1
        part.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    manifest = tmp_path / "other" / "manifest.json"
    unfinished = json.loads(manifest.read_text())
    unfinished["complete"] = False
    manifest.write_text(json.dumps(unfinished))
    written = []
    write = estimates_module.Estimates.write

    def noted(self, number, table):
        written.append(number)
        write(self, number, table)

    monkeypatch.setattr(estimates_module.Estimates, "write", noted)
    screen(cells, model, tmp_path / "other", **options)
    assert written == [1]
    assert files_of(tmp_path / "other") == expected


def test_a_full_disk_keeps_what_was_done(tmp_path, cells, model, small_parts, monkeypatch):
    write = estimates_module.pq.write_table
    calls = []

    def full(*arguments, **options):
        calls.append("part-" in str(arguments[1]))
        if sum(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(estimates_module.pq, "write_table", full)
        with pytest.raises(OutputError, match="what was done is kept"):
            screen(cells, model, tmp_path / "out", potency=True, probes=2)
    assert len(list((tmp_path / "out" / "estimates").iterdir())) == 2
    begun = ranklock.read_screen(tmp_path / "out")
    assert not begun.complete
    assert "unfinished" in repr(begun)
    with pytest.raises(OutputError, match="unfinished"):
        _ = begun.table
    assert screen(cells, model, tmp_path / "out", potency=True, probes=2).complete


def test_another_process_at_a_part_is_waited_for(tmp_path, cells, model, small_parts, capsys):
    options = {"potency": True, "probes": 2}
    plan = screen_plan.plan_screen(cells, model, **options)
    locks = tmp_path / "out" / ".locks"
    locks.mkdir(parents=True)
    with locked(locks / "part-1.lock"):
        found = screen(cells, model, tmp_path / "out", **options)
        assert not found.complete
        assert found.parts.done() == len(plan.parts) - 1
        assert "another process is at work" in capsys.readouterr().err
    assert screen(cells, model, tmp_path / "out", **options).complete


def test_what_is_measured_can_change_and_estimates_stay(tmp_path, cells, model):
    options = {"potency": True, "probes": 2, "verify": 4, "recheck": 4}
    screen(cells, model, tmp_path / "out", **options)
    part = tmp_path / "out" / "estimates" / "part-000000.parquet"
    before = part.stat().st_mtime_ns
    more = options | {"verify": 8}
    with pytest.raises(OutputError, match="keeps its estimates"):
        screen(cells, model, tmp_path / "out", **more)
    found = screen(cells, model, tmp_path / "out", **more, overwrite=True)
    assert (found.table["chosen"] == "largest").sum() == 8
    assert part.stat().st_mtime_ns == before
    with pytest.raises(OutputError, match="begun differently .question"):
        screen(cells, model, tmp_path / "out", **options | {"probes": 3})
    screen(cells, model, tmp_path / "out", **options | {"probes": 3}, overwrite=True)
    assert part.stat().st_mtime_ns > before
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt, which no screen wrote"):
        screen(cells, model, tmp_path / "out", **options, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "estimates").mkdir()
    with pytest.raises(OutputError, match="something other than a screen"):
        screen(cells, model, tmp_path / "mine", **options, overwrite=True)


def test_a_changed_table_is_refused_and_made_again(tmp_path, cells, model):
    options = {"potency": True, "probes": 2, "verify": 4, "recheck": 4}
    screen(cells, model, tmp_path / "out", **options)
    table = tmp_path / "out" / "screen.parquet"
    table.write_bytes(b"mine")
    with pytest.raises(OutputError, match="not what the screen wrote"):
        _ = ranklock.read_screen(tmp_path / "out").table
    assert len(screen(cells, model, tmp_path / "out", **options).table)


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
    found = screen(cells, model, tmp_path / "out", classifier="b", **ALL)
    table = found.verified

    def logit(tokens, positions):
        with torch.no_grad():
            out = plain(
                input_ids=torch.tensor([tokens]), position_ids=torch.tensor([positions]),
                attention_mask=torch.ones(1, len(tokens)),
            )  # fmt: skip
        return out.logits[0, 1].item()

    for row, name in enumerate(cells.names):
        genes = cells.ranked[row].tolist()
        whole = [2, *genes, 3] if special else genes
        base = logit(whole, list(range(len(whole))))
        for rank in (0, 1, len(genes) - 1):
            place = rank + special
            kept = [i for i in range(len(whole)) if i != place]
            exact = logit([whole[i] for i in kept], kept) - base
            mine = table[(table["cell"] == name) & (table["gene_rank"] == rank)]
            assert mine["exact"].item() == pytest.approx(exact, abs=1e-5)
            if rank == 0 and not special:  # what the head then reads is another gene
                assert mine["estimate"].item() == pytest.approx(exact, abs=1e-5)
    assert found.manifest["asked"]["layer"] == 0
    estimated = table.dropna(subset="estimate")
    assert np.corrcoef(estimated["estimate"], estimated["exact"])[0, 1] > 0.9


def test_regulators_are_sought_in_cells_that_have_the_gene(tmp_path, model):
    cells = cells_of([20, 30, 25, 28], vocabulary())
    gene = cells.vocabulary.symbol(int(cells.ranked[0][3]))
    having = sum(cells.ranked[0][3] in genes for genes in cells.ranked)
    assert having < 4
    with pytest.warns(ranklock.RanklockWarning, match="left out"):
        found = ranklock.regulators(
            gene, cells, model, tmp_path / "out", probes=64, progress=False, **ALL
        )
    assert found.manifest["plan"]["cells"] == having
    assert gene not in set(found.table["gene"])
    one = found.sweep.cell("cell0")[:, cells.vocabulary.find(gene)]
    exact = one.to_df("hold").iloc[:, 0].set_axis(one.obs["gene"].astype(str)).dropna()
    mine = found.verified[found.verified["cell"] == "cell0"].set_index("gene")["exact"]
    np.testing.assert_allclose(mine[exact.index], exact, rtol=1e-6)


def test_donors_are_replicates(tmp_path, cells, model):
    found = screen(
        cells, model, tmp_path / "out", potency=True, probes=2, donor="donor", min_cells=2
    )
    assert found.manifest["replicates"] == 4
    assert found.table["n_replicates"].max() == 4


def test_donors_are_known_and_a_change_of_them_is_seen(tmp_path, cells, model):
    options = {"potency": True, "probes": 2, "donor": "donor", "min_cells": 2}
    first = screen(cells, model, tmp_path / "out", **options).table
    cells.obs["donor"] = list("abcdefg")
    with pytest.raises(OutputError, match="what is measured"):
        screen(cells, model, tmp_path / "out", **options)
    other = screen(cells, model, tmp_path / "out", **options, overwrite=True)
    assert other.manifest["replicates"] == 7
    assert other.cells["donor"].tolist() == list("abcdefg")
    assert not other.table["p"].equals(first["p"])
    cells.obs.loc["cell2", "donor"] = None
    with pytest.raises(InputError, match="1 of the cells that are screened have no donor"):
        screen(cells, model, tmp_path / "none", **options)


def test_what_was_measured_and_is_gone_is_measured_again(tmp_path, cells, model):
    options = {"potency": True, "probes": 2, "verify": 4, "recheck": 4}
    found = screen(cells, model, tmp_path / "out", **options)
    assert set(found.manifest["calibration"]) >= {"tested", "swapped_found"}
    shutil.rmtree(tmp_path / "out" / "sweep")
    assert screen(cells, model, tmp_path / "out", **options).sweep.complete


def test_a_cell_that_takes_long_is_a_part_of_its_own(cells, model, monkeypatch):
    monkeypatch.setattr(screen_plan, "_FLOP_IN_PART", 1)
    plan = screen_plan.plan_screen(cells, model, potency=True)
    assert plan.parts == tuple((row,) for row in range(7))


def test_a_single_cell_is_ranked_and_not_tested(tmp_path, cells, model):
    found = screen(cells[:1], model, tmp_path / "out", potency=True, probes=2, verify=5, recheck=6)
    assert found.table["q"].isna().all()
    assert any("Nothing is tested" in text for text in found.manifest["statements"])
    assert found.manifest["missed"]["recall"][0]["value"] is not None


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
        ({"potency": True, "arms": ("mask",)}, OptionError, "effects of hold"),
        ({"potency": True, "donor": "lab"}, InputError, "no column 'lab'"),
        ({"gene_set": ["TP53"]}, InputError, "TP53"),
        ({"goal": ranklock.StateQuestion("state", "start", "nowhere")}, InputError, "nowhere"),
    ],
)
def test_what_does_not_fit_is_said_before_any_work(tmp_path, cells, model, options, error, message):
    with pytest.raises(error, match=message):
        screen(cells, model, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_model_that_gives_nan_is_refused(tmp_path, cells):
    folder = checkpoint(tmp_path / "model")
    broken = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        broken.bert.encoder.layer[0].attention.self.key.weight[0, 0] = np.nan
    broken.save_pretrained(folder)
    with pytest.raises(InputError, match="NaN or infinity"):
        screen(
            cells, ranklock.load_model(folder, device="cpu"), tmp_path / "out",
            potency=True, layer=0,
        )  # fmt: skip
