from time import process_time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.cells import Cells
from ranklock.errors import InputError
from ranklock.genes.names import resolve
from ranklock.run.gene_choice import (
    BELOW_THE_INPUT,
    IN_NO_CELL,
    described,
    names_left_out,
    refuse,
    too_few,
    usable_genes,
)
from tests.helpers import vocabulary

VOCABULARY = vocabulary(20)


def cells_of_tokens(rows):
    ranked = tuple(np.array(row, dtype=np.int32) for row in rows)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(len(rows))])
    return Cells(ranked, obs, VOCABULARY, special_frame=False)


CELLS = cells_of_tokens([[2, 3, 4, 5], [3, 2, 6], [7, 2, 3, 5]])


def test_reasons_and_counts_of_the_genes_that_are_left_out():
    tokens, left_out = usable_genes([5, 2, 9, 7, 3], CELLS, 3, min_cells=2)
    assert tokens == (2, 3)
    assert [(gene.name, gene.reason, gene.cells, gene.cells_with_it) for gene in left_out] == [
        ("GENE3", BELOW_THE_INPUT, 3, 0),
        ("GENE7", IN_NO_CELL, 3, 0),
        ("GENE5", too_few(2), 3, 1),
    ]
    assert left_out[0].gene_id == "ENSG00000000003"


def test_all_genes_are_those_that_some_cell_shows():
    assert usable_genes(None, CELLS, 3) == ((2, 3, 4, 6, 7), ())
    tokens, left_out = usable_genes(None, CELLS, 3, min_cells=2)
    assert tokens == (2, 3)
    assert [gene.name for gene in left_out] == ["GENE2", "GENE4", "GENE5"]


def test_strictly_all_are_named_in_one_refusal():
    resolved = resolve(["GENE0", "OCT4", "GENE9", "GENE3"], VOCABULARY)
    tokens, left_out = usable_genes(resolved.tokens, CELLS, 3)
    assert tokens == (2,)
    left_out = (*names_left_out(resolved.unusable, CELLS), *left_out)
    with pytest.raises(InputError, match="3 of the genes.*OCT4.*GENE9.*GENE3.*off the list"):
        refuse(left_out)
    assert "unknown: OCT4" in described(left_out)
    refuse(())


@given(
    st.lists(st.lists(st.integers(2, 12), unique=True, max_size=8), min_size=1, max_size=6),
    st.lists(st.integers(2, 21), unique=True),
    st.integers(1, 6),
    st.integers(1, 4),
)
def test_against_counting_cell_by_cell(rows, asked, capacity, min_cells):
    tokens, left_out = usable_genes(asked, cells_of_tokens(rows), capacity, min_cells)
    seen = {token: sum(token in row[:capacity] for row in rows) for token in asked}
    assert tokens == tuple(token for token in asked if seen[token] >= min_cells)
    others = [token for token in asked if seen[token] < min_cells]
    assert [VOCABULARY.token(gene.name) for gene in left_out] == others
    for token, gene in zip(others, left_out, strict=True):
        assert gene.cells_with_it == seen[token] <= gene.cells == len(rows)
        if not seen[token]:
            below = any(token in row for row in rows)
            assert gene.reason == (BELOW_THE_INPUT if below else IN_NO_CELL)


def test_a_list_of_all_genes_in_thousands_of_cells_takes_a_second():
    draw = np.random.default_rng(0)
    many = vocabulary(20_000)
    genes = np.array(sorted(many.genes), dtype=np.int32)
    ranked = tuple(draw.permutation(genes)[:2048] for _ in range(100)) * 20
    obs = pd.DataFrame(index=[f"c{i}" for i in range(len(ranked))])
    cells = Cells(ranked, obs, many, special_frame=False)
    started = process_time()
    tokens, left_out = usable_genes(genes.tolist(), cells, 1024, min_cells=90)
    assert len(tokens) + len(left_out) == 20_000
    assert process_time() - started < 2
