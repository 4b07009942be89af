import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ranklock.effects import (
    approach,
    artefact_share,
    beyond_edit,
    cosine_distance,
    decompose,
    displacement,
    displacements,
    distances,
    median,
)
from ranklock.engine.moments import (
    Moments,
    StateMoments,
    crossed_pairs,
    decomposition_arms,
    masking_pair,
)
from tests.test_arms import SUBSETS

mpmath.mp.dps = 60

# Input of the formula is float64. Its longest chain of roundings is three sums of 256 products
# (numpy sums pairwise, so their relative error is some ten roundings), and the projection's error
# is one rounding of the whole displacement, squared. 1e-12 is 5,000 roundings.
RELATIVE = 1e-12


def exact(x, y):
    """1 - cos in 60-digit arithmetic, from the very numbers given."""
    x, y = ([mpmath.mpf(float(v)) for v in array] for array in (x, y))
    return 1 - mpmath.fdot(x, y) / mpmath.sqrt(mpmath.fdot(x, x) * mpmath.fdot(y, y))


def naive_float32(x, y):
    x, y = x.astype(np.float32), y.astype(np.float32)
    return np.float32(1) - x @ y / (np.linalg.norm(x) * np.linalg.norm(y))


@pytest.mark.parametrize("exponent", range(-12, 1))
@pytest.mark.parametrize("seed", range(5))
def test_against_60_digits_for_displacements_from_1e_12_to_1(exponent, seed):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=256)
    x /= np.linalg.norm(x)
    direction = draw.normal(size=256)
    y = x + 10.0**exponent * direction / np.linalg.norm(direction)
    truth = exact(x, y)
    assert abs(cosine_distance(x, y) - truth) <= RELATIVE * truth


@pytest.mark.parametrize("exponent", range(-12, -4))
def test_the_naive_float32_difference_fails_there(exponent):
    draw = np.random.default_rng(0)
    x = draw.normal(size=256)
    y = x + 10.0**exponent * draw.normal(size=256)
    truth = float(exact(x, y))
    assert abs(naive_float32(x, y) - truth) > 0.5 * truth
    assert abs(cosine_distance(x, y) - truth) <= RELATIVE * truth


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.5707, 1.5709, 2.5, 3.14159, np.pi])
def test_every_angle(angle):
    x = np.array([2.0, 0.0])
    y = 5.0 * np.array([np.cos(angle), np.sin(angle)])
    assert cosine_distance(x, y) == pytest.approx(float(exact(x, y)), rel=RELATIVE, abs=1e-300)


FLOATS = st.floats(-1e3, 1e3, width=32)


@given(arrays(np.float32, (3, 8), elements=FLOATS), arrays(np.float32, (3, 8), elements=FLOATS))
def test_is_between_0_and_2_symmetric_and_0_without_a_move(x, y):
    x[:, 0] = np.where(np.abs(x[:, 0]) < 1, 1, x[:, 0])
    y[:, 1] = np.where(np.abs(y[:, 1]) < 1, 1, y[:, 1])
    forth, back = cosine_distance(x, y), cosine_distance(y, x)
    assert ((forth >= 0) & (forth <= 2)).all()
    # What is lost where the displacement is along x: the projection's rounding, 1e-16 of its
    # squared length over ‖y‖², which is at most (1e3 · √8)² here.
    np.testing.assert_allclose(forth, back, rtol=1e-9, atol=1e-15)
    assert (cosine_distance(x, x) == 0).all()


def test_a_zero_embedding_has_no_direction():
    assert np.isnan(cosine_distance(np.zeros(3), np.ones(3)))
    assert np.isnan(cosine_distance(np.ones(3), np.zeros(3)))


def test_displacement_is_a_length():
    before = np.array([[0, 0], [1, 1]], dtype=np.float32)
    after = np.array([[3, 4], [1, 1]], dtype=np.float32)
    assert displacement(before, after).tolist() == [5, 0]


def test_the_smallest_step_of_float32_is_seen():
    x = np.full(256, 1, dtype=np.float32)
    y = x.copy()
    y[0] = np.nextafter(np.float32(1), np.float32(2))
    assert cosine_distance(x, y) == pytest.approx(float(exact(x, y)), rel=RELATIVE)
    assert naive_float32(x, y) == 0


KNOCK_OUTS, MOVES = ("delete", "hold", "shift", "mask"), ("move", "hold", "shift")
FOUR = arrays(np.float32, (4, 5, 6), elements=FLOATS)


def moments_of(before, after):
    """Inner products of embeddings, arm by arm, as the engine hands them over."""
    x = np.asarray(before, dtype=np.float64)
    delta = {arm: np.asarray(array, dtype=np.float64) - x for arm, array in after.items()}
    return Moments(
        squared=(x * x).sum(-1),
        along={arm: (d * x).sum(-1) for arm, d in delta.items()},
        moved={arm: (d * d).sum(-1) for arm, d in delta.items()},
        crossed={(a, b): (delta[a] * delta[b]).sum(-1) for a, b in crossed_pairs(delta)},
    )


def embeddings(seed, size, scale, arms=KNOCK_OUTS):
    """A baseline, and embeddings under each arm that moved by about ``scale``."""
    draw = np.random.default_rng(seed)
    before = draw.normal(size=(size, 12)).astype(np.float32)
    return before, {
        arm: (before + scale * draw.normal(size=before.shape)).astype(np.float32) for arm in arms
    }


def causes(states, whole="delete"):
    """The decomposition of a whole, from embeddings at baseline, edit, placebo and whole."""
    before, edit, placebo, both = states
    return decompose(moments_of(before, {"hold": edit, "shift": placebo, whole: both}))


@given(seed=st.integers(0, 999), size=st.integers(1, 8), exponent=st.integers(-6, 1))
def test_effects_from_inner_products_are_those_from_embeddings(seed, size, exponent):
    before, after = embeddings(seed, size, 10.0**exponent)
    moments = moments_of(before, after)
    for arm, moved in after.items():
        # Sums in float64 of the same float32 numbers, in another order.
        expected = displacement(before, moved)
        np.testing.assert_allclose(displacements(moments, arm), expected, rtol=1e-12)
        # ‖δ‖² − ⟨δ, x⟩² / ‖x‖² loses the digits that the two have in common.
        expected = cosine_distance(before, moved)
        np.testing.assert_allclose(distances(moments, arm), expected, rtol=1e-9, atol=1e-15)


def test_a_displacement_along_the_embedding_has_no_distance():
    before = np.full((1, 12), 3.0)
    assert distances(moments_of(before, {"hold": 1.5 * before}), "hold") < 1e-15


def test_beyond_a_right_angle_the_distance_is_the_plain_one():
    before = np.eye(12)[:1]
    turned = np.concatenate([-before, -before + 0.1])
    apart = distances(moments_of(before, {"hold": turned}), "hold")
    assert apart[0] == pytest.approx(2.0)
    assert apart[1] == pytest.approx(cosine_distance(before[0], turned[1]))


@given(states=FOUR, whole=st.sampled_from(["delete", "move"]))
def test_the_parts_are_the_shapley_values(states, whole):
    b, h, s, d = states.astype(np.float64)
    # The mean, over the two orders of the players, of what each adds when it joins.
    phi_edit, phi_shift = ((h - b) + (d - s)) / 2, ((d - h) + (s - b)) / 2
    # They sum to the displacement: float64 sums of float32 numbers below 1e3.
    np.testing.assert_allclose(phi_edit + phi_shift, d - b, rtol=0, atol=1e-11)
    parts = causes(states, whole)
    for lengths, vectors in ((parts.phi_edit, phi_edit), (parts.phi_shift, phi_shift),
                             (parts.interaction, (d - s) - (h - b))):  # fmt: skip
        # Squares that cancel: of at most six terms of 6 · (2e3)² each errs by 1e-16 of itself.
        np.testing.assert_allclose(lengths**2, (vectors**2).sum(-1), rtol=1e-9, atol=1e-6)
    along = (phi_shift * (d - b)).sum(-1)
    np.testing.assert_allclose(parts.shift_along_total, along, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(parts.total_squared, ((d - b) ** 2).sum(-1), rtol=1e-12)


@given(FOUR)
def test_swapping_the_causes_swaps_the_parts(states):
    parts, swapped = causes(states), causes(states[[0, 2, 1, 3]])
    np.testing.assert_allclose(parts.phi_edit, swapped.phi_shift, rtol=1e-9)
    np.testing.assert_allclose(parts.interaction, swapped.interaction, rtol=1e-9, atol=1e-6)
    # What the two explain of the displacement sums to all of it.
    np.testing.assert_allclose(
        parts.shift_along_total + swapped.shift_along_total, parts.total_squared, rtol=1e-9,
        atol=1e-6,
    )  # fmt: skip


def test_shares_of_pure_causes():
    b = np.zeros((2, 3))
    moved = np.array([[1.0, 2, 3], [4, 5, 6]])
    assert causes([b, b, moved, moved]).artefact_share.tolist() == [1, 1]
    assert causes([b, moved, b, moved]).artefact_share.tolist() == [0, 0]
    assert causes([b, moved, moved, 2 * moved]).artefact_share.tolist() == [0.5, 0.5]


def test_pooling_weighs_responders_by_how_far_they_moved():
    b = np.zeros((2, 2))
    d = np.array([[3.0, 0], [0, 1.0]])
    shift_moves_the_first = np.array([[3.0, 0], [0, 0]])
    hold_moves_the_second = np.array([[0.0, 0], [0, 1.0]])
    parts = causes([b, hold_moves_the_second, shift_moves_the_first, d])
    assert parts.artefact_share.tolist() == [1, 0]
    pooled = artefact_share(parts.shift_along_total.sum(), parts.total_squared.sum())
    assert pooled == pytest.approx(9 / 10)


def test_where_nothing_moved_there_is_no_share():
    still = np.ones((2, 3))
    parts = causes([still] * 4)
    assert np.isnan(parts.artefact_share).all()
    assert np.isnan(artefact_share(parts.shift_along_total.sum(), parts.total_squared.sum()))


@pytest.mark.parametrize("arms", [KNOCK_OUTS, MOVES])
def test_without_its_arms_there_is_no_decomposition(arms):
    before, after = embeddings(0, 3, 0.1, arms)
    assert decompose(moments_of(before, after)) is not None
    for arm in decomposition_arms(arms):
        rest = {name: array for name, array in after.items() if name != arm}
        assert decompose(moments_of(before, rest)) is None


def test_what_runs_in_place_of_hold_decomposes_as_hold_does():
    before, after = embeddings(0, 3, 0.1)
    alias = {"attention-mask" if arm == "hold" else arm: moved for arm, moved in after.items()}
    expected, parts = decompose(moments_of(before, after)), decompose(moments_of(before, alias))
    np.testing.assert_array_equal(parts.phi_edit, expected.phi_edit)
    np.testing.assert_array_equal(parts.artefact_share, expected.artefact_share)


def test_over_every_subset_of_arms_the_products_that_are_taken_are_those_that_are_needed():
    for arms in SUBSETS:
        pairs = crossed_pairs(arms)
        assert len(set(pairs)) == len(pairs)
        assert {arm for pair in pairs for arm in pair} <= set(arms)
        before, after = embeddings(0, 2, 0.1, arms)
        moments = moments_of(before, after)
        assert (decompose(moments) is None) == (decomposition_arms(arms) is None)
        assert (beyond_edit(moments) is None) == (masking_pair(arms) is None)


def test_what_mask_adds_to_hold_is_the_distance_between_them():
    before, after = embeddings(3, 4, 0.1)
    after["mask"] = after["hold"] + np.float32(0.01)
    expected = ((after["mask"].astype(float) - after["hold"]) ** 2).sum(-1)
    # Of squares of 0.1 that have all but a hundredth in common.
    np.testing.assert_allclose(beyond_edit(moments_of(before, after)), expected, rtol=1e-9)


@given(seed=st.integers(0, 99), tasks=st.integers(1, 8))
def test_the_approach_to_a_state_is_the_change_of_the_cosine(seed, tasks):
    before, after = embeddings(seed, tasks, 0.3)
    goals = np.random.default_rng(seed).normal(size=(2, 12))
    x = before.astype(np.float64)
    states = StateMoments(
        squared=(goals * goals).sum(-1),
        before=x @ goals.T,
        along={arm: (moved - x) @ goals.T for arm, moved in after.items()},
    )

    def cosines(y):
        lengths = np.linalg.norm(y, axis=1)[:, None] * np.linalg.norm(goals, axis=1)
        return y @ goals.T / lengths

    moments = moments_of(before, after)
    for arm, moved in after.items():
        expected = cosines(moved.astype(np.float64)) - cosines(x)
        np.testing.assert_allclose(approach(moments, states, arm), expected, atol=1e-12)


def test_the_median_is_of_the_numbers_that_are_there():
    assert median(np.array([1.0, np.nan, 3.0, 10.0])) == 3
    assert np.isnan(median(np.array([np.nan])))
    assert np.isnan(median(np.array([])))
