"""Number formats of the forwards, and which of them a device has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ranklock.errors import OptionError

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "tf32", "bfloat16", "float16", "float64")
AUTO = "auto"  # the fastest that is exact enough, measured
# NVIDIA's compute capability from which the hardware multiplies in a format.
_CUDA_SINCE = {"tf32": (8, 0), "bfloat16": (8, 0), "float16": (5, 3)}


def check_precision(precision: str, device: str) -> None:
    """Refuse a number format that does not exist, or that a device does not compute in.

    Raises
    ------
    OptionError
        With the formats that the device has.
    """
    if precision not in PRECISIONS:
        raise OptionError(
            f"There is no precision {precision!r}; there are: {', '.join(PRECISIONS)}."
        )
    offered = offered_precisions(device)
    if precision not in offered:
        raise OptionError(
            f"{device} does not compute in {precision}; it has: {', '.join(offered)}."
        )


def offered_precisions(device: str) -> tuple[str, ...]:
    """The number formats that a device computes in natively."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        capability = torch.cuda.get_device_capability(device)
        faster = [name for name, since in _CUDA_SINCE.items() if capability >= since]
    elif kind == "cpu":
        # Elsewhere torch emulates the half formats, slower than float32.
        supported = {
            "bfloat16": torch.ops.mkldnn._is_mkldnn_bf16_supported,
            "float16": torch.ops.mkldnn._is_mkldnn_fp16_supported,
        }
        faster = [name for name, check in supported.items() if check()]
    else:
        faster = ["float16"]
    return ("float32", "float64", *faster)


def stored_as(precision: str) -> torch.dtype:
    """What weights and activations are stored in; TF32 is a way of multiplying float32."""
    import torch

    kinds = {
        "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64,
    }  # fmt: skip
    return kinds.get(precision, torch.float32)


@contextmanager
def multiplying_in(precision: str) -> Iterator[None]:
    """Multiply in exactly this format, whatever the process has set, and restore that after."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """The same, for forwards that nothing is differentiated by."""
    import torch

    with multiplying_in(precision), torch.inference_mode():
        yield
