import numpy as np

from ranklock.arms import ARMS, apply, baseline
from ranklock.effects import cosine_distance
from ranklock.effects.readout import embeddings, read_effects
from tests.helpers import vocabulary

VOCABULARY = vocabulary()
CELL = baseline(np.array([9, 5, 7, 6], dtype=np.int32), 64, VOCABULARY, special_frame=False)


def states_of(cell, seed=0):
    """Hidden states that depend on the token alone, so that each can be told apart."""
    table = np.random.default_rng(seed).normal(size=(64, 8)).astype(np.float32)
    return table[cell.tokens]


def test_responders_are_matched_by_rank_and_the_gene_is_left_out_of_both_sides():
    table = {name: apply(ARMS[name], CELL, [1], VOCABULARY) for name in ("delete", "hold", "shift")}
    found = read_effects(
        CELL,
        states_of(CELL),
        {name: (cell, states_of(cell)) for name, cell in table.items()},
        [1],
        special_frame=False,
    )
    assert found.responder_ranks.tolist() == [0, 2, 3]
    for moved in found.moved.values():
        assert (moved.cosine_distance == 0).all()
        assert moved.cell_shift == 0


def test_the_cell_embedding_is_the_mean_of_the_others():
    genes, cell = embeddings(CELL, states_of(CELL), [1], special_frame=False)
    np.testing.assert_allclose(cell, states_of(CELL)[[0, 2, 3]].mean(axis=0), rtol=1e-6)
    assert len(genes) == 3


def test_the_cell_embedding_is_cls_where_there_is_one():
    vocab = vocabulary(special_frame=True)
    cell = baseline(np.array([9, 5, 7], dtype=np.int32), 64, vocab, special_frame=True)
    states = states_of(cell)
    genes, whole = embeddings(cell, states, [0], special_frame=True)
    np.testing.assert_array_equal(whole, states[0])
    np.testing.assert_array_equal(genes, states[[2, 3]])


def test_without_all_three_arms_there_is_no_decomposition():
    held = apply(ARMS["hold"], CELL, [0], VOCABULARY)
    found = read_effects(
        CELL, states_of(CELL), {"hold": (held, states_of(held, 1))}, [0], special_frame=False
    )
    assert found.genes is None
    assert found.cell is None
    expected = cosine_distance(states_of(CELL)[1:], states_of(held, 1))
    np.testing.assert_array_equal(found.moved["hold"].cosine_distance, expected)


def test_a_mean_over_nothing_is_not_a_number():
    alone = baseline(np.array([9], dtype=np.int32), 64, VOCABULARY, special_frame=False)
    _, cell = embeddings(alone, states_of(alone), [0], special_frame=False)
    assert np.isnan(cell).all()
    assert cell.shape == (8,)
