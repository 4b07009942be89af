import pytest
import torch

from ranklock.errors import OptionError
from ranklock.models.precision import check_precision, computing_in, offered_precisions, stored_as


def test_float32_is_always_offered():
    assert offered_precisions("cpu")[0] == "float32"
    check_precision("float32", "cpu")


def test_what_a_cpu_has_not_is_refused_with_what_it_has():
    with pytest.raises(OptionError, match="cpu does not compute in tf32; it has: float32"):
        check_precision("tf32", "cpu")
    with pytest.raises(OptionError, match="no precision 'double'; there are: float32, tf32"):
        check_precision("double", "cpu")


def test_a_process_that_lowered_its_precision_gets_float32_nonetheless():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with computing_in("float32"):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_half_formats_are_stored_as_such():
    assert stored_as("bfloat16") is torch.bfloat16
    assert stored_as("tf32") is torch.float32


@pytest.mark.cuda
def test_a_gpu_offers_its_formats():
    assert "float16" in offered_precisions("cuda")
