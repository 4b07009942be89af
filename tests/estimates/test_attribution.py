import numpy as np
import pandas as pd
import pytest
import torch
from transformers import BertForMaskedLM

from ranklock.arms import KNOCK_OUT_ARMS, Change, apply, baseline
from ranklock.engine.batches import hidden_states
from ranklock.engine.forward import pack
from ranklock.estimates.attribution import Question, estimate_cell
from ranklock.estimates.choice import SUSPICIOUS, choose_genes
from ranklock.estimates.gates import sensitivities
from ranklock.models import load_model
from ranklock.models.encoder import encoder_of
from ranklock.models.head import Head
from tests import helpers

DEPTH = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return helpers.checkpoint(
        tmp_path_factory.mktemp("estimates"), layers=DEPTH, spread=0.1, bias_spread=0.1,
        activation="gelu",
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder, device="cpu")


def a_cell(length=30, *, special_frame=False, seed=0):
    vocabulary = helpers.vocabulary(60, special_frame=special_frame)
    cells = helpers.cells_of([length], vocabulary, special_frame=special_frame, seed=seed)
    return baseline(cells.ranked[0], vocabulary, special_frame=special_frame), vocabulary


def head_of(*weights, pool=None, bias=None):
    """A classifier with a logit of each of some weights, shape (width,)."""
    if pool is None:
        draw = torch.Generator().manual_seed(0)
        pool = torch.randn((16, 16), generator=draw, dtype=torch.float64) / 4
        bias = torch.zeros(16, dtype=torch.float64)
    labels = tuple(f"label {row}" for row in range(len(weights)))
    shift = torch.zeros(len(weights), dtype=torch.float64)
    return Head("made up", labels, pool, bias, torch.stack(weights).double(), shift)


def estimated(model, cell, question, *, special_frame=False):
    return estimate_cell(model, cell, question, DEPTH, special_frame=special_frame)


def held(model, cell, vocabulary, depth=DEPTH):
    """States under `hold` of each gene in turn, each of shape (tokens − 1, width)."""
    inputs = [
        apply(KNOCK_OUT_ARMS["hold"], cell, Change((int(token),), (int(rank),)), vocabulary)
        for token, rank in zip(cell.tokens, cell.ranks, strict=True)
        if rank >= 0
    ]
    return [states.astype(np.float64) for states in hidden_states(model, inputs, depth)]


def test_a_sum_of_readouts_has_the_sum_of_their_answers(model):
    cell, _ = a_cell()
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn((2, 16), dtype=torch.float64, generator=draw)
    head = head_of(x, y, x + 2 * y)
    answers = [estimated(model, cell, Question(head=head, label=label)) for label in range(3)]
    for name in ("estimate", "derivative"):
        of_x, of_y, of_sum = (getattr(answer, name)[1:] for answer in answers)
        # Sums of float32 derivatives.
        np.testing.assert_allclose(of_sum, of_x + 2 * of_y, rtol=1e-4, atol=1e-7)


def basis_sum(model, cell):
    """Mean effect on all others to first order, from every direction of every responder."""
    encoder = encoder_of(model)

    def cotangents(states):
        rows, width = states.shape
        every = torch.eye(rows * width).view(rows * width, rows, width)
        squared = (states * states).sum(-1, keepdim=True)
        across = every - (every * states).sum(-1, keepdim=True) / squared * states
        return across / (2 * squared).sqrt()

    sums = sensitivities(encoder, pack([cell], encoder.device), DEPTH, cotangents)[0]
    return (sums.removal**2).sum(0) / (len(cell) - 1)


@pytest.mark.parametrize("probes", [2, 8])
def test_random_signs_have_no_bias_and_the_stated_error(model, probes):
    cell, _ = a_cell(20)
    expected = basis_sum(model, cell)
    repeats = 300
    drawn = np.stack([
        estimated(model, cell, Question(probes=probes, seed=seed)).estimate
        for seed in range(repeats)
    ])  # fmt: skip
    error = drawn.std(0, ddof=1)
    z = (drawn.mean(0) - expected) / (error / repeats**0.5)
    assert np.abs(z).max() < 4.5  # of 20 genes
    # Signs scatter no more than normal numbers, whose squares have √(2/m) of their mean. The
    # deviation of 300 draws with heavy tails is itself good to a fifth.
    assert (error < 1.2 * np.sqrt(2 / probes) * expected).all()
    assert (error > 0.5 * np.sqrt(2 / probes) * expected).all()


def test_signs_are_a_cells_own(model):
    cell, _ = a_cell()
    twice = [estimated(model, cell, Question(probes=4)).estimate for _ in range(2)]
    np.testing.assert_array_equal(*twice)
    reseeded = estimated(model, cell, Question(probes=4, seed=1)).estimate
    assert not np.allclose(twice[0], reseeded, rtol=1e-2)


@pytest.mark.parametrize("special_frame", [False, True])
def test_the_way_to_a_goal_is_that_of_forwards(folder, model, special_frame):
    cell, _ = a_cell(60 if not special_frame else 50, special_frame=special_frame)
    goal = np.random.default_rng(3).normal(size=16)
    estimates = estimated(model, cell, Question(goal=goal), special_frame=special_frame)
    plain = helpers.plain_forward(folder, cell.tokens.tolist(), cell.positions.tolist(), layer=0)

    def cosine(states, left_out=None):
        if special_frame:
            embedding = states[0]
        else:
            embedding = (states if left_out is None else np.delete(states, left_out, 0)).mean(0)
        return embedding @ goal / np.linalg.norm(embedding) / np.linalg.norm(goal)

    exact = []
    for place in np.flatnonzero(cell.ranks >= 0):
        kept = [i for i in range(len(cell)) if i != place]
        after = helpers.plain_forward(
            folder, cell.tokens[kept].tolist(), cell.positions[kept].tolist(), layer=0
        )
        exact.append(cosine(after) - cosine(plain, place))
    # To first order; of the mean over few genes the slope depends on which one is left out.
    assert np.corrcoef(estimates.estimate, exact)[0, 1] > (0.99 if special_frame else 0.95)


def test_potency_is_that_of_forwards(model):
    cell, vocabulary = a_cell()
    estimates = estimated(model, cell, Question(probes=256))
    (before,) = hidden_states(model, [cell], DEPTH)
    before = before.astype(np.float64)
    exact = []
    for rank, after in enumerate(held(model, cell, vocabulary)):
        start = np.delete(before, rank, 0)
        lengths = np.linalg.norm(start, axis=1) * np.linalg.norm(after, axis=1)
        exact.append((1 - (start * after).sum(1) / lengths).mean())
    assert np.corrcoef(np.log(estimates.estimate), np.log(exact))[0, 1] > 0.95
    # 256 signs leave a tenth; what is not to first order is more.
    assert np.abs(np.log(estimates.estimate / exact)).mean() < 0.25


def test_a_knock_out_is_no_responder_of_itself(model):
    cell, _ = a_cell()
    responder = np.array([cell.tokens[4]], np.int32)
    estimates = estimated(model, cell, Question(probes=4, responders=responder))
    assert np.flatnonzero(np.isnan(estimates.estimate)).tolist() == [4]
    absent = sorted(set(range(2, 62)) - set(cell.tokens.tolist()))[:1]
    nothing = estimated(model, cell, Question(probes=4, responders=np.array(absent, np.int32)))
    assert np.isnan(nothing.estimate).all()


def test_effects_on_two_sets_add_up(model):
    """Over many signs: each set's own are drawn anew."""
    cell, _ = a_cell()
    sets = [cell.tokens[2:5], cell.tokens[10:14]]
    parts = [
        estimated(model, cell, Question(probes=1024, responders=rows.astype(np.int32))).estimate
        for rows in (*sets, np.concatenate(sets))
    ]
    outside = np.array([0, 20, 29])
    mean = (3 * parts[0] + 4 * parts[1])[outside] / 7
    np.testing.assert_allclose(parts[2][outside], mean, rtol=0.3)


@pytest.mark.parametrize("special_frame", [False, True])
def test_the_first_gene_of_a_classified_cell_is_exact_where_there_is_no_cls(model, special_frame):
    cell, vocabulary = a_cell(special_frame=special_frame)
    head = head_of(torch.zeros(16), torch.ones(16))
    question = Question(head=head, label=1)
    estimates = estimated(model, cell, question, special_frame=special_frame)
    assert np.isfinite(estimates.estimate).all()
    (before,) = hidden_states(model, [cell], DEPTH)
    after = held(model, cell, vocabulary)[0]
    exact = (head(torch.from_numpy(after[0])) - head(torch.from_numpy(before[0])))[1]
    if special_frame:  # <cls> is still what the head reads: to first order
        assert estimates.estimate[0] == pytest.approx(exact.item(), rel=0.5)
    else:
        assert estimates.estimate[0] == pytest.approx(exact.item(), abs=1e-5)
        assert np.isnan(estimates.derivative).tolist() == [True] + [False] * 29


def planted(folder, plant):
    """A small checkpoint, in which what is planted is all that a first layer's heads do."""
    helpers.checkpoint(folder, layers=1, spread=0.02)
    model = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        embeddings = model.bert.embeddings
        for table in (embeddings.word_embeddings, embeddings.position_embeddings,
                      embeddings.token_type_embeddings):  # fmt: skip
            table.weight[:, :2] = 0.0
        layer = model.bert.encoder.layer[0]
        layer.output.dense.weight.zero_()
        plant(embeddings.word_embeddings.weight, layer.attention)
    model.save_pretrained(folder)
    return load_model(folder, device="cpu")


def test_saturated_attention_is_seen_through(tmp_path):
    """Where all look at one gene alone, the derivative vanishes and its knock-out does not."""
    cell, vocabulary = a_cell()
    source = int(cell.tokens[7])

    def plant(words, attention):
        words[source, :2] = torch.tensor([0.1, -0.1])
        attention.self.query.weight[:8] = 0.0
        attention.self.query.bias[0] = 9.0
        attention.self.key.weight[:8] = 0.0
        attention.self.key.weight[0, :2] = torch.tensor([0.6, -0.6])
        attention.self.value.weight[:8] *= 20

    model = planted(tmp_path / "model", plant)
    goal = np.random.default_rng(0).normal(size=16)
    estimates = estimate_cell(model, cell, Question(goal=goal), 1, special_frame=False)
    assert estimates.peak[7] > 0.99
    (before,) = hidden_states(model, [cell], 1)

    def cosine(states):
        mean = states.astype(np.float64).mean(0)
        return mean @ goal / np.linalg.norm(mean) / np.linalg.norm(goal)

    exact = np.array([
        cosine(after) - cosine(np.delete(before, rank, 0))
        for rank, after in enumerate(held(model, cell, vocabulary, 1))
    ])  # fmt: skip
    assert np.abs(exact).argmax() == 7
    assert np.abs(estimates.estimate).argmax() == 7
    assert estimates.estimate[7] == pytest.approx(exact[7], rel=0.3)
    assert abs(estimates.derivative[7]) < 0.1 * abs(exact[7])


def test_a_cancellation_is_suspicious(tmp_path):
    """Two heads whose parts cancel to first order, and not beyond: the head's tanh bends one."""
    cell, vocabulary = a_cell(special_frame=True)
    source = int(cell.tokens[8])

    def plant(words, attention):
        words[source, :2] = torch.tensor([0.1, -0.1])
        attention.output.dense.weight.zero_()
        for head, dimension in ((0, 5), (8, 6)):  # first rows of the two heads
            attention.self.value.weight[head] = 0.0
            attention.self.value.weight[head, :2] = torch.tensor([3.0, -3.0])
            attention.output.dense.weight[dimension, head] = 1.0

    model = planted(tmp_path / "model", plant)
    (before,) = hidden_states(model, [cell], 1)
    pool, bias = torch.zeros((16, 16), dtype=torch.float64), torch.zeros(16, dtype=torch.float64)
    for row, (dimension, steep) in enumerate(((5, 2.0), (6, 1e-3))):  # tanh bends, and does not
        pool[row, dimension], bias[row] = steep, -steep * float(before[0, dimension])
    rank = 7  # <cls> stands first

    def question_of(bent, straight):
        weight = torch.tensor([bent, straight] + [0.0] * 14)
        return Question(head=head_of(weight, pool=pool, bias=bias))

    parts = [
        estimate_cell(model, cell, question_of(*on), 1, special_frame=True).estimate[rank]
        for on in ((1.0, 0.0), (0.0, 1.0))
    ]
    question = question_of(1.0, -parts[0] / parts[1])
    estimates = estimate_cell(model, cell, question, 1, special_frame=True)
    base = question.answer(torch.from_numpy(before[0]))
    exact = np.array([
        (question.answer(torch.from_numpy(after[0].astype(np.float32))) - base).item()
        for after in held(model, cell, vocabulary, 1)
    ])  # fmt: skip
    assert np.abs(exact).argmax() == rank
    assert abs(estimates.estimate[rank]) < 0.01 * abs(exact[rank])
    assert estimates.gross.argmax() == rank
    means = pd.DataFrame(
        {
            "estimate": estimates.estimate,
            "gross": estimates.gross, "peak": estimates.peak, "dominance": estimates.dominance,
            "n_cells": 1,
        },
        index=cell.tokens[1:-1],
    )  # fmt: skip
    assert choose_genes(means, 2, 0, 1, 0)[0][source] == SUSPICIOUS


def test_a_gene_that_is_most_of_what_others_hold_dominates(tmp_path):
    cell, _ = a_cell()

    def plant(words, attention):
        words[int(cell.tokens[3]), :2] = torch.tensor([0.1, -0.1])
        attention.self.value.weight[0] = 0.0
        attention.self.value.weight[0, :2] = torch.tensor([1e3, -1e3])
        attention.output.dense.weight[:, 0] = torch.linspace(-1, 1, 16)

    model = planted(tmp_path / "model", plant)
    estimates = estimate_cell(model, cell, Question(probes=1), 1, special_frame=False)
    assert estimates.dominance.argmax() == 3
    assert estimates.dominance[3] > 10 * np.delete(estimates.dominance, 3).max()
