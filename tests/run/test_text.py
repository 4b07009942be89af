import numpy as np
import pytest

import ranklock
from ranklock.run.text import describe_knockout_of, describe_sweep
from tests.helpers import cells_of, vocabulary


@pytest.fixture(scope="module")
def found(tmp_path_factory, tiny_checkpoint):
    model = ranklock.load_model(tiny_checkpoint, device="cpu")
    folder = tmp_path_factory.mktemp("text") / "run"
    return ranklock.sweep(cells_of([12, 9], vocabulary()), model, folder, progress=False)


def test_the_knock_outs_that_shift_the_cell_most_stand_first(found):
    lines = describe_sweep(found, top=3)
    head = next(i for i, line in enumerate(lines) if line.startswith("Knock-outs that shift"))
    means = found.knockouts().groupby("gene", observed=True)["delete_cell_shift"].mean()
    shown = [line.split()[0] for line in lines[head + 2 : head + 5]]
    assert shown == means.nlargest(3).index.tolist()


def test_responders_are_in_order_of_their_effect(found):
    gene = str(found.knockouts()["gene"].iloc[0])
    lines = describe_knockout_of(found, gene, top=4)
    effects = [float(line.split()[1].rstrip("*")) for line in lines[-4:]]
    assert effects == sorted(effects, reverse=True)
    largest = float(np.nanmax(found.effects(genes=[gene]).layers["delete"]))
    assert effects[0] == pytest.approx(largest, rel=0.06)  # two digits are shown


def test_an_unfinished_sweep_is_said_to_be(found, tmp_path):
    index = found.store.cells()[0]
    chunk = found.folder / "effects.zarr" / str(index) / "knockouts" / "c" / "0" / "0"
    content = chunk.read_bytes()
    chunk.unlink()
    try:
        assert "1 of 2 blocks done" in describe_sweep(found)[0]
    finally:
        chunk.write_bytes(content)
