import numpy as np

from ranklock.significance.mixture import DECISIVE, two_components


def test_two_components_are_told_apart():
    draw = np.random.default_rng(0)
    genes = np.concatenate([draw.normal(0, 0.1, 160), draw.normal(1.0, 0.2, 40)])
    mixture = two_components(genes, np.array([-0.1, 1.1, np.nan]))
    assert mixture.bic_gain >= DECISIVE
    assert (mixture.impact > 0.5).sum() == 40
    assert mixture.of_values[0] < 0.01
    assert mixture.of_values[1] > 0.99
    assert np.isnan(mixture.of_values[2])


def test_one_component_is_not_said_to_be_two():
    mixtures = [two_components(np.random.default_rng(s).normal(size=200), []) for s in range(10)]
    assert all(mixture.bic_gain < DECISIVE for mixture in mixtures)


def test_few_or_equal_genes_have_no_mixture():
    for genes in (np.arange(19.0), np.ones(50), np.full(50, np.nan)):
        mixture = two_components(genes, [1.0])
        assert np.isnan([*mixture.impact, *mixture.of_values, mixture.bic_gain]).all()
