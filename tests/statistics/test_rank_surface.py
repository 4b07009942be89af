import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.statistics.rank_surface import COEFFICIENTS, RankSurface, SurfaceFit, surface_terms


@given(st.integers(2, 60), st.integers(0, 1000))
def test_the_surface_is_its_terms_times_its_coefficients(genes, seed):
    draw = np.random.default_rng(seed)
    knocked_out = np.sort(draw.choice(genes, max(genes // 3, 1), replace=False))
    responders = np.sort(draw.choice(genes, max(genes // 2, 1), replace=False))
    coefficients = draw.normal(size=COEFFICIENTS)
    surface = RankSurface(coefficients.reshape(2, 6, 6), COEFFICIENTS)
    np.testing.assert_allclose(
        surface.at(knocked_out, responders, genes),
        surface_terms(knocked_out, responders, genes) @ coefficients,
        atol=1e-10,
    )


def test_a_step_and_a_fall_with_distance_are_fitted():
    ranks, genes = np.arange(100), 100
    distance = ranks[None, :] - ranks[:, None]
    truth = 2.0 * (distance > 0) - 0.7 * np.log10(np.maximum(np.abs(distance), 1))
    fit = SurfaceFit()
    fit.add(surface_terms(ranks, ranks, genes), truth)
    found = fit.solve().at(ranks, ranks, genes)
    np.testing.assert_allclose(found, truth, atol=1e-6)


def test_what_is_not_determined_is_zero_and_counted():
    fit = SurfaceFit()
    assert fit.solve().determined == 0
    assert (fit.solve().coefficients == 0).all()
    ranks = np.arange(50)
    fit.add(surface_terms(np.array([25]), ranks, 50), np.ones((1, 50)))
    one = fit.solve()
    assert 0 < one.determined < COEFFICIENTS / 2
    assert one.at(np.array([25]), ranks, 50) == pytest.approx(1.0)
