from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.errors import InputError, OptionError
from ranklock.run.run import Run
from tests import helpers


@dataclass(frozen=True, eq=False, repr=False)
class GivenRun(Run):
    """A run of given cell shifts."""

    folder: object = "given"
    manifest: object = None
    rows: object = None

    @property
    def reads(self):
        return frozenset({"cell"})

    @property
    def shifts(self):
        return self.rows


def run_of(*tables):
    return GivenRun(rows=pd.concat(tables))


def rows(genes, distances, arm="hold", kind="knock-out"):
    return pd.DataFrame(
        {"cell": [f"c{i}" for i in range(len(distances))], "arm": arm, "kind": kind, "gene": genes,
         "gene_id": genes.replace("+", "+E").join(["E", ""]), "cosine_distance": distances}
    )  # fmt: skip


def test_a_combination_against_the_sum_cell_by_cell():
    draw = np.random.default_rng(0)
    of_a, of_b, extra = draw.uniform(1, 2, (3, 12))
    singles = run_of(rows("A", of_a), rows("B", of_b), rows("C", extra))
    together = run_of(rows("A+B", of_a + of_b + 0.5 + 0.01 * extra))
    (row,) = ranklock.combinations(together, singles).itertuples(index=False)
    expected = 0.5 + 0.01 * extra
    assert row.beyond_sum == pytest.approx(expected.mean())
    assert row.standard_error == pytest.approx(expected.std(ddof=1) / np.sqrt(12))
    assert row.sum_of_singles == pytest.approx((of_a + of_b).mean())
    assert row.n_cells == 12
    assert row.q < 1e-6
    assert (row.gene, row.gene_id) == ("A+B", "EA+EB")


def test_kinds_are_compared_apart():
    singles = run_of(*(rows(gene, [1.0] * 3, kind=kind) for gene in "AB"
                       for kind in ("knock-out", "overexpress")))  # fmt: skip
    together = run_of(rows("A+B", [2.0] * 3), rows("A+B", [5.0] * 3, kind="overexpress"))
    table = ranklock.combinations(together, singles).set_index("kind")
    assert table["beyond_sum"].to_dict() == {"knock-out": 0.0, "overexpress": 3.0}


def test_cells_without_a_single_are_left_out():
    singles = run_of(rows("A", [1.0, 2.0, 3.0]), rows("B", [1.0, 1.0]))
    (row,) = ranklock.combinations(run_of(rows("A+B", [2.0, 3.0, 9.0])), singles).itertuples()
    assert row.n_cells == 2
    assert np.isnan(row.p)


def test_nothing_to_compare_is_said():
    single, pair = run_of(rows("A", [1.0])), run_of(rows("A+B", [1.0]))
    with pytest.raises(InputError, match="no genes perturbed together"):
        ranklock.combinations(single, single)
    with pytest.raises(InputError, match="each of its genes alone"):
        ranklock.combinations(pair, single)
    with pytest.raises(OptionError, match="not DataFrame"):
        ranklock.combinations(pair, single.shifts)


def test_of_real_runs(tiny_checkpoint, tmp_path):
    model = ranklock.load_model(tiny_checkpoint, device="cpu")
    vocabulary = helpers.vocabulary(60)
    cells = helpers.cells_of([50] * 6, vocabulary)
    shared = sorted(set.intersection(*(set(genes.tolist()) for genes in cells.ranked)))
    pair = [vocabulary.gene(token) for token in shared[:2]]
    options = {"arms": ("hold",), "progress": False}
    together = ranklock.perturb(cells, model, pair, together=True, **options)
    ranklock.perturb(cells, model, pair, out=tmp_path / "alone", **options)
    table = ranklock.combinations(together, tmp_path / "alone")
    total = ranklock.read_run(tmp_path / "alone").shifts["cosine_distance"].sum() / 6
    assert table["sum_of_singles"].item() == pytest.approx(total)
    assert table["shift"].item() == pytest.approx(together.shifts["cosine_distance"].mean())
