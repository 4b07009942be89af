import numpy as np

from ranklock.significance.mixture import two_components


def test_two_components_are_told_apart():
    draw = np.random.default_rng(0)
    genes = np.concatenate([draw.normal(0, 0.1, 160), draw.normal(1.0, 0.2, 40)])
    mixture = two_components(genes, np.array([-0.1, 1.1, np.nan]))
    assert mixture.separated
    np.testing.assert_allclose(mixture.means, [0.0, 1.0], atol=0.1)
    np.testing.assert_allclose(mixture.weights, [0.8, 0.2], atol=0.05)
    assert (mixture.impact > 0.5).sum() == 40
    assert mixture.of_values[0] < 0.01
    assert mixture.of_values[1] > 0.99
    assert np.isnan(mixture.of_values[2])


def test_one_component_is_not_said_to_be_two():
    mixtures = [two_components(np.random.default_rng(s).normal(size=200), []) for s in range(10)]
    assert not any(mixture.separated for mixture in mixtures)


def test_few_or_equal_genes_have_no_mixture():
    assert two_components(np.arange(19.0), []) is None
    assert two_components(np.ones(50), []) is None
    assert two_components(np.full(50, np.nan), []) is None
