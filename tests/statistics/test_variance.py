import numpy as np
import pytest

from ranklock.statistics.variance import PARTS, variance_shares


def made(seed, cells=20, genes=300, per_cell=40, of=(0.5, 0.3, 0.4)):
    """Values with known variances of gene, cell and rest, and a curve of rank of variance ½."""
    draw = np.random.default_rng(seed)
    u, v = draw.normal(0, of[0], genes), draw.normal(0, of[1], cells)
    favoured = draw.random(genes)
    rows = []
    for c in range(cells):
        ranked = np.argsort(np.arange(genes) + draw.normal(0, 0.3 * genes, genes))
        for part in np.array_split(np.arange(genes), per_cell):
            rank = part[favoured[ranked[part]].argmin()]
            g = ranked[rank]
            y = np.sin(2 * np.pi * rank / genes) + u[g] + v[c] + draw.normal(0, of[2])
            rows.append((y, rank, g, c))
    total = 0.5 + sum(s**2 for s in of)
    return np.array(rows).T, np.array([0.5, of[0] ** 2, of[1] ** 2, of[2] ** 2]) / total


def test_shares_are_recovered_and_sum_to_one():
    (y, x, g, c), truth = made(0, cells=60, per_cell=60)
    found = variance_shares(y, x, g, c)
    values = [found.shares[part].value for part in PARTS]
    assert sum(values) == pytest.approx(1.0)
    # Sixty cells tell a standard deviation to one in √120; shares err by some hundredths.
    np.testing.assert_allclose(values, truth, atol=0.08)
    assert found.note == ""


def test_intervals_of_shares_cover():
    covered = []
    for seed in range(150):
        (y, x, g, c), truth = made(seed)
        found = variance_shares(y, x, g, c)
        covered.append(
            [e.low <= t <= e.high for e, t in zip(found.shares.values(), truth, strict=True)]
        )
    # Over all four shares the standard error is below 1.5 %; each by itself is within five.
    assert 0.92 <= np.mean(covered) <= 0.98
    assert (np.mean(covered, axis=0) >= 0.88).all()


def test_rank_explains_nothing_where_there_is_nothing():
    shares = []
    for seed in range(100):
        draw = np.random.default_rng(seed)
        y, x = draw.standard_normal(120), draw.random(120)
        shares.append(variance_shares(y, x, np.arange(120), np.zeros(120)).shares["rank"].value)
    assert np.median(shares) < 0.02


def test_what_cannot_be_told_apart_is_said():
    (y, x, g, c), _ = made(1)
    one = variance_shares(y[c == 0], x[c == 0], g[c == 0], c[c == 0])
    assert "one cell" in one.note
    assert np.isnan(one.shares["gene"].value)
    assert 0 < one.shares["rank"].value < 1
    alone = variance_shares(y, x, np.arange(len(y)), c)
    assert "too few genes are in several cells" in alone.note
    few = variance_shares(y[c < 3], x[c < 3], g[c < 3], c[c < 3])
    assert "too few for them" in few.note
    assert np.isnan(few.shares["rank"].low)
    assert "nothing varies" in variance_shares(np.ones(50), np.arange(50), g[:50], c[:50]).note
    assert "too few" in variance_shares([1.0, 2.0], [0, 1], [0, 1], [0, 1]).note
