"""Geneformer's own numbers, from what its classes wrote (``../shared/parity``).

Of V2 the published weights are not here, and ``<cls>`` of a random checkpoint moves by 1e-6: those
runs say which genes of which cells are perturbed, and that the numbers agree to that; what they are
is for V1, for the gene effects, and for the plain forwards of test_perturb.py to say.
"""

import json
import re
from collections import defaultdict
from functools import cache

import datasets
import numpy as np
import pytest

import ranklock
from tests.helpers import SHARED
from tests.run.pickled import read_numbers

PARITY = SHARED / "parity"
if not PARITY.is_dir():
    pytest.skip(f"{PARITY} (what Geneformer wrote) is not here", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore:Specifying null_placement:FutureWarning")
RUNS = {run["name"]: run for run in json.loads((PARITY / "index.json").read_text())}
ATOL = 2e-6  # Geneformer's cosines are of single precision
DICTIONARIES = {
    "v1": SHARED / "data" / "token_dictionary_gc30M.pkl",
    "v2": PARITY / "token_dictionary_gc104M.pkl",
}


@cache
def cells_of(version):
    return ranklock.read_cells(PARITY / f"{version}.dataset", DICTIONARIES[version])


@cache
def model_of(name):
    return ranklock.load_model(str(PARITY / name), device="cpu")


def tokens_of(arguments, version):
    genes = arguments.get("genes_to_perturb", "all")
    return [] if genes == "all" else [cells_of(version).vocabulary.tokens[gene] for gene in genes]


def chosen_cells(arguments, version):
    """Rows of the cells that Geneformer perturbs, in its order (geneformer_interface.md)."""
    data = datasets.load_from_disk(str(PARITY / f"{version}.dataset"))
    rows = data.add_column("row", range(len(data)))
    needed = set()
    if arguments.get("perturb_type", "delete") == "delete":
        needed = set(tokens_of(arguments, version))
    if "anchor_gene" in arguments:
        needed = {cells_of(version).vocabulary.tokens[arguments["anchor_gene"]]}
    wanted = dict(arguments.get("filter_data", {}))
    if states := arguments.get("cell_states_to_model"):
        wanted[states["state_key"]] = [states["start_state"]]

    def is_chosen(cell):
        meets = all(cell[column] in values for column, values in wanted.items())
        return meets and needed <= set(cell["input_ids"])

    rows = rows.filter(is_chosen, load_from_cache_file=False)
    if (most := arguments.get("max_ncells")) and len(rows) > most:
        rows = rows.shuffle(seed=42).select(range(most))
    rows = rows.sort("length", reverse=True)["row"][:]
    inside = arguments.get("cell_inds_to_perturb", {"start": 0, "end": len(rows)})
    return list(rows)[inside["start"] : inside["end"]]


def states_of(run):
    """The states with Geneformer's embeddings; the start as an alternative of another name."""
    asked = run["arguments"].get("cell_states_to_model")
    if asked is None:
        return None, {}
    vectors = read_numbers(PARITY / f"{run['state_embs']}.pkl")
    start, goal = asked["start_state"], asked["goal_state"]
    states = ranklock.States(
        asked["state_key"], start, goal, ("the start", *asked["alt_states"]),
        embeddings=vectors | {"the start": vectors[start]},
    )  # fmt: skip
    named = {start: "the start", goal: "goal"} | {state: state for state in asked["alt_states"]}
    return states, named


def perturbed(run):
    arguments, version = run["arguments"], run["data"][:2]
    cells, tokens = cells_of(version), tokens_of(run["arguments"], version)
    moves = arguments.get("perturb_type", "delete") == "overexpress"
    states, names = states_of(run)
    ours = ranklock.perturb(
        cells, model_of(run["model"]), tokens or "all", "overexpress" if moves else "knock-out",
        ("move",) if moves else ("delete",),
        read=("genes", "cell") if "and_gene" in arguments.get("emb_mode", "") else ("cell",),
        together=len(tokens) > 1, insert=moves and bool(tokens),
        layer=arguments.get("emb_layer", -1), states=states, progress=False,
        select=ranklock.Selection(rows=tuple(chosen_cells(arguments, version))),
    )  # fmt: skip
    return ours, names


def unmoved_cells(run):
    """Rows of the cells whose listed genes stand at the front already, in the order of the list."""
    arguments, version = run["arguments"], run["data"][:2]
    tokens, ranked = tokens_of(arguments, version), cells_of(version).ranked
    if not tokens or arguments.get("perturb_type", "delete") == "delete":
        return frozenset()
    return {row for row in range(len(ranked)) if ranked[row][: len(tokens)].tolist() == tokens}


def files_of(run, what):
    """Numbers of a run's files: cell in its order → what was stored of it, or of all in a list."""
    parts = defaultdict(list)
    for name in run["files"]:
        if f"_{what}_embs_" in name:
            part = re.search(r"_embs_(\d+)batch", name)
            content = read_numbers(PARITY / "runs" / run["name"] / name)
            parts[int(part[1]) if part else None].append(content)
    return parts


def numbers_by_cell(run, what, state=None):
    """(row of the cell, key) → number, of what Geneformer stored."""
    arguments, version = run["arguments"], run["data"][:2]
    rows, cells = chosen_cells(arguments, version), cells_of(version)
    numbers = {}
    for place, contents in files_of(run, what).items():
        for content in contents:
            for key, values in (content if state is None else content[state]).items():
                # A list's file holds the cells one after another: an affected gene's, where it is.
                affected = key[1]
                holders = rows if place is None else [rows[place]]
                if affected != "cell_emb":
                    holders = [row for row in holders if affected in cells.ranked[row]]
                assert len(holders) == len(values)
                numbers |= {(row, key): v for row, v in zip(holders, values, strict=True)}
    return numbers


def shifts_by_cell(run, ours, column):
    """The same of our shifts."""
    cells = cells_of(run["data"][:2])
    row_of = {name: row for row, name in enumerate(cells.names)}
    tokens_of_id = {
        "+".join(cells.vocabulary.gene(t) for t in tokens): tuple(tokens)
        for tokens in ours.perturbations["tokens"]
    }
    numbers = {}
    for cell, gene_id, value in zip(
        ours.shifts["cell"], ours.shifts["gene_id"], ours.shifts[column], strict=True
    ):
        tokens = tokens_of_id[gene_id]
        key = tokens if len(tokens) > 1 else tokens[0]
        numbers[row_of[cell], (key, "cell_emb")] = value
    return numbers


def assert_agree(numbers, expected, unmoved=frozenset()):
    """Alike; Geneformer also stores the cells in which a gene stands at the front, unmoved."""
    still = {key for key in expected if key[0] in unmoved}
    np.testing.assert_allclose([expected[key] for key in still], 1.0, rtol=0, atol=ATOL)
    assert numbers.keys() == expected.keys() - still
    keys = list(numbers)
    np.testing.assert_allclose(
        [numbers[key] for key in keys], [expected[key] for key in keys], rtol=0, atol=ATOL
    )


# It raised in Geneformer, or is of pairs, which have a test of their own.
WITHOUT_SINGLE_NUMBERS = {"v1_overexpress_two", "v1_anchor"}
WITH_GENES = [
    name for name, run in RUNS.items() if "and_gene" in run["arguments"].get("emb_mode", "")
]


@pytest.mark.filterwarnings("ignore:.*have it there already:ranklock.errors.RanklockWarning")
@pytest.mark.parametrize("name", sorted(set(RUNS) - WITHOUT_SINGLE_NUMBERS))
def test_shifts_of_cells(name):
    run = RUNS[name]
    ours, names = perturbed(run)
    if names:
        for state, column in names.items():
            expected = numbers_by_cell(run, "cell", state)
            assert expected
            found = shifts_by_cell(run, ours, f"towards_{column}_as_geneformer")
            assert_agree(found, expected)
            if len(expected) > 20:  # also where all of them are not far above rounding
                pairs = np.array([(found[key], number) for key, number in expected.items()])
                assert np.corrcoef(pairs.T)[0, 1] > 0.8
        return
    mean = run["arguments"].get("emb_mode", "cls").startswith("cell")
    column = "mean_gene_distance" if mean else "cosine_distance"
    distances = shifts_by_cell(run, ours, column)
    expected = numbers_by_cell(run, "cell")
    assert expected
    assert_agree({key: 1 - value for key, value in distances.items()}, expected, unmoved_cells(run))


@pytest.mark.filterwarnings("ignore:.*have it there already:ranklock.errors.RanklockWarning")
@pytest.mark.parametrize("name", WITH_GENES)
def test_effects_on_genes(name):
    run = RUNS[name]
    ours, _ = perturbed(run)
    vocabulary = cells_of(run["data"][:2]).vocabulary
    row_of = {name: row for row, name in enumerate(cells_of(run["data"][:2]).names)}
    tokens_of_id = {
        "+".join(vocabulary.gene(t) for t in tokens): tuple(tokens)
        for tokens in ours.perturbations["tokens"]
    }
    table = ours.table
    numbers = {}
    for cell, gene_id, responder_id, distance in zip(
        table["cell"], table["gene_id"], table["responder_id"], table["cosine_distance"],
        strict=True,
    ):  # fmt: skip
        tokens = tokens_of_id[gene_id]
        key = tokens if len(tokens) > 1 else tokens[0]
        numbers[row_of[cell], (key, vocabulary.tokens[responder_id])] = 1 - distance
    assert_agree(numbers, numbers_by_cell(run, "gene"), unmoved_cells(run))


def test_pairs_with_an_anchor():
    """Each other gene of a cell knocked out together with one: two cells, the longest and the last.

    Geneformer's statistics cannot read these files; the numbers in them are right.
    """
    run = RUNS["v1_anchor"]
    cells, rows = cells_of("v1"), chosen_cells(run["arguments"], "v1")
    expected = numbers_by_cell(run, "cell")
    anchor = cells.vocabulary.tokens[run["arguments"]["anchor_gene"]]
    for row in (rows[0], rows[-1]):
        others = [token for token in cells.ranked[row].tolist() if token != anchor]
        assert {key for key in expected if key[0] == row} == {
            (row, (token, "cell_emb")) for token in others
        }
        for token in others:
            pair = ranklock.perturb(
                cells[row], model_of(run["model"]), [anchor, token], arms=("delete",),
                read=("cell",), together=True, progress=False,
            )  # fmt: skip
            similarity = 1 - pair.shifts["mean_gene_distance"].item()
            assert similarity == pytest.approx(expected[row, (token, "cell_emb")], abs=ATOL)
