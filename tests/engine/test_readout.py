"""Inner products of the rows of a batch; tests/engine/test_tasks.py has them against forwards."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranklock.effects import approach, displacement, displacements, distances
from ranklock.engine.moments import crossed_pairs
from ranklock.engine.readout import Baseline, Displacements, Segment, join, measure

WIDTH = 12
ARMS = ("delete", "hold", "shift")


def segment(seed, responders, perturbed, *, states=None):
    """Consecutive tasks of one cell, and embeddings after them, moved by about 0.1."""
    draw = np.random.default_rng(seed)
    before = draw.normal(size=(responders, WIDTH))
    moved = 0.1 * draw.normal(size=(len(ARMS), len(perturbed), responders, WIDTH))
    after = dict(zip(ARMS, (before + moved).astype(np.float32), strict=True))
    baseline = Baseline(torch.from_numpy(before), None, None, None)
    return Segment(baseline, responders, perturbed, states, crossed_pairs(after)), after


def measured(cells, *, cell=True, mean=True):
    """What is measured of some cells in one batch."""
    after = {
        arm: Displacements(
            torch.cat([
                (torch.from_numpy(rows[arm]).double() - tasks.baseline.genes).flatten(0, 1)
                for tasks, rows in cells
            ]),
            None, None, None,
        )
        for arm in ARMS
    }  # fmt: skip
    return measure([tasks for tasks, _ in cells], after, cell=cell, mean=mean)


@given(seed=st.integers(0, 99), sizes=st.lists(st.integers(2, 8), min_size=1, max_size=4))
def test_a_perturbed_gene_is_in_no_sum_whatever_else_is_in_the_batch(seed, sizes):
    cells = []
    for number, size in enumerate(sizes):
        perturbed = [np.array([0]), np.array([size - 1]), np.array([], int)][: number + 1]
        tasks, after = segment(seed + number, size, perturbed)
        for arm in ARMS:
            for place, ranks in enumerate(perturbed):
                after[arm][place, ranks] = 1e6
        cells.append((tasks, after))
    for (tasks, after), of_cell in zip(cells, measured(cells), strict=True):
        before = tasks.baseline.genes.numpy()
        for arm in ARMS:
            for place, ranks in enumerate(tasks.perturbed):
                others = ~np.isin(np.arange(len(before)), ranks)
                moved = displacements(of_cell.genes, arm)[place]
                expected = displacement(before, after[arm][place])
                np.testing.assert_allclose(moved, np.where(others, expected, 0), rtol=1e-9)
                start, end = before[others].mean(0), after[arm][place][others].mean(0, dtype=float)
                moved = displacements(of_cell.cell, arm)[place]
                assert moved == pytest.approx(displacement(start, end))


def test_the_mean_over_nothing_is_not_a_number():
    (of_cell,) = measured([segment(0, 1, [np.array([0]), np.array([], int)])])
    for values in (displacements(of_cell.cell, "hold"), distances(of_cell.cell, "hold")):
        assert np.isnan(values).tolist() == [True, False]


def test_each_cell_turns_towards_states_of_its_own():
    states = np.random.default_rng(0).normal(size=(2, 3, WIDTH))
    cells = [segment(k, 4 + k, [np.array([k])], states=states[k]) for k in range(2)]
    together = measured(cells)
    for cell, of_cell in zip(cells, together, strict=True):
        (alone,) = measured([cell])
        turned = approach(of_cell.cell, of_cell.states, "hold")
        assert turned.shape == (1, 3)
        expected = approach(alone.cell, alone.states, "hold")
        np.testing.assert_allclose(turned, expected, rtol=0, atol=1e-14)


def test_parts_of_a_group_join_to_what_is_measured_of_all():
    perturbed = [np.array([place]) for place in range(5)]
    states = np.random.default_rng(0).normal(size=(2, WIDTH))
    tasks, after = segment(0, 6, perturbed, states=states)
    (whole,) = measured([(tasks, after)])
    parts = []
    for part in (slice(0, 2), slice(2, 3), slice(3, 5)):
        of_part = Segment(tasks.baseline, 6, perturbed[part], states, tasks.crossed)
        parts += measured([(of_part, {arm: rows[part] for arm, rows in after.items()})])
    joined = join(parts)
    assert len(joined) == len(whole) == 5
    for arm in ARMS:
        for moments in ("genes", "cell"):
            np.testing.assert_allclose(
                distances(getattr(joined, moments), arm), distances(getattr(whole, moments), arm),
                rtol=1e-12,
            )  # fmt: skip
        np.testing.assert_allclose(
            approach(joined.cell, joined.states, arm), approach(whole.cell, whole.states, arm),
            rtol=0, atol=1e-14,
        )  # fmt: skip


def test_what_is_not_read_is_not_measured():
    (of_cell,) = measured([segment(0, 3, [np.array([1])])], cell=False, mean=False)
    assert of_cell.cell is None
    assert of_cell.states is None
    assert of_cell.cell_with_all is None
    assert of_cell.logits is None
