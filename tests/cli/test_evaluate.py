import json

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import ranklock
from ranklock.cli import app
from ranklock.genes.vocabulary import write_vocabulary
from tests import helpers


def call(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_checkpoint):
    folder = tmp_path_factory.mktemp("evaluate")
    vocabulary = helpers.vocabulary(60)
    cells = helpers.cells_of([55] * 6, vocabulary)
    pd.DataFrame({"input_ids": [genes.tolist() for genes in cells.ranked]}).to_parquet(
        folder / "cells.parquet"
    )
    write_vocabulary(vocabulary, folder / "vocabulary.json")
    result = call("perturb", folder / "cells.parquet", "--model", tiny_checkpoint, "--vocabulary",
                  folder / "vocabulary.json", "--device", "cpu", "--genes", "all",
                  "--arms", "hold,shift", "--out", folder / "run")  # fmt: skip
    assert result.exit_code == 0, result.output
    null = ranklock.permuted(ranklock.load_model(tiny_checkpoint, device="cpu"))
    ranklock.perturb(cells, null, arms=["hold", "shift"], out=folder / "null", progress=False)
    effects = ranklock.read_run(folder / "run").effects(average=True)
    specific = np.log(effects.layers["hold"])
    specific = specific - np.nanmean(specific, axis=0) - np.nanmean(specific, axis=1)[:, None]
    rows = []
    for row, gene in enumerate(effects.obs_names[:12]):
        top = np.argsort(np.nan_to_num(-specific[row], nan=9.0))[:8]
        for column, responder in enumerate(effects.var_names):
            rows.append({"perturbation": gene, "gene": responder, "logFC": float(column in top),
                         "pvals_adj": 1e-4 if column in top else 0.7})  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "de.csv", index=False)
    return folder


def test_what_truly_changed_is_found_beyond_the_baselines(folder, tmp_path):
    out = tmp_path / "out"
    result = call("evaluate", folder / "run", "--truth", folder / "de.csv", "--out", out)
    assert result.exit_code == 0, result.output
    evaluation = ranklock.read_evaluation(out)
    assert evaluation.layers["hold"].perturbed == 12
    assert evaluation.layers["hold"].verdict == "adds"
    assert evaluation.layers["shift"].verdict == "nothing found"
    assert (out / "evaluation.png").stat().st_size > 10_000
    assert evaluation.knock_out_layers["hold"].p < 0.01
    assert evaluation.null is None
    assert "No null model beside it" in result.stdout
    shown = call("show", out)
    assert shown.stdout in result.stdout
    assert call("evaluate", folder / "run", "--truth", folder / "de.csv",
                "--out", out).exit_code == 4  # fmt: skip


def test_the_null_model_is_judged_beside_the_run(folder, tmp_path):
    out = tmp_path / "out"
    result = call("evaluate", folder / "run", "--truth", folder / "de.csv", "--out", out,
                  "--null-run", folder / "null")  # fmt: skip
    assert result.exit_code == 0, result.output
    evaluation = ranklock.read_evaluation(out)
    alone = ranklock.evaluate(folder / "null", folder / "de.csv")
    for name, summary in alone.layers.items():
        assert evaluation.null.layers[name].auroc == summary.auroc
        assert evaluation.null.knock_out_layers[name] == alone.knock_out_layers[name]
    assert evaluation.layers["hold"].verdict == "adds"
    assert evaluation.null.layers["hold"].verdict == "nothing found"
    assert "hold, null model" in result.stdout
    assert "The null model's: nothing found" in result.stdout
    assert call("show", out).stdout in result.stdout
    refused = call("evaluate", folder / "run", "--truth", folder / "de.csv", "--out",
                   tmp_path / "x", "--null-run", folder / "run")  # fmt: skip
    assert refused.exit_code == 3
    assert "weights of" in " ".join(refused.output.split())


def test_scores_of_an_anndata(folder, tmp_path):
    effects = ranklock.read_run(folder / "run").effects(average=True)
    logs = np.log10(effects.layers["hold"])
    # What a fold over impostors takes off: how much any gene moves the responder.
    effects.layers["hold_fold"] = 10 ** (logs - np.nanmean(logs, axis=0)).astype(np.float32)
    effects.write_h5ad(tmp_path / "responders.h5ad")
    result = call("evaluate", tmp_path / "responders.h5ad", "--layer", "hold_fold", "--cells",
                  folder / "run", "--truth", folder / "de.csv", "--out", tmp_path / "out",
                  "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["layers"]["hold_fold"]["verdict"] == "adds"


def test_cells_of_a_screen(folder, tmp_path):
    draw = np.random.default_rng(0)
    genes = [f"ENSG{number:011d}" for number in range(60)]
    labels = np.repeat(["control", *genes[:4]], 60)
    means = np.full((len(labels), 60), 4.0)
    for row, label in enumerate(labels):
        if label != "control":
            first = 10 + 8 * genes.index(label)
            means[row, first : first + 8] = 12.0
    screen = anndata.AnnData(draw.poisson(means).astype(np.float32),
                             obs=pd.DataFrame({"perturbation": labels}),
                             var=pd.DataFrame(index=genes))  # fmt: skip
    screen.obs_names = [f"c{i}" for i in range(len(labels))]
    screen.write_h5ad(tmp_path / "screen.h5ad")
    result = call("evaluate", folder / "run", "--truth", tmp_path / "screen.h5ad",
                  "--layer", "hold", "--out", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 0, result.output
    evaluation = ranklock.read_evaluation(tmp_path / "out")
    table = evaluation.table
    strengths = evaluation.knock_out_layers["hold"].strengths
    assert [strength.truth for strength in strengths] == ["changed_genes", "screen_distance"]
    assert evaluation.knock_outs["screen_cells"].tolist() == [60.0] * 4
    assert (evaluation.knock_outs["screen_distance"] > 0).all()
    assert evaluation.knock_outs["cell_shift"].notna().all()
    assert set(table["gene_id"]) == set(genes[:4])
    # The 8 that were planted, and perhaps some that lose their share of the counts.
    assert (table["changed"] >= 8).all()
    damaged = tmp_path / "damaged.h5ad"
    damaged.write_bytes((tmp_path / "screen.h5ad").read_bytes()[:4000])
    refused = call("evaluate", folder / "run", "--truth", damaged, "--out", tmp_path / "x")
    assert refused.exit_code == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop(columns="pvals_adj"), "no column that is recognised as p"),
        (lambda t: t.drop(columns="perturbation"), "--perturbed-column"),
        (lambda t: t.assign(pvals_adj="x"), "is no number from 0 to 1"),
        (lambda t: t.assign(perturbation="NOBODY"), "No perturbed gene"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(folder, tmp_path, change, says):
    change(pd.read_csv(folder / "de.csv")).to_csv(tmp_path / "bad.csv", index=False)
    result = call("evaluate", folder / "run", "--truth", tmp_path / "bad.csv",
                  "--out", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 3, result.output
    assert says in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_what_is_no_run_and_kinds_that_a_run_lacks_are_refused(folder, tmp_path):
    for source, code, words in (
        (tmp_path, 4, "holds no run"),
        (folder / "de.csv", 4, "holds no run"),
        (folder / "run", 2, "no perturbation of kind 'overexpress'"),
    ):
        result = call("evaluate", source, "--kind", "overexpress", "--truth", folder / "de.csv",
                      "--out", tmp_path / "out")  # fmt: skip
        assert result.exit_code == code, result.output
        assert words in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
