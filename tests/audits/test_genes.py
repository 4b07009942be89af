"""Question 2: departures of genes, beside those under the placebo."""

from dataclasses import replace

import numpy as np
import pytest

import ranklock
from ranklock.audits.genes import Placebo, answer_genes
from ranklock.audits.measure import measure
from ranklock.audits.verdicts import on_genes
from tests import helpers


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = helpers.checkpoint(tmp_path_factory.mktemp("m"), spread=0.3)
    model = ranklock.load_model(folder, device="cpu")
    cells = helpers.cells_of([50] * 5, helpers.vocabulary(55))
    return measure(ranklock.perturb(cells, model, progress=False))


def test_the_placebo_is_tested_as_the_arm_is(measured):
    """The count under the placebo is the test of the arm, on the placebo's rows."""
    found = answer_genes(measured)
    table = measured.table[measured.table["arm"].isin(["delete", "shift"])].copy()
    swapped = table["arm"].astype(str).map({"delete": "shift", "shift": "delete"})
    other = answer_genes(replace(measured, table=table.assign(arm=swapped)))
    assert found.placebo == Placebo("shift", other.tested, other.significant)
    assert other.placebo == Placebo("shift", found.tested, found.significant)
    assert found.placebo_shares.shares["gene"] == other.shares.shares["gene"]


def test_without_a_placebo_that_is_said(measured):
    table = measured.table[measured.table["arm"] != "shift"]
    found = answer_genes(replace(measured, arms=("delete", "hold"), table=table))
    assert found.placebo is None
    assert "without a placebo" in on_genes(found)[0]


@pytest.mark.parametrize(
    ("significant", "placebo", "beyond"),
    [(17, 17, False), (17, 12, False), (4, 0, False), (5, 0, True), (100, 60, True), (0, 0, False),
     (0, 9, False)],
)  # fmt: skip
def test_departures_count_where_they_are_more_than_the_placebos(
    measured, significant, placebo, beyond
):
    found = replace(
        answer_genes(measured), tested=602, significant=significant,
        placebo=Placebo("shift", 602, placebo),
    )  # fmt: skip
    assert found.beyond_placebo is beyond
    sentence, _, tone = on_genes(found)
    assert f"{significant} of 602 genes" in sentence
    assert f"{placebo} of 602 do under shift, where the gene stays" in sentence
    assert ("no evidence of particular genes" in sentence) is (significant > 0 and not beyond)
    if beyond:
        assert f"about {placebo / significant:.0%} are no genes' own" in sentence
        assert tone != "good"


def test_a_share_of_the_gene_that_the_placebo_has_too_is_no_gene(measured):
    found = answer_genes(measured)
    shares = {part: replace(of, value=0.5, low=0.45, high=0.55)
              for part, of in found.shares.shares.items()}  # fmt: skip
    large = replace(found.shares, shares=shares)
    none = {part: replace(of, value=0.01, low=0.0, high=0.02) for part, of in shares.items()}
    rank_free = replace(large, shares={**shares, "rank": none["rank"]})
    under = {"step under delete": rank_free, "step under shift": rank_free}
    same = replace(found, variance=under)
    assert on_genes(same)[0].startswith("It differs between genes, but no more than under the pla")
    other = replace(large, shares=none)
    differs = replace(found, variance={**under, "step under shift": other})
    assert on_genes(differs)[0].startswith("It differs between genes: ")
    assert np.isfinite(differs.placebo_shares.shares["gene"].low)
