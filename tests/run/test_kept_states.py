from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import ranklock
from ranklock.run import execute, states
from ranklock.run.kept_states import STATES, key_of, read_states, write_states
from tests.helpers import cells_of, vocabulary


@pytest.fixture
def cells():
    cells = cells_of([12, 9, 20, 14], vocabulary())
    return replace(
        cells, obs=cells.obs.assign(state=["a", "b", "a", "b"], donor=["p", "p", "q", "q"])
    )


def test_what_is_written_is_read(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(2, 3, 5))
    write_states(tmp_path / STATES, vectors, ("p", "q"), ("goal", "c", "d"), "key")
    np.testing.assert_array_equal(read_states(tmp_path / STATES, "key", 2), vectors)
    assert read_states(tmp_path / STATES, "another key", 2) is None
    assert read_states(tmp_path / "nowhere", "key", 2) is None
    table = pd.read_parquet(tmp_path / STATES)
    assert table["donor"].tolist() == ["p"] * 3 + ["q"] * 3
    assert table["state"].tolist() == ["goal", "c", "d"] * 2


def test_what_is_damaged_is_not_taken(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(1, 2, 16))
    write_states(tmp_path / STATES, vectors, (None,), ("goal", "c"), "key")
    whole = (tmp_path / STATES).read_bytes()
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        (tmp_path / STATES).write_bytes(content)
        read = read_states(tmp_path / STATES, "key", 1)
        assert read is None or np.array_equal(read, vectors), place


def test_a_key_is_of_states_checkpoint_layer_and_format(model):
    keys = {
        key_of("states", model, 1, "float32"),
        key_of("others", model, 1, "float32"),
        key_of("states", replace(model, sha256="another"), 1, "float32"),
        key_of("states", model, 2, "float32"),
        key_of("states", model, 1, "bfloat16"),
    }
    assert len(keys) == 5


@pytest.mark.parametrize("within", [None, "donor"])
def test_a_run_that_goes_on_takes_the_states_that_it_began_with(
    model, cells, tmp_path, monkeypatch, within
):
    asked = {
        "states": ranklock.States("state", "a", "b", within=within), "read": "cell",
        "out": tmp_path / "run", "progress": False,
    }  # fmt: skip

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(execute, "_computed", stopped)
        with pytest.raises(KeyboardInterrupt):
            ranklock.perturb(cells, model, **asked)
    before = (tmp_path / "run" / STATES).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(states, "hidden_states", stopped)  # no state is embedded again
        run = ranklock.perturb(cells, model, **asked)
    whole = ranklock.perturb(cells, model, **{**asked, "out": None})
    assert run.complete
    assert (tmp_path / "run" / STATES).read_bytes() == before
    pd.testing.assert_frame_equal(run.shifts, whole.shifts)


def test_embeddings_that_were_lost_are_made_anew(model, cells, tmp_path):
    asked = {
        "states": ranklock.States("state", "a", "b"), "read": "cell", "out": tmp_path / "run",
        "progress": False,
    }  # fmt: skip
    ranklock.perturb(cells, model, **asked)
    before = (tmp_path / "run" / STATES).read_bytes()
    (tmp_path / "run" / STATES).write_bytes(b"PAR1")
    assert ranklock.perturb(cells, model, **asked).complete
    assert (tmp_path / "run" / STATES).read_bytes() == before
