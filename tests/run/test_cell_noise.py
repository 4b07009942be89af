import numpy as np
import pytest

from ranklock.run.cell_noise import Embedded, noise_of_draws

WIDTH = 6
DRAW = np.random.default_rng(0)
TOKENS = np.array([7, 3, 12, 5, 9], dtype=np.int32)


def embedded(tokens, *, cls=False):
    genes = DRAW.normal(size=(len(tokens), WIDTH)).astype(np.float32)
    first = DRAW.normal(size=WIDTH).astype(np.float32) if cls else None
    return Embedded(np.array(tokens, dtype=np.int32), genes, first)


def cosine(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


def row(cell, token):
    return cell.genes[cell.tokens.tolist().index(token)]


@pytest.mark.parametrize("cls", [False, True])
def test_against_plain_cosines_gene_by_gene(cls):
    cell = embedded(TOKENS, cls=cls)
    draws = [embedded(tokens, cls=cls) for tokens in ([9, 7, 3, 5, 12], [3, 5, 30], [5, 3, 9])]
    goals = DRAW.normal(size=(2, WIDTH))
    noise = noise_of_draws(cell, draws, goals)
    for place, token in enumerate(TOKENS.tolist()):
        having = [draw for draw in draws if token in draw.tokens]
        assert noise.draws[place] == len(having)
        mean = np.mean([1 - cosine(row(cell, token), row(draw, token)) for draw in having])
        np.testing.assert_allclose(noise.genes[place], mean, rtol=1e-12)
    ends = []
    for draw in draws:
        both = [token for token in TOKENS.tolist() if token in draw.tokens]
        means = [np.mean([row(c, t) for t in both], 0, dtype=float) for c in (cell, draw)]
        ends.append((cell.cls, draw.cls) if cls else means)
    assert noise.cell_draws == 3
    np.testing.assert_allclose(noise.cell, np.mean([1 - cosine(*e) for e in ends]), rtol=1e-12)
    for place, goal in enumerate(goals):
        turns = [abs(cosine(after, goal) - cosine(before, goal)) for before, after in ends]
        np.testing.assert_allclose(noise.towards[place], np.mean(turns), rtol=1e-12)


def test_the_cell_itself_differs_by_nothing():
    cell = embedded(TOKENS)
    noise = noise_of_draws(cell, [cell, cell], DRAW.normal(size=(1, WIDTH)))
    assert noise.genes.tolist() == [0.0] * 5
    assert noise.cell == 0.0
    assert noise.towards.tolist() == [0.0]


def test_a_gene_that_is_in_no_draw_is_missing():
    noise = noise_of_draws(embedded(TOKENS), [embedded([7, 3, 12]), embedded([7, 30])])
    assert np.isnan(noise.genes).tolist() == [False, False, False, True, True]
    assert noise.draws.tolist() == [2, 1, 1, 0, 0]
    assert noise.towards.shape == (0,)


def test_a_draw_that_shares_no_gene_says_nothing_of_a_mean():
    cell, other = embedded(TOKENS), embedded([30, 31])
    nothing = noise_of_draws(cell, [other, embedded([])], np.ones((1, WIDTH)))
    assert np.isnan(nothing.genes).all()
    assert np.isnan(nothing.cell)
    assert np.isnan(nothing.towards).all()
    assert nothing.cell_draws == 0
    shared = embedded(TOKENS)
    both, one = noise_of_draws(cell, [other, shared]), noise_of_draws(cell, [shared])
    assert both.cell == one.cell
    assert both.cell_draws == 1
