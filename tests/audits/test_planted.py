"""The audit on models whose truth is known."""

import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.genes.network import Network
from tests import helpers

SOURCE, TARGETS = 60, list(range(200, 210))  # tokens


@pytest.fixture(scope="module")
def vocabulary():
    return helpers.vocabulary(400)


@pytest.fixture(scope="module")
def cells(vocabulary):
    return helpers.cells_of([180] * 8 + [120] * 2, vocabulary)


def audited(cells, folder, out, **options):
    model = ranklock.load_model(str(folder), device="cpu")
    return ranklock.audit(cells, model, out, budget=1600, progress=False, **options)


@pytest.fixture(scope="module")
def random_weights(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("random")
    helpers.checkpoint(folder / "model", tokens=420, positions=256, layers=3, width=128)
    return audited(cells, folder / "model", folder / "audit")


def test_random_weights_are_nothing_but_rank_shift(random_weights):
    content = random_weights.content
    assert content["arms"]["arms"]["delete"]["artefact_share"]["low"] > 0.99
    delete, hold = content["step"]["arms"]["delete"], content["step"]["arms"]["hold"]
    assert delete["located_exactly"] >= 0.95
    assert delete["located"]["value"] >= 0.95
    assert delete["size"] == "large"
    assert hold["size"] == "none"
    assert hold["jump"]["low"] < 0 < hold["jump"]["high"]
    # One change point in twenty is near the rank by chance; the interval is of a share that small.
    assert hold["located"]["low"] <= 1.5 * hold["located_by_chance"]
    assert content["arms"]["arms"]["delete"]["has_step"] is True
    assert content["arms"]["arms"]["hold"]["has_step"] is False
    # Positions drawn one by one: the lifts of neighbours partly cancel in the mean over genes, so
    # that the correlation is not quite −1; with a table as pretraining leaves it, it is.
    assert content["rankings"]["cell_shift"]["against_rank"]["delete"]["value"] < -0.8
    assert content["arms"]["outcome"] in ("cured", "cures differ")
    verdict = random_weights.verdict
    assert verdict.loc["step", "answer"].startswith("Yes")
    assert verdict.loc["arms", "answer"].startswith("Yes")


def test_with_a_smooth_position_table_cell_shifts_are_a_ranking_by_rank(cells, tmp_path):
    folder = helpers.checkpoint(tmp_path / "model", tokens=420, positions=256, layers=3, width=128)
    found = audited(cells, helpers.with_smooth_positions(folder), tmp_path / "audit")
    against = found.content["rankings"]["cell_shift"]["against_rank"]
    assert against["delete"]["value"] < -0.95
    assert against["hold"]["low"] > against["delete"]["high"] + 0.2
    assert found.content["arms"]["arms"]["delete"]["artefact_share"]["low"] > 0.99


def test_without_a_rank_there_is_no_artefact(cells, tmp_path):
    folder = helpers.checkpoint(tmp_path / "model", tokens=420, positions=256, layers=3, width=32)
    found = audited(cells, helpers.with_constant_positions(folder), tmp_path / "audit")
    arms = found.content["arms"]["arms"]
    # With one vector for all positions, delete is hold: the share is zero but for rounding.
    assert abs(arms["delete"]["artefact_share"]["value"]) < 1e-6
    assert arms["delete"]["has_step"] is False
    assert arms["delete"]["agreement"]["value"] > 0.999
    assert found.content["arms"]["outcome"] == "unbiased"
    assert found.verdict.loc["step", "answer"].startswith("No")
    assert "delete may be used" in found.verdict.loc["arms", "answer"]
    table = found.table("knockouts")
    shift = table[table["arm"] == "shift"]
    assert (shift["superiority"].dropna() == 0.5).all()  # all of it under the noise floor


def test_ten_genes_that_truly_move_are_found_under_hold(cells, vocabulary, tmp_path):
    folder = helpers.checkpoint_with_links(
        tmp_path / "model", SOURCE, TARGETS, tokens=420, positions=256
    )
    names = [vocabulary.symbol(token) for token in (SOURCE, *TARGETS)]
    edges = pd.DataFrame({"source": names[0], "target": names[1:], "weight": 1.0})
    found = audited(
        cells, folder, tmp_path / "audit", network=Network(edges, "planted", "0"), layer=-1
    )
    scores = found.content["links"]["scores"]
    assert scores["hold"]["auroc"]["value"] > 0.99
    assert scores["hold"]["average_precision"]["value"] > 0.9
    assert scores["hold"]["p"] < 0.01
    assert scores["hold"]["auroc"]["value"] > scores["delete"]["auroc"]["value"]
    assert abs(scores["rank distance"]["auroc"]["value"] - 0.5) < 0.25

    # The same from the run under it: those of the ten that stand in cells with the source.
    effects = found.run.effects(["hold"], genes=[names[0]], average=True)
    moved = dict(zip(effects.var["symbol"].astype(str), effects.layers["hold"][0], strict=True))
    there = {name for name in names[1:] if np.isfinite(moved.get(name, np.nan))}
    assert len(there) >= 5
    ranked = sorted((name for name in moved if np.isfinite(moved[name])), key=lambda n: -moved[n])
    assert set(ranked[: len(there)]) == there
