import numpy as np
import pytest

from ranklock.effects import NoiseFloor
from ranklock.run.old_records import Record
from ranklock.run.old_tables import averaged_anndata, cell_shift_table, effect_table
from tests.helpers import cells_of, vocabulary

FLOOR = NoiseFloor(
    cosine_distance=1e-13, displacement=1e-3, cell_shift=1e-15, cell_displacement=1e-5,
    comparisons=1,
)  # fmt: skip
CELLS = cells_of([4, 4], vocabulary(4))


def record(cell, knockout, moved, cell_moved):
    ranked = CELLS.ranked[cell]
    token = sorted(CELLS.vocabulary.tokens.values())[knockout]
    rank = int(np.flatnonzero(ranked == token)[0])
    others = np.flatnonzero(np.arange(4) != rank)
    values = np.full(3, moved, dtype=np.float32)
    return Record(
        knockout=knockout, cell=cell, ranks=(rank,), genes_in_cell=4, tokens=ranked[others],
        responder_ranks=others.astype(np.int32), cosine_distance={"hold": values**2 / 2},
        displacement={"hold": values}, decomposed={}, shift_along_total=np.nan,
        total_squared=np.nan, cell_shift={"hold": cell_moved**2 / 2},
        cell_displacement={"hold": cell_moved}, cell_artefact_share=np.nan,
    )  # fmt: skip


KNOCKOUTS = [(token,) for token in sorted(CELLS.vocabulary.tokens.values())]
RECORDS = [record(0, 0, 1e-2, 1e-6), record(0, 1, 1e-4, 1e-4), record(1, 1, 1e-2, 1e-6)]
COMMON = (RECORDS, KNOCKOUTS, CELLS, ["hold"])


def test_genes_and_cells_are_held_against_floors_of_their_own():
    table = effect_table(*COMMON, FLOOR)
    shifts = cell_shift_table(*COMMON, FLOOR)
    by_record = table.groupby(["cell", "gene"], observed=True)["under_noise_floor"].all()
    assert by_record.tolist() == [False, True, False]
    assert shifts["under_noise_floor"].tolist() == [True, False, True]


def test_columns_of_names_are_categories_in_both_tables():
    for table in (effect_table(*COMMON, FLOOR), cell_shift_table(*COMMON, FLOOR)):
        for column in ("cell", "gene", "arm"):
            assert table[column].dtype == "category"
    table = effect_table(*COMMON, FLOOR)
    assert table["gene"].tolist() == ["GENE0"] * 3 + ["GENE1"] * 6
    assert table["cell"].tolist() == ["cell0"] * 6 + ["cell1"] * 3


def test_the_mark_of_an_average_is_that_of_the_mean():
    mean = averaged_anndata(*COMMON, FLOOR, {})
    assert mean.obs["n_cells"].tolist() == [1, 2]
    marked = mean.layers["hold_under_noise_floor"]
    assert not marked[0][~np.isnan(mean.layers["hold"][0])].any()
    np.testing.assert_allclose(
        mean.layers["hold_displacement"][1][~np.isnan(mean.layers["hold"][1])], 5.05e-3, rtol=1e-5
    )
    assert mean.obs["hold_mean_cell_shift"].iloc[1] == pytest.approx((0.5e-8 + 0.5e-12) / 2)
