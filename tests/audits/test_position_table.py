"""The position table: what it says of the step, on tables whose truth is known."""

import json

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import BertForMaskedLM

import ranklock
from ranklock.audits.position_table import predicted_step
from ranklock.audits.position_table_page import (
    NONE,
    position_table_blocks,
    position_table_sentence,
)
from ranklock.audits.sample import Sample
from ranklock.audits.smoothing import FORWARDS, MOST, ranks_to_smooth
from ranklock.models.smoothed import smoothed
from tests import helpers

OPTIONS = {"budget": 800, "progress": False}


def with_table(folder, table):
    """Give a checkpoint this position table."""
    model = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        model.bert.embeddings.position_embeddings.weight[:] = torch.as_tensor(table)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """Kind of table → audit of the same cells with it: noise, a smooth curve, and both."""
    draw = np.random.default_rng(0)
    noise = draw.standard_normal((128, 32))
    angles = np.arange(128)[:, None] / 40 + np.linspace(0, 6, 32)
    tables = {"noise": 0.05 * noise, "curve": np.sin(angles), "both": np.sin(angles) + 0.2 * noise}
    cells = helpers.cells_of([100] * 6, helpers.vocabulary(120))
    found = {}
    for kind, table in tables.items():
        place = tmp_path_factory.mktemp(kind)
        helpers.checkpoint(place / "m", tokens=128, width=32, positions=128, spread=0.3)
        model = ranklock.load_model(with_table(place / "m", table), device="cpu")
        found[kind] = ranklock.audit(cells, model, place / "audit", **OPTIONS)
    return found


def test_noise_is_told_from_a_curve(audited):
    parts = {kind: of.content["position_table"] for kind, of in audited.items()}
    assert all(part["positions"] == 100 for part in parts.values())
    assert parts["noise"]["noise_of_neighbours"] > 0.9
    assert parts["noise"]["noise_of_table"] > 0.9
    assert parts["curve"]["noise_of_neighbours"] == 0
    # The noise that was added to the curve has a variance of 0.04.
    assert parts["both"]["nugget"] == pytest.approx(0.04, rel=0.15)
    expected = 0.04 / (0.04 + parts["curve"]["variance"])
    assert parts["both"]["noise_of_table"] == pytest.approx(expected, rel=0.15)


def test_smoothing_takes_the_shift_away_where_the_table_is_noise(audited):
    for kind, of in audited.items():
        tables = of.content["position_table"]["smoothing"]["tables"]
        shares = {each["window"]: each["artefact_share"]["value"] for each in tables}
        assert list(shares) == [0, 2, 10]
        if kind == "curve":  # which a mean over neighbours leaves as it is
            assert shares[10] == pytest.approx(shares[0], abs=0.01)
        else:
            assert shares[0] - 0.05 > shares[2] > shares[10] + 0.05
    assert "smoothing" in audited["noise"].tables
    assert list(audited["noise"].table("smoothing")["window"]) == [0, 2, 10]


def test_the_smoothed_share_is_that_of_a_run_of_the_smoothed_model(audited):
    """Each share, once more from a run of all genes by the public functions."""
    found = audited["both"]
    part = found.content["position_table"]["smoothing"]
    inner = ranklock.read_run(found.folder / "smoothed" / "window-2")
    model = ranklock.load_model(inner.manifest.made_from.model.name, device="cpu")
    assert inner.manifest.made_from.model.sha256 == smoothed(model, 2).sha256
    cells = helpers.cells_of([100] * 6, helpers.vocabulary(120))
    for window, one in ((0, model), (2, smoothed(model, 2))):
        whole = ranklock.perturb(cells, one, arms=["delete", "hold", "shift"], progress=False)
        rows = whole.shifts[whole.shifts["arm"] == "delete"]
        done = inner.shifts[inner.shifts["arm"] == "delete"][["cell", "gene_id"]].astype(str)
        rows = rows.astype({"cell": str, "gene_id": str}).merge(done)
        assert len(rows) == part["knockouts"]
        expected = rows["shift_along_total"].sum() / rows["displacement_squared"].sum()
        each = next(t for t in part["tables"] if t["window"] == window)
        assert each["artefact_share"]["value"] == pytest.approx(expected, rel=1e-4)


def test_the_predicted_step_is_the_plain_models(audited):
    found = audited["both"]
    model = ranklock.load_model(found.run.manifest.made_from.model.name, device="cpu")
    plain = model.encoder.embeddings.double()
    tokens, positions = torch.tensor([5, 30, 77]), torch.tensor([1, 40, 99])
    with torch.no_grad():
        before, after = (
            plain(input_ids=tokens[None], position_ids=places[None])[0]
            for places in (positions, positions - 1)
        )
    expected = 1 - torch.cosine_similarity(before, after)
    np.testing.assert_allclose(predicted_step(model, tokens, positions), expected, rtol=1e-6)


def test_the_prediction_is_compared_within_knock_outs(audited):
    found = audited["both"]
    model = ranklock.load_model(found.run.manifest.made_from.model.name, device="cpu")
    rhos = []
    for block in found.run.blocks(arms=["delete"]):
        for k, rank in enumerate(block.gene_ranks):
            below = block.responder_ranks > rank
            if below.sum() < 10:
                continue
            steps = predicted_step(model, block.responders[below], block.responder_ranks[below])
            rhos.append(stats.spearmanr(steps, block.distances["delete"][k, below]).statistic)
    predicted = found.content["position_table"]["predicted"]
    assert predicted["n"] == len(rhos)
    assert predicted["value"] == pytest.approx(np.mean(rhos))


def test_the_first_layers_input_is_predicted_exactly(tmp_path):
    """Read before the first layer, a rank shift is nothing but what is predicted."""
    folder = helpers.checkpoint(tmp_path / "m", spread=0.3)
    model = ranklock.load_model(folder, device="cpu")
    cells = helpers.cells_of([50, 40], helpers.vocabulary(55))
    found = ranklock.audit(cells, model, tmp_path / "audit", layer=-2, **OPTIONS)
    assert found.content["position_table"]["predicted"]["low"] > 0.999


def test_the_token_of_the_cell_keeps_its_position(tmp_path):
    folder = helpers.checkpoint(tmp_path / "m", spread=0.3)
    vocabulary = helpers.vocabulary(50, special_frame=True)
    cells = helpers.cells_of([45, 40, 30], vocabulary, special_frame=True)
    model = ranklock.load_model(folder, device="cpu")
    found = ranklock.audit(cells, model, tmp_path / "audit", layer=-2, **OPTIONS)
    part = found.content["position_table"]
    assert part["positions"] == 45
    assert part["predicted"]["low"] > 0.999
    inner = ranklock.read_run(found.folder / "smoothed" / "window-10")
    assert inner.manifest.made_from.model.sha256 == smoothed(model, 10, first=1).sha256


def test_what_smoothing_costs_is_measured_where_there_is_a_head(tmp_path, audited):
    part = audited["noise"].content["position_table"]["smoothing"]
    assert part["masked_genes"] > 100
    assert part["no_loss"] == ""
    own, *others = part["tables"]
    assert own["loss"]["value"] > 0
    for each in others:
        assert each["loss_rise"]["value"] == pytest.approx(
            each["loss"]["value"] - own["loss"]["value"], abs=1e-9
        )
    tuned = ranklock.load_model(helpers.classifier(tmp_path), device="cpu")
    cells = helpers.cells_of([50, 40], helpers.vocabulary(55))
    found = ranklock.audit(cells, tuned, tmp_path / "audit", **OPTIONS)
    part = found.content["position_table"]["smoothing"]
    assert part["masked_genes"] == 0
    assert part["tables"][1]["loss"]["value"] is None
    assert "has no head that tells masked genes" in found.report.read_text()


def test_the_report_says_it_and_a_run_has_none(audited, tmp_path):
    found = audited["both"]
    text = found.report.read_text()
    assert "The position table" in text
    assert "Of what differs between two neighbouring positions" in text
    assert "with it smoothed" in found.verdict.loc["step", "answer"]
    assert found.content["arms"]["advice"] in text
    of_run = ranklock.audit(found.run, out=tmp_path / "audit", progress=False)
    assert of_run.content["position_table"] is None
    assert NONE in of_run.report.read_text()
    assert position_table_sentence(None) == NONE
    assert position_table_blocks(None) == []


def test_without_the_arms_of_a_share_nothing_is_smoothed(tmp_path):
    model = ranklock.load_model(helpers.checkpoint(tmp_path / "m", spread=0.3), device="cpu")
    cells = helpers.cells_of([50, 40], helpers.vocabulary(55))
    found = ranklock.audit(cells, model, tmp_path / "audit", arms=["delete", "hold"], **OPTIONS)
    assert found.content["position_table"]["smoothing"] is None
    assert not (found.folder / "smoothed").exists()


def test_smoothing_is_within_the_budget(tmp_path):
    model = ranklock.load_model(helpers.checkpoint(tmp_path / "m", spread=0.3), device="cpu")
    cells = helpers.cells_of([60] * 12, helpers.vocabulary(60))
    for budget in (300, 1500, 3000):
        found = ranklock.audit(cells, model, tmp_path / str(budget), budget=budget, progress=False)
        smoothing = found.content["position_table"]["smoothing"]
        assert smoothing["knockouts"] <= MOST
        masked = smoothing["knockouts"] * 3
        assert found.content["sample"]["forwards"] + masked <= 1.02 * budget + FORWARDS


@pytest.mark.parametrize("lengths", [[1], [2, 0, 3], [10] * 3, [30] * 100, [800]])
def test_what_is_smoothed_covers_cells_and_ranks(lengths):
    by_rank = tuple(tuple(range(length)) for length in lengths)
    sample = Sample(tuple(range(5, 5 + len(lengths))), by_rank, ((),) * len(lengths))
    chosen = ranks_to_smooth(sample)
    total = sum(lengths)
    assert sum(map(len, chosen.values())) == min(max(total // 16, 1), MOST)
    for cell, ranks in chosen.items():
        assert ranks == sorted(set(ranks))
        assert set(ranks) <= set(by_rank[cell - 5])
    if max(lengths) >= 30:
        last = max(max(ranks) for ranks in chosen.values())
        assert last > 0.7 * max(lengths)


def test_one_embedding_for_all_positions_is_said(tmp_path):
    folder = helpers.with_constant_positions(helpers.checkpoint(tmp_path / "m", spread=0.3))
    cells = helpers.cells_of([50, 40], helpers.vocabulary(55))
    model = ranklock.load_model(folder, device="cpu")
    found = ranklock.audit(cells, model, tmp_path / "audit", **OPTIONS)
    part = found.content["position_table"]
    assert part["variance"] < 1e-12
    assert part["noise_of_neighbours"] is None
    assert "have one embedding" in found.report.read_text()
    assert json.dumps(part)  # nothing in it that JSON cannot hold
