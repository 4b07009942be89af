import numpy as np
import statsmodels.api as sm

from ranklock.statistics.logistic import fit_logistic, predict


def test_coefficients_are_those_of_statsmodels():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(3000, 3))
    y = draw.random(3000) < 1 / (1 + np.exp(-(x @ [0.5, -1.0, 0.0] - 1)))
    theirs = sm.Logit(y.astype(float), sm.add_constant(x)).fit(disp=0).params
    ours = fit_logistic(x, y)
    # The ridge of 1e-4 shrinks by about 1e-4 / curvature (0.15): less than 2e-3 of a coefficient.
    np.testing.assert_allclose(ours, theirs, atol=3e-3)
    np.testing.assert_allclose(predict(x, ours), ours[0] + x @ ours[1:])


def test_rows_weigh_what_they_are_given():
    draw = np.random.default_rng(1)
    x = draw.normal(size=(200, 1))
    y = draw.random(200) < 0.4
    twice = fit_logistic(np.concatenate([x, x[:50]]), np.concatenate([y, y[:50]]))
    weights = np.where(np.arange(200) < 50, 2.0, 1.0)
    np.testing.assert_allclose(fit_logistic(x, y, weights), twice, atol=1e-5)


def test_classes_that_separate_stay_finite():
    x = np.linspace(-1, 1, 40)[:, None]
    assert np.isfinite(fit_logistic(x, x[:, 0] > 0)).all()
