"""Matrix product and bias: the fully connected layer."""

from __future__ import annotations

import math

import numpy as np

from fastnn.kernels.reference._elementwise import activate
from fastnn.kernels.reference._shared import quiet, sum_rows


@quiet
def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, activation: str | None) -> np.ndarray:
    """Affine map with an optional activation: ``activation(x W + b)``.

    Parameters
    ----------
    x : (N, in)
    weight : (in, out)
    bias : (out,) or None
    activation : {None, "relu", "leaky_relu", "sigmoid", "tanh", "gelu"}
        Applied with its default parameter (slope 0.01, exact gelu).

    Returns
    -------
    (N, out), in C order
    """
    out = x @ weight
    if bias is not None:
        out += bias
    return activate(out, activation)


@quiet
def linear_backward(
    grad: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    input_grad: bool,
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Gradients of :func:`linear` without activation: ``G Wᵀ``, ``Xᵀ G`` and the column sums of G.

    Parameters
    ----------
    grad : (N, out)
        Gradient of the loss with respect to ``x W + b``.
    x, weight : as given to :func:`linear`
    input_grad : bool
        Whether the gradient with respect to `x` is wanted.
    out : (grad_weight, grad_bias) or None
        Arrays to fill, of any strides.

    Returns
    -------
    grad_x : (N, in) or None
    grad_weight : (in, out)
    grad_bias : (out,)
    """
    if out is None:
        out = np.empty(weight.shape, weight.dtype), np.empty(weight.shape[1], weight.dtype)
    grad_weight, grad_bias = out
    np.matmul(x.T, grad, out=grad_weight)
    grad_bias[...] = sum_rows(grad)
    return (grad @ weight.T if input_grad else None), grad_weight, grad_bias


def flatten(x: np.ndarray) -> np.ndarray:
    """(N, ...) to (N, features), in C order of the logical axes; a view of `x` where that is possible."""
    return x.reshape(len(x), math.prod(x.shape[1:]))
