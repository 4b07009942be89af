import sys
from pathlib import Path

import numpy as np
import pytest

import ranklock
from tests.helpers import checkpoint, counted_cells, vocabulary, with_constant_positions

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
if not FOLDER.is_dir():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.insert(0, str(FOLDER))

import count_noise  # noqa: E402


@pytest.mark.parametrize("special_frame", [False, True])
def test_without_position_embeddings_it_is_all_the_same(tmp_path, special_frame):
    folder = checkpoint(tmp_path / "model", spread=0.3)
    cells = counted_cells([40, 30], vocabulary(50, special_frame=special_frame),
                          special_frame=special_frame)  # fmt: skip
    usual = count_noise.measure(cells, ranklock.load_model(str(folder), device="cpu"))
    assert usual["encoded anew"] > 3 * usual["positions held"] > 0
    assert 0 < usual["genes that change rank"] < 1
    constant = ranklock.load_model(str(with_constant_positions(folder)), device="cpu")
    found = count_noise.measure(cells, constant)
    np.testing.assert_allclose(found["encoded anew"], found["positions held"], rtol=1e-3)
    nothing = count_noise.measure(cells, constant, kept=1.0)
    assert nothing["genes that change rank"] == 0
    assert nothing["positions held"] < 1e-12
