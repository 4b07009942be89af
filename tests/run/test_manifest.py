import json
from dataclasses import replace

import pytest

import ranklock
from ranklock.run.asked import Asked
from ranklock.run.manifest import MANIFEST_VERSION, Manifest, Provenance
from tests.helpers import cells_of, vocabulary

pytestmark = pytest.mark.filterwarnings("ignore::ranklock.errors.RanklockWarning")


@pytest.fixture(scope="module")
def run(tiny_checkpoint, tmp_path_factory):
    cells = cells_of([12, 9, 20, 14], vocabulary(special_frame=True), special_frame=True)
    obs = cells.obs.assign(state=["a", "b", "a", "b"], donor=["p", "p", "q", "q"])
    cells = replace(cells, obs=obs, reading={"selection": ranklock.Selection(sample=4).described()})
    names = [cells.vocabulary.symbol(int(t)) for t in cells.ranked[0][:2]]
    return ranklock.perturb(
        cells, ranklock.load_model(tiny_checkpoint, device="cpu"), [*names, "NOSUCHGENE"],
        ["knock-out", "to-rank:3"], states=ranklock.States("state", "a", "b", within="donor"),
        donor="donor", seed=7, out=tmp_path_factory.mktemp("run") / "run", progress=False,
    )  # fmt: skip


def test_it_writes_and_reads_itself(run):
    content = run.manifest.to_json()
    assert json.loads(json.dumps(content)) == content
    assert Manifest.from_json(content) == run.manifest
    assert Manifest.read(run.folder) == run.manifest
    with pytest.raises(ValueError, match=f"version {MANIFEST_VERSION - 1}"):
        Manifest.from_json({**content, "version": MANIFEST_VERSION - 1})


def test_it_says_what_was_asked(run):
    asked = run.manifest.asked
    assert asked.genes[-1] == "NOSUCHGENE"
    assert (asked.do, asked.donor, asked.seed) == (("knock-out", "to-rank:3"), "donor", 7)
    assert run.manifest.arms == {
        "knock-out": ("delete", "hold", "mask", "shift"), "to-rank:3": ("move", "hold", "shift"),
    }  # fmt: skip
    assert run.manifest.decomposed == ("delete", "move")
    assert run.manifest.complete
    states = run.manifest.states
    assert (states.asked.key, states.asked.within, states.names) == ("state", "donor", ("goal",))
    assert [(c.state, c.donor, c.cells) for c in states.cells] == [("b", "p", 1), ("b", "q", 1)]


def test_it_says_what_came_of_it(run):
    planned = run.manifest.planned
    assert planned.tasks == len(run.shifts.drop_duplicates(["cell", "gene", "kind"]))
    assert planned.cells == run.shifts["cell"].nunique()
    assert planned.forwards >= planned.tasks * 3
    assert [gene.name for gene in run.manifest.genes_left_out] == ["NOSUCHGENE"]
    assert all(entry.cells == 2 for entry in run.manifest.cells_left_out)


def test_it_says_what_with_and_no_time(run):
    made = run.manifest.made_from
    for part in (made.cells, made.vocabulary, made.model):
        assert len(part.sha256) == 64
    assert made.cells.number == 2  # those that are perturbed
    assert made.cells.special_frame
    assert made.cells.reading["selection"]["sample"] == 4
    assert (made.model.layers, made.model.layers_run) == (2, 1)
    assert made.machine.device == "cpu"
    assert {"python", "ranklock", "torch", "numpy", "pyarrow"} <= set(made.versions)
    text = (run.folder / "manifest.json").read_text()
    assert "time" not in text
    assert str(run.folder) not in text


def test_provenance_counts_cells_longer_than_the_input(model):
    cells = cells_of([60, 12], vocabulary(60, special_frame=True), special_frame=True)
    small = replace(model, input_size=32)
    assert Provenance.of(cells, small, 1, "float32").cells.longer_than_the_input == 1


def test_all_genes_are_asked_for_by_naming_none():
    assert Asked().all_genes
    assert not Asked(genes=("GENE1",)).all_genes
