"""What docs/geneformer_parity.md says, held against Ranklock and against what Geneformer wrote."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.run.fields import CELL_SHIFTS
from tests import helpers

PAGE = Path(__file__).resolve().parents[1] / "docs" / "geneformer_parity.md"
if not PAGE.is_file():
    pytest.skip("the documents are not here", allow_module_level=True)
PARITY = helpers.SHARED / "parity"


def rows_of(heading):
    """Cells of the table of the page that begins with a heading."""
    lines = PAGE.read_text().split(f"| {heading} |")[1].splitlines()[2:]
    table = lines[: next((i for i, line in enumerate(lines) if not line.startswith("|")), None)]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]


def test_every_column_that_the_page_names_exists(tiny_checkpoint):
    vocabulary = helpers.vocabulary(60)
    cells = helpers.cells_of([50] * 6, vocabulary)
    cells.obs["state"] = ["a"] * 4 + ["b", "c"]
    model = ranklock.load_model(str(tiny_checkpoint), device="cpu")
    shared = sorted(set.intersection(*(set(genes.tolist()) for genes in cells.ranked)))
    pair = [vocabulary.symbol(token) for token in shared[:2]]
    options = {"arms": ["delete"], "progress": False}
    states = ranklock.States("state", "a", "b", ("c",))
    run = ranklock.perturb(cells, model, states=states, impostors=3, **options)
    together = ranklock.perturb(cells, model, pair, together=True, read="cell", **options)
    shifts = ranklock.shifts(run, min_cells=3)
    responders = ranklock.responders(run, min_cells=3, progress=False)
    combined = ranklock.combinations(together, run, 3)
    columns = {*shifts.table, *responders.table, *combined, *(f.name for f in CELL_SHIFTS)}
    quantities = set(shifts.table["quantity"])
    named = {
        name for _, here, _ in rows_of("column there | here | what differs")
        for name in re.findall(r"`([a-z_ ]+)`", here)
    }  # fmt: skip
    assert {"fold", "finding", "sum_of_singles", "n_cells", "mean gene shift"} <= named
    # "quantity is `towards` and the state" names part of a value.
    assert named - {"towards"} <= columns | quantities


def test_every_option_that_the_page_names_exists():
    from typer.main import get_command

    from ranklock.cli import app

    known = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in get_command(app).commands.items()
    }
    calls = [call for _, here in rows_of("mode | here") for call in re.findall("`(.+?)`", here)]
    calls = [call for call in calls if call.startswith("ranklock")]
    assert len(calls) >= 8
    for call in calls:
        name = call.split()[1]
        assert set(re.findall("--[a-z0-9-]+", call)) <= known[name], call


@pytest.mark.skipif(not PARITY.is_dir(), reason="what Geneformer wrote is not here")
@pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")  # of what is left out
@pytest.mark.parametrize("name", ["v1_delete_all_cell", "v1_overexpress_all_cell"])
def test_the_mean_gene_shift_is_one_minus_geneformers(name, shared):
    theirs = pd.read_csv(PARITY / "stats" / f"{name}_mixture_model" / "pre.csv")
    theirs = theirs.set_index("Ensembl_ID")
    vocabulary = shared / "data" / "token_dictionary_gc30M.pkl"
    cells = ranklock.read_cells(PARITY / "v1.dataset", vocabulary)
    model = ranklock.load_model(str(PARITY / "model_v1"), device="cpu")
    kind, arm = ("knock-out", "delete") if "delete" in name else ("overexpress", "move")
    run = ranklock.perturb(cells, model, do=kind, arms=[arm], read="cell", progress=False)
    of_gene = run.shifts.astype({"gene_id": str}).groupby("gene_id")["mean_gene_distance"]
    ours = of_gene.agg(["mean", "size"])
    # Of overexpression Geneformer ran a sample: genes whose every cell was in it are compared.
    same = theirs.index[theirs["N_Detections"] == ours["size"].reindex(theirs.index)]
    assert len(same) > 20
    if kind == "knock-out":
        assert len(same) == len(theirs) == len(ours)
    np.testing.assert_allclose(
        1 - ours.loc[same, "mean"], theirs.loc[same, "Test_avg_shift"], atol=2e-6
    )
