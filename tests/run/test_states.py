from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from ranklock.cells import Cells, read_cells
from ranklock.errors import InputError, OptionError, RanklockWarning
from ranklock.models import load_model
from ranklock.run import states as states_module
from ranklock.run.state_cells import DonorLeftOut, StateCells, state_members
from ranklock.run.states import States, embed_states
from tests.helpers import cells_of, plain_forward, vocabulary
from tests.run.pickled import read_numbers

LENGTHS = [20, 7, 30, 12, 25, 18, 9, 14, 22, 16]
STATES = ["a", "b", "c", "b", "c", "a", "d", "b", "c", "d"]
DONORS = ["p", "p", "p", "q", "q", "q", "q", "r", "r", None]


def the_cells(*, special_frame: bool = False, lengths=LENGTHS) -> Cells:
    vocab = vocabulary(50, special_frame=special_frame)
    cells = cells_of(lengths, vocab, special_frame=special_frame)
    return replace(
        cells, obs=cells.obs.assign(state=STATES, donor=DONORS, number=range(len(STATES)))
    )


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(str(tiny_checkpoint), device="cpu")


def plain_embedding(folder, cells: Cells, row: int) -> np.ndarray:
    genes = cells.ranked[row].tolist()
    tokens = [2, *genes, 3] if cells.special_frame else genes
    hidden = plain_forward(folder, tokens, list(range(len(tokens))), layer=0)
    return hidden[0] if cells.special_frame else hidden.mean(axis=0)


@pytest.mark.parametrize("special_frame", [False, True])
@pytest.mark.parametrize("average", ["mean", "median"])
@pytest.mark.parametrize("tokens_at_once", [10, 40, 4096])
def test_against_plain_forwards(
    tiny_checkpoint, model, monkeypatch, special_frame, average, tokens_at_once
):
    monkeypatch.setattr(states_module, "tokens_at_once", lambda _: tokens_at_once)
    cells = the_cells(special_frame=special_frame)
    states = States("state", "a", "b", ("c", "d"), average=average)
    embedded = embed_states(states, cells, model, model.layers)
    assert embedded.names == ("goal", "c", "d")
    assert embedded.groups == (None,)
    assert embedded.group_of_cell.tolist() == [0, -1, -1, -1, -1, 0, -1, -1, -1, -1]
    assert embedded.vectors.dtype == np.float64
    for place, state in enumerate("bcd"):
        rows = [row for row, name in enumerate(STATES) if name == state]
        plain = np.stack([plain_embedding(tiny_checkpoint, cells, row) for row in rows])
        right = plain.mean(axis=0) if average == "mean" else np.median(plain, axis=0)
        np.testing.assert_allclose(embedded.vectors[0, place], right, atol=2e-5)
    assert embedded.counts == (
        StateCells("b", None, 3, 3), StateCells("c", None, 3, 3), StateCells("d", None, 2, 2),
    )  # fmt: skip


def test_geneformers_own_embeddings_of_states(shared):
    for version in ("v1", "v2"):
        folder = shared / "parity"
        vocabulary_file = {
            "v1": shared / "data/token_dictionary_gc30M.pkl",
            "v2": folder / "token_dictionary_gc104M.pkl",
        }[version]
        cells = read_cells(folder / f"{version}.dataset", vocabulary_file)
        model = load_model(str(folder / f"model_{version}"), device="cpu")
        right = read_numbers(folder / f"state_embs/{version}.pkl")
        states = States("disease", "dcm", "nf", ("hcm",))
        embedded = embed_states(states, cells, model, model.layers - 1)
        for place, state in enumerate(("nf", "hcm")):
            np.testing.assert_allclose(
                embedded.vectors[0, place], right[state].numpy(), rtol=1e-4, atol=1e-5
            )


def test_a_state_is_of_all_its_cells_whatever_a_sample_left(model):
    cells = the_cells()
    whole = embed_states(States("state", "a", "b"), cells, model, 2)
    sample = cells[[0, 3]]
    sampled = embed_states(States("state", "a", "b", cells=cells), sample, model, 2)
    np.testing.assert_array_equal(sampled.vectors, whole.vectors)
    assert sampled.group_of_cell.tolist() == [0, -1]
    assert sampled.counts == whole.counts


def test_cells_of_a_start_state_that_a_sample_left_out_are_not_missed():
    cells = the_cells()
    states = States("state", ("a", "d"), "b", cells=cells)
    assert state_members(states, cells[[0, 1]]).group_of_cell.tolist() == [0, -1]
    with pytest.raises(InputError, match="None of the 1 cells to be perturbed has state=a or d"):
        state_members(states, cells[[1]])


def test_a_start_state_that_may_have_been_sampled_out_is_warned_of():
    cells = the_cells()
    elsewhere = cells[[1, 2]]
    with pytest.warns(RanklockWarning, match="No cell to be perturbed has state=d"):
        members = state_members(States("state", ("a", "d"), "b", cells=elsewhere), cells[[0, 5]])
    assert members.group_of_cell.tolist() == [0, 0]
    with pytest.raises(InputError, match="No cell has state=x"):
        state_members(States("state", ("a", "x"), "b", cells=cells), cells[[0]])


def test_several_starts_all_count():
    cells = the_cells()
    members = state_members(States("state", ["a", "d", "a"], "b"), cells)
    assert (members.group_of_cell >= 0).tolist() == [s in "ad" for s in STATES]


def test_at_most_so_many_cells_by_the_seed():
    cells = the_cells()
    drawn = [
        state_members(States("state", "a", "b", ("c",), goal_cells=2, seed=seed), cells)
        for seed in (0, 0, 1, 2, 3)
    ]
    assert all(len(rows) == 2 for members in drawn for rows in members.rows[0])
    assert drawn[0].counts[0] == StateCells("b", None, 2, 3)
    first = [members.rows[0][0].tolist() for members in drawn]
    assert first[0] == first[1]
    assert len({tuple(rows) for rows in first}) > 1


def test_cells_without_genes_make_no_state(model):
    cells = the_cells(lengths=[0 if i == 3 else n for i, n in enumerate(LENGTHS)])
    assert state_members(States("state", "a", "b"), cells).counts[0].drawn_of == 2
    empty = the_cells(lengths=[0 if s == "b" else n for s, n in zip(STATES, LENGTHS, strict=True)])
    with pytest.raises(InputError, match="cells with state=b have no genes"):
        state_members(States("state", "a", "b"), empty)


def test_within_donors_each_cell_has_the_goal_of_its_own(tiny_checkpoint, model):
    cells = the_cells()
    states = States("state", ("a", "d"), "b", ("c",), within="donor")
    with pytest.warns(RanklockWarning, match=r"cells without a donor \(1 cells, no donor\)"):
        embedded = embed_states(states, cells, model, model.layers)
    assert embedded.groups == ("p", "q")
    assert embedded.group_of_cell.tolist() == [0, -1, -1, -1, -1, 1, 1, -1, -1, -1]
    assert embedded.left_out == (DonorLeftOut(None, 1, "no donor"),)
    for group, (goal, alternative) in enumerate(((1, 2), (3, 4))):
        for place, row in enumerate((goal, alternative)):
            right = plain_embedding(tiny_checkpoint, cells, row)
            np.testing.assert_allclose(embedded.vectors[group, place], right, atol=2e-5)
    assert StateCells("c", "q", 1, 1) in embedded.counts


def test_a_donor_without_goal_cells_is_left_out_and_said(model):
    cells = the_cells()
    states = States("state", ("a", "c"), "b", ("d",), within="donor")
    with pytest.warns(RanklockWarning, match=r"p \(2 cells, no cell of d\); r \(1 cells, no cell"):
        members = state_members(states, cells)
    assert members.groups == ("q",)
    assert [donor.donor for donor in members.left_out] == ["p", "r"]
    with pytest.raises(InputError, match="No donor.*p .1 cells, no cell of d"):
        state_members(replace(states, start="a", cells=cells), cells[[0]])


def test_missing_donors_are_no_donor_named_nan():
    cells = the_cells()
    for missing in (np.nan, None, "nan", "", pd.NA):
        donors = pd.Series(DONORS, dtype=object).where(lambda d: d != "q", missing)
        named = replace(cells, obs=cells.obs.assign(donor=donors.to_numpy()))
        with pytest.warns(RanklockWarning, match="cells without a donor"):
            members = state_members(States("state", "a", "b", within="donor"), named)
        assert members.groups == ("p",)
        assert members.left_out == (DonorLeftOut(None, 1, "no donor"),)


def test_whole_numbers_name_donors_and_states_as_people_write_them():
    cells = the_cells()
    donors = pd.Series([{"p": 15, "q": 21, "r": 3}.get(d, np.nan) for d in DONORS])
    codes = [{"a": 1, "b": 2, "c": 3, "d": np.nan}[s] for s in STATES]
    numbered = replace(cells, obs=cells.obs.assign(donor=donors.to_numpy(), state=codes))
    members = state_members(States("state", "1", "2", within="donor"), numbered)
    assert members.groups == ("15", "21")


VECTORS = {"b": np.arange(1, 17) / 7, "c": np.linspace(-1, 1, 16), "other": np.ones(16)}


def table_by_row(folder):
    frame = pd.DataFrame(VECTORS).T
    frame.to_csv(folder / "states.csv", index_label="state")
    return folder / "states.csv"


def table_by_column(folder):
    pd.DataFrame(VECTORS).to_csv(folder / "states.tsv", sep="\t")
    return folder / "states.tsv"


def parquet_by_row(folder):
    pd.DataFrame(VECTORS).T.rename(columns=str).to_parquet(folder / "states.parquet")
    return folder / "states.parquet"


def parquet_by_named_row(folder):
    frame = pd.DataFrame(VECTORS).T.rename(columns=str).rename_axis("name").reset_index()
    frame.to_parquet(folder / "states.parquet")
    return folder / "states.parquet"


def tensors(folder):
    torch.save({s: torch.from_numpy(v) for s, v in VECTORS.items()}, folder / "states.pt")
    return folder / "states.pt"


@pytest.mark.parametrize(
    "made",
    [
        table_by_row, table_by_column, parquet_by_row, parquet_by_named_row, tensors,
        lambda _: VECTORS,
        lambda _: {state: torch.from_numpy(v)[None] for state, v in VECTORS.items()},
        lambda _: pd.DataFrame(VECTORS),
        lambda _: pd.DataFrame(VECTORS).T,
    ],
)  # fmt: skip
def test_embeddings_of_ones_own_need_no_forward(tmp_path, model, monkeypatch, made):
    monkeypatch.setattr(states_module, "hidden_states", None)
    cells = the_cells()
    states = States("state", ("a", "d"), "b", ("c",), embeddings=made(tmp_path))
    embedded = embed_states(states, cells, model, 1)
    np.testing.assert_allclose(embedded.vectors[0], [VECTORS["b"], VECTORS["c"]], rtol=1e-15)
    assert (embedded.group_of_cell >= 0).tolist() == [s in "ad" for s in STATES]
    assert states.asked.embeddings


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        ({"c": np.ones(16)}, "no embedding of b; there are c"),
        ({"b": np.ones(15)}, r"b: shape \(15,\), but the model's embeddings are 16 wide"),
        ({"b": [*np.ones(15), np.nan]}, "not finite"),
        ({"b": np.zeros(16)}, "is zero"),
        ({"b": ["x"] * 16}, "not a vector of numbers"),
        (pd.DataFrame({"x": [1.0]}), "no embedding of b"),
        ("nowhere.csv", "cannot be read as a table"),
        ("nowhere.pt", "cannot be read as a dictionary"),
        ("states.pkl", "pickles, which can execute anything"),
    ],
)
def test_embeddings_that_cannot_be_used(model, embeddings, message):
    states = States("state", "a", "b", embeddings=embeddings)
    with pytest.raises(InputError, match=message):
        embed_states(states, the_cells(), model, 2)


class Executed:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_nothing_in_a_file_of_tensors_is_executed(tmp_path, model):
    torch.save({"b": Executed()}, tmp_path / "states.pt")
    states = States("state", "a", "b", embeddings=tmp_path / "states.pt")
    with pytest.raises(InputError, match="cannot be read as a dictionary"):
        embed_states(states, the_cells(), model, 2)


def test_the_digest_tells_which_cells_and_which_vectors(model):
    cells = the_cells()

    def digest(cells=cells, **options):
        return embed_states(States("state", **{"start": "a", "goal": "b"} | options), cells, model,
                            2).sha256  # fmt: skip

    variants = [
        digest(),
        digest(alternatives=("c",)),
        digest(goal="c"),
        digest(start=("a", "d")),
        digest(goal_cells=2),
        digest(average="median"),
        digest(cells=cells[:9], start=("a", "d")),
        digest(embeddings=VECTORS),
        digest(embeddings=VECTORS | {"b": np.ones(16)}),
    ]
    assert len(set(variants)) == len(variants)
    assert digest() == variants[0]
    several = embed_states(States("state", "a", "b"), cells, model, 2, batch_size=1)
    assert several.sha256 == variants[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": "a"}, "a: two of the start, the goal and the alternatives are the same"),
        ({"start": ("c", "b")}, "b: two of"),
        ({"alternatives": ("a",)}, "a: two of"),
        ({"alternatives": ("goal",)}, "named 'goal'"),
        ({"start": ()}, "--start"),
        ({"average": "mode"}, "mean or the median"),
        ({"goal_cells": 0}, "at least 1"),
        ({"within": "state"}, "cannot name donors"),
        ({"within": "donor", "embeddings": VECTORS}, "--within"),
    ],
)
def test_states_that_contradict_themselves(options, message):
    with pytest.raises(OptionError, match=message):
        States("state", **{"start": "a", "goal": "b"} | options)


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (States("type", "a", "b"), "no column 'type' in obs .it has state, donor, number.*--state"),
        (States("state", "a", "x"), "No cell has state=x; there are b, c, a, d"),
        (States("state", ("a", "x"), "b"), "No cell has state=x"),
        (States("state", "a", "b", ("x",)), "No cell has state=x"),
        (States("state", "a", "b", within="patient"), "no column 'patient'.*--within"),
        (States("state", "a", "b", cells=the_cells(special_frame=True)), "one vocabulary"),
        (States("state", "a", "b", cells=cells_of([9], vocabulary(9))), "one vocabulary"),
    ],
)
def test_states_that_the_cells_do_not_have(states, message):
    with pytest.raises(InputError, match=message):
        state_members(states, the_cells())


def test_asked_holds_all_that_was_asked():
    states = States("s", ["a", "x"], "b", ["c"], within="d", average="median", goal_cells=5, seed=3)
    asked = states.asked
    assert (asked.key, asked.start, asked.goal, asked.alternatives) == (
        "s", ("a", "x"), "b", ("c",),
    )  # fmt: skip
    assert (asked.within, asked.average, asked.goal_cells, asked.embeddings, asked.seed) == (
        "d", "median", 5, None, 3,
    )  # fmt: skip
