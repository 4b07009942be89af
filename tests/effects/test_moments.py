import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranklock.arms import DECOMPOSITION_ARMS
from ranklock.effects import cosine_distance, decompose, displacement
from ranklock.effects.moments import approach, displacements, distances, mask_beyond_hold, split
from ranklock.engine.readout import measure


def states(seed, size, scale):
    """Baseline, and states after two knock-outs under each arm, moved by about ``scale``."""
    draw = np.random.default_rng(seed)
    before = draw.normal(size=(size, 12)).astype(np.float32)
    after = {
        arm: before + scale * draw.normal(size=(2, size, 12)).astype(np.float32)
        for arm in DECOMPOSITION_ARMS
    }
    return before, {arm: array.astype(np.float32) for arm, array in after.items()}


def taken(before, after, knocked_out=(-1, -1), **options):
    return measure(
        torch.from_numpy(before).double(),
        {arm: torch.from_numpy(array) for arm, array in after.items()},
        np.array(knocked_out),
        None,
        **{"cell_is_mean": True, **options},
    )


@given(seed=st.integers(0, 999), size=st.integers(1, 8), exponent=st.integers(-6, 1))
def test_effects_from_moments_are_those_from_embeddings(seed, size, exponent):
    scale = 10.0**exponent
    before, after = states(seed, size, scale)
    found = taken(before, after)
    for arm in DECOMPOSITION_ARMS:
        # Sums in float64 of the same float32 numbers, in another order.
        expected = displacement(before[None], after[arm])
        np.testing.assert_allclose(displacements(found.genes, arm), expected, rtol=1e-12)
        # ‖δ‖² − ⟨δ, x⟩² / ‖x‖² loses the digits that the two have in common.
        expected = cosine_distance(before[None], after[arm])
        np.testing.assert_allclose(distances(found.genes, arm), expected, rtol=1e-9, atol=1e-15)
    parts = split(found.genes)
    whole = decompose(before[None], *(after[arm] for arm in DECOMPOSITION_ARMS))
    np.testing.assert_allclose(parts.artefact_share, whole.artefact_share, rtol=1e-9, atol=1e-9)
    for name, vectors in (("phi_removal", whole.edit), ("phi_shift", whole.shift),
                          ("interaction", whole.interaction)):  # fmt: skip
        lengths = np.linalg.norm(vectors, axis=-1)
        np.testing.assert_allclose(getattr(parts, name), lengths, rtol=1e-7, atol=1e-9 * scale)


def test_a_displacement_along_the_embedding_has_no_distance():
    before = np.full((1, 12), 3.0, np.float32)
    after = {"hold": before[None].repeat(2, axis=0) * np.float32(1.5)}
    assert distances(taken(before, after).genes, "hold").max() < 1e-15


def test_beyond_a_right_angle_the_distance_is_the_plain_one():
    before = np.eye(12, dtype=np.float32)[:1]
    after = {"hold": np.stack([-before, -before + 0.1])}
    found = distances(taken(before, after).genes, "hold")
    assert found[0, 0] == pytest.approx(2.0)
    assert found[1, 0] == pytest.approx(cosine_distance(before, after["hold"][1])[0])


@given(seed=st.integers(0, 99), size=st.integers(2, 8))
def test_the_knocked_out_gene_is_in_no_sum(seed, size):
    before, after = states(seed, size, 0.1)
    gone = (0, size - 1)
    for arm in after:
        for k, place in enumerate(gone):
            after[arm][k, place] = 1e6
    found = taken(before, after, gone)
    for k, place in enumerate(gone):
        rest = np.arange(size) != place
        for arm in DECOMPOSITION_ARMS:
            assert displacements(found.genes, arm)[k, place] == 0.0
            start, end = before[rest].mean(0, dtype=float), after[arm][k][rest].mean(0, dtype=float)
            assert displacements(found.cell, arm)[k] == pytest.approx(displacement(start, end))


def test_without_its_arms_there_is_no_decomposition():
    before, after = states(0, 3, 0.1)
    del after["shift"]
    assert split(taken(before, after).genes) is None
    assert taken(before, after, cell_is_mean=False).cell is None


@given(seed=st.integers(0, 99), size=st.integers(1, 8))
def test_the_approach_to_a_state_is_the_change_of_the_cosine(seed, size):
    before, after = states(seed, size, 0.3)
    goals = np.random.default_rng(seed).normal(size=(2, 12))
    found = taken(before, after, states=torch.from_numpy(goals))

    def cosines(x):
        return goals @ x / np.linalg.norm(goals, axis=1) / np.linalg.norm(x)

    for arm in DECOMPOSITION_ARMS:
        turned = approach(found.cell, found.states, arm)
        start = before.mean(0, dtype=np.float64)
        for k in range(2):
            end = after[arm][k].mean(0, dtype=np.float64)
            np.testing.assert_allclose(turned[k], cosines(end) - cosines(start), atol=1e-12)


def test_what_mask_adds_to_hold_is_the_distance_between_them():
    before, after = states(3, 4, 0.1)
    after["mask"] = after["hold"] + np.float32(0.01)
    found = taken(before, after)
    expected = ((after["mask"].astype(float) - after["hold"]) ** 2).sum(-1)
    # Of squares of 0.1 that have all but a hundredth in common.
    np.testing.assert_allclose(mask_beyond_hold(found.genes), expected, rtol=1e-9)
    del after["mask"]
    assert mask_beyond_hold(taken(before, after).genes) is None
