from dataclasses import dataclass

import anndata
import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from ranklock.cells import Selection
from ranklock.cli import options as o
from ranklock.cli.groups import grouped
from ranklock.cli.inputs import CellOptions, GeneOptions, StateOptions, genes_of, read_inputs
from ranklock.errors import InputError, OptionError
from ranklock.genes.vocabulary import write_vocabulary
from tests.helpers import vocabulary

VOCABULARY = vocabulary(50)
STATES = ["a"] * 4 + ["b"] * 4 + ["c"] * 2


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    """An .h5ad of ten cells in three states, with its vocabulary beside it."""
    folder = tmp_path_factory.mktemp("counts")
    matrix = np.random.default_rng(0).poisson(1.0, size=(10, 50)).astype(np.float32)
    obs = pd.DataFrame({"state": STATES}, index=[f"c{i}" for i in range(10)])
    data = anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(index=list(VOCABULARY.tokens)))
    data.write_h5ad(folder / "cells.h5ad")
    write_vocabulary(VOCABULARY, folder / "vocabulary.json")
    return folder / "cells.h5ad"


def parsed(*arguments):
    """What a command is given that takes all groups."""
    given = {}

    def command(
        cells: CellOptions,
        model: o.ModelName,
        out: o.Out,
        genes: GeneOptions,
        states: StateOptions,
        do: o.Do = "knock-out",
        dry_run: o.DryRun = False,
    ) -> None:
        """Do it."""
        given.update(cells=cells, model=model, out=out, genes=genes, states=states, do=do)
        given.update(dry_run=dry_run)

    app = typer.Typer()
    app.command()(grouped(command))
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return given, result


def test_groups_are_spelt_out_and_given_back():
    given, result = parsed(
        "cells.h5ad", "--model", "m", "--out", "run", "--gene", "A", "--gene", "B", "--where",
        "x=1", "--sample", 5, "--state-key", "k", "--start", "s", "--start", "t", "--goal", "g",
        "--within", "donor", "--state-average", "median", "--do", "overexpress", "--dry-run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert (given["cells"].file.name, given["cells"].where, given["cells"].sample) == (
        "cells.h5ad", ["x=1"], 5,
    )  # fmt: skip
    assert given["genes"].gene == ["A", "B"]
    assert given["dry_run"]
    states = given["states"].states(seed=3)
    assert (states.start, states.goal, states.within) == (("s", "t"), "g", "donor")
    assert (states.average, states.goal_cells, states.seed) == ("median", 1000, 3)


def test_what_is_needed_is_asked_for_and_help_has_it_all():
    _, result = parsed("--model", "m", "--out", "run")
    assert result.exit_code == 2
    assert "CELLS" in result.output
    text = CliRunner().invoke(app_with_help(), ["--help"], env={"COLUMNS": "200"}).output
    for name in ("--start", "--alternative", "--within", "--state-embeddings", "--genes", "--gene"):
        assert name in text
    assert "Towards a state" in text


def app_with_help():
    def command(cells: CellOptions, genes: GeneOptions, states: StateOptions) -> None:
        """Do it."""

    app = typer.Typer()
    app.command()(grouped(command))
    return app


def test_a_group_may_need_an_option():
    @dataclass(frozen=True)
    class Needed:
        model: o.ModelName

    def command(needed: Needed, seed: o.Seed = 0) -> None:
        typer.echo(f"{needed.model} {seed}")

    app = typer.Typer()
    app.command()(grouped(command))
    assert CliRunner().invoke(app, ["--model", "x", "--seed", "4"]).output == "x 4\n"
    assert CliRunner().invoke(app, []).exit_code == 2


@pytest.mark.parametrize(
    "options",
    [
        {"state_key": "k"},
        {"start": ["a"]},
        {"goal": "b", "state_key": "k"},
        {"alternative": ["b"]},
        {"within": "donor"},
    ],
)
def test_states_need_a_key_a_start_and_a_goal(options):
    with pytest.raises(OptionError, match="go together"):
        StateOptions(**options).states()
    assert StateOptions().states() is None


@pytest.mark.parametrize(
    ("choice", "perturbed"),
    [
        ({}, STATES),
        ({"sample": 2}, ["a"] * 2),
        ({"sample": 9, "where": ["state=a", "state=b"]}, ["a"] * 4),
        ({"cell": 0}, ["a"]),
    ],
)
def test_states_are_of_all_cells_in_them_and_samples_of_the_start(counts, choice, perturbed):
    options = StateOptions(state_key="state", start=["a"], goal="b")
    cells, states = options.read(CellOptions(counts, **choice), VOCABULARY)
    assert cells.obs["state"].tolist() == perturbed
    assert ((states.cells or cells).obs["state"] == "b").sum() == 4


def test_states_that_are_not_there_or_not_left(counts):
    sample = CellOptions(counts, sample=2)
    for options in (StateOptions("state", ["a"], "x"), StateOptions("state", ["a", "x"], "b")):
        with pytest.raises(InputError, match="no cell has state=x"):
            options.read(sample, VOCABULARY)
    with pytest.raises(OptionError, match="leaves no cell in the start"):
        StateOptions("state", ["a"], "b").read(CellOptions(counts, where=["state=c"]), VOCABULARY)


def test_states_of_cells_in_another_file(counts):
    options = StateOptions("state", ["z"], "b", ["c"], state_cells=counts)
    cells, states = options.read(CellOptions(counts), VOCABULARY)
    assert len(cells) == 10
    assert states.cells.obs["state"].tolist() == ["b"] * 4 + ["c"] * 2
    with pytest.raises(OptionError, match="--state-cells goes with"):
        StateOptions(state_cells=counts).read(CellOptions(counts), VOCABULARY)
    assert StateOptions().read(CellOptions(counts), VOCABULARY)[1] is None


def test_given_embeddings_need_no_other_cells(counts, tmp_path):
    options = StateOptions("state", ["a"], "nowhere", state_embeddings=tmp_path / "states.csv")
    cells, states = options.read(CellOptions(counts, sample=3), VOCABULARY)
    assert cells.obs["state"].tolist() == ["a"] * 3
    assert states.cells is None


def test_genes_named_listed_or_all(tmp_path):
    table = tmp_path / "genes.csv"
    table.write_text("rank,hit\n1,GENE3\n2,gene5\n")
    assert GeneOptions(["GENE1"], str(table)).names(VOCABULARY) == ["GENE1", "GENE3", "gene5"]
    assert GeneOptions(genes=str(table), genes_column="rank").names(VOCABULARY) == ["1", "2"]
    assert GeneOptions(genes="all").names(VOCABULARY) is None
    assert GeneOptions().names(None) is None
    with pytest.raises(OptionError, match="exclude each other"):
        genes_of(["GENE1"], "all")
    with pytest.raises(OptionError, match="--genes-column"):
        genes_of(["GENE1"], None, "hit")


def test_what_is_wrong_is_found_before_the_cells_are_read(counts, tiny_checkpoint, tmp_path):
    model, names = str(tiny_checkpoint), counts.with_name("vocabulary.json")
    missing = CellOptions(tmp_path / "nowhere.h5ad")
    with pytest.raises(InputError, match="'NOGENE' .unknown"):
        read_inputs(missing, model, names, device="cpu", genes=["NOGENE"])
    with pytest.raises(OptionError, match="layer"):
        read_inputs(missing, model, names, device="cpu", layer=-9)
    with pytest.raises(OptionError, match="exclude each other"):
        read_inputs(CellOptions(counts, 1, "0:5"), model, names, device="cpu")
    cells, _ = read_inputs(
        CellOptions(counts, where=["state=b"]), model, names, device="cpu", genes=["GENE3"]
    )
    assert len(cells) == 4
    assert CellOptions(counts, cell_range="1:3").selection() == Selection(rows=slice(1, 3))


def test_names_with_commas():
    assert o.listed("hold, mask,,shift") == ("hold", "mask", "shift")
    assert "attention-mask" in o.ARMS_HELP
    assert "Arms of moves" in o.ARMS_HELP
