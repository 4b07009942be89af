import pyarrow as pa
import pytest

from ranklock.arms import ARMS
from ranklock.run import fields as f


def test_every_field_says_what_it_is():
    shifts = f.shift_fields(f.READS, ("goal", "hcm"), ("healthy",))
    effects = f.effect_fields(ARMS, decomposed=ARMS, compared=ARMS)
    noise = f.count_noise_fields(("goal", "hcm"))
    for fields in (shifts, effects, noise):
        names = [field.name for field in fields]
        assert len(names) == len(set(names))
        for field in fields:
            assert field.meaning
            about = field.arrow.metadata
            assert about[b"meaning"] == field.meaning.encode()
            assert about.get(b"unit", b"") == field.unit.encode()
    numbers = [field for field in shifts if field.type == pa.float64()]
    assert all(field.unit and field.read for field in numbers)


@pytest.mark.parametrize("read", f.READS)
def test_what_is_not_read_has_no_field(read):
    shifts = {field.name for field in f.shift_fields([read], ("goal",), ("healthy",))}
    assert {"cell", "gene", "kind", "gene_rank", "arm"} <= shifts
    assert ("cosine_distance" in shifts) is (f.towards("goal") in shifts) is (read == f.CELL)
    assert ("median_shifted" in shifts) is (read == f.GENES)
    assert (f.logit("healthy", "after") in shifts) is (read == f.LOGITS)


def test_names_of_states_and_labels():
    names = [field.name for field in f.shift_fields(f.READS, ("goal",), ("a",))]
    for name in (f.towards("goal"), f.towards_as_geneformer("goal"), f.logit("a", "before"),
                 f.logit("a", "after"), f.probability("a", "after")):  # fmt: skip
        assert name in names
    assert f.towards("goal") == "towards_goal"
    assert f.towards_as_geneformer("hcm") == "towards_hcm_as_geneformer"


def test_only_a_decomposed_arm_has_parts():
    names = [field.name for field in f.effect_fields(["delete", "hold"], ["delete"])]
    assert "delete_artefact_share" in names
    assert "hold_cosine_distance" in names
    assert "hold_artefact_share" not in names


def test_only_a_compared_arm_has_folds():
    names = [field.name for field in f.effect_fields(["delete", "hold"], compared=["hold"])]
    assert "hold_fold" in names
    assert not {"delete_fold", "hold_artefact_share"} & set(names)


def test_count_noise_stands_beside_under_names_of_its_own():
    shifts = {field.name for field in f.shift_fields(f.READS, ("goal",), ("healthy",))}
    beside = {f.COUNT_NOISE.name, f.count_noise_towards("goal")}
    assert beside == {"count_noise", "count_noise_towards_goal"}
    assert not beside & shifts
    assert f.towards("goal") in {field.name for field in f.count_noise_fields(("goal",))}
