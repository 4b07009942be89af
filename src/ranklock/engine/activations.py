"""What a displacement becomes in an activation: f(a + δ) − f(a), without subtracting.

Where δ is small the difference is δ times the mean of the derivative between a and a + δ, by
Gauss–Legendre quadrature: its error is relative to δ, where that of the plain difference is
relative to f. Where δ is large, the plain difference loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Three nodes on 0 to 1 and their weights: exact for polynomials of degree 5.
_NODES = (0.5 - math.sqrt(0.15), 0.5, 0.5 + math.sqrt(0.15))
_WEIGHTS = (5 / 18, 8 / 18, 5 / 18)
# Where |δ| is larger, the plain difference is taken. Below, the quadrature errs by δ⁶ |f⁽⁷⁾| / 2e6
# of the effect, with |f⁽⁷⁾| < 300 for the functions here: 4e-8 and 1e-13. Above, the difference
# errs by a rounding of f over δ: some 4e-6 and 1e-14.
_LARGE = {torch.float32: 0.25, torch.float64: 0.03}

Derivative = Callable[[Tensor], Tensor]


def _gelu(a: Tensor) -> Tensor:
    density = torch.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)
    return 0.5 * torch.erfc(-a / math.sqrt(2)) + a * density


def _gelu_tanh(a: Tensor) -> Tensor:
    slope = math.sqrt(2 / math.pi)
    inner = slope * (a + 0.044715 * a**3)
    tanh = torch.tanh(inner)
    return 0.5 * (1 + tanh) + 0.5 * a * (1 - tanh * tanh) * slope * (1 + 3 * 0.044715 * a * a)


def _silu(a: Tensor) -> Tensor:
    sigmoid = torch.sigmoid(a)
    return sigmoid * (1 + a * torch.sigmoid(-a))


def _tanh(a: Tensor) -> Tensor:
    return 1 / torch.cosh(a) ** 2


# As transformers names them in a checkpoint's configuration.
DERIVATIVES: dict[str, Derivative] = {
    "gelu": _gelu,
    "gelu_python": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "silu": _silu,
    "swish": _silu,
    "tanh": _tanh,
}


def relu_displacement_(delta: Tensor, minus_a: Tensor, negative_part: Tensor) -> Tensor:
    """ReLU(a + δ) − ReLU(a) = max(δ, −a) + min(a, 0), in place.

    Parameters
    ----------
    delta
        δ, shape (inputs, rows, width).
    minus_a, negative_part
        −a and min(a, 0), of one number format with δ, shape (rows, width): what is taken from δ
        must be what is added again.
    """
    return torch.maximum(delta, minus_a, out=delta).add_(negative_part)


def smooth_displacement(
    delta: Tensor, a: Tensor, activate: Callable[[Tensor], Tensor], derivative: Derivative | None
) -> Tensor:
    """f(a + δ) − f(a) of a smooth activation f.

    Parameters
    ----------
    delta
        δ, shape (inputs, rows, width).
    a
        Before the activation, shape (rows, width).
    activate, derivative
        f, and f'; the plain difference is taken everywhere without it.

    Returns
    -------
    In the number format of ``a``.
    """
    delta = delta.to(a.dtype)
    difference = activate(a + delta) - activate(a.clone())
    if derivative is None:
        return difference
    mean = sum(
        weight * derivative(a + node * delta) for node, weight in zip(_NODES, _WEIGHTS, strict=True)
    )
    return torch.where(delta.abs() > _LARGE[a.dtype], difference, delta * mean)
