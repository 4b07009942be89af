import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.errors import InputError
from tests import helpers


def rows(genes, distances, arm="hold"):
    return pd.DataFrame(
        {"cell": [f"c{i}" for i in range(len(distances))], "arm": arm, "gene": genes,
         "cosine_distance": distances}
    )  # fmt: skip


def test_a_combination_against_the_sum_cell_by_cell():
    draw = np.random.default_rng(0)
    one, other, extra = draw.uniform(1, 2, (3, 12))
    singles = pd.concat([rows("A", one), rows("B", other), rows("C", extra)])
    found = ranklock.combinations(rows("A+B", one + other + 0.5 + 0.01 * extra), singles)
    (row,) = found.itertuples(index=False)
    expected = 0.5 + 0.01 * extra
    assert row.beyond_sum == pytest.approx(expected.mean())
    assert row.standard_error == pytest.approx(expected.std(ddof=1) / np.sqrt(12))
    assert row.sum_of_singles == pytest.approx((one + other).mean())
    assert row.n_cells == 12
    assert row.q < 1e-6


def test_cells_without_a_single_are_left_out():
    singles = pd.concat([rows("A", [1.0, 2.0, 3.0]), rows("B", [1.0, 1.0])])
    (row,) = ranklock.combinations(rows("A+B", [2.0, 3.0, 9.0]), singles).itertuples()
    assert row.n_cells == 2
    assert np.isnan(row.p)


def test_nothing_to_compare_is_said():
    with pytest.raises(InputError, match="no genes knocked out together"):
        ranklock.combinations(rows("A", [1.0]), rows("A", [1.0]))
    with pytest.raises(InputError, match="each of its genes alone"):
        ranklock.combinations(rows("A+B", [1.0]), rows("A", [1.0]))


def test_of_real_runs(tiny_checkpoint):
    model = ranklock.load_model(tiny_checkpoint, device="cpu")
    vocabulary = helpers.vocabulary(60)
    cells = helpers.cells_of([50] * 6, vocabulary)
    shared = sorted(set.intersection(*(set(genes.tolist()) for genes in cells.ranked)))
    pair = [vocabulary.gene(token) for token in shared[:2]]
    options = {"arms": ("hold",), "progress": False}
    together = ranklock.knockout(cells, model, pair, together=True, **options)
    alone = ranklock.knockout(cells, model, pair, **options)
    found = ranklock.combinations(together.cell_shifts, alone.cell_shifts)
    total = alone.cell_shifts["cosine_distance"].sum() / 6
    assert found["sum_of_singles"].item() == pytest.approx(total)
    assert found["shift"].item() == pytest.approx(together.cell_shifts["cosine_distance"].mean())
