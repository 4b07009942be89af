import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ranklock.arms import ARMS, DEFAULT_ARMS, apply, baseline
from ranklock.effects import cosine_distance, displacement
from ranklock.effects.moments import displacements, distances
from ranklock.effects.readout import embeddings
from ranklock.engine import blocks as module
from ranklock.engine.blocks import Block, Reading, measure_baseline, measure_block
from ranklock.engine.forward import run_layers
from ranklock.models import load_model
from tests.helpers import checkpoint, plain_forward, vocabulary

# Displacements of states of length 4 that each err by 2e-5 (tests/engine/test_batches.py) in 16
# directions at worst; cosine distances are such errors relative to 4, squared or times the effect.
ATOL = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("three"), layers=3, spread=0.3, bias_spread=0.2)


def a_block(length, ranks, words, arms=DEFAULT_ARMS, seed=0, input_size=64):
    genes = np.random.default_rng(seed).permutation(
        np.array(list(words.tokens.values()), dtype=np.int32)
    )[:length]
    cell = baseline(genes, input_size, words, special_frame="<cls>" in words.special)
    ranks = np.array(ranks, dtype=np.int64)
    inputs = {arm: [apply(ARMS[arm], cell, [int(r)], words) for r in ranks] for arm in arms}
    return cell, Block(len(cell), ranks, inputs)


def measured(model, cell, block, reading, depth=3, **options):
    before = measure_baseline(model, cell, reading, depth)
    return measure_block(model, block, reading, before, depth, **options)


def plain_embeddings(folder, one, rank, *, special):
    states = plain_forward(folder, one.tokens.tolist(), one.positions.tolist(), layer=0)
    return embeddings(one, states, [rank], special_frame=special)


@settings(max_examples=25)
@given(data=st.data())
def test_effects_are_those_of_the_plain_forward(folder, data):
    special = data.draw(st.booleans())
    words = vocabulary(special_frame=special)
    length = data.draw(st.integers(4, 40))
    ranks = sorted(data.draw(st.sets(st.integers(0, length - 1), min_size=1, max_size=9)))
    mean = not special and data.draw(st.booleans())
    everything = np.arange(length)
    subset = data.draw(st.sets(st.sampled_from(everything.tolist()), min_size=1))
    responders = everything if mean else np.array(sorted(subset))
    cell, block = a_block(length, ranks, words)
    found = measured(
        load_model(folder, device="cpu"), cell, block, Reading(responders, mean or special, special)
    )
    for k, rank in enumerate(ranks):
        before = plain_embeddings(folder, cell, rank, special=special)
        others = everything[everything != rank]
        for arm in DEFAULT_ARMS:
            after = plain_embeddings(folder, block.arms[arm][k], rank, special=special)
            for measure, other in ((displacements, displacement), (distances, cosine_distance)):
                genes = dict(zip(others, other(before[0], after[0]), strict=True))
                expected = [genes.get(r, 0.0) for r in responders]
                np.testing.assert_allclose(measure(found.genes, arm)[k], expected, atol=ATOL)
                if found.cell is not None:
                    whole = other(before[1], after[1])
                    np.testing.assert_allclose(measure(found.cell, arm)[k], whole, atol=ATOL)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_shallow_readouts_are_right_too(folder, depth):
    words = vocabulary()
    cell, block = a_block(30, range(5, 20), words)
    model = load_model(folder, device="cpu")
    found = measured(model, cell, block, Reading(np.arange(30), True, False), depth)
    for arm in DEFAULT_ARMS:
        one = block.arms[arm][3]
        before, after = (
            embeddings(
                each,
                plain_forward(folder, each.tokens.tolist(), each.positions.tolist(),
                              layer=depth - 3),
                [8],
                special_frame=False,
            )[0]
            for each in (cell, one)
        )  # fmt: skip
        expected = np.insert(displacement(before, after), 8, 0.0)
        np.testing.assert_allclose(displacements(found.genes, arm)[3], expected, atol=ATOL)


@settings(max_examples=15)
@given(batch_size=st.integers(1, 20), threads=st.integers(1, 3), turned=st.booleans())
def test_no_batch_size_thread_count_or_order_changes_an_effect(folder, batch_size, threads, turned):
    words = vocabulary()
    model = load_model(folder, device="cpu")
    arms = DEFAULT_ARMS[::-1] if turned else DEFAULT_ARMS
    reading = Reading(np.arange(40), True, False)
    expected = measured(model, *a_block(40, range(3, 20), words), reading)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = measured(
            model, *a_block(40, range(3, 20), words, arms), reading, batch_size=batch_size
        )
    finally:
        torch.set_num_threads(before)
    for arm in arms:
        for moments, others in ((found.genes, expected.genes), (found.cell, expected.cell)):
            np.testing.assert_allclose(
                displacements(moments, arm), displacements(others, arm), rtol=0, atol=ATOL
            )


def test_the_last_layer_computes_only_the_rows_that_are_read(folder, monkeypatch):
    asked = []

    def record(encoder, states, stretches, layers, rows=None):
        asked.append(None if rows is None else len(rows))
        return run_layers(encoder, states, stretches, layers, rows)

    monkeypatch.setattr(module, "run_layers", record)
    words = vocabulary(special_frame=True)
    cell, block = a_block(40, [3, 9], words, arms=("hold", "mask"))
    model = load_model(folder, device="cpu")
    measured(model, cell, block, Reading(np.arange(0), True, True))
    assert asked == [None, 2, 2]  # the baseline; under each arm, one <cls> of two knock-outs


def test_memory_that_runs_out_halves_the_batch(folder, monkeypatch):
    sizes = []

    def small_device(encoder, states, stretches, *rest):
        sizes.append(sum(stretch.inputs for stretch in stretches))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError
        return run_layers(encoder, states, stretches, *rest)

    words = vocabulary()
    cell, block = a_block(20, range(7), words, arms=("hold", "mask"))
    model = load_model(folder, device="cpu")
    reading = Reading(np.arange(20), True, False)
    expected = measured(model, cell, block, reading)
    monkeypatch.setattr(module, "run_layers", small_device)
    found = measured(model, cell, block, reading)
    np.testing.assert_allclose(
        displacements(found.genes, "hold"), displacements(expected.genes, "hold"), atol=ATOL
    )
    assert sizes == [1, 7, 3, 1, 1] + [1, 1] * 6
