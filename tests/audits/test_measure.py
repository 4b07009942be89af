import numpy as np
import pytest
from scipy import stats

import ranklock
from ranklock.audits.measure import BINS, check_kinds, edit_arms, measure
from ranklock.errors import InputError, OptionError
from tests import helpers


@pytest.fixture(scope="module")
def run(tiny_audit):
    return tiny_audit.run


@pytest.fixture(scope="module")
def measured(run):
    return measure(run)


def logs(block, arm, floor):
    return np.log10(np.maximum(block.distances[arm], floor))


def test_every_number_is_that_of_the_cells_own_effects(run, measured):
    rows = {arm: part.set_index(["cell", "gene_id"]) for arm, part in
            measured.table.groupby("arm", observed=True)}  # fmt: skip
    ids = run.perturbations["gene_id"]
    for block in run.blocks():
        for k, perturbation in enumerate(block.perturbations):
            delete = rows["delete"].loc[(block.cell, ids[perturbation])]
            effects = {arm: logs(block, arm, measured.floor)[k] for arm in ("delete", "hold")}
            rank = block.gene_ranks[k]
            assert delete["gene_rank"] == rank
            after, before = block.responder_ranks > rank, block.responder_ranks < rank
            if min(after.sum(), before.sum()) >= 5:
                moved = effects["delete"]
                step = np.median(moved[after]) - np.median(moved[before])
                assert delete["step"] == pytest.approx(step, abs=1e-6)
                u = stats.mannwhitneyu(moved[after], moved[before]).statistic
                chance = u / (after.sum() * before.sum())
                assert delete["superiority"] == pytest.approx(chance)
            else:
                assert np.isnan(delete["step"])
            others = after | before
            rho = stats.spearmanr(effects["delete"][others], effects["hold"][others]).statistic
            assert delete["agreement"] == pytest.approx(rho)
            tops = [set(np.argsort(-x[others])[:10]) for x in effects.values()]
            assert delete["shared_top"] == len(tops[0] & tops[1])
            near = np.abs(block.responder_ranks - rank)[others] <= 10
            strongest = np.argsort(-effects["delete"][others], kind="stable")[:10]
            assert delete["near"] == pytest.approx(near[strongest].mean())
            assert delete["near_by_chance"] == pytest.approx(near.mean())
    assert rows["hold"]["agreement"].isna().all()


def test_it_is_the_shifts_with_a_row_a_task_and_arm(run, measured):
    shifts = run.shifts
    assert len(measured.table) == len(shifts)
    assert measured.table["task"].nunique() * len(run.arms) == len(shifts)
    np.testing.assert_array_equal(measured.table["cosine_distance"], shifts["cosine_distance"])
    share = shifts["shift_along_total"] / shifts["displacement_squared"]
    np.testing.assert_array_equal(measured.table["share_of_shift"], share)


def test_the_heat_map_holds_every_effect_once(run, measured):
    heat = measured.heat["delete"]
    row, column = 3, 20
    edges = np.linspace(0, measured.table["genes_in_cell"].max(), BINS + 1)
    np.testing.assert_allclose(heat.index, (edges[1:] + edges[:-1]) / 2)
    values = []
    for block in run.blocks(arms=["delete"]):
        perturbed = np.searchsorted(edges, block.gene_ranks, side="right") - 1
        responding = np.searchsorted(edges, block.responder_ranks, side="right") - 1
        part = logs(block, "delete", measured.floor)[np.ix_(perturbed == row, responding == column)]
        values += part[np.isfinite(part)].tolist()
    assert len(values)
    assert heat.iloc[row, column] == pytest.approx(np.mean(values), abs=1e-6)


def test_the_example_is_nearest_the_middle(measured):
    relative = measured.tasks["relative_rank"]
    assert measured.example.off_centre == pytest.approx((relative - 0.5).abs().min())
    assert len(measured.example.ranks) == len(measured.example.responders)


def test_responses_are_places_averaged_over_cells(run):
    symbol = str(run.shifts["gene"].value_counts().index[0])
    source = run.token(symbol)
    responses = measure(run, sources=[source]).responses
    size = len(responses.genes)
    expected, cells = np.zeros(size), np.zeros(size)
    for block in run.blocks():
        for k in np.flatnonzero(block.genes == source):
            effects = block.distances["hold"][k]
            responding = np.isfinite(effects)
            at = np.searchsorted(responses.genes, block.responders[responding])
            expected[at] += stats.rankdata(effects[responding]) / responding.sum()
            cells[at] += 1
    response = responses.of[source]
    np.testing.assert_allclose(response.places[responses.arms.index("hold")], expected)
    np.testing.assert_array_equal(response.counts, cells)


@pytest.mark.parametrize(
    ("arms", "edits"),
    [
        (("delete", "mask", "hold", "shift"), ["hold", "mask"]),
        (("attention-mask", "mask"), ["attention-mask", "mask"]),
        (("hold", "attention-mask"), ["hold"]),
        (("delete", "mask"), ["mask"]),
        (("delete", "delete-backfill", "shift"), []),
    ],
)
def test_arms_that_could_be_a_cure(arms, edits):
    assert edit_arms(arms) == edits


@pytest.fixture
def inputs(tiny_checkpoint):
    model = ranklock.load_model(str(tiny_checkpoint), device="cpu")
    return helpers.cells_of([30, 20], helpers.vocabulary(55)), model


def test_of_several_kinds_knock_outs_are_measured(inputs, tmp_path):
    do = ["knock-out", "overexpress"]
    several = ranklock.perturb(*inputs, do=do, out=tmp_path / "several", progress=False)
    alone = ranklock.perturb(*inputs, out=tmp_path / "alone", progress=False)
    check_kinds(several)
    one, two = (measure(run) for run in (several, alone))
    assert one.arms == two.arms
    columns = ["cell", "gene", "arm", "step", "agreement"]
    # Other batches, so that float32 rounds otherwise.
    for column in columns:
        if column in ("step", "agreement"):
            np.testing.assert_allclose(one.table[column], two.table[column], atol=1e-3)
        else:
            assert one.table[column].astype(str).tolist() == two.table[column].astype(str).tolist()


def test_moves_and_sets_are_refused_with_what_would_do(inputs):
    moves = ranklock.perturb(*inputs, do="overexpress", progress=False)
    with pytest.raises(OptionError, match="holds overexpress and no knock-outs"):
        check_kinds(moves)
    genes = [inputs[0].vocabulary.symbol(int(token)) for token in inputs[0].ranked[0][:2]]
    joint = ranklock.perturb(inputs[0][:1], inputs[1], genes, together=True, progress=False)
    with pytest.raises(OptionError, match=r"knocks genes out together \(GENE\d+\+GENE\d+\)"):
        check_kinds(joint)


def test_a_run_without_a_knock_out_yet_is_refused(run):
    begun = type(run)(run.folder, run.manifest)
    begun.__dict__["shifts"] = run.shifts[:0]
    with pytest.raises(InputError, match="no knock-out yet"):
        measure(begun)
