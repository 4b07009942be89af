import math

import numpy as np

from ranklock.effects import Step, step


def test_medians_on_either_side():
    distances = np.array([1.0, 2, 3, 10, 20])
    assert step(distances, np.array([0, 1, 2, 4, 5]), [3]) == Step(before=2, after=15)


def test_genes_between_several_perturbed_ranks_are_on_neither_side():
    distances = np.array([1.0, 99, 5])
    assert step(distances, np.array([0, 2, 4]), [1, 3]) == Step(before=1, after=5)


def test_a_side_without_genes_has_no_median():
    sides = step(np.array([1.0, 2]), np.array([1, 2]), [0])
    assert math.isnan(sides.before)
    assert sides.after == 1.5
