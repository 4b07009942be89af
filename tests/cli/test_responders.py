import json

import pandas as pd
import pytest
from typer.testing import CliRunner

import ranklock
from ranklock.cli import app
from ranklock.genes.vocabulary import write_vocabulary
from tests import helpers


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, tiny_checkpoint):
    folder = tmp_path_factory.mktemp("responders")
    vocabulary = helpers.vocabulary(60)
    cells = helpers.cells_of([50, 40, 45, 50, 50, 45], vocabulary)
    pd.DataFrame({"input_ids": [genes.tolist() for genes in cells.ranked],
                  "donor": list("aabbcc")}).to_parquet(folder / "cells.parquet")  # fmt: skip
    write_vocabulary(vocabulary, folder / "vocabulary.json")
    of_model = ["--model", str(tiny_checkpoint), "--vocabulary", str(folder / "vocabulary.json"),
                "--device", "cpu"]  # fmt: skip
    return str(folder / "cells.parquet"), of_model, helpers.gene_of_all(cells)


def call(*arguments):
    return CliRunner().invoke(app, ["responders", *map(str, arguments)])


def test_a_few_genes_with_controls_from_cells(inputs, tmp_path):
    cells, of_model, gene = inputs
    out = tmp_path / "out"
    asked = ["--gene", gene, "--controls", 12, "--min-cells", 3, "--donor", "donor"]
    result = call(cells, *of_model, *asked, "--out", out)
    assert result.exit_code == 0, result.output
    assert "replicates: 3 donor" in result.stdout
    found = ranklock.read_responders(out)
    assert set(found.table["gene"]) == {gene}
    assert found.arms == ("hold", "shift")
    assert ranklock.read_sweep(out / "sweep").complete
    shown = CliRunner().invoke(app, ["show", str(out)])
    assert shown.stdout in result.stdout
    refused = call(cells, *of_model, *asked, "--out", out)
    assert refused.exit_code == 4
    assert "--overwrite" in refused.output


def test_a_sweep_that_is_there(inputs, tmp_path):
    cells, of_model, _ = inputs
    made = CliRunner().invoke(
        app, ["sweep", cells, *of_model, "--arms", "hold", "--out", str(tmp_path / "sweep")]
    )
    assert made.exit_code == 0, made.output
    out = tmp_path / "claims"
    result = call(tmp_path / "sweep", "--min-cells", 3, "--out", out, "--json")
    assert json.loads(result.stdout)["asked"]["arms"] == ["hold"]
    assert {path.name for path in out.iterdir()} >= {
        "responders.parquet", "responders.h5ad", "volcano.png", "network.svg", "p_values.png"
    }  # fmt: skip
    refused = call(tmp_path / "sweep", "--out", tmp_path / "x", "--model", "somewhere")
    assert refused.exit_code == 2
    assert "leave out --model" in " ".join(refused.output.split())


@pytest.mark.parametrize(
    ("without", "says"), [("--model", "name a checkpoint"), ("--gene", "Name genes with --gene")]
)
def test_cells_need_a_model_and_genes(inputs, tmp_path, without, says):
    cells, of_model, gene = inputs
    given = [] if without == "--model" else of_model
    genes = [] if without == "--gene" else ["--gene", gene]
    result = call(cells, *given, *genes, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
