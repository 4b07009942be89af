from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.cells import Cells
from ranklock.errors import InputError, RanklockWarning
from ranklock.models import load_model
from tests.helpers import cells_of, vocabulary


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(tiny_checkpoint, device="cpu")


def test_cells_of_one_and_of_two_genes(model):
    vocab = vocabulary(60)
    genes = np.array([5, 6], dtype=np.int32)
    cells = Cells((genes[:1], genes), pd.DataFrame(index=["one", "two"]), vocab, False, "test")
    with pytest.warns(RanklockWarning, match="1 have no other gene"):
        run = ranklock.knockout(cells, model, [5], progress=False)
    assert run.table["cell"].unique().tolist() == ["two"]
    assert len(run.table) == 4
    assert run.manifest["skipped"][0]["cells_with_nothing_else"] == 1
    with pytest.raises(InputError, match="none of the 1 cells.*no other gene"):
        ranklock.knockout(cells[0], model, [5], progress=False)


def test_special_tokens_are_never_knocked_out(model):
    cells = cells_of([20], vocabulary(60, special_frame=True), special_frame=True)
    for token, name in ((2, "<cls>"), (3, "<eos>")):
        with pytest.raises(InputError, match=f"is {name}, not a gene"):
            ranklock.knockout(cells, model, [token], progress=False)


def test_a_gene_in_some_cells_is_counted_where_it_is_not(model):
    cells = cells_of([5, 5, 60], vocabulary(60))
    only = next(t for t in cells.ranked[2].tolist() if t not in cells.ranked[0]
                and t not in cells.ranked[1])  # fmt: skip
    with pytest.warns(RanklockWarning, match="of 3 cells, 2 lack it"):
        run = ranklock.knockout(cells, model, [only], progress=False)
    assert run.manifest["skipped"][0]["cells_without_it"] == 2
    assert run.manifest["summary"][0]["cells"] == 1


def test_a_gene_in_no_cell_is_refused_though_another_is_in_some(model):
    cells = cells_of([5, 5], vocabulary(60))
    present = int(cells.ranked[0][0])
    absent = next(t for t in range(2, 62) if not any(t in genes for genes in cells.ranked))
    name = cells.vocabulary.symbol(absent)
    with pytest.raises(InputError, match=f"^{name} can be knocked out of none of the 2 cells"):
        ranklock.knockout(cells, model, [present, absent], progress=False)


def test_what_does_not_fit_is_refused_before_the_first_forward(model, monkeypatch):
    def forward(*_):
        raise AssertionError("a forward was run")

    monkeypatch.setattr("ranklock.engine.batches.run_layers", forward)
    cells = cells_of([5, 5], vocabulary(60))
    present = int(cells.ranked[0][0])
    absent = next(t for t in range(2, 62) if not any(t in genes for genes in cells.ranked))
    small = cells_of([5], vocabulary(300))
    for asked, message in (
        ({"genes": ["GENE999"]}, "'GENE999' .unknown; nearest"),
        ({"genes": [absent]}, "none of the 2 cells.*2 lack it"),
        ({"genes": []}, "No gene was named"),
        ({"genes": "GENE1"}, "genes is a list"),
        ({"genes": [present], "arms": ("remove",)}, "no arm 'remove'"),
        ({"genes": [present], "arms": "delete"}, r"write arms=\['delete'\]"),
        ({"genes": [present], "model": "a folder"}, "takes cells from .* not Cells and str"),
        ({"genes": [present], "layer": 3}, "--layer goes from"),
        ({"genes": [2], "cells": small}, "302 tokens, the model 64|holds token"),
    ):
        with pytest.raises(InputError, match=message):
            ranklock.knockout(**({"cells": cells, "model": model, "progress": False} | asked))


def test_a_table_that_would_not_fit_is_refused(model, monkeypatch):
    cells = cells_of([20], vocabulary(60))
    monkeypatch.setattr("ranklock.run.old_plan._MOST_ROWS", 75)
    with pytest.raises(InputError, match="would have 76 rows.*fewer cells"):
        ranklock.knockout(cells, model, [int(cells.ranked[0][0])], progress=False)


def test_an_anndata_that_would_not_fit_is_refused(model, monkeypatch):
    cells = cells_of([20, 20], vocabulary(60))
    shared = next(t for t in cells.ranked[0].tolist() if t in cells.ranked[1])
    monkeypatch.setattr("ranklock.run.old_plan._MOST_ENTRIES", 100)
    with pytest.raises(InputError, match=r"effects.h5ad would have .* 2 knock-outs"):
        ranklock.knockout(cells, model, [shared], progress=False)


def test_the_manifest_says_which_cells_were_asked_for(model):
    cells = cells_of([20], vocabulary(60))
    run = ranklock.knockout(cells, model, [int(cells.ranked[0][0])], progress=False)
    assert "selection" not in run.manifest["cells"]  # these were made, not read
    read = replace(cells, reading={"selection": ranklock.Selection(sample=1).described()})
    run = ranklock.knockout(read, model, [int(cells.ranked[0][0])], progress=False)
    assert run.manifest["cells"]["selection"] == {
        "rows": None, "where": {}, "sample": 1, "seed": 0,
    }  # fmt: skip
