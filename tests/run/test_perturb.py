"""Every combination of what can be asked, against plain Hugging Face forwards in float64."""

import warnings
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import ranklock
from ranklock.cells import Cells
from ranklock.errors import InputError, RanklockWarning
from tests.helpers import checkpoint, classifier, vocabulary
from tests.run import plain

GENES = 40
LABELS = ("label0", "label1", "label2")
# A hidden state errs by some roundings of 6e-8 in each of 16 entries of order one.
STATE = 2e-5


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Checkpoints by what matters here, each made once."""

    @cache
    def made(positions, *, classifies):
        make = classifier if classifies else checkpoint
        return make(
            tmp_path_factory.mktemp("checkpoint"), tokens=GENES + 4, positions=positions,
            spread=0.3, position_spread=0.2,
        )  # fmt: skip

    @cache
    def loaded(positions, layer, *, classifies):
        folder = made(positions, classifies=classifies)
        model = plain.PlainModel(folder, layer, classifies=classifies)
        return ranklock.load_model(folder, device="cpu"), model

    return loaded


KINDS = ("knock-out", "overexpress", "activate:1", "activate:3", "inhibit:2", "to-rank:0",
         "to-rank:5", "factor:0.5", "factor:4")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """An experiment, its cells, and what else must be said to ask for it."""

    experiment: plain.Experiment
    cells: list[plain.Cell]
    layer: int
    classifies: bool
    average: str  # of states; none are read where it is empty
    within: bool


def case_of(seed):
    """A combination of what can be asked, each choice drawn apart from the others."""
    draw = np.random.default_rng(seed)

    def chance(share):
        return bool(draw.random() < share)

    def some(names, fewest, most):
        number = draw.integers(fewest, most + 1)
        return tuple(draw.permutation(np.array(names))[:number].tolist())

    framed, classifies, most = chance(0.5), chance(0.4), int(draw.choice([9, 20]))
    medians = medians_of(vocabulary(GENES, special_frame=framed))
    cells = make_cells(draw.choice([1, 2, 5, 9, 12, 20], draw.integers(1, 4)), medians, seed)
    named, together, insert = chance(0.6), chance(0.5), chance(0.4)
    possible = [
        kind for kind in KINDS
        if (not (named and together) or plain.takes_sets(kind))
        and (not (named and insert) or plain.takes_sets(kind))
    ]  # fmt: skip
    kinds = some(possible, 1, 3)
    if chance(0.4):
        kinds = tuple(dict.fromkeys(("knock-out", *kinds)))
    insert = insert and any(map(plain.moves, kinds))
    pool = sorted(medians) if insert or chance(0.3) else cells[-1].genes
    arms = ()
    if chance(0.5):
        arms = tuple(dict.fromkeys(
            arm for kind in kinds for arm in some(plain.arms_of(kind), 1, 6)
        ))  # fmt: skip
    read = some(["genes", "cell"] + ["logits"] * classifies, 1, 3)
    experiment = plain.Experiment(
        kinds, some(pool, 1, 4) if named else (), most, framed, arms,
        together=named and together, insert=named and insert, read=read,
        responders=some(sorted(medians), 1, 12) if chance(0.4) else (), medians=medians,
    )  # fmt: skip
    average = str(draw.choice(["", "mean", "median"])) if "cell" in read else ""
    return Case(experiment, cells, int(draw.choice([0, -1])), classifies, average, chance(0.5))


def medians_of(vocab):
    return {vocab.tokens[gene]: median for gene, median in vocab.medians.items()}


def make_cells(lengths, medians, seed):
    """Cells ranked by counts over medians, ties by token; lists."""
    draw = np.random.default_rng(seed)
    cells = []
    for number, length in enumerate(lengths):
        genes = draw.permutation(sorted(medians))[:length].tolist()
        levels = {gene: float(draw.integers(1, 20)) for gene in genes}
        order = sorted(genes, key=lambda gene: (-levels[gene] / medians[gene], gene))
        cells.append(plain.Cell(f"cell{number}", order, levels))
    return cells


def as_cells(cells, vocab, framed, obs):
    return Cells(
        tuple(np.array(cell.genes, dtype=np.int32) for cell in cells),
        obs.set_axis([cell.name for cell in cells]), vocab, framed, "test cells", complete=True,
        levels=tuple(np.array([cell.levels[g] for g in cell.genes]) for cell in cells),
    )  # fmt: skip


# Seeds, because what hypothesis makes of choices that hang on each other is much alike.
@settings(
    max_examples=100, phases=(Phase.explicit, Phase.generate), report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(seed=st.integers(0, 10**9))
def test_every_combination_equals_plain_forwards(checkpoints, seed):
    case = case_of(seed)
    experiment, perturbed, average, within = case.experiment, case.cells, case.average, case.within
    framed = experiment.framed
    vocab = vocabulary(GENES, special_frame=framed)
    model, forwards = checkpoints(
        experiment.most + 2 * framed, case.layer, classifies=case.classifies
    )
    others = [
        replace(cell, name=f"other{number}")
        for number, cell in enumerate(
            make_cells([11, 7, 20, 9, 5, 12], experiment.medians, seed + 1)
        )
    ]
    donors = ["p", "q", "p"][: len(perturbed)]
    obs = pd.DataFrame({
        "state": ["start"] * len(perturbed) + ["end"] * 3 + ["side"] * 3,
        "donor": [*donors, *"pqpqpq"],
    })  # fmt: skip
    states, names = None, ()
    if average:
        states = ranklock.States(
            "state", "start", "end", ("side",), within="donor" if within else None, average=average
        )
        experiment, perturbed = with_states(
            experiment, perturbed, others, forwards, donors, average, within=within
        )
        names = ("goal", "side")
    everyone = [*perturbed, *others]
    cells = as_cells(everyone, vocab, framed, obs)
    if not average:
        cells = cells[: len(perturbed)]
    tasks = plain.tasks_of(experiment, perturbed)
    if experiment.together and not experiment.insert and not all(
        any(gene in cell.genes[: experiment.most] for cell in perturbed)
        for gene in experiment.genes
    ):  # fmt: skip
        tasks = []  # a set of which no cell has a gene is not made a smaller one
    arguments = {
        "genes": list(experiment.genes) or "all",
        "do": list(experiment.kinds),
        "arms": list(experiment.arms) or None,
        "read": list(experiment.read),
        "together": experiment.together,
        "insert": experiment.insert,
        "responders": list(experiment.responders) or "all",
        "layer": case.layer,
        "states": states,
        "progress": False,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RanklockWarning)
        if not tasks:
            with pytest.raises(InputError):
                ranklock.perturb(cells, model, **arguments)
            return
        run = ranklock.perturb(cells, model, **arguments)
    forwards.prepare([
        plain.perturbed(task, arm, framed=framed) for task in tasks for arm in task.arms
    ])  # fmt: skip
    assert run.states == names
    assert_shifts(run, experiment, tasks, forwards, vocab, names)
    if "genes" in experiment.read:
        assert_table(run, experiment, tasks, forwards, vocab)


def with_states(experiment, perturbed, others, forwards, donors, average, *, within):
    """The states' embeddings, of all their cells or of those of each donor."""
    combine = np.mean if average == "mean" else np.median
    embeddings = [
        plain.cell_embedding(forwards, cell.genes[: experiment.most], framed=experiment.framed)
        for cell in others
    ]
    groups = [[(0, 2), (4,)], [(1,), (3, 5)]] if within else [[(0, 1, 2), (3, 4, 5)]]
    vectors = np.array(
        [[combine([embeddings[i] for i in members], axis=0) for members in g] for g in groups]
    )
    group_of = {"p": 0, "q": 1} if within else {"p": 0, "q": 0}
    perturbed = [
        replace(cell, group=group_of[donor]) for cell, donor in zip(perturbed, donors, strict=True)
    ]
    return replace(experiment, states=vectors), perturbed


def errors(moved):
    """What rounding may do to the cosine distances of genes: about the angle times its error."""
    lengths = np.linalg.norm(moved.genes_before, axis=1)
    angle = np.linalg.norm(moved.deltas, axis=1) / lengths
    error = STATE / lengths
    return error * (angle + error) + 1e-6 * angle**2


def parts(task):
    """Names of the arms that decompose this task's effects, and of the one that they decompose."""
    edit = next((arm for arm in ("hold", "attention-mask") if arm in task.arms), None)
    whole = "move" if plain.moves(task.kind) else "delete"
    complete = edit and "shift" in task.arms and whole in task.arms
    return (edit, "shift", whole) if complete else None


def phi_shift(edit, shift, whole):
    return (shift + whole - edit) / 2


def assert_shifts(run, experiment, tasks, forwards, vocab, names):
    shifts = run.shifts
    rows = dict(zip(zip(shifts["cell"], shifts["gene_id"], shifts["kind"], shifts["arm"],
                        strict=True), shifts.to_dict("records"), strict=True))  # fmt: skip
    assert len(rows) == len(shifts)
    expected = {
        (task.cell.name, gene_id(task, vocab), canonical(task.kind), arm): (task, arm)
        for task in tasks for arm in task.arms
    }  # fmt: skip
    assert rows.keys() == expected.keys()
    for key, (task, arm) in expected.items():
        assert_shift(rows[key], experiment, task, arm, forwards, vocab, names)


def canonical(kind):
    return kind.replace("factor:4.0", "factor:4")


def gene_id(task, vocab):
    return "+".join(vocab.gene(token) for token in task.tokens)


def text(ranks):
    return "+".join("none" if rank is None else str(rank) for rank in ranks)


def assert_shift(row, experiment, task, arm, forwards, vocab, names):
    framed = experiment.framed
    moved = plain.moved(forwards, task, arm, framed=framed)
    assert row["gene"] == "+".join(vocab.symbol(token) for token in task.tokens)
    present = [rank for rank in task.ranks if rank is not None]
    first = task.ranks[0] if plain.moves(task.kind) else min(present)
    assert pd.isna(row["gene_rank"]) if first is None else row["gene_rank"] == first
    assert row["gene_ranks"] == text(task.ranks)
    to_ranks = [task.to[token] for token in task.tokens] if task.to else []
    if to_ranks:
        assert (row["to_rank"], row["to_ranks"]) == (to_ranks[0], text(to_ranks))
    else:
        assert pd.isna(row["to_rank"])
        assert pd.isna(row["to_ranks"])
    assert row["inserted"] == (None in task.ranks)
    assert row["genes_in_cell"] == len(task.shown)
    if "cell" in experiment.read:
        assert_cell_shift(row, experiment, task, arm, forwards, moved, names)
    else:
        assert not {"cosine_distance", "displacement"} & set(row)
    if "logits" in experiment.read:
        # A gene that is hidden is as good as gone, also where it would be the token that is read.
        same_as = "hold" if arm == "attention-mask" else arm
        ends = {
            "before": forwards.logits(plain.unperturbed(task.shown, framed=framed)),
            "after": forwards.logits(plain.perturbed(task, same_as, framed=framed)),
        }
        for when, logits in ends.items():
            probabilities = np.exp(logits) / np.exp(logits).sum()
            for label, logit, probability in zip(LABELS, logits, probabilities, strict=True):
                assert row[f"logit_{label}_{when}"] == pytest.approx(logit, abs=10 * STATE)
                found = row[f"probability_{label}_{when}"]
                assert found == pytest.approx(probability, abs=10 * STATE)
    if "genes" in experiment.read:
        assert_summaries(row, experiment, task, arm, forwards, moved)
    else:
        assert not {"median_shifted", "displacement_squared"} & set(row)


def assert_cell_shift(row, experiment, task, arm, forwards, moved, names):
    framed = experiment.framed
    delta = moved.cell_after - moved.cell_before
    length = np.linalg.norm(delta)
    assert row["displacement"] == pytest.approx(length, rel=1e-6, abs=STATE)
    error = STATE / np.linalg.norm(moved.cell_before)
    angle = length / np.linalg.norm(moved.cell_before)
    distance = plain.cosine_distance(moved.cell_before, moved.cell_after)
    assert row["cosine_distance"] == pytest.approx(
        distance, rel=1e-5, abs=error * (2 * angle + error)
    )
    reads_all = not framed or ("genes" in experiment.read and (
        not experiment.responders or set(task.shown) <= set(experiment.responders)
    ))  # fmt: skip
    if reads_all and len(moved.genes_before):
        assert row["mean_gene_distance"] == pytest.approx(
            moved.distances.mean(), abs=errors(moved).max()
        )
    else:
        assert np.isnan(row["mean_gene_distance"])
    arms = parts(task)
    if arms is not None and arm == arms[2]:
        ends = [plain.moved(forwards, task, name, framed=framed) for name in arms]
        edit, shift, whole = (one.cell_after - one.cell_before for one in ends)
        assert_share(row["artefact_share"], phi_shift(edit, shift, whole), whole)
    else:
        assert np.isnan(row["artefact_share"])
    for name, vector in zip(names, () if experiment.states is None else
                            experiment.states[task.cell.group], strict=True):  # fmt: skip
        for column, before, after in (
            (f"towards_{name}", moved.cell_before, moved.cell_after),
            (f"towards_{name}_as_geneformer", moved.all_before, moved.all_after),
        ):
            rise = plain.cosine(after, vector) - plain.cosine(before, vector)
            shortest = min(map(np.linalg.norm, (before, after, vector)))
            assert row[column] == pytest.approx(rise, abs=4 * STATE / shortest)


def assert_share(found, part, whole):
    squared = float((whole * whole).sum())
    length = squared**0.5
    if length > 50 * STATE:  # of what moved by less than rounding it is anything
        expected = float((part * whole).sum()) / squared
        allowed = 10 * STATE * (1 + np.linalg.norm(part) / length) / length
        assert found == pytest.approx(expected, abs=allowed)


def stored(experiment, task):
    """Which of the genes that are not perturbed are responders, as a mask."""
    wanted = set(experiment.responders or task.kept)
    return np.array([gene in wanted for gene in task.kept], dtype=bool)


def assert_summaries(row, experiment, task, arm, forwards, moved):
    framed, keep = experiment.framed, stored(experiment, task)
    ways = np.array([task.makes_way(gene) for gene in task.kept], dtype=bool)
    allowed = errors(moved).max(initial=0.0)
    for column, side in (("median_shifted", ways), ("median_unshifted", ~ways)):
        part = moved.distances[keep & side]
        expected = np.median(part) if len(part) else np.nan
        assert row[column] == pytest.approx(expected, abs=allowed, nan_ok=True)
    deltas = moved.deltas[keep]
    reach = np.linalg.norm(deltas, axis=1)
    slack = 4 * STATE * (reach + STATE).sum()
    assert row["displacement_squared"] == pytest.approx((deltas**2).sum(), rel=1e-6, abs=slack)
    arms = parts(task)
    if arms is not None and arm == arms[2]:
        edit, shift, whole = (
            plain.moved(forwards, task, name, framed=framed).deltas[keep] for name in arms
        )
        expected = (phi_shift(edit, shift, whole) * whole).sum()
        most = sum(np.linalg.norm(part, axis=1) for part in (edit, shift, whole))
        slack = 4 * STATE * (most + STATE).sum()
        assert row["shift_along_total"] == pytest.approx(expected, rel=1e-6, abs=slack)
    else:
        assert np.isnan(row["shift_along_total"])
    edit = next((name for name in ("hold", "attention-mask") if name in task.arms), None)
    if arm == "mask" and edit is not None:
        beyond = deltas - plain.moved(forwards, task, edit, framed=framed).deltas[keep]
        slack = 4 * STATE * (np.linalg.norm(beyond, axis=1) + STATE).sum()
        assert row["beyond_edit_squared"] == pytest.approx((beyond**2).sum(), rel=1e-6, abs=slack)
    else:
        assert np.isnan(row["beyond_edit_squared"])


def assert_table(run, experiment, tasks, forwards, vocab):
    framed = experiment.framed
    keys = ["cell", "gene_id", "kind", "arm"]
    by_task = dict(iter(run.table.groupby(keys, observed=True, sort=False)))
    expected = {
        (task.cell.name, gene_id(task, vocab), canonical(task.kind), arm): (task, arm)
        for task in tasks for arm in task.arms if stored(experiment, task).any()
    }  # fmt: skip
    assert by_task.keys() == expected.keys()
    for key, (task, arm) in expected.items():
        part, keep = by_task[key], stored(experiment, task)
        moved = plain.moved(forwards, task, arm, framed=framed)
        kept = [gene for gene, wanted in zip(task.kept, keep, strict=True) if wanted]
        assert part["responder_id"].tolist() == [vocab.gene(gene) for gene in kept]
        assert part["responder"].tolist() == [vocab.symbol(gene) for gene in kept]
        assert part["responder_rank"].tolist() == [task.shown.index(gene) for gene in kept]
        reach = np.linalg.norm(moved.deltas, axis=1)[keep]
        np.testing.assert_allclose(part["displacement"], reach, rtol=1e-6, atol=STATE)
        off = abs(part["cosine_distance"] - moved.distances[keep])
        assert (off <= errors(moved)[keep]).all()
        arms = parts(task)
        if arms is None or arm != arms[2]:
            assert part["artefact_share"].isna().all()
            continue
        edit, shift, whole = (
            plain.moved(forwards, task, name, framed=framed).deltas[keep] for name in arms
        )
        for found, of_edit, of_shift, of_whole in zip(
            part["artefact_share"], edit, shift, whole, strict=True
        ):
            assert_share(found, phi_shift(of_edit, of_shift, of_whole), of_whole)
