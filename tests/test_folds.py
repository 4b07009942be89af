"""Folds over impostors, against the embeddings themselves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.effects import approach, cosine_distance, displacement, displacements, distances
from ranklock.engine.moments import Impostor, Moments, StateMoments
from ranklock.folds import (
    log_fold,
    moments_of_impostor,
    states_of_impostor,
    times_impostors,
)

IMPOSTOR = Impostor("impostor 1", {"hold": "hold", "move": "impostor 1, move"})


def embeddings(seed, size=1.0):
    """Baseline, and what is left of it in each input, shape (tasks, width)."""
    draw = np.random.default_rng(seed)
    before = draw.normal(size=(5, 16))
    names = ("hold", "impostor 1", "impostor 1, move")
    return before, {name: before + size * draw.normal(size=(5, 16)) for name in names}


def moments(before, after):
    delta = {name: states - before for name, states in after.items()}
    pairs = [*IMPOSTOR.pairs]
    return Moments(
        (before**2).sum(-1),
        {name: (d * before).sum(-1) for name, d in delta.items()},
        {name: (d * d).sum(-1) for name, d in delta.items()},
        {(a, b): (delta[a] * delta[b]).sum(-1) for a, b in pairs},
    )


@pytest.mark.parametrize("arm", ["hold", "move"])
@given(seed=st.integers(0, 1000), size=st.sampled_from([1e-5, 1e-2, 1.0]))
def test_what_an_arm_does_to_an_impostor_is_read_from_where_it_stands(arm, seed, size):
    before, after = embeddings(seed, size)
    standing, perturbed = after["impostor 1"], after[IMPOSTOR.perturbed[arm]]
    found = moments_of_impostor(moments(before, after), IMPOSTOR, arm)
    np.testing.assert_allclose(distances(found, arm), cosine_distance(standing, perturbed), 1e-5)
    np.testing.assert_allclose(displacements(found, arm), displacement(standing, perturbed), 1e-6)


@given(seed=st.integers(0, 1000))
def test_its_approach_to_states_too(seed):
    before, after = embeddings(seed, 0.1)
    goals = np.random.default_rng(seed + 1).normal(size=(2, 16))
    states = StateMoments(
        (goals**2).sum(-1), before @ goals.T,
        {name: (end - before) @ goals.T for name, end in after.items()},
    )  # fmt: skip
    found = approach(
        moments_of_impostor(moments(before, after), IMPOSTOR, "move"),
        states_of_impostor(states, IMPOSTOR, "move"), "move",
    )  # fmt: skip

    def cosine(x):
        lengths = np.linalg.norm(x, axis=-1)[:, None] * np.linalg.norm(goals, axis=-1)
        return x @ goals.T / lengths

    expected = cosine(after["impostor 1, move"]) - cosine(after["impostor 1"])
    np.testing.assert_allclose(found, expected, atol=1e-12)


positive = st.floats(1e-20, 10.0)


@given(st.lists(positive, min_size=3, max_size=9), st.floats(1e-6, 1e6))
def test_a_fold_does_not_change_when_all_effects_of_a_cell_are_scaled(numbers, scale):
    gene, *others = numbers
    fold = log_fold(gene, others)
    assert fold == pytest.approx(log_fold(gene * scale, np.multiply(others, scale)), abs=1e-6)
    signed = times_impostors(-gene, others)
    assert signed == pytest.approx(times_impostors(-gene * scale, np.multiply(others, scale)))


def test_a_fold_is_a_ratio_of_geometric_means():
    assert log_fold(3e-5, [1e-5, 4e-6, 9e-6]) == pytest.approx(
        np.log10(3e-5 / (1e-5 * 4e-6 * 9e-6) ** (1 / 3))
    )


def test_what_cannot_respond_has_no_fold():
    fold = log_fold([0.0, 0.0, 1e-5], [[0.0, 1e-5, 0.0], [0.0, 1e-5, 0.0]])
    assert np.isnan(fold[0])  # nothing moves it: no evidence
    assert fold[1] < -10  # impostors do
    assert fold[2] > 10  # the gene alone does


@given(st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=2, max_size=12).filter(any))
def test_one_more_impostor_stays_within_one(shifts):
    times = [float(times_impostors(one, shifts)) for one in shifts]
    assert np.sqrt(np.mean(np.square(times))) == pytest.approx(1.0)
    assert abs(np.mean(times)) <= 1.0 + 1e-12


def test_impostors_that_do_not_shift_say_nothing():
    assert np.isnan(times_impostors(0.3, [0.0, 0.0]))
